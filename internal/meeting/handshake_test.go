package meeting_test

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/download"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/socket"
)

// TestHandshakes has sockets open some time after on-connect wrote them, with a
// delivery under way: the deliver machine with its retries, send-message's use case,
// and a network that takes its time. on-connect has little left to do then, so nearly
// all open while send-message itself tries.
func TestHandshakes(t *testing.T) {
	n := times(500)
	r := rand.New(rand.NewSource(5))
	for _, test := range []struct {
		opens, p99 time.Duration
		started    int // of send-message, on average at most
	}{
		{600 * time.Millisecond, 300 * time.Millisecond, 1},
		{meeting.Handshake, 4500 * time.Millisecond, 4}, // an on-connect in trouble
	} {
		var after []time.Duration // from the opening to the answer
		started := 0
		for range n {
			opens := time.Duration(r.Int63n(int64(test.opens)))
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.given(meeting.Ready, "c1", "")
				open := time.Now().Add(opens)
				d := b.delivery(meeting.Delivery{ExecutionARN: arn}, func(string) error {
					if time.Now().Before(open) {
						return meeting.ErrGone
					}
					after = append(after, time.Since(open))
					return nil
				})
				if d.err != nil {
					t.Errorf("open after %v: got %v, want the answer posted", opens, d.err)
				}
				b.is(t, meeting.Delivered, "c1", "")
				started += d.started
			})
		}
		if len(after) != n {
			t.Fatalf("got %d answers, want %d", len(after), n)
		}
		slices.Sort(after)
		t.Logf("opened within %v: answered after p50 %v, p99 %v; send-message ran %.2f times", test.opens, after[n/2], after[n*99/100], float64(started)/float64(n))
		if p99 := after[n*99/100]; p99 > test.p99 {
			t.Errorf("opened within %v: got p99 %v, want at most %v", test.opens, p99, test.p99)
		}
		if started > test.started*n {
			t.Errorf("opened within %v: send-message ran %d times, want at most %d", test.opens, started, test.started*n)
		}
	}
}

// delivery is what one execution of the deliver machine did.
type delivery struct {
	started, signed, posted int           // runs of send-message, links, posts
	busy                    time.Duration // of Lambda
	err                     *mistake
}

// delivery runs the deliver machine over a network that takes its time; post answers
// each post to a connection.
func (b *bench) delivery(of meeting.Delivery, post func(id string) error) *delivery {
	const invocation, call = 50 * time.Millisecond, 10 * time.Millisecond
	b.before = func(string, string) fault { time.Sleep(call); return none }
	d := &delivery{}
	p := download.Protocol{
		Table: b.Table, Metrics: &metric.Recorder{Out: io.Discard},
		Objects: fakeObjects(func() { d.signed++; time.Sleep(call) }),
		Socket:  fakeSocket(func(id string) error { d.posted++; time.Sleep(call); return post(id) }),
	}
	x := &execution{machine: machines()["deliver"], arn: "deliver", task: func(ctx context.Context, _ *state, _ map[string]any, _ string, _ time.Duration) (any, *mistake) {
		d.started++
		time.Sleep(invocation)
		begun := time.Now()
		out, no := asState(struct{}{}, download.ToStepFunctions(p.Deliver(ctx, of)))
		d.busy += time.Since(begun)
		return out, no
	}}
	var input map[string]any
	convert(of, &input)
	_, _, d.err = x.run(ctx, input)
	return d
}

// fakeObjects has every file, and calls itself for each link.
type fakeObjects func()

func (fakeObjects) Record(context.Context, string) (object.Record, error) {
	return object.Record{}, nil
}

func (f fakeObjects) Sign(context.Context, string) (link.Link, error) {
	f()
	return link.Link{URL: "https://link"}, nil
}

// fakeSocket calls itself for each post of something.
type fakeSocket func(id string) error

func (f fakeSocket) Post(_ context.Context, c meeting.Connection, e socket.Event) error {
	if e.In(c.Format) == nil {
		return nil
	}
	return f(c.ID)
}

// TestHandshakeOfAGoneClient: what one handshake may cost at most, when its client
// closes at once and the download was delivered before. docs/capacity.md has it.
func TestHandshakeOfAGoneClient(t *testing.T) {
	for title, given := range map[string]func(b *bench){
		"item gone": func(*bench) {},
		"expired":   func(b *bench) { b.given(meeting.Expired, "c1", "") },
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, begun := newBench(), time.Now()
				given(b)
				c := at("c1")
				d := b.delivery(meeting.Delivery{ExecutionARN: arn, Connection: &c}, func(string) error { return meeting.ErrGone })
				t.Logf("%d runs of send-message, %d links, %d posts, %v of Lambda, %v in all", d.started, d.signed, d.posted, d.busy, time.Since(begun))
				if d.err == nil || d.err.name != "ConnectionGone" {
					t.Errorf("got %v, want ConnectionGone", d.err)
				}
				if d.started > 5 || d.signed > 5 || d.posted > 17 || d.busy > 3500*time.Millisecond {
					t.Errorf("got %+v, want at most 5 runs and links, 17 posts and 3.5 s of Lambda", d)
				}
				if took := time.Since(begun); took < meeting.Handshake || took > meeting.Handshake+5*time.Second {
					t.Errorf("gave up after %v, want the handshake's %v and little more", took, meeting.Handshake)
				}
			})
		})
	}
}

