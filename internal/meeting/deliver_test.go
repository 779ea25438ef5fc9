package meeting_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
)

func TestDeliver(t *testing.T) {
	var notified []string
	took := func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
		notified = append(notified, c.ID)
		return nil
	}
	broken := errors.New("broken")
	always := func(p poster) func(*bench) poster { return func(*bench) poster { return p } }
	for title, scene := range map[string]struct {
		given    func(b *bench) // nil: no item
		fallback string
		post     func(b *bench) poster // nil: took
		want     error
		notified string
		item     [3]string // status, connection, token
	}{
		"posted":                          {given: having(meeting.Ready, "c1", "old"), notified: "c1", item: [3]string{"DELIVERED", "c1", ""}},
		"again, after delivery":           {given: having(meeting.Delivered, "c1", ""), item: [3]string{"DELIVERED", "c1", ""}},
		"after expiry":                    {given: having(meeting.Expired, "c1", ""), notified: "c1", item: [3]string{"DELIVERED", "c1", ""}},
		"the reason of a failure":         {given: having(meeting.Failed, "c1", ""), notified: "c1", item: [3]string{"FAILED", "c1", ""}},
		"after the end":                   {given: having(meeting.Delivered, "c1", ""), fallback: "c1", notified: "c1", item: [3]string{"DELIVERED", "c1", ""}},
		"after the end, and another came": {given: having(meeting.Delivered, "c2", ""), fallback: "c1", item: [3]string{"DELIVERED", "c2", ""}},
		"nobody here":                     {given: having(meeting.Ready, "", "token"), want: meeting.ErrGone, item: [3]string{"READY", "", "token"}},
		"nobody here, and deleted":        {given: having(meeting.Cancelled, "", "", "cancelled"), item: [3]string{"CANCELLED", "", ""}},
		"cancelled":                       {given: having(meeting.Ready, "c1", "", "cancelled"), want: failure.ErrCancelled, item: [3]string{"READY", "c1", ""}},
		"after a cancel":                  {given: having(meeting.Cancelled, "c1", "", "cancelled"), notified: "c1", item: [3]string{"CANCELLED", "c1", ""}},
		"a request":                       {given: having(meeting.Ready, meeting.Request, "")},
		"a request, failed":               {given: having(meeting.Failed, meeting.Request, ""), item: [3]string{"FAILED", meeting.Request, ""}},
		"gone, client known":              {fallback: "c1", notified: "c1"},
		"gone, nobody known":              {},
		"post breaks": {given: having(meeting.Ready, "c1", ""), want: broken, item: [3]string{"READY", "c1", ""},
			post: always(func(context.Context, meeting.Item, meeting.Connection) error { return broken })},
		"410, young":            {given: having(meeting.Ready, "c1", ""), want: meeting.ErrOpening, item: [3]string{"READY", "c1", ""}, post: always(refuse410)},
		"410, old":              {given: having(meeting.Ready, "c1", "", "long ago"), want: meeting.ErrGone, item: [3]string{"READY", "", ""}, post: always(refuse410)},
		"410, after delivery":   {given: having(meeting.Delivered, "c1", "", "long ago"), fallback: "c1", post: always(refuse410)},
		"410, item gone":        {fallback: "long ago", want: meeting.ErrGone, post: always(refuse410)},
		"410, item gone, young": {fallback: "c1", want: meeting.ErrOpening, post: always(refuse410)},
		"410, and another came": {given: having(meeting.Ready, "c1", "", "long ago"), notified: "c2", item: [3]string{"DELIVERED", "c2", ""},
			post: func(b *bench) poster {
				return func(ctx context.Context, i meeting.Item, c meeting.Connection) error {
					if c.ID == "c1" {
						b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
						return meeting.ErrGone
					}
					return took(ctx, i, c)
				}
			}},
		"posted, and another came": {given: having(meeting.Ready, "c1", ""), notified: "c1 c2", item: [3]string{"DELIVERED", "c2", ""},
			post: func(b *bench) poster {
				return func(ctx context.Context, i meeting.Item, c meeting.Connection) error {
					b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
					return took(ctx, i, c)
				}
			}},
		"posted, and another came each time": {given: having(meeting.Ready, "c1", ""), want: meeting.ErrOpening, item: [3]string{"READY", "c1....", ""},
			post: func(b *bench) poster {
				return func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
					b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": c.ID + "."}
					return nil
				}
			}},
		"posted, and closed at once": {given: having(meeting.Ready, "c1", ""),
			post: func(b *bench) poster {
				return func(context.Context, meeting.Item, meeting.Connection) error { return b.Leave(ctx, arn, "c1") }
			}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				notified = nil
				if scene.given != nil {
					scene.given(b)
				}
				fallback := meeting.Connection{ID: scene.fallback, At: time.Now()}
				if scene.fallback == "long ago" {
					fallback.At = time.Time{}
				}
				post := took
				if scene.post != nil {
					post = scene.post(b)
				}
				err := b.Deliver(ctx, arn, fallback, post)
				wants(t, err, scene.want)
				if got := strings.Join(notified, " "); got != scene.notified {
					t.Errorf("notified: got %q, want %q", got, scene.notified)
				}
				b.is(t, meeting.Status(scene.item[0]), scene.item[1], scene.item[2])
			})
		})
	}
}

