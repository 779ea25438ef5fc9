// Package terminaltest runs a program at a terminal, for tests.
package terminaltest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// hang is how long a test waits for what never comes, however slow the machine is.
const hang = 4 * time.Minute

// Terminal is a program at a terminal.
type Terminal struct {
	t       *testing.T
	columns int
	tty     *os.File
	cmd     *exec.Cmd
	done    chan struct{}

	mu   sync.Mutex
	text strings.Builder
}

// Start starts cmd at a terminal of so many columns, which is its stdin, stdout
// and stderr, except for those that cmd has already. It is killed with the test.
func Start(t *testing.T, cmd *exec.Cmd, columns int) *Terminal {
	t.Helper()
	term := &Terminal{t: t, columns: columns, cmd: cmd, done: make(chan struct{})}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	var err error
	if term.tty, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: uint16(columns)}); err != nil {
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
			if err != nil { // EIO: the program has ended
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		_ = term.tty.Close()
	})
	return term
}

// String returns everything that was written.
func (term *Terminal) String() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text.String()
}

// Type sends keys: "\r" is Enter, "\x03" is Ctrl-C.
func (term *Terminal) Type(keys string) { _, _ = io.WriteString(term.tty, keys) }

// WaitForText waits until text has been written.
func (term *Terminal) WaitForText(text string) {
	term.t.Helper()
	term.WaitForMatch(regexp.QuoteMeta(text))
}

// WaitForMatch waits until what was written matches the pattern.
func (term *Terminal) WaitForMatch(pattern string) {
	term.t.Helper()
	want := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(hang); !want.MatchString(term.String()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			term.t.Fatalf("%q is not shown after %v:\n%q", pattern, hang, term)
		}
	}
}

// Screen returns what is shown now. It fails the test if a line that was written
// over didn't fit into the terminal's columns: it would have wrapped and stayed.
func (term *Terminal) Screen() *Screen {
	term.t.Helper()
	s := &Screen{}
	if _, err := io.WriteString(s, term.String()); err != nil {
		term.t.Error(err)
	}
	if s.overwritten > term.columns {
		term.t.Errorf("a line of %d columns was written over, at a terminal of %d:\n%s", s.overwritten, term.columns, s)
	}
	return s
}

// End waits for the program's end, which must have this exit code, and returns
// the last screen.
func (term *Terminal) End(exit int) *Screen {
	term.t.Helper()
	select {
	case <-term.done:
	case <-time.After(hang):
		term.t.Fatalf("still running after %v:\n%s", hang, term)
	}
	err := term.cmd.Wait()
	if got := term.cmd.ProcessState.ExitCode(); got != exit {
		term.t.Errorf("got exit code %d (%v), want %d:\n%s", got, err, exit, term)
	}
	return term.Screen()
}

// Screen is what a terminal shows, as far as the programs here use one.
type Screen struct {
	rows        [][]rune
	row, col    int
	overwritten int // columns of the longest row that was written over
}

var controlSequence = regexp.MustCompile(`^\x1b\[([0-9]*)([A-Za-z])`)

// Write shows what a program writes, or the terminal echoes.
func (s *Screen) Write(p []byte) (int, error) {
	for text := string(p); len(text) > 0; {
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
				return 0, fmt.Errorf("unexpected %q", m[0])
			}
			text = text[len(m[0]):]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch r {
		case '\r':
			if !strings.HasPrefix(text, "\n") {
				s.overwritten = max(s.overwritten, len(s.rows[s.row]))
			}
			s.col = 0
		case '\n':
			s.row++
		case '\a', '\x1b':
			return 0, fmt.Errorf("unexpected %q", r)
		default:
			for len(s.rows[s.row]) <= s.col {
				s.rows[s.row] = append(s.rows[s.row], ' ')
			}
			s.rows[s.row][s.col] = r
			s.col++
		}
	}
	return len(p), nil
}

// String returns the rows, without spaces at their ends and empty rows at the end.
func (s *Screen) String() string {
	var lines []string
	for _, row := range s.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}
