package meeting_test

import (
	"context"
	"errors"
	"testing"

	"async-download/internal/failure"
	"async-download/internal/meeting"
)

func TestCancel(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"while it copies": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			wants(t, b.Cancel(ctx, arn), nil)
			if i, err := b.Progress(ctx, arn, 0, 1, nil); err != nil || !i.Cancelled {
				t.Errorf("the worker's next Progress: got cancelled %v, %v", i.Cancelled, err)
			}
			wants(t, b.Copied(ctx, arn, 5), meeting.ErrEnded)
			b.is(t, meeting.Copying, "c1", "")
		},
		"while it waits": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			wants(t, b.Cancel(ctx, arn), nil)
			if got := b.tokens.task(token); got.acceptances != 1 || got.err != "CANCELLED" {
				t.Errorf("got %d answers, error %q, want one of CANCELLED", got.acceptances, got.err)
			}
			b.is(t, meeting.Ready, "", "")
		},
		"twice": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			wants(t, b.Cancel(ctx, arn), nil)
			wants(t, b.Cancel(ctx, arn), nil)
		},
		"token can't be answered, then again": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.tokens.pass = func(context.Context, string) fault { return throttled }
			if err := b.Cancel(ctx, arn); err == nil {
				t.Error("got no error")
			}
			b.is(t, meeting.Ready, "", token)
			b.tokens.pass = nil
			wants(t, b.Cancel(ctx, arn), nil)
			if b.tokens.open(token) {
				t.Error("the execution still waits")
			}
		},
	})
	for _, s := range []meeting.Status{meeting.Delivered, meeting.Failed, meeting.Cancelled, meeting.Expired} {
		b := newBench()
		b.given(s, "", "")
		if err := b.Cancel(ctx, arn); !errors.Is(err, meeting.ErrEnded) {
			t.Errorf("%s: got %v, want ErrEnded", s, err)
		}
		if i, err := b.Current(ctx, arn); err != nil || i.Cancelled {
			t.Errorf("%s: marked after the end: %v, %v", s, i.Cancelled, err)
		}
	}
}

func TestEnd(t *testing.T) {
	for code, want := range map[failure.Code]meeting.Status{
		failure.OriginStatus: meeting.Failed, failure.Internal: meeting.Failed, failure.Cancelled: meeting.Cancelled, failure.Expired: meeting.Expired,
	} {
		for _, from := range []meeting.Status{meeting.Copying, meeting.Ready} {
			b := newBench()
			b.given(from, "c1", "token")
			i, err := b.End(ctx, arn, failure.New(code, "why"))
			wants(t, err, nil)
			if i.Failure == nil || *i.Failure != (failure.Error{Code: code, Message: "why"}) || i.ConnectionID != "c1" {
				t.Errorf("%s: got %+v", code, i)
			}
			b.is(t, want, "c1", "")
		}
	}
	for _, s := range []meeting.Status{meeting.Delivered, meeting.Failed, meeting.Cancelled, meeting.Expired} {
		b := newBench()
		b.given(s, "c1", "")
		i, err := b.End(ctx, arn, failure.New(failure.Internal, "why"))
		wants(t, err, meeting.ErrEnded)
		if i.Status != s || i.ConnectionID != "c1" {
			t.Errorf("got %+v, want the item as it was", i)
		}
		b.is(t, s, "c1", "")
	}
}
