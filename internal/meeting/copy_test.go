package meeting_test

import (
	"testing"
	"time"

	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
)

func TestCopy(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"progress": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			total := int64(10)
			for _, step := range []struct {
				segment      int32
				copied, want int64
				total        *int64
			}{
				{0, 3, 3, nil},
				{0, 4, 4, &total}, // set, not added to
				{0, 2, 4, &total}, // never back
				{1, 4, 4, &total}, // of a segment, which the whole file's has too
				{9, 3, 7, &total},
				{9, 3, 7, &total}, // by a repeated call
				{9, 8, 10, &total},
			} {
				i, err := b.Progress(ctx, arn, step.segment, step.copied, step.total)
				wants(t, err, nil)
				if i.Copied() != step.want || i.BytesTotal != nil != (step.total != nil) {
					t.Errorf("%d bytes of segment %d: got %d of %v, want %d", step.copied, step.segment, i.Copied(), i.BytesTotal, step.want)
				}
				if got := i.CopiedOf(step.segment); got < step.copied {
					t.Errorf("got %d bytes of segment %d, want %d", got, step.segment, step.copied)
				}
			}
			_, err := b.Progress(ctx, "unknown", 0, 1, nil)
			wants(t, err, meeting.ErrUnknown)
		},
		"copied": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			wants(t, b.Uploading(ctx, arn, "upload"), nil)
			wants(t, b.Copied(ctx, arn, 12), nil)
			i, err := b.Current(ctx, arn)
			if err != nil || i.Status != meeting.Ready || i.BytesCopied != 12 || *i.BytesTotal != 12 || i.UploadID != "" || i.CopiedAt != time.Now().UnixMilli() {
				t.Errorf("got %+v, %v", i, err)
			}
			wants(t, b.Copied(ctx, arn, 12), nil) // by a second try
		},
		"copied, and ended meanwhile with the file": func(t *testing.T, b *bench) {
			for _, status := range []meeting.Status{meeting.Delivered, meeting.Expired} {
				b.given(meeting.Copying, "c1", "")
				wants(t, b.Copied(ctx, arn, 12), nil)
				b.table.Items[arn]["status"] = dynamodbtest.Value{"S": string(status)}
				wants(t, b.Copied(ctx, arn, 12), nil) // nothing for a worker to discard
				b.is(t, status, "c1", "")
			}
		},
		"copied, and cancelled": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			wants(t, b.Copied(ctx, arn, 12), nil)
			wants(t, b.Cancel(ctx, arn), nil)
			wants(t, b.Copied(ctx, arn, 12), meeting.ErrEnded)
		},
		"one announces in a second": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			i, err := b.Announce(ctx, arn)
			wants(t, err, nil)
			_, err = b.Announce(ctx, arn)
			wants(t, err, meeting.ErrNotDue)
			if b.Due(i) {
				t.Error("due at once")
			}
			time.Sleep(time.Second)
			if !b.Due(i) {
				t.Error("not due after a second")
			}
			_, err = b.Announce(ctx, arn)
			wants(t, err, nil)
		},
		"to nobody": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			_, err := b.Announce(ctx, arn)
			wants(t, err, meeting.ErrNotDue)
		},
	})
	for _, s := range []meeting.Status{meeting.Delivered, meeting.Failed, meeting.Cancelled, meeting.Expired} {
		b := newBench()
		b.given(s, "", "")
		wants(t, b.Copied(ctx, arn, 1), meeting.ErrEnded)
		wants(t, b.Uploading(ctx, arn, "upload"), meeting.ErrEnded)
		b.is(t, s, "", "")
	}
}
