package meeting_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/meeting"
)

// TestHandshakes opens 1,000 sockets at a random moment of the three seconds after
// on-connect wrote them, during a delivery by the real deliver machine with its retries,
// over a slow network. Each client gets its answer, 99 of 100 within a second of its
// socket's opening.
func TestHandshakes(t *testing.T) {
	const n = 1000
	r := rand.New(rand.NewSource(5))
	var after []time.Duration // from the opening to the answer
	retried := 0
	for range n {
		opens := time.Duration(r.Int63n(int64(3 * time.Second)))
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.given(meeting.Ready, "c1", "")
			open := time.Now().Add(opens)
			started, no := b.delivery(func() error {
				if time.Now().Before(open) {
					return meeting.ErrGone
				}
				after = append(after, time.Since(open))
				return nil
			})
			if no != nil {
				t.Errorf("open after %v: got %v, want the answer taken", opens, no)
			}
			b.is(t, meeting.Delivered, "c1", "")
			retried += started - 1
		})
	}
	if len(after) != n {
		t.Fatalf("got %d answers, want %d", len(after), n)
	}
	slices.Sort(after)
	t.Logf("from a socket's opening to its answer: p50 %v, p99 %v, at most %v; send-message was started again %d times", after[n/2], after[n*99/100], after[n-1], retried)
	if p99 := after[n*99/100]; p99 > time.Second {
		t.Errorf("p99: got %v, want at most 1s", p99)
	}
	if p50 := after[n/2]; p50 > 300*time.Millisecond {
		t.Errorf("p50: got %v, want at most 300ms", p50)
	}
	if retried > n/100 {
		t.Errorf("send-message was started again %d times, want that to be rare", retried)
	}
}

// delivery runs the deliver machine over a slow network, and returns how often it
// started send-message and its error, if it failed.
func (b *bench) delivery(post func() error) (started int, no *mistake) {
	const invocation, call = 50 * time.Millisecond, 10 * time.Millisecond
	b.before = func(string, string) fault { time.Sleep(call); return none }
	x := &execution{machine: machines()["deliver"], arn: "deliver", task: func(ctx context.Context, _ *state, _ map[string]any, _ string, _ time.Duration) (any, *mistake) {
		started++
		time.Sleep(invocation)
		err := b.Deliver(ctx, arn, meeting.Connection{}, func(context.Context, meeting.Item, meeting.Connection) error {
			time.Sleep(2 * call) // the object's head, then the post
			return post()
		})
		switch {
		case errors.Is(err, meeting.ErrOpening):
			return nil, &mistake{"ConnectionOpening", ""}
		case err != nil:
			return nil, &mistake{"INTERNAL", err.Error()}
		}
		return map[string]any{}, nil
	}}
	_, _, no = x.run(ctx, map[string]any{"executionArn": arn})
	return started, no
}

// TestDeliveryGivesUpInTime: a delivery that meets a new connection at each of its
// tries ends as ConnectionOpening, after which the workflow waits again, and not
// by the machine's time-out, after which it wouldn't.
func TestDeliveryGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, begun, n := newBench(), time.Now(), 0
		b.given(meeting.Ready, "c0", "")
		_, no := b.delivery(func() error {
			n++
			b.table.items[arn][indexName] = value{"S": fmt.Sprintf("c%d", n)}
			return nil
		})
		if no == nil || no.name != "ConnectionOpening" {
			t.Errorf("got %v, want ConnectionOpening", no)
		}
		limit := time.Duration(machines()["deliver"].TimeoutSeconds) * time.Second
		t.Logf("gave up after %v and %d posts", time.Since(begun), n)
		if took := time.Since(begun); took > limit*3/4 {
			t.Errorf("gave up after %v, want well before the machine's %v", took, limit)
		}
	})
}

// TestSlowTries checks that send-message ends within its ten seconds if AWS is slow.
func TestSlowTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, begun := newBench(), time.Now()
		b.before = func(string, string) fault { time.Sleep(time.Second); return none }
		b.given(meeting.Ready, "c1", "")
		wants(t, b.Deliver(ctx, arn, meeting.Connection{}, func(context.Context, meeting.Item, meeting.Connection) error { return meeting.ErrGone }), meeting.ErrOpening)
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("tried for %v, want at most 5s", took)
		}
	})
}

// TestFiftyAtOnce makes 50 connections at once for one download that waits. Its token is
// answered once, no connection is refused, and the one in the item gets the answer.
func TestFiftyAtOnce(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.before = func(string, string) fault { // in any order
				time.Sleep(time.Duration(rand.Intn(20)) * time.Millisecond)
				return none
			}
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			var mu sync.Mutex
			told := map[string]int{}
			deliver := func(to meeting.Connection) {
				err := b.Deliver(ctx, arn, to, func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
					mu.Lock()
					defer mu.Unlock()
					told[c.ID]++
					return nil
				})
				wants(t, err, nil)
			}
			var wait sync.WaitGroup
			for i := range 50 {
				wait.Go(func() {
					c := at(fmt.Sprintf("c%d", i/2)) // each twice
					i, err := b.Connect(ctx, arn, c)
					wants(t, err, nil)
					if i.Status.Ended() { // on-connect starts a delivery
						deliver(c)
					}
				})
			}
			wait.Go(func() { // the workflow continues as soon as it is resumed
				<-b.tokens.task(token).done
				deliver(meeting.Connection{})
			})
			wait.Wait()
			if n := b.tokens.task(token).acceptances; n != 1 {
				t.Errorf("the token was answered %d times, want once", n)
			}
			i, err := b.Current(ctx, arn)
			wants(t, err, nil)
			if i.Status != meeting.Delivered || i.TaskToken != "" || told[i.ConnectionID] == 0 {
				t.Errorf("got %s, token %q and %s told %d times, want DELIVERED, no token, and told", i.Status, i.TaskToken, i.ConnectionID, told[i.ConnectionID])
			}
		})
	}
}
