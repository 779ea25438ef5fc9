// Package model_test has Spin search all runs of meeting.pml. Verdict must accept
// every run of the design, and reject one when any guard is removed.
package model_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// designs are the variants of the complete design that are searched. More faults
// at once, or more connections, mean more states; it is enough that each fault is
// combined with each method. MODEL=all also searches the larger variants, which
// take minutes and several GB.
var designs = []string{
	"-DNC=2 -DVANISH",
	"-DNC=2 -DTIMEOUTS=1",
	"-DNC=2 -DEXHAUSTED=1",
	"-DNC=1 -DLOST=2 -DCRASH=1 -DTHROTTLED=1 -DTIMEOUTS=1 -DVANISH",
	"-DNC=1 -DTWICE=1 -DLOST=1",
	"-DNC=1 -DCANCEL -DVANISH -DFAILS",
	"-DNC=1 -DCANCEL -DLOST=1 -DTIMEOUTS=1",
	"-DNC=1 -DCANCEL -DCRASH=1",
	"-DNC=1 -DREQUEST -DLOST=1",
	"-DNC=1 -DREQUEST -DCRASH=1 -DTIMEOUTS=1",
	"-DNC=1 -DREQUEST -DTHROTTLED=1",
	"-DNC=1 -DSTOP -DFAILS",
	"-DNC=1 -DLATER -DCANCEL -DFAILS -DVANISH",
	"-DNC=1 -DLATER -DSTOP -DFAILS",
}

var larger = []string{
	"-DNC=2 -DFAILS -DVANISH",
	"-DNC=2 -DLOST=1",
	"-DNC=2 -DCRASH=1",
	"-DNC=2 -DTHROTTLED=1",
	"-DNC=2 -DCLIENTS=2",
	"-DNC=2 -DTWICE=1",
	"-DNC=1 -DCANCEL -DREQUEST",
	"-DNC=1 -DCANCEL -DREQUEST -DCRASH=1",
	"-DNC=1 -DSTOP -DCANCEL",
}

// guards are the guards of the design, each with its place in the code and the
// smallest variant that loses the link without it.
var guards = []struct{ without, where, runs string }{
	// The four of the package comment.
	{"NO_LOOK_FOR_CONNECTION", "asl: Wait for the client, attribute_not_exists(connectionId)", "-DNC=1"},
	{"NO_LOOK_FOR_TOKEN", "Connect: resume when the item it wrote has a token", "-DNC=1"},
	{"NO_HANDSHAKE", "Deliver: 410 before Handshake is over is ErrOpening", "-DNC=1"},
	{"NO_WAIT_AGAIN", "Deliver: 410 is ErrGone; asl: ConnectionGone leads to Wait for the client", "-DNC=1"},
	{"NO_OWN_CONNECTION", "leave: connectionId = :id", "-DNC=2"},
	// Delivery.
	{"NO_OPENING_WHEN_REPLACED", "deliveryResult: another connection is there, ErrOpening", "-DNC=2"},
	{"NO_DELETE_WHEN_CLOSED", "delivered: the item goes when its client closed before the mark", "-DNC=1"},
	{"NO_LEAVE_AT_410", "Deliver: a dead connection leaves with the item, if that was delivered", "-DNC=2 -DVANISH"},
	{"NO_DELIVERED_WHEN_UNKNOWN", "Deliver: an item that has gone was delivered", "-DNC=1 -DCRASH=1"},
	{"NO_DELIVERY_AFTER_THE_END", "on-connect: startDelivery when the status has ended", "-DNC=1 -DTIMEOUTS=1"},
	{"NO_WAIT_AFTER_OPENING", "asl: ConnectionOpening leads to Wait for the client", "-DNC=1 -DEXHAUSTED=1"},
	// The end of the wait.
	{"NO_LAST_LOOK", "asl: Note the expiry, attribute_not_exists(connectionId)", "-DNC=1 -DTIMEOUTS=1"},
	// Cancel.
	{"NO_FAILING_THE_WAIT", "Cancel: SendTaskFailure", "-DNC=1 -DCANCEL"},
	{"NO_CANCELLED_IN_WAIT", "asl: Wait for the client, attribute_not_exists(cancelled)", "-DNC=1 -DCANCEL"},
	{"NO_CANCELLED_FROM_DELIVER", "Deliver: a cancel is not ErrGone, for which the workflow would wait again", "-DNC=1 -DCANCEL"},
	{"NO_CANCELLED_IN_EXPIRY", "asl: Note the expiry, attribute_not_exists(cancelled)", "-DNC=1 -DCANCEL -DTIMEOUTS=1"},
	{"NO_CANCELLED_IN_DELIVERED", "fileKept: attribute_not_exists(cancelled)", "-DNC=1 -DCANCEL"},
	// Clean-up.
	{"NO_ENDED_IN_DELIVERED", "fileKept: #status IN (:ready, :delivered, :expired)", "-DNC=1 -DSTOP"},
	{"NO_NOTIFYING_TWICE", "clean-up: an execution stopped after its note may not have notified its client", "-DNC=1 -DSTOP -DFAILS"},
	// An origin that has the file later, and the request item.
	{"NO_STOP_BY_CANCEL", "Cancel: StopExecution", "-DNC=1 -DLATER -DCANCEL"},
	{"NO_CANCELLED_IN_WAIT_UNTIL", "WaitUntil: attribute_not_exists(cancelled)", "-DNC=1 -DLATER -DCANCEL"},
	{"NO_DROP_WITH_COPIED", "Copied: deleteRequest", "-DNC=1 -DLATER"},
	{"NO_DROP_AT_THE_END", "End: DropRequest", "-DNC=1 -DLATER -DFAILS"},
	// A client without a socket.
	{"NO_REQUEST_TWICE", "Connect: a request displaces itself, after a lost reply", "-DNC=1 -DREQUEST -DLOST=1"},
	{"NO_REQUEST_TWICE", "Connect: a request displaces itself, after a crash", "-DNC=1 -DREQUEST -DCRASH=1"},
}