// TestDeliveryGivesUpInTime: a delivery that meets a new connection at each of its
// tries ends as ConnectionOpening, after which the workflow waits again, and not
// by the machine's time-out, after which it wouldn't.
func TestDeliveryGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, begun, n := newBench(), time.Now(), 0
		b.given(meeting.Ready, "c0", "")
		d := b.delivery(meeting.Delivery{ExecutionARN: arn}, func(string) error {
			n++
			b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": fmt.Sprintf("c%d", n)}
			return nil
		})
		if d.err == nil || d.err.name != "ConnectionOpening" {
			t.Errorf("got %v, want ConnectionOpening", d.err)
		}
		limit := time.Duration(machines()["deliver"].TimeoutSeconds) * time.Second
		t.Logf("gave up after %v and %d posts", time.Since(begun), n)
		if took := time.Since(begun); took > limit*3/4 {
			t.Errorf("gave up after %v, want well before the machine's %v", took, limit)
		}
	})
}

// TestMessages: what a message may cost. Only a cancel is looked for a second time in
// an index that lags; any other message holds its function no longer than its calls.
func TestMessages(t *testing.T) {
	for body, want := range map[string]struct {
		calls, posts int
		took         time.Duration
	}{
		`{"action":"ping"}`:   {0, 0, 0},
		`{"action":"cancel"}`: {2, 1, time.Second},
		`{"action":"reboot"}`: {1, 1, 0},
		`x`:                   {1, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, begun, calls, posts := newBench(), time.Now(), 0, 0
			b.before = func(string, string) fault { calls++; return none }
			p := download.Protocol{Table: b.Table, Socket: fakeSocket(func(string) error { posts++; return nil })}
			if _, refused, err := p.Message(ctx, "displaced", body); err != nil || refused == nil && want.posts > 0 {
				t.Errorf("%s: got %v, %v, want it refused", body, refused, err)
			}
			if took := time.Since(begun); calls != want.calls || posts != want.posts || took != want.took {
				t.Errorf("%s: got %d calls, %d posts, %v, want %+v", body, calls, posts, took, want)
			}
		})
	}
}

// TestSlowTries: however slow AWS is, a delivery doesn't hold its Lambda for long. It tries
// four times, and no more once 0.8 s have passed.
func TestSlowTries(t *testing.T) {
	const pause = 200 * time.Millisecond
	for read, want := range map[time.Duration]time.Duration{
		0:           3 * pause, // four tries
		pause / 2:   4*pause/2 + 3*pause,
		4 * pause:   2*4*pause + pause,
		4*pause + 1: 4*pause + 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			b, begun := newBench(), time.Now()
			b.given(meeting.Ready, "c1", "")
			b.before = func(string, string) fault { time.Sleep(read); return none }
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, refuse410), meeting.ErrOpening)
			if took := time.Since(begun); took != want {
				t.Errorf("reads of %v: tried for %v, want %v", read, took, want)
			}
		})
	}
}

// TestFiftyAtOnce makes 50 connections at once for one download that waits. Its token is
// answered once, no connection is refused, and the one in the item gets the answer.
func TestFiftyAtOnce(t *testing.T) {
	for range times(20) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.before = func(string, string) fault { // in any order
				time.Sleep(time.Duration(rand.Intn(20)) * time.Millisecond)
				return none
			}
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			var mu sync.Mutex
			notified := map[string]int{}
			deliver := func(to meeting.Connection) {
				err := b.Deliver(ctx, arn, to, func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
					mu.Lock()
					defer mu.Unlock()
					notified[c.ID]++
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
			if i.Status != meeting.Delivered || i.TaskToken != "" || notified[i.ConnectionID] == 0 {
				t.Errorf("got %s, token %q and %s notified %d times, want DELIVERED, no token, and notified", i.Status, i.TaskToken, i.ConnectionID, notified[i.ConnectionID])
			}
		})
	}
}

// For a client whose connections open and close every few seconds, each delivery finds
// one that may still be opening. It still gets its link.
func TestClientThatKeepsComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(int) int { return 0 })
		defer w.finally()
		w.begin()
		for range 30 {
			s := w.connect()
			for tick := range 30 { // 3 s
				for {
					all, _ := w.standing()
					i := slices.IndexFunc(all, func(c *call) bool { return !strings.HasPrefix(c.what, "101") })
					if i < 0 {
						break
					}
					w.proceed(all[i], none)
				}
				if tick == 5 { // before it is open
					w.drop(s, true)
				}
				w.sleep(100 * time.Millisecond)
			}
		}
		if w.visits["Send the link"] < 2 {
			t.Errorf("got %d deliveries, want them to give up at least once", w.visits["Send the link"])
		}
		w.connect()
		w.settle()
		w.judge()
		if w.end != "SUCCEEDED" {
			t.Errorf("ended as %s%s", w.end, w.story())
		}
	})
}
