package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 0)
	c.runExpecting(exitOK, "-h")
	help := c.out.String()
	for _, want := range []string{"Examples:\n  download https://", "API_URL", "-limit-rate bytes", "-sign", "-wait", "-concurrency number", "@file", "\n  130  "} {
		if !strings.Contains(help, want) {
			t.Errorf("-h doesn't have %q", want)
		}
	}
	if c.err.String() != "" || strings.Contains(help, "-connections") {
		t.Errorf("got %q on stderr, want nothing, and no former names", c.err.String())
	}
	c = newClient(t, s)
	c.runExpecting(exitOK, "-version")
	if got := c.out.String(); !strings.HasPrefix(got, "download ") || strings.Count(got, "\n") != 1 {
		t.Errorf("-version: got %q", got)
	}
}

func TestAPIURLFromTheEnvironment(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10)
	c.env = map[string]string{"API_URL": s.url()}
	c.runExpecting(exitOK, "-o", c.path("x"), "reports/2026.pdf")
	c.nextStart().runExpecting(exitOK, "-o", c.path("y"))
	c.nextStart().runExpecting(exitOK, "-o", c.path("z"), s.url()+"/download/a/b")
	var got []string
	for _, r := range s.asks {
		got = append(got, r.URL.Path)
	}
	if want := "/dev/download/reports/2026.pdf /dev/download /dev/download/a/b"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
}

func TestSeveralFiles(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.fileName = ""
	s.onAsk = func(w http.ResponseWriter, n int) bool {
		if n == 2 {
			writeJSON(w, 400, apiProblem("INVALID_PATH", "no"))
		}
		return n == 2
	}
	c.runExpecting(exitRefused, "-o", c.dir, s.url(), "a.txt", "b.txt", "c.txt", s.url()+"/download/d.txt")
	c.wantFiles("a.txt", "c.txt", "d.txt")
	c.wantStderr("2 of 4: b.txt\ndownload: INVALID_PATH: no\n")
	c.wantStderr("4 of 4: d.txt\n")
	if len(s.keys) != 3 {
		t.Errorf("got %d copies, want 3", len(s.keys))
	}
	c = c.nextStart()
	c.runExpecting(exitUsage, "-o", c.path("one"), s.url(), "e", "f")

	// Stopped is stopped.
	s.copyTime = make(chan struct{})
	s.onAsk = nil
	c = newClient(t, s)
	before := len(s.asks)
	c.start("-o", c.dir, s.url(), "e", "f")
	s.waitFor("a question", func() bool { return len(s.asks) > before })
	c.signals <- syscall.SIGTERM
	c.endExpecting(exitInterrupted)
	if len(s.asks) != before+1 {
		t.Errorf("got %d questions after the stop, want none", len(s.asks)-before-1)
	}
}

func TestLimitRate(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 2*MiB, func(t *testing.T, s *stack, c *client) {
		began := time.Now()
		c.runExpecting(exitOK, "-limit-rate", "1MiB", "-o", c.path("x"), s.url())
		c.wantContent("x", s.content)
		if took := time.Since(began); took < 1500*time.Millisecond || took > 2500*time.Millisecond {
			t.Errorf("2 MiB at 1 MiB/s took %v", took)
		}
		c.nextStart().runExpecting(exitUsage, "-limit-rate", "fast", "-o", c.path("y"), s.url())
	})
	for rate, burst := range map[int64]int{1: 1, 5: 1, 1000: 100, 1 << 30: bufferSize} {
		if got := limiter(rate).Burst(); got != burst {
			t.Errorf("%d B/s: got %d bytes at once, want %d", rate, got, burst)
		}
	}
}

// A program that reads JSON gets a usage error as JSON, too.
func TestUsageErrorAsJSON(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0)
	for _, args := range [][]string{{"-json", "-nope"}, {"-nope", "-json"}, {"-json"}, {"-json", "ftp://x"}, {"-json", "-concurrency", "0", s.url()}} {
		c := newClient(t, s)
		c.runExpecting(exitUsage, args...)
		events := jsonEvents(t, c.out.String())
		if last := events[len(events)-1]; last["type"] != "error" || last["exit"] != 2.0 || c.err.String() != "" {
			t.Errorf("%q: got %v, and %q on stderr", args, last, c.err.String())
		}
	}
}

// The saved file has the permissions of any other, and the partial one is the
// user's alone.
func TestPermissions(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	release := s.holdAfter(5 * MiB)
	c.start("-o", c.path("x"), s.url())
	c.waitForState("x", midway)
	for _, name := range []string{"x.part", "x.part.json"} {
		if info, err := os.Stat(c.path(name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: got %v, %v, want mode 0600", name, info.Mode(), err)
		}
	}
	release()
	c.endExpecting(exitOK)
	if info, err := os.Stat(c.path("x")); err != nil || info.Mode() != 0o666&^umask {
		t.Errorf("got %v, %v, want mode %v", info.Mode(), err, 0o666&^umask)
	}
}
