package meeting_test

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"async-download/internal/meeting"
)

// TestMain sets the number of histories of a plain run: more than rapid's default, but
// fewer than the 10,000 of a thorough run (-rapid.checks=10000, some minutes). Those of a
// plain run are always the same, so that a change is judged by what it changes; a thorough
// run, once a week in CI, has others each time.
func TestMain(m *testing.M) {
	flag.Parse()
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	defaults := map[string]string{"rapid.nofailfile": "true"}
	if !set["rapid.checks"] {
		defaults["rapid.checks"], defaults["rapid.seed"] = "400", "1"
	}
	for name, value := range defaults {
		if !set[name] {
			if err := flag.Set(name, value); err != nil {
				panic(err)
			}
		}
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	debug.SetGCPercent(400) // histories make much garbage and keep little: a fifth less time
	os.Exit(m.Run())
}

// TestHistories runs random histories. When nothing runs any more, the last client that
// is still connected has its answer, the execution's end matches the outcome, and
// nothing is left; judge checks all of it. A history has connects, drops, and returns;
// late, missing, and early disconnects; two clients, cancels, requests, stops, expiry, a
// lagging index, and failing copies. Each call is done, lost, throttled, or its function
// is killed.
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

// bubble runs f in virtual time and passes on a panic, with which rapid reports a
// failure.
func bubble(t *testing.T, f func()) {
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() { failed = recover() }()
		f()
	})
	// Two lines, because rapid distinguishes failures by their lines when it shrinks.
	if fmt.Sprintf("%T", failed) == "rapid.invalidData" {
		panic(failed)
	}
	if failed != nil {
		panic(failed)
	}
}

// history runs one.
func history(r report, choose func(int) int) *world {
	w := newWorld(r, choose)
	defer w.finally()
	w.table.Behind = choose(4) == 0
	w.origin.fails = choose(8) == 0
	w.origin.each = time.Duration(choose(3)) * time.Second
	w.parts = choose(6) == 0
	faults, connections := choose(5), 1+choose(4)
	requests, cancels, stops, expiries := choose(3)-1, choose(3)-1, choose(6)-4, choose(4)-1
	switch choose(4) {
	case 0:
		w.sends = &meeting.OriginRequest{Method: "GET", Header: map[string]string{"Authorization": "x"}}
	case 1:
		w.sends, w.origin.refuses = &meeting.OriginRequest{Method: "POST", Body: []byte("{}")}, max(choose(4)-2, 0)
	}
	w.origin.accepts = max(choose(6)-3, 0)
	w.begin()

	for range 20 + choose(80) {
		all, due := w.standing()
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
			add(1, func() { stops--; w.halt([]string{"ABORTED", "TIMED_OUT"}[choose(2)]) })
		}
		if w.table.Behind {
			add(1, func() { w.table.CatchUp() })
		}
		add(2, func() { w.sleep(time.Duration(1+choose(10)) * 100 * time.Millisecond) })
		if !due {
			add(2, func() { w.sleepUntilCall(time.Duration(1+choose(15)) * time.Second) })
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

	// A client connects and stays, or none does.
	if choose(3) > 0 {
		for range 3 {
			if s := w.connect(); choose(2) == 0 || func() bool { w.settle(); return s.state == "open" }() {
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

// TestEveryOrder runs the possible orders of the calls of a few processes, without
// faults. With two processes it runs every order; with more, every order in which a
// process that could continue is interrupted at most twice.
func TestEveryOrder(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs one process at a time, so the race detector finds nothing, and takes six times as long")
	}
	for title, scene := range map[string]struct {
		interruptions int
		begin         func(w *world)
	}{
		"a client":                      {-1, func(w *world) { w.connect() }},
		"a cancel":                      {-1, func(w *world) { w.cancel() }},
		"a request":                     {-1, func(w *world) { w.request() }},
		"a client and a cancel":         {2, func(w *world) { w.connect(); w.cancel() }},
		"a client and a request":        {2, func(w *world) { w.connect(); w.request() }},
		"a request and a cancel":        {2, func(w *world) { w.request(); w.cancel() }},
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
					w.beginCopied()
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

// every calls run with each possible sequence of choices.
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

// times returns how often a test runs: with -short, a fifth of n, as rapid.Check does.
func times(n int) int {
	if testing.Short() {
		return n / 5
	}
	return n
}

// seeded returns reproducible choices.
func seeded(seed int64) func(int) int {
	r := rand.New(rand.NewSource(seed))
	return func(n int) int { return r.Intn(n) }
}

// TestSameAgain checks that the same choices give the same history; otherwise a failure
// could not be reproduced. Two timers that end at the same time may be noted in any order.
func TestSameAgain(t *testing.T) {
	for seed := range int64(times(20)) {
		var stories [2]string
		for i := range stories {
			synctest.Test(t, func(t *testing.T) {
				lines := strings.Split(history(t, seeded(seed)).story(), "\n")
				slices.Sort(lines)
				stories[i] = strings.Join(lines, "\n")
			})
		}
		if stories[0] != stories[1] {
			t.Fatalf("seed %d: got\n%s\nand then%s", seed, stories[0], stories[1])
		}
	}
}

// TestSurvivingWorker has a Lambda whose reply was lost continue, and complete its upload
// after the execution has failed, was noted and was cleaned up once. The function is
// killed before it can discard the object, so only clean-up's second look finds it.
func TestSurvivingWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(int) int { return 0 })
		defer w.finally()
		w.begin()
		survives := func(name string) bool { return strings.Contains(name, "survivor") }
		others := func(name string) bool { return !survives(name) }
		w.proceed(w.until("workflow", "Invoke fetch", others), lost)
		survivor := w.until("survivor", "PutObject", survives)
		w.origin.fails = true // for the second try
		w.proceed(w.until("clean-up", "DeleteObject", others), none)
		w.proceed(survivor, none)
		w.proceed(w.until("survivor", "UpdateItem SET #status = :ready", survives), killed)
		if !w.kept() {
			t.Fatal("the survivor left no object")
		}
		w.settle()
		w.judge()
		if w.end != "ORIGIN_STATUS" {
			t.Errorf("ended as %s, want ORIGIN_STATUS", w.end)
		}
	})
}

// TestOvertakenWorker has a Lambda whose reply was lost complete the file between two calls
// of the next one. The request item, which that one needs, is gone then; the file is there
// all the same, and stays.
func TestOvertakenWorker(t *testing.T) {
	for title, test := range map[string]struct {
		sends *meeting.OriginRequest
		at    string // the second one's call before which it is overtaken
		n     int    // which of these calls
	}{
		"before it reads the request": {&meeting.OriginRequest{Method: "GET", Header: map[string]string{"Authorization": "x"}}, "GetItem", 2},
		"before it marks the POST":    {&meeting.OriginRequest{Method: "POST", Body: []byte("{}")}, "UpdateItem SET sentBy", 1},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(int) int { return 0 })
				defer w.finally()
				w.sends = test.sends
				w.begin()
				survives := func(name string) bool { return strings.Contains(name, "survivor") }
				others := func(name string) bool { return !survives(name) }
				w.proceed(w.until("workflow", "Invoke fetch", others), lost)
				w.until("survivor", "PutObject", survives)
				for range test.n - 1 {
					w.proceed(w.until("FetchFunction", test.at, others), none)
				}
				w.until("FetchFunction", test.at, others)
				for w.table.Get(arn)["copiedAt"] == nil {
					w.proceed(w.until("survivor", "", survives), none)
				}
				w.connect()
				w.settle()
				w.judge()
				if w.end != "SUCCEEDED" || w.links != 1 {
					t.Errorf("ended as %q with %d links, want SUCCEEDED with one%s", w.end, w.links, w.story())
				}
			})
		})
	}
}

