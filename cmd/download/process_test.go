package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"async-download/internal/programtest"
	"async-download/internal/progress/terminaltest"
)

// Tests that run the program as a process wait less for checkpoints and polls.
func TestMain(m *testing.M) {
	programtest.Main(m, func() {
		realTimings.checkpoint, realTimings.poll = time.Second, quick.poll
		main()
	})
}

// repeated is a large file that needs no memory.
type repeated struct {
	block        []byte
	size, offset int64
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.offset >= r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.offset)]
	n := copy(p, r.block[r.offset%int64(len(r.block)):])
	r.offset += int64(n)
	return n, nil
}

func (r *repeated) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	r.offset = offset
	return offset, nil
}

// peakOf runs a program of c's, which has to succeed, and returns the most
// memory it had, in KiB.
func peakOf(t *testing.T, c *client, args ...string) int64 {
	t.Helper()
	cmd := programtest.Command(t, args...)
	cmd.Stderr = &c.err
	c.s.publishSettings()
	peak, err := programtest.PeakMemory(cmd)
	if err != nil {
		t.Fatalf("%v\n%s", err, c.err.String())
	}
	return peak >> 10
}

func TestMemory(t *testing.T) {
	programtest.SkipMemory(t)
	const size, limit = 300 * MiB, 64 << 10
	for _, output := range []string{"file", "stdout"} {
		t.Run(output, func(t *testing.T) {
			s, c := setUp(t, 1*MiB+3)
			s.size, s.checksum = size, nil
			block := s.content
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				http.ServeContent(w, r, "", time.Time{}, &repeated{block: block, size: size})
				return true
			}
			args := []string{"-o", c.path("x"), "-concurrency", "16", s.url()}
			if output == "stdout" {
				args[1] = "-"
			}
			peak := peakOf(t, c, args...)
			t.Logf("%d KiB", peak)
			if peak == 0 || peak > limit {
				t.Errorf("got %d KiB in RAM for %d MiB, want at most %d", peak, size/MiB, limit)
			}
		})
	}
}

// atTerminal starts the program at a terminal of so many columns.
func atTerminal(t *testing.T, c *client, columns int, args ...string) *terminaltest.Terminal {
	t.Helper()
	cmd := programtest.Command(t, args...)
	cmd.Dir = c.dir
	c.s.publishSettings()
	return terminaltest.Start(t, cmd, columns)
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	var tests sync.WaitGroup
	defer tests.Wait()
	for _, test := range []struct {
		columns    int
		first      string // a line before there is a rate
		rate, last string // a line with one, and the last screen
	}{
		{80, "copying     5.0 MiB of 20 MiB    [===", `copying     15 MiB of 20 MiB     \[=+> +\]  75 %  [0-9.]+ [KM]iB/s, \d+s left`,
			`^copying     20 MiB of 20 MiB     \[=+\]  100 %.*
downloading 20 MiB of 20 MiB     \[=+\]  100 %.*
saved report.bin: 20 MiB in \d+\.\d s, CRC64NVME verified$`},
		{40, "copying     5.0 MiB of 20 MiB  25 %", `copying  75 %  [0-9.]+ [KM]iB/s, \d+s left`,
			`^copying .*100 %.*
downloading .*100 %.*
saved report.bin: 20 MiB in \d+\.\d s, CRC64NVME verified$`},
	} {
		// All at once, whatever -parallel allows: each waits some seconds for its rate.
		tests.Go(func() {
			t.Run(fmt.Sprint(test.columns), func(t *testing.T) {
				s, c := setUp(t, 20*MiB)
				steps := make(chan map[string]any, 1)
				s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
					ctx = s.readMessages(ctx, conn)
					for step := range steps {
						s.sendEvent(ctx, conn, step)
					}
					s.sendEvent(ctx, conn, ready(s.newLink()))
					<-ctx.Done()
				}
				term := atTerminal(t, c, test.columns, s.url())
				// Each step waits for the one before to be shown.
				steps <- progressEvent(MiB, nil)
				term.WaitForMatch("copying +1.0 MiB")
				steps <- progressEvent(5*MiB, 20*MiB)
				term.WaitForText(test.first)
				time.Sleep(1600 * time.Millisecond) // twice is more than pace.Enough: there is a rate
				steps <- progressEvent(10*MiB, 20*MiB)
				term.WaitForMatch("copying +(10 MiB of 20 MiB|50 %)")
				time.Sleep(1600 * time.Millisecond)
				steps <- progressEvent(15*MiB, 20*MiB)
				term.WaitForMatch(test.rate)
				close(steps)
				got := term.End(exitOK).String()
				c.wantContent("report.bin", s.content)
				if !regexp.MustCompile(test.last).MatchString(got) {
					t.Errorf("got screen:\n%s\nwant it to match:\n%s", got, test.last)
				}
			})
		})
	}
}

// Ctrl-C while the file is downloaded leaves a clean last line.
func TestTerminalStopped(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{40, 80} {
		s, c := setUp(t, 20*MiB)
		release := s.holdAfter(5 * MiB)
		defer release()
		term := atTerminal(t, c, columns, "-o", c.path("x"), s.url())
		term.WaitForText("downloading 14 MiB of 20 MiB") // three ranges are held at 5 MiB
		term.Type("\x03")
		got := term.End(exitInterrupted).String()
		if want := `(?m)^downloading [^\^]*\nStopped\. Run the same command again to continue\.$`; !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%d columns: got screen:\n%s\nwant it to match:\n%s", columns, got, want)
		}
	}
}

