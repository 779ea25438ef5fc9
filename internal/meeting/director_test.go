package meeting_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// A director runs processes. Each stops before each call to AWS, and the director decides
// which call is made next, so that any order of calls can be run, and run again. It also
// decides the outcome of each call: done, reply lost, throttled, or its function killed.
// Time is testing/synctest's and passes when the director lets it.
type director struct {
	report
	choose func(n int) int
	// interruptions is how many are left, unless negative; see settle.
	interruptions int

	ctx  context.Context // done when the history ends
	over context.CancelFunc

	ending sync.WaitGroup // servers of functions that have returned

	mu        sync.Mutex
	processes []*process
	calls     []*call // before which a process has stopped
	log       []string
	begun     time.Time
	faulty    bool // a call had a fault
}

type report interface {
	Helper()
	Errorf(format string, a ...any)
	Fatalf(format string, a ...any)
}

// process is a Lambda, a state machine, or a client.
type process struct {
	name  string
	ended bool
	idle  bool // it only waits for the answer to a token
	born  int  // children so far
	late  bool // it read the item after the cancel, or the end without a file, was noted
}

// call is a call that a process is about to make. Each goroutine of a process may have one:
// a worker reports its progress while it copies.
type call struct {
	*process
	what    string
	may     []fault // its possible faults
	outcome chan fault
}

// invocation is one run of a Lambda.
type invocation struct {
	cancel context.CancelFunc
	killed atomic.Bool
}

type (
	processKey    struct{}
	invocationKey struct{}
)

var errKilled = errors.New("the function was killed")

func newDirector(r report, choose func(int) int) *director {
	d := &director{report: r, choose: choose, interruptions: -1, begun: time.Now()}
	d.ctx, d.over = context.WithCancel(context.Background())
	return d
}

// do calls f while no process changes what it reads.
func (d *director) do(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *director) note(format string, a ...any) {
	d.log = append(d.log, fmt.Sprintf("%9.1f s  ", time.Since(d.begun).Seconds())+fmt.Sprintf(format, a...))
}

// say is note for the director.
func (d *director) say(format string, a ...any) { d.do(func() { d.note(format, a...) }) }

// story returns what happened, for a failure's report.
func (d *director) story() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return "\n" + strings.Join(d.log, "\n") + "\n"
}

// start starts a process; by is the context of the process that starts it.
func (d *director) start(by context.Context, name string, run func(ctx context.Context)) {
	p := &process{name: name}
	d.do(func() {
		if by, ok := by.Value(processKey{}).(*process); ok {
			by.born++
			p.name = fmt.Sprintf("%s/%s%d", by.name, name, by.born)
		}
		d.processes = append(d.processes, p)
	})
	go func() {
		defer d.do(func() { p.ended = true })
		run(context.WithValue(d.ctx, processKey{}, p))
	}()
}

// gate is where a process stops before a call. A call without a process is made at once.
func (d *director) gate(ctx context.Context, what string, may ...fault) fault {
	p, ok := ctx.Value(processKey{}).(*process)
	if !ok {
		return none
	}
	if dead(ctx) {
		return killed
	}
	inv, _ := ctx.Value(invocationKey{}).(*invocation)
	if inv != nil {
		may = append(may, killed)
	}
	c := &call{process: p, what: what, may: may, outcome: make(chan fault)}
	d.do(func() { d.calls = append(d.calls, c) })
	defer d.do(func() { d.calls = slices.DeleteFunc(d.calls, func(other *call) bool { return other == c }) })
	select {
	case f := <-c.outcome:
		d.do(func() { d.faulty = d.faulty || f != none }) // before the function can end of it
		if f == killed {
			inv.killed.Store(true)
			inv.cancel()
		}
		return f
	case <-ctx.Done():
		return killed
	}
}

// dead reports whether a process can make no more calls in a context.
func dead(ctx context.Context) bool {
	inv, _ := ctx.Value(invocationKey{}).(*invocation)
	return ctx.Err() != nil || inv != nil && inv.killed.Load()
}

