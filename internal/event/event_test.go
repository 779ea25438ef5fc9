package event

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/object"
)

type bus struct {
	refuse int   // how many entries are refused first
	fail   error // of the call as a whole
	calls  int
	got    []types.PutEventsRequestEntry
}

func (b *bus) PutEvents(_ context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	b.calls++
	if b.fail != nil {
		return nil, b.fail
	}
	if b.calls <= b.refuse {
		return &eventbridge.PutEventsOutput{FailedEntryCount: 1, Entries: []types.PutEventsResultEntry{{ErrorCode: aws.String("ThrottlingException")}}}, nil
	}
	b.got = append(b.got, in.Entries...)
	return &eventbridge.PutEventsOutput{Entries: make([]types.PutEventsResultEntry, len(in.Entries))}, nil
}

const arn = "arn:aws:states:eu-central-1:123456789012:execution:download:0123456789abcdef0123456789abcdef"

var item = meeting.Item{ExecutionARN: arn, Path: "a/b.csv", Query: "key=planted", AskedBy: "192.0.2.1 ann", TicketHash: "planted", TaskToken: "planted"}

func TestEvents(t *testing.T) {
	const who = `{"executionArn":"` + arn + `","name":"0123456789abcdef0123456789abcdef","path":"a/b.csv","askedBy":"192.0.2.1 ann",`
	tests := []struct {
		put        func(*Bus)
		kind, want string
	}{
		{func(b *Bus) {
			b.Ready(t.Context(), item, object.File{Size: 7, ContentType: "text/csv", FileName: "b.csv", Checksum: map[string]string{"crc64nvme": "AA=="}, Verified: true, ETag: "x"})
		}, "Download ready", who + `"size":7,"contentType":"text/csv","fileName":"b.csv","checksum":{"crc64nvme":"AA=="},"verified":true}`},
		{func(b *Bus) { b.Ended(t.Context(), item, failure.New(failure.OriginStatus, "404")) }, "Download failed", who + `"code":"ORIGIN_STATUS","message":"404"}`},
		{func(b *Bus) { b.Ended(t.Context(), item, failure.ErrCancelled) }, "Download cancelled", who + `"code":"CANCELLED","message":"the download was cancelled"}`},
	}
	for _, test := range tests {
		var b bus
		test.put(&Bus{&b, "files"})
		if len(b.got) != 1 || *b.got[0].EventBusName != "files" || *b.got[0].Source != "async-download" || *b.got[0].DetailType != test.kind || *b.got[0].Detail != test.want {
			t.Errorf("got %+v, want %s %s", b.got, test.kind, test.want)
		}
		test.put(nil) // no bus, no event
	}
}

func TestRefusedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			bus        bus
			calls, put int
		}{
			{bus{refuse: 3}, 4, 1},
			{bus{refuse: 9}, 4, 0},
			{bus{fail: errors.New("AccessDenied")}, 1, 0},
		} {
			b := test.bus
			(&Bus{&b, "files"}).Ended(t.Context(), item, failure.ErrCancelled)
			if b.calls != test.calls || len(b.got) != test.put {
				t.Errorf("got %d calls and %d events, want %d and %d", b.calls, len(b.got), test.calls, test.put)
			}
		}
	})
}

func TestNoBus(t *testing.T) {
	if b := New(aws.Config{}, ""); b != nil {
		t.Errorf("got %+v without a name, want none", b)
	}
}
