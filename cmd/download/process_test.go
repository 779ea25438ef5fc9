package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/creack/pty"
)

// built is where the program is, for tests of the process: its memory, its
// terminal, its signals. It is built without the race detector, whose memory
// isn't the program's.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "download")
	if err == nil {
		built = filepath.Join(dir, "download")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", built, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
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

// residentPeak is the most memory a process had in RAM, in KiB.
func residentPeak(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	line, _, _ := bytes.Cut(rest, []byte("kB"))
	kib, _ := strconv.Atoi(strings.TrimSpace(string(line)))
	return kib
}

// peakOf runs a program of c's, which has to succeed, and returns the most
// memory it had, in KiB. (The rusage of a child begins with what its parent had
// when it was forked.)
func peakOf(t *testing.T, cmd *exec.Cmd, c *client) (peak int) {
	t.Helper()
	cmd.Stderr = &c.err
	c.s.publishSettings()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v\n%s", err, c.err.String())
			}
			return peak
		case <-time.After(10 * time.Millisecond):
			peak = max(peak, residentPeak(cmd.Process.Pid))
		}
	}
}

func TestMemory(t *testing.T) {
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
			peak := peakOf(t, exec.Command(built, args...), c)
			t.Logf("%d KiB", peak)
			if peak == 0 || peak > limit {
				t.Errorf("got %d KiB in RAM for %d MiB, want at most %d", peak, size/MiB, limit)
			}
		})
	}
}

// screen is what a terminal shows, as far as the program uses one.
type screen struct {
	rows     [][]rune
	row, col int
	widest   int // the longest row there ever was
}

var controlSequence = regexp.MustCompile(`^\x1b\[([0-9]*)([A-Za-z])`)

func (s *screen) write(text string) error {
	for len(text) > 0 {
		for len(s.rows) <= s.row {
			s.rows = append(s.rows, nil)
		}
		if m := controlSequence.FindStringSubmatch(text); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				n = 1
			}
			switch m[2] {
			case "A":
				s.row = max(0, s.row-n)
			case "J":
				s.rows = append(s.rows[:s.row], s.rows[s.row][:min(s.col, len(s.rows[s.row]))])
			case "K":
				s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
			default:
				return fmt.Errorf("unexpected %q", m[0])
			}
			text = text[len(m[0]):]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch r {
		case '\r':
			s.col = 0
		case '\n':
			s.row++
		case '\a', '\x1b':
			return fmt.Errorf("unexpected %q", r)
		default:
			for len(s.rows[s.row]) <= s.col {
				s.rows[s.row] = append(s.rows[s.row], ' ')
			}
			s.rows[s.row][s.col] = r
			s.col++
			s.widest = max(s.widest, s.col)
		}
	}
	return nil
}