// lambda runs a function for at most limit, and reports whether it was killed or took
// longer.
func lambda(ctx context.Context, limit time.Duration, run func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	inv := &invocation{cancel: cancel}
	ctx = context.WithValue(ctx, invocationKey{}, inv)
	err := run(ctx)
	if dead(ctx) {
		return errKilled
	}
	return err
}

// disconnect is a call that AWS makes at any time after its cause. Before any other, time
// passes only for a moment.
const disconnect = "$disconnect"

// standing returns the calls before which processes have stopped, in a fixed order, and
// whether one of them is due.
func (d *director) standing() (calls []*call, due bool) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	calls = slices.Clone(d.calls)
	slices.SortFunc(calls, func(a, b *call) int { return strings.Compare(a.name+"\x00"+a.what, b.name+"\x00"+b.what) })
	return calls, slices.ContainsFunc(calls, func(c *call) bool { return c.what != disconnect })
}

// busy reports whether a process has more to do than to wait for the answer to a token.
func (d *director) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.processes, func(p *process) bool { return !p.ended && !p.idle })
}

func (d *director) proceed(c *call, f fault) {
	d.say("%s: %s%s", c.name, c.what, [...]string{"", " (reply lost)", " (throttled)", " (killed)"}[f])
	c.outcome <- f
	synctest.Wait()
	d.sync()
}

// until makes the calls of the processes that may run, in order, until one whose name has
// who in it has stopped before what, and returns that.
func (d *director) until(who, what string, may func(name string) bool) *call {
	d.Helper()
	for range 1000 {
		calls, _ := d.standing()
		if i := slices.IndexFunc(calls, func(c *call) bool { return strings.Contains(c.name, who) && strings.HasPrefix(c.what, what) }); i >= 0 {
			return calls[i]
		}
		if i := slices.IndexFunc(calls, func(c *call) bool { return may(c.name) }); i >= 0 {
			d.proceed(calls[i], none)
		} else {
			d.sleep(100 * time.Millisecond)
		}
	}
	d.Fatalf("%s doesn't stop before %s%s", who, what, d.story())
	return nil
}

// sleep lets time pass.
func (d *director) sleep(t time.Duration) {
	d.sync()
	time.Sleep(t)
	synctest.Wait()
	d.sync()
}

// sleepUntilCall lets time pass until a call is about to be made.
func (d *director) sleepUntilCall(most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); {
		d.sleep(500 * time.Millisecond)
		if _, due := d.standing(); due {
			return
		}
	}
}

// sync makes an order visible to the race detector that synctest.Wait doesn't: the
// director reads the world only while all processes are stopped.
func (d *director) sync() { d.do(func() {}) }

// settle runs everything to its end, without further faults, in the order that choose
// gives. A process that could continue is interrupted at most as often as interruptions
// allows, unless that is negative.
func (d *director) settle() {
	d.Helper()
	var going *process
	for range 5000 {
		calls, _ := d.standing()
		if len(calls) == 0 {
			if !d.busy() {
				return
			}
			d.sleep(500 * time.Millisecond)
			continue
		}
		n := len(calls)
		if i := slices.IndexFunc(calls, func(c *call) bool { return c.process == going }); i >= 0 && d.interruptions >= 0 {
			calls[0], calls[i] = calls[i], calls[0]
			if d.interruptions == 0 {
				n = 1
			}
		} else {
			going = nil
		}
		i := d.choose(n)
		if going != nil && i > 0 {
			d.interruptions--
		}
		going = calls[i].process
		d.proceed(calls[i], none)
	}
	d.Fatalf("the history doesn't end%s", d.story())
}

// finally stops what still runs.
func (d *director) finally() {
	d.over()
	running := func() bool {
		synctest.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.ContainsFunc(d.processes, func(p *process) bool { return !p.ended })
	}
	for running() {
		d.sleep(time.Hour)
	}
	d.ending.Wait()
}