var explored atomic.Int64

func TestModel(t *testing.T) {
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: the model is checked by Spin: apt-get install spin gcc", err)
		}
	}
	begun := time.Now()
	t.Run("all", func(t *testing.T) {
		runs := designs
		if os.Getenv("MODEL") == "all" {
			runs = append(runs, larger...)
		}
		for _, d := range runs {
			t.Run("design "+d, func(t *testing.T) {
				t.Parallel()
				if r := search(t, strings.Fields(d), "-O1"); r.errors != 0 {
					t.Errorf("got a run that fails: %s\n%s", r.verdict, r.trail)
				}
			})
		}
		for _, g := range guards {
			t.Run("without "+g.without+" "+g.runs, func(t *testing.T) {
				t.Parallel()
				if r := search(t, append(strings.Fields(g.runs), "-D"+g.without), "-O0"); r.errors == 0 {
					t.Errorf("got no run that fails without %q; either it isn't needed or the model can't detect it", g.where)
				} else {
					t.Logf("%s is needed: %s", g.where, r.verdict)
				}
			})
		}
	})
	t.Logf("%d states of the design and of %d mutants in %.0f s", explored.Load(), len(guards), time.Since(begun).Seconds())
}

type result struct {
	errors  int
	verdict string // the assertion that failed
	trail   string // the end of the run that failed it
}

var (
	errorsOf  = regexp.MustCompile(`errors: (\d+)`)
	statesOf  = regexp.MustCompile(`(\d+) states, stored`)
	verdictOf = regexp.MustCompile(`pan:1: (.*)`)
)

// search has Spin generate the searcher for meeting.pml, compiles it, with more
// optimization for longer runs, and runs it. With -E, Spin accepts any final
// state, and Verdict decides: processes of Lambdas that are not called stay where
// they are.
func search(t *testing.T, defines []string, optimize string) result {
	t.Helper()
	model, err := filepath.Abs("meeting.pml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	command := func(name string, arg ...string) string {
		c := exec.Command(name, arg...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if _, ran := err.(*exec.ExitError); err != nil && (!ran || name != "./pan") {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	if err := os.Symlink(model, filepath.Join(dir, "meeting.pml")); err != nil {
		t.Fatal(err)
	}
	command("spin", append(append([]string{"-a"}, defines...), "meeting.pml")...)
	command("gcc", optimize, "-w", "-DSAFETY", "-o", "pan", "pan.c")
	out := command("./pan", "-E", "-m200000")

	errors, states := errorsOf.FindStringSubmatch(out), statesOf.FindStringSubmatch(out)
	if errors == nil || states == nil || strings.Contains(out, "max search depth too small") {
		t.Fatalf("the search was not completed:\n%s", out)
	}
	n, _ := strconv.ParseInt(states[1], 10, 64)
	explored.Add(n)
	t.Logf("%d states", n)
	var r result
	r.errors, _ = strconv.Atoi(errors[1])
	if v := verdictOf.FindStringSubmatch(out); v != nil {
		r.verdict = v[1]
		trail := command("spin", append(append([]string{"-t", "-p", "-g"}, defines...), "meeting.pml")...)
		lines := strings.Split(trail, "\n")
		r.trail = strings.Join(lines[max(0, len(lines)-120):], "\n")
	} else if r.errors == 0 && strings.Contains(out, "out of memory") {
		t.Fatalf("the search was not completed:\n%s", out)
	}
	return r
}