// A 410 is final after Handshake.
func TestHandshakeIsWaitedFor(t *testing.T) {
	for age, want := range map[time.Duration]error{
		0: meeting.ErrOpening, meeting.Handshake - time.Millisecond: meeting.ErrOpening,
		meeting.Handshake: meeting.ErrGone, time.Hour: meeting.ErrGone,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.given(meeting.Ready, "c1", "")
			begun := time.Now()
			b.table.Items[arn]["connectedAt"] = dynamodbtest.Value{"N": fmt.Sprint(begun.UnixMilli())}
			b.Now = func() time.Time { return time.UnixMilli(begun.UnixMilli()).Add(age) }
			err := b.Deliver(ctx, arn, meeting.Connection{}, refuse410)
			if !errors.Is(err, want) {
				t.Errorf("410 after %v: got %v, want %v", age, err, want)
			}
		})
	}
}

// A cancel that is accepted while the link is being posted promises that nothing is
// kept: the mark of delivery doesn't overwrite it, even if the client closed meanwhile.
func TestCancelWhileTheLinkIsOnItsWay(t *testing.T) {
	for title, more := range map[string]func(b *bench) error{
		"stays":  func(*bench) error { return nil },
		"closes": func(b *bench) error { return b.Leave(ctx, arn, "c1") },
	} {
		t.Run(title, func(t *testing.T) {
			b := newBench()
			b.given(meeting.Ready, "c1", "")
			err := b.Deliver(ctx, arn, meeting.Connection{}, func(context.Context, meeting.Item, meeting.Connection) error {
				return errors.Join(b.Cancel(ctx, arn), more(b))
			})
			wants(t, err, failure.ErrCancelled)
			if i, err := b.Current(ctx, arn); err != nil || !i.Cancelled || i.Status != meeting.Ready {
				t.Errorf("got %+v, %v, want the mark in an item that has not ended", i, err)
			}
		})
	}
	b := newBench()
	b.given(meeting.Ready, meeting.Request, "")
	b.before = func(operation, _ string) fault {
		if operation == "DeleteItem" {
			b.before = nil
			wants(t, b.Cancel(ctx, arn), nil)
		}
		return none
	}
	wants(t, b.Deliver(ctx, arn, meeting.Connection{}, nil), failure.ErrCancelled)
	b.is(t, meeting.Ready, meeting.Request, "")
}

// Clean-up may end the item of an execution that was stopped while its link was being
// posted; the item then has the reason and stays.
func TestEndWhileTheLinkIsOnItsWay(t *testing.T) {
	for title, more := range map[string]struct {
		do   func(b *bench) error
		want error
		left string
	}{
		"stays":  {func(*bench) error { return nil }, nil, "c1"}, // and gets the reason
		"closes": {func(b *bench) error { return b.Leave(ctx, arn, "c1") }, meeting.ErrGone, ""},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.given(meeting.Ready, "c1", "")
				var notified []meeting.Status
				err := b.Deliver(ctx, arn, meeting.Connection{}, func(_ context.Context, i meeting.Item, _ meeting.Connection) error {
					if notified = append(notified, i.Status); len(notified) > 1 {
						return nil
					}
					_, err := b.End(ctx, arn, failure.New(failure.Cancelled, "stopped"))
					return errors.Join(err, more.do(b))
				})
				wants(t, err, more.want)
				b.is(t, meeting.Cancelled, more.left, "")
				if last := notified[len(notified)-1]; more.left != "" && last != meeting.Cancelled {
					t.Errorf("notified last of %s, want CANCELLED", last)
				}
			})
		})
	}
}
