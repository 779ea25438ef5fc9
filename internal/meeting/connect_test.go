package meeting_test

import (
	"context"
	"testing"
	"time"

	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
)

func TestConnect(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"while it copies": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			i, err := b.Connect(ctx, arn, meeting.Connection{ID: "c1", Format: "json", At: time.Now()})
			wants(t, err, nil)
			if c, here := i.Connection(); !here || c.ID != "c1" || c.Format != "json" || !c.At.Equal(time.Now().Truncate(time.Millisecond)) {
				t.Errorf("got %+v", c)
			}
			b.is(t, meeting.Copying, "c1", "")
		},
		"while it waits": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			i, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			if i.TaskToken != token {
				t.Errorf("got the item with token %q, want it as the connection found it", i.TaskToken)
			}
			if got := b.tokens.task(token); got.acceptances != 1 || got.output != "{}" {
				t.Errorf("got %d answers and %q, want one of {}", got.acceptances, got.output)
			}
			b.is(t, meeting.Ready, "c1", "")
		},
		"the last one wins": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			_, err := b.Connect(ctx, arn, at("c2"))
			wants(t, err, nil)
			b.is(t, meeting.Copying, "c2", "")
		},
		"a request beside a socket": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			_, err := b.Connect(ctx, arn, at(meeting.Request))
			wants(t, err, meeting.ErrTaken)
			b.is(t, meeting.Ready, "c1", "")
		},
		"a socket beside a request": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, meeting.Request, "")
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
		},
		"a request whose function was killed before it answered": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, meeting.Request, token)
			_, err := b.Connect(ctx, arn, at(meeting.Request))
			wants(t, err, nil)
			if b.tokens.open(token) {
				t.Error("the execution still waits")
			}
		},
		"token can't be answered": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.tokens.pass = func(context.Context, string) fault { return throttled }
			if _, err := b.Connect(ctx, arn, at("c1")); err == nil {
				t.Error("got no error")
			}
			b.is(t, meeting.Ready, "", token) // for the client that comes next
		},
		"waiting again already": func(t *testing.T, b *bench) {
			old, next := b.tokens.issue(), b.tokens.issue()
			b.given(meeting.Ready, "", old)
			b.tokens.pass = func(context.Context, string) fault { // between the answer and its note
				b.table.Items[arn]["taskToken"] = dynamodbtest.Value{"S": next}
				return none
			}
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", next)
		},
		"after the end": func(t *testing.T, b *bench) {
			b.given(meeting.Expired, "", "")
			i, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			if !i.Status.Ended() {
				t.Errorf("got %s, want a status that makes the caller start a delivery", i.Status)
			}
		},
	})
	for title, close := range map[string]func(s *tokens) string{
		"answered before":     func(s *tokens) string { k := s.issue(); s.close(k); return k },
		"execution long gone": func(s *tokens) string { k := s.issue(); s.forget(k); return k },
		"never issued":        func(*tokens) string { return "rubbish" },
	} {
		t.Run("token "+title, func(t *testing.T) {
			b := newBench()
			b.given(meeting.Ready, "", close(b.tokens))
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil) // no error for the client: the workflow has continued
			b.is(t, meeting.Ready, "c1", "")
		})
	}
}

func TestDisconnect(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"before delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "token")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "token")
		},
		"after delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Delivered, "c1", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, "", "", "")
		},
		"after a failure": func(t *testing.T, b *bench) {
			b.given(meeting.Failed, "c1", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Failed, "", "") // for later clients
		},
		"another came": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.table.Behind = true
			b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
			wants(t, b.Disconnect(ctx, "c1"), nil) // the index still has c1
			b.is(t, meeting.Ready, "c2", "")
		},
		"another came after delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Delivered, "c1", "")
			b.table.Behind = true
			b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Delivered, "c2", "")
		},
		"twice": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "")
		},
		"ahead of the index": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.table.Index, b.table.Behind = nil, true
			go func() { time.Sleep(500 * time.Millisecond); b.table.CatchUp() }()
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "")
		},
		"in no item": func(t *testing.T, b *bench) {
			begun := time.Now()
			wants(t, b.Disconnect(ctx, "c1"), nil)
			if d := time.Since(begun); d != time.Second {
				t.Errorf("looked a second time after %v, want 1s", d)
			}
		},
		"given up": func(t *testing.T, b *bench) {
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			wants(t, b.Disconnect(short, "c1"), context.DeadlineExceeded)
		},
	})
}