// TestDeletedAsItExpires has a client delete the file while the reply that noted the expiry
// is lost: the note's condition fails when it is repeated, and nobody is left to notify. The
// workflow ends, instead of waiting and delivering in turns.
func TestDeletedAsItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(int) int { return 0 })
		defer w.finally()
		w.begin()
		w.settle() // it waits
		w.sleep(clientTimeout)
		const note = "UpdateItem SET #status = :expired"
		w.proceed(w.until("workflow", note, func(string) bool { return true }), lost)
		w.cancel()
		w.until("workflow", note, func(name string) bool { return strings.Contains(name, "DELETE") })
		w.settle()
		w.judge()
		if w.visits["Send the link"] != 1 || w.end != "SUCCEEDED" {
			t.Errorf("ended as %q after %d deliveries, want SUCCEEDED after one%s", w.end, w.visits["Send the link"], w.story())
		}
	})
}

// TestRequestMeetsCancel has a request connect between a cancel's mark and its answer to
// the token: the request resumes the wait, the delivery finds the mark, and the request
// gets no link. A change of what the connection of a request depends on shows here.
func TestRequestMeetsCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(int) int { return 0 })
		defer w.finally()
		w.begin()
		w.settle() // it waits
		get := func(name string) bool { return strings.HasPrefix(name, "executions GET") }
		w.request()
		request := w.until("executions GET", "UpdateItem SET connectionId", get)
		w.cancel()
		cancel := w.until("executions DELETE", "SendTaskFailure", func(name string) bool { return !get(name) })
		w.proceed(request, none)
		w.proceed(w.until("executions GET", "SendTaskSuccess", get), none)
		w.proceed(cancel, none)
		w.settle()
		w.judge()
		connection, _ := w.table.Get(arn)["connectionId"]["S"].(string)
		if w.links > 0 || w.end != "CANCELLED" || w.visits["Send the link"] != 1 || connection != meeting.Request {
			t.Errorf("got %d links, end %s, %d deliveries, connection %q, want none, CANCELLED, one, and the request's%s", w.links, w.end, w.visits["Send the link"], connection, w.story())
		}
	})
}

// TestTimedOut: an execution that reached its TimeoutSeconds runs no Catch; clean-up
// ends its download. A file that is whole stays for a client that connects later.
func TestTimedOut(t *testing.T) {
	for title, test := range map[string]struct {
		at   string // the call before which time ran out
		want meeting.Status
	}{
		"while it copied": {"PutObject", meeting.Failed},
		"while it waited": {"", meeting.Expired},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(int) int { return 0 })
				defer w.finally()
				w.begin()
				for all, _ := w.standing(); len(all) > 0 && (test.at == "" || !strings.HasPrefix(all[0].what, test.at)); all, _ = w.standing() {
					w.proceed(all[0], none)
				}
				w.halt("TIMED_OUT")
				w.settle()
				w.judge()
				status := meeting.Status(w.table.Get(arn)["status"]["S"].(string))
				if file := w.kept(); status != test.want || file != (test.want == meeting.Expired) {
					t.Errorf("got %s, file %v, want %s%s", status, file, test.want, w.story())
				}
				s := w.connect()
				w.settle()
				w.judge()
				if links := s.link; (links > 0) != (test.want == meeting.Expired) {
					t.Errorf("a client that came later got %d links%s", links, w.story())
				}
			})
		})
	}
}
