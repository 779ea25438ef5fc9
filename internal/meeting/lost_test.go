package meeting_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
)

// After a lost reply, the SDK repeats the call, whose condition the first application may
// have made false.
func TestLostReplies(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"create": func(t *testing.T, b *bench) {
			b.loses("PutItem", "")
			wants(t, b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "a", Query: "q=1", AskedBy: "192.0.2.1"}, nil), nil)
			b.is(t, meeting.Copying, "", "")
		},
		"connect": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.loses("UpdateItem", "SET connectionId")
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
		},
		"connect of a request": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.loses("UpdateItem", "SET connectionId")
			_, err := b.Connect(ctx, arn, at(meeting.Request))
			wants(t, err, nil)
			if b.tokens.open(token) {
				t.Error("the execution still waits for a client that has its answer")
			}
		},
		"the token's answer": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.tokens.pass = func(context.Context, string) fault { b.tokens.pass = nil; return lost }
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
			if n := b.tokens.task(token).acceptances; n != 1 {
				t.Errorf("got %d acceptances, want 1", n)
			}
		},
		"the token's note": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "", b.tokens.issue())
			b.loses("UpdateItem", "REMOVE taskToken")
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
		},
		"disconnect": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.loses("UpdateItem", "REMOVE connectionId")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "")
		},
		"disconnect after delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Delivered, "c1", "")
			b.loses("DeleteItem", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, "", "", "")
		},
		"the mark of delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.loses("UpdateItem", "SET #status = :delivered")
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, accept), nil)
			b.is(t, meeting.Delivered, "c1", "")
		},
		"the mark of delivery, before another comes": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			marks := 0
			b.before = func(_, expression string) fault {
				if !strings.Contains(expression, "SET #status = :delivered") {
					return none
				}
				if marks++; marks == 1 {
					return lost
				}
				b.before = nil
				item := b.table.Items[arn]
				item[dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"} // written by an on-connect that finds DELIVERED and starts a delivery
				return none
			}
			var notified []string
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
				notified = append(notified, c.ID)
				return nil
			}), nil)
			if marks != 2 || !slices.Equal(notified, []string{"c1"}) {
				t.Errorf("got %d marks, and %q notified, want c1 alone", marks, notified)
			}
			b.is(t, meeting.Delivered, "c2", "")
		},
		"a request's end": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, meeting.Request, "")
			b.loses("DeleteItem", "")
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, nil), nil)
			b.is(t, "", "", "")
		},
		"a dead connection taken out": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "", "long ago")
			b.loses("UpdateItem", "REMOVE connectionId")
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, refuse410), meeting.ErrGone)
			b.is(t, meeting.Ready, "", "")
		},
		"cancel": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			b.loses("UpdateItem", "SET cancelled")
			wants(t, b.Cancel(ctx, arn), nil)
		},
		"copied": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			b.loses("UpdateItem", "SET #status = :ready")
			wants(t, b.Copied(ctx, arn, 1), nil)
		},
		"end": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			b.loses("UpdateItem", "SET #status = :status")
			i, err := b.End(ctx, arn, failure.New(failure.OriginStatus, "why"))
			wants(t, err, meeting.ErrEnded) // the item has the reason that was noted first
			if i.Failure == nil || i.Failure.Code != failure.OriginStatus || i.ConnectionID != "c1" {
				t.Errorf("got %+v", i)
			}
		},
	})
}
