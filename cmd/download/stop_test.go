package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestCtrlCWithNobodyToAsk(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	c.start("-o", c.path("x"), s.url())
	s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
	c.signals <- os.Interrupt
	c.endExpecting(exitCancelled)
	c.wantFiles()
	if !s.cancelled {
		t.Error("the execution was not cancelled")
	}
}

func TestCancelIsRepeated(t *testing.T) {
	t.Parallel()
	for refused, want := range map[int]int{cancelTries - 1: exitCancelled, cancelTries: exitNetwork} {
		s, c := setUp(t, 1000)
		s.copyTime, s.refusedDeletes = make(chan struct{}), refused
		c.start("-o", c.path("x"), s.url())
		s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
		c.signals <- os.Interrupt
		c.endExpecting(want)
		if s.cancelled != (want == exitCancelled) || s.deletes != cancelTries {
			t.Errorf("%d refusals: got cancelled %v after %d tries", refused, s.cancelled, s.deletes)
		}
		if want == exitNetwork {
			c.wantStderr("the copy couldn't be cancelled: THROTTLED: later; run the same command again to continue")
		}
	}
}

// A cancel after delivery changes nothing, and loses no bytes.
func TestCtrlCTooLate(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	left := missingBytes(c.state("x"))
	s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) { <-s.readMessages(ctx, conn).Done() }
	c = c.nextStart()
	c.start("-o", c.path("x"), s.url())
	s.waitFor("the second start's socket", func() bool { return len(s.sockets) == 2 })
	c.signals <- os.Interrupt
	c.endExpecting(exitInterrupted)
	if s.deletes != 1 || missingBytes(c.state("x")) != left {
		t.Errorf("got %d cancels and %d bytes missing, want 1 and %d", s.deletes, missingBytes(c.state("x")), left)
	}
	c.wantFiles("x.part", "x.part.json")
}

func TestCtrlCAsks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		answer    string // "^C" is another signal
		exit      int
		cancelled bool
		files     []string
	}{
		{"yes", "y\n", exitCancelled, true, nil},
		{"no", "n\n", exitInterrupted, false, []string{"x.part.json"}},
		{"go on", "\n", exitOK, false, []string{"x"}},
		{"Ctrl-C", "^C", exitInterrupted, false, []string{"x.part.json"}},
		{"end of input", "", exitInterrupted, false, []string{"x.part.json"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, c := setUp(t, 1000)
			s.copyTime = make(chan struct{})
			stdin, typed := io.Pipe()
			defer typed.Close()
			c.stdin, c.person = stdin, true
			c.start("-o", c.path("x"), s.url())
			s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
			c.signals <- os.Interrupt
			s.waitFor("the question", func() bool { return strings.Contains(c.err.String(), "Cancel the copy?") })
			switch test.answer {
			case "^C":
				c.signals <- os.Interrupt
			case "":
				typed.Close()
			default:
				io.WriteString(typed, test.answer)
			}
			if test.exit == exitOK {
				time.Sleep(50 * time.Millisecond)
				close(s.copyTime)
			}
			c.endExpecting(test.exit)
			c.wantFiles(test.files...)
			if s.cancelled != test.cancelled {
				t.Errorf("got cancelled %v, want %v", s.cancelled, test.cancelled)
			}
		})
	}
}

func TestCtrlCWhileCancelling(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	c.start("-o", c.path("x"), s.url())
	s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
	s.mu.Lock() // the API hangs
	c.signals <- os.Interrupt
	time.Sleep(100 * time.Millisecond)
	c.signals <- os.Interrupt
	select {
	case got := <-c.exit:
		if got != exitInterrupted {
			t.Errorf("got exit code %d, want %d", got, exitInterrupted)
		}
	case <-time.After(hang):
		t.Error("still running after the second Ctrl-C")
	}
	s.mu.Unlock()
	c.wantFiles("x.part.json")
}

func TestCtrlCWhileDownloading(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	release := s.holdAfter(MiB)
	c.start("-o", c.path("x"), s.url())
	c.waitForState("x", 17*MiB) // three ranges are held at 1 MiB
	c.signals <- os.Interrupt
	c.endExpecting(exitInterrupted)
	release()
	c.wantFiles("x.part", "x.part.json")
	if s.deletes != 0 {
		t.Error("a delivered download was cancelled")
	}
}

// fullPipe is one whose reader has stopped, and reads no more until the end of
// the test.
type fullPipe struct{ ended <-chan struct{} }

func (p fullPipe) Write([]byte) (int, error) { <-p.ended; return 0, syscall.EPIPE }

func TestCtrlCWhileStdoutBlocks(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, MiB)
	c.stdout = fullPipe{t.Context().Done()}
	c.start("-o", "-", s.url())
	s.waitFor("bytes", func() bool { return s.sent > 0 })
	c.signals <- os.Interrupt
	c.exitExpecting(exitInterrupted)
	c.wantStderr("Stopped.")
}

// If even the display hangs, the second signal ends the program.
func TestCtrlCTwiceWhileItHangs(t *testing.T) {
	t.Parallel()
	for name, answered := range map[string]bool{"showing progress": true, "showing the end": false} {
		t.Run(name, func(t *testing.T) {
			s, c := setUp(t, MiB)
			c.stdout = fullPipe{t.Context().Done()}
			if !answered {
				s.onAsk = func(http.ResponseWriter, int) bool { <-t.Context().Done(); return true }
			}
			c.start("-json", "-o", c.path("x"), s.url())
			s.waitFor("the question", func() bool { return len(s.asks) == 1 })
			if answered {
				s.waitFor("the answer noted", func() bool { _, err := os.Stat(c.path("x.part.json")); return err == nil })
			}
			c.signals <- syscall.SIGTERM
			select {
			case <-c.exit:
				t.Fatal("nothing hangs")
			case <-time.After(300 * time.Millisecond):
			}
			c.signals <- os.Interrupt
			c.exitExpecting(exitInterrupted)
		})
	}
}