func (s *screen) String() string {
	var lines []string
	for _, row := range s.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// terminal is a program at a terminal of 80 columns.
type terminal struct {
	t    *testing.T
	tty  *os.File
	cmd  *exec.Cmd
	mu   sync.Mutex
	text strings.Builder
	done chan struct{}
}

func atTerminal(t *testing.T, c *client, args ...string) *terminal {
	t.Helper()
	term := &terminal{t: t, cmd: exec.Command(built, args...), done: make(chan struct{})}
	term.cmd.Dir = c.dir
	c.s.publishSettings()
	term.cmd.Env = append(os.Environ(), "TERM=xterm")
	var err error
	if term.tty, err = pty.StartWithSize(term.cmd, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(term.done)
		b := make([]byte, 4096)
		for {
			n, err := term.tty.Read(b)
			term.mu.Lock()
			term.text.Write(b[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		term.cmd.Process.Kill()
		term.tty.Close()
	})
	return term
}

func (term *terminal) String() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text.String()
}

func (term *terminal) waitForText(text string) {
	term.t.Helper()
	term.waitForMatch(regexp.QuoteMeta(text))
}

// waitForMatch waits until the pattern is somewhere in what was written.
func (term *terminal) waitForMatch(pattern string) {
	term.t.Helper()
	want := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(20 * time.Second); !want.MatchString(term.String()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			term.t.Fatalf("%q is not shown after 20 s:\n%s", pattern, term)
		}
	}
}

func (term *terminal) typeKeys(keys string) { io.WriteString(term.tty, keys) }

// endExpecting waits for the exit and returns the last screen.
func (term *terminal) endExpecting(want int) *screen {
	term.t.Helper()
	select {
	case <-term.done:
	case <-time.After(40 * time.Second):
		term.t.Fatalf("still running after 40 s:\n%s", term)
	}
	err := term.cmd.Wait()
	if got := term.cmd.ProcessState.ExitCode(); got != want {
		term.t.Errorf("got exit code %d (%v), want %d:\n%s", got, err, want, term)
	}
	s := &screen{}
	if err := s.write(term.String()); err != nil {
		term.t.Error(err)
	}
	if s.widest > 80 {
		term.t.Errorf("a row has %d columns of 80:\n%s", s.widest, s)
	}
	return s
}

func TestTerminal(t *testing.T) {
	t.Parallel()
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
	term := atTerminal(t, c, s.url())
	// Each step waits for the one before to be shown.
	steps <- progressEvent(MiB, nil)
	term.waitForText("copying     1.0 MiB")
	steps <- progressEvent(5*MiB, 20*MiB)
	term.waitForText("copying     5.0 MiB of 20 MiB    [===") // a bar
	time.Sleep(1600 * time.Millisecond)                       // twice is more than pace.Enough: there is a rate
	steps <- progressEvent(10*MiB, 20*MiB)
	term.waitForText("copying     10 MiB of 20 MiB     [===")
	time.Sleep(1600 * time.Millisecond)
	steps <- progressEvent(15*MiB, 20*MiB)
	term.waitForMatch(`copying     15 MiB of 20 MiB     \[=+> +\]  75 %  (1\d MiB|\d\.\d MiB|\d+ KiB)/s, \d+s left`)
	close(steps)
	got := term.endExpecting(exitOK)
	c.wantContent("report.bin", s.content)
	want := `^copying     20 MiB of 20 MiB     \[=+\]  100 %.*
downloading 20 MiB of 20 MiB     \[=+\]  100 %.*
saved report.bin: 20 MiB in \d+\.\d s, its CRC64NVME is right$`
	if !regexp.MustCompile(want).MatchString(got.String()) {
		t.Errorf("got screen:\n%s\nwant it to match:\n%s", got, want)
	}
}

// Nobody wants a file's bytes on a terminal, nor a copy made for them.
func TestNoFileOnATerminal(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	got := atTerminal(t, c, "-o", "-", s.url()).endExpecting(exitUsage)
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
		{"y\r", exitCancelled, true, line + ` y\ndownload: CANCELLED: the download was cancelled$`},
		{"n\r", exitInterrupted, false, line + ` n\nStopped. Run the same command again to continue.$`},
		{"\x03", exitInterrupted, false, line + ` \^C\nStopped. Run the same command again to continue.$`},
		{"\r", exitOK, false, line + `\ncopying     1000 B of 1000 B .*\ndownloading 1000 B .*\nsaved report.bin.*its CRC64NVME is right$`},
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
			term := atTerminal(t, c, s.url())
			term.waitForText("copying     10 B of 1000 B")
			term.typeKeys("\x03")
			term.waitForText(asked)
			close(more)
			s.waitFor("progress heard", func() bool { return heard })
			time.Sleep(300 * time.Millisecond) // for a bar to be drawn
			now := &screen{}
			if err := now.write(term.String()); err != nil || now.String() != asked {
				t.Errorf("got screen (error %v):\n%s\nwant the question alone", err, now)
			}
			term.typeKeys(test.keys)
			if test.exit == exitOK {
				term.waitForText("copying     600 B of 1000 B") // the answer was taken
				s.locked(func() { close(s.copyTime) })
			}
			if got := term.endExpecting(test.exit).String(); !regexp.MustCompile(test.screen).MatchString(got) {
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

// The second question finds no bar on the screen, but the terminal's ^C.
func TestTerminalQuestionTwice(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	term := atTerminal(t, c, s.url())
	term.waitForText("copying     waiting for the origin")
	s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
	term.typeKeys("\x03")
	term.waitForText(asked)
	term.typeKeys("\r")
	time.Sleep(2 * time.Second) // nothing shows that the answer was taken
	term.typeKeys("\x03")
	term.waitForMatch("(?s)" + regexp.QuoteMeta(asked) + ".*" + regexp.QuoteMeta(asked))
	term.typeKeys("n\r")
	if got, want := term.endExpecting(exitInterrupted).String(), asked+"\n"+asked+" n\nStopped. Run the same command again to continue."; got != want {
		t.Errorf("got screen:\n%s\nwant:\n%s", got, want)
	}
}

// A kill leaves what was made durable, and no file under the final name.
func TestKilled(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	release := s.holdAfter(5 * MiB)
	cmd := exec.Command(built, "-o", c.path("x"), s.url())
	s.publishSettings()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.waitForState("x", midway)
	cmd.Process.Kill()
	cmd.Wait()
	release()
	c.wantFiles("x.part", "x.part.json")
	s.waitFor("the end of every request", func() bool { return s.active == 0 })
	s.onStore, s.sent = nil, 0
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	if s.sent != midway {
		t.Errorf("the storage sent %d bytes to the second start, want %d", s.sent, midway)
	}
}

// Run, as main has it, hears the signals of its process. Not parallel: nothing
// else may hear them.
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

func TestScreen(t *testing.T) {
	s := &screen{}
	if err := errors.Join(s.write("a\r\nbcd\r\n\x1b[1A\x1b[Jx\r\n"), s.write("y")); err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "a\nx\ny" {
		t.Errorf("got %q", got)
	}
}
