package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// hang is how long a test waits for what never comes, however slow the machine is.
const hang = 4 * time.Minute

// quick are timings at which every wait of a test is short, and no machine is too
// slow.
var quick = timings{
	backoff:    2 * time.Millisecond,
	maxBackoff: 20 * time.Millisecond,
	handshake:  hang,
	wsPing:     hang,
	keepAlive:  hang,
	poll:       10 * time.Millisecond,
	stall:      hang,
	outage:     50 * time.Millisecond,
	checkpoint: 200 * time.Millisecond,
	call:       hang,
	silence:    hang,
	tick:       100 * time.Millisecond,
}

// buffer may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// client is one start of the program, in process, in its own folder.
type client struct {
	t       *testing.T
	s       *stack
	dir     string
	stdin   io.Reader
	signals chan os.Signal
	person  bool
	timings timings
	stdout  io.Writer // nil: out
	env     map[string]string
	free    func(folder string) (int64, error)

	out, err buffer
	exit     chan int
}

func newClient(t *testing.T, s *stack) *client {
	return &client{
		t:       t,
		s:       s,
		dir:     t.TempDir(),
		stdin:   strings.NewReader(""),
		signals: make(chan os.Signal, 4),
		timings: quick,
		free:    freeSpace,
		exit:    make(chan int, 1),
	}
}

// nextStart is the next start in the same folder.
func (c *client) nextStart() *client {
	next := newClient(c.t, c.s)
	next.dir, next.env, next.free = c.dir, c.env, c.free
	return next
}

// path of a file in the client's folder.
func (c *client) path(name string) string { return filepath.Join(c.dir, name) }

func (c *client) start(args ...string) {
	c.s.publishSettings()
	p := &program{stdin: c.stdin, stdout: &c.out, stderr: &c.err, signals: c.signals, person: c.person, timings: c.timings, freeSpace: c.free,
		env: func(name string) string { return c.env[name] }}
	if c.stdout != nil {
		p.stdout = c.stdout
	}
	go func() { c.exit <- p.run(context.Background(), args) }()
}

// exitExpecting waits for the exit and checks its code, and that no secret was printed.
func (c *client) exitExpecting(want int) {
	c.t.Helper()
	select {
	case got := <-c.exit:
		if got != want {
			c.t.Errorf("got exit code %d, want %d; stderr:\n%s", got, want, c.err.String())
		}
	case <-time.After(hang):
		c.t.Fatalf("still running after %v; stderr:\n%s", hang, c.err.String())
	}
	c.checkSecrets()
}

// endExpecting is exitExpecting, and the stack has nothing left to do: a test may look at what
// it saw.
func (c *client) endExpecting(want int) {
	c.t.Helper()
	c.exitExpecting(want)
	c.s.waitFor("the end of every request", func() bool { return c.s.active == 0 })
}

func (c *client) checkSecrets() {
	c.t.Helper()
	printed := c.err.String()
	if c.stdout == nil {
		printed += c.out.String()
	}
	for _, secret := range []string{secretSignature, secretTicket, secretQuery, secretHeader, "X-Amz-", "executionArn="} {
		if strings.Contains(printed, secret) {
			c.t.Errorf("%s was printed:\n%s", secret, printed)
		}
	}
}

// runExpecting starts and waits.
func (c *client) runExpecting(want int, args ...string) {
	c.t.Helper()
	c.start(args...)
	c.endExpecting(want)
}

// wantFiles checks that the folder holds the named files and nothing else. The names
// may be patterns of [path.Match].
func (c *client) wantFiles(names ...string) {
	c.t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.EqualFunc(got, names, func(got, name string) bool { ok, _ := path.Match(name, got); return ok }) {
		c.t.Errorf("got files %q, want %q", got, names)
	}
}

// wantContent checks the content of a file.
func (c *client) wantContent(name string, want []byte) {
	c.t.Helper()
	got, err := os.ReadFile(c.path(name))
	if err != nil {
		c.t.Error(err)
		return
	}
	if !bytes.Equal(got, want) {
		c.t.Errorf("%s has %d wrong bytes, want %d right ones", name, len(got), len(want))
	}
}

// wantStderr checks that stderr has a text.
func (c *client) wantStderr(want string) {
	c.t.Helper()
	if got := c.err.String(); !strings.Contains(got, want) {
		c.t.Errorf("got stderr:\n%s\nwant in it: %s", got, want)
	}
}