// -o - at a terminal is refused before anything is copied.
func TestNoFileOnATerminal(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	got := atTerminal(t, c, 80, "-o", "-", s.url()).End(exitUsage)
	if want := "download: -o - would fill the terminal"; !strings.Contains(got.String(), want) || len(s.asks) > 0 {
		t.Errorf("got %d questions and %q, want none and %q", len(s.keys), got, want)
	}
}

const asked = "Cancel the copy? y: cancel it, n: stop here but let it run, Enter: continue:"

func TestTerminalQuestion(t *testing.T) {
	t.Parallel()
	line := "^" + regexp.QuoteMeta(asked)
	tests := []struct {
		keys      string
		exit      int
		cancelled bool
		screen    string
	}{
		// After an answer a bar may be drawn, before what follows from it.
		{"y\r", exitCancelled, true, line + ` y\n(copying .*\n)?download: CANCELLED: the download was cancelled$`},
		{"n\r", exitInterrupted, false, line + ` n\n(copying .*\n)?Stopped. Run the same command again to continue.$`},
		{"\x03", exitInterrupted, false, line + ` \^C\nStopped. Run the same command again to continue.$`},
		{"\r", exitOK, false, line + `\ncopying     1000 B of 1000 B .*\ndownloading 1000 B .*\nsaved report.bin.*CRC64NVME verified$`},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%q", test.keys), func(t *testing.T) {
			s, c := setUp(t, 1000)
			s.copyTime = make(chan struct{})
			more, heard := make(chan struct{}), false
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				ctx = s.readMessages(ctx, conn)
				s.sendEvent(ctx, conn, progressEvent(10, 1000))
				<-more
				s.sendEvent(ctx, conn, progressEvent(600, 1000))
				if conn.Ping(ctx) == nil { // what was said before it was heard
					s.locked(func() { heard = true })
				}
				for !s.copied() && ctx.Err() == nil {
					if test.exit == exitOK { // it may be shown once an answer was taken
						s.sendEvent(ctx, conn, progressEvent(600, 1000))
					}
					time.Sleep(50 * time.Millisecond)
				}
				s.sendEvent(ctx, conn, ready(s.newLink()))
				<-ctx.Done()
			}
			term := atTerminal(t, c, 80, s.url())
			term.WaitForText("copying     10 B of 1000 B")
			term.Type("\x03")
			term.WaitForText(asked)
			close(more)
			s.waitFor("progress heard", func() bool { return heard })
			time.Sleep(300 * time.Millisecond) // for a bar to be drawn
			if now := term.Screen().String(); now != asked {
				t.Errorf("got screen:\n%s\nwant the question alone", now)
			}
			term.Type(test.keys)
			if test.exit == exitOK {
				term.WaitForText("copying     600 B of 1000 B") // the answer was taken
				s.locked(func() { close(s.copyTime) })
			}
			if got := term.End(test.exit).String(); !regexp.MustCompile(test.screen).MatchString(got) {
				t.Errorf("got screen:\n%s\nwant it to match:\n%s", got, test.screen)
			}
			s.locked(func() {
				if s.cancelled != test.cancelled {
					t.Errorf("got cancelled %v, want %v", s.cancelled, test.cancelled)
				}
			})
		})
	}
}

// The second question replaces the bar and the terminal's ^C.
func TestTerminalQuestionTwice(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	term := atTerminal(t, c, 80, s.url())
	term.WaitForText("copying     waiting for the origin")
	s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
	term.Type("\x03")
	term.WaitForText(asked)
	term.Type("\r")
	term.WaitForMatch("(?s)" + regexp.QuoteMeta(asked) + ".*copying     waiting for the origin") // the answer was taken
	term.Type("\x03")
	term.WaitForMatch("(?s)" + regexp.QuoteMeta(asked) + ".*" + regexp.QuoteMeta(asked))
	term.Type("n\r")
	got := term.End(exitInterrupted).String()
	want := "^" + regexp.QuoteMeta(asked+"\n"+asked+" n\n") + `(copying .*\n)?` + regexp.QuoteMeta("Stopped. Run the same command again to continue.") + "$"
	if !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("got screen:\n%s\nwant it to match:\n%s", got, want)
	}
}

// A kill leaves what was made durable, and no file under the final name.
func TestKilled(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	release := s.holdAfter(5 * MiB)
	cmd := programtest.Command(t, "-o", c.path("x"), s.url())
	s.publishSettings()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.waitForState("x", midway)
	cmd.Process.Kill()
	cmd.Wait()
	release()
	c.wantFiles("x.part", "x.part.json")
	s.resetCounts()
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	if s.sent != midway {
		t.Errorf("the storage sent %d bytes to the second start, want %d", s.sent, midway)
	}
}

// Run stops at its process's signals. Not parallel: other tests must not receive them.
func TestRunHearsSignals(t *testing.T) {
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	go func() {
		c.exit <- Run(context.Background(), []string{"-q", "-o", c.path("x"), s.url()}, &c.out, &c.err)
	}()
	s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.endExpecting(exitInterrupted)

	s.locked(func() { close(s.copyTime) })
	if got := Run(context.Background(), []string{"-q", "-o", c.path("x"), s.url()}, &c.out, &c.err); got != exitOK {
		t.Errorf("got exit code %d, want 0", got)
	}
	c.wantContent("x", s.content)

	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	if got := Run(stopped, []string{s.url()}, &c.out, &c.err); got != exitInterrupted {
		t.Errorf("with a context that has ended: got exit code %d, want %d", got, exitInterrupted)
	}
}
