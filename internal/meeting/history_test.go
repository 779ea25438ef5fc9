package meeting_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"async-download/internal/meeting"
)

// TestMain lets a plain run search fewer histories than rapid's 10,000 that
// count (-rapid.checks=10000, some minutes), but more than its default.
func TestMain(m *testing.M) {
	flag.Parse()
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	for name, value := range map[string]string{"rapid.checks": "400", "rapid.nofailfile": "true"} {
		if !set[name] {
			if err := flag.Set(name, value); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

// TestHistories: whatever happens in whatever order, the client that came last
// and is still there has been answered when nothing is under way any more, the
// execution has ended as what it was, and nothing is left. See judge for all of
// it. The histories are random: connects, drops, returns, late, missing and early
// disconnects, two clients, cancels, requests, stops, expiry, an index that lags,
// copies that fail; any call done, lost, throttled, or its function killed.
func TestHistories(t *testing.T) {
	lived := 0
	rapid.Check(t, func(rt *rapid.T) {
		numbers := map[int]*rapid.Generator[int]{}
		bubble(t, func() {
			lived++
			history(rt, func(n int) int {
				if n == 1 {
					return 0
				}
				if numbers[n] == nil {
					numbers[n] = rapid.IntRange(0, n-1)
				}
				return numbers[n].Draw(rt, "")
			})
		})
	})
	t.Logf("%d histories", lived)
}

// bubble runs f in time that isn't real, and passes a panic on, which is how
// rapid is told.
func bubble(t *testing.T, f func()) {
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() { failed = recover() }()
		f()
	})
	// Two lines, because rapid tells failures apart by theirs when it shrinks.
	if fmt.Sprintf("%T", failed) == "rapid.invalidData" {
		panic(failed)
	}
	if failed != nil {
		panic(failed)
	}
}

// history lives through one.
func history(r report, choose func(int) int) *world {
	w := newWorld(r, choose)
	defer w.finally()
	w.table.behind = choose(4) == 0
	w.copyFails = choose(8) == 0
	faults, connections := choose(5), 1+choose(4)
	requests, cancels, stops, expiries := choose(3)-1, choose(3)-1, choose(6)-4, choose(4)-1
	if err := w.m.Create(context.WithValue(context.Background(), processKey{}, w.alone()), meeting.Item{ExecutionARN: arn, Path: "report", Query: "q=1", AskedBy: "192.0.2.1"}); err != nil {
		r.Fatalf("create: %v", err)
	}
	w.start(context.Background(), "workflow", w.workflow)

	for range 20 + choose(80) {
		all, hurry := w.standing()
		type option struct {
			weight int
			do     func()
		}
		var options []option
		add := func(weight int, do func()) { options = append(options, option{weight, do}) }
		for _, p := range all {
			add(6, func() { w.proceed(p, none) })
			for _, f := range p.may {
				if faults > 0 {
					add(1, func() { faults--; w.proceed(p, f) })
				}
			}
		}
		live := 0
		for _, s := range w.sockets {
			if s.state == "opening" || s.state == "open" {
				live++
				add(1, func() { w.drop(s, choose(3) == 0) })
			}
		}
		if len(w.sockets) < connections && live < 2 {
			add(3, func() { w.connect() })
		}
		if requests > 0 {
			add(1, func() { requests--; w.request() })
		}
		if cancels > 0 {
			add(1, func() { cancels--; w.cancel() })
		}
		if stops > 0 && w.end == "" {
			add(1, func() { stops--; w.say("operator: StopExecution"); w.stop() })
		}
		if w.table.behind {
			add(1, func() { w.table.catchUp() })
		}
		add(2, func() { w.sleep(time.Duration(1+choose(10)) * 100 * time.Millisecond) })
		if !hurry {
			add(2, func() { w.sleep(time.Duration(1+choose(15)) * time.Second) })
			if expiries > 0 && w.wait != "" {
				add(1, func() { expiries--; w.sleep(clientTimeout); w.say("time: an hour later") })
			}
		}
		sum := 0
		for _, o := range options {
			sum += o.weight
		}
		n := choose(sum)
		for _, o := range options {
			if n -= o.weight; n < 0 {
				o.do()
				break
			}
		}
	}

	// Somebody comes and stays, or nobody does.
	if choose(3) > 0 {
		for range 3 {
			if s := w.connect(); choose(2) == 0 || w.opened(s) {
				break
			}
		}
	}
	w.settle()
	w.judge()
	w.runOut()
	w.judge()
	return w
}

// opened lets all go on until it is known what became of a connection.
func (w *world) opened(s *clientSocket) bool {
	w.settle()
	return s.state == "open"
}

// alone is for calls outside of the history.
func (w *world) alone() *process {
	p := &process{next: make(chan fault)}
	go func() { p.next <- none }()
	return p
}

// TestEveryOrder has the orders of a few, without a fault, one after the other:
// of each call that a client and the workflow make, which comes first? With two
// of them it is every order; with more, every one in which somebody who could
// have gone on is interrupted at most twice.
func TestEveryOrder(t *testing.T) {
	for title, scene := range map[string]struct {
		interruptions int
		begin         func(w *world)
	}{
		"a client":                      {-1, func(w *world) { w.connect() }},
		"a cancel":                      {-1, func(w *world) { w.cancel() }},
		"a request":                     {-1, func(w *world) { w.request() }},
		"a client and a cancel":         {2, func(w *world) { w.connect(); w.cancel() }},
		"a client and a request":        {2, func(w *world) { w.connect(); w.request() }},
		"two clients":                   {2, func(w *world) { w.connect(); w.connect() }},
		"a client that drops at once":   {2, func(w *world) { w.drop(w.connect(), false) }},
		"a client that drops unnoticed": {2, func(w *world) { w.drop(w.connect(), true); w.connect() }},
	} {
		t.Run(title, func(t *testing.T) {
			runs := 0
			every(func(choose func(int) int) {
				runs++
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, choose)
					defer w.finally()
					w.interruptions = scene.interruptions
					if err := w.m.Create(context.WithValue(context.Background(), processKey{}, w.alone()), meeting.Item{ExecutionARN: arn, Path: "report"}); err != nil {
						t.Fatal(err)
					}
					w.start(context.Background(), "workflow", w.workflow)
					for all, _ := w.standing(); w.visits["Wait for the client"] == 0; all, _ = w.standing() { // the meeting is what is ordered
						w.proceed(all[0], none)
					}
					scene.begin(w)
					w.settle()
					w.judge()
					w.choose = func(int) int { return 0 }
					w.runOut()
					w.judge()
				})
			})
			if runs < 5 {
				t.Errorf("got %d orders, want some", runs)
			}
			t.Logf("%d orders", runs)
		})
	}
}

// every calls run with each sequence of choices there is.
func every(run func(choose func(n int) int)) {
	var path, width []int
	for {
		depth := 0
		run(func(n int) int {
			if depth == len(path) {
				path, width = append(path, 0), append(width, n)
			}
			depth++
			return path[depth-1]
		})
		for len(path) > 0 && path[len(path)-1]+1 >= width[len(path)-1] {
			path, width = path[:len(path)-1], width[:len(width)-1]
		}
		if len(path) == 0 {
			return
		}
		path[len(path)-1]++
	}
}

// seeded makes choices that can be made again.
func seeded(seed int64) func(int) int {
	r := rand.New(rand.NewSource(seed))
	return func(n int) int { return r.Intn(n) }
}

// TestSameAgain: the same choices are the same history, or nothing found here
// could be looked into.
func TestSameAgain(t *testing.T) {
	for seed := range int64(20) {
		var stories [2]string
		for i := range stories {
			synctest.Test(t, func(t *testing.T) { stories[i] = history(t, seeded(seed)).story() })
		}
		if stories[0] != stories[1] {
			t.Fatalf("seed %d: got\n%s\nand then%s", seed, stories[0], stories[1])
		}
	}
}
