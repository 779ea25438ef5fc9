package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// state reads what a stopped client left.
func (c *client) state(name string) state {
	c.t.Helper()
	s, err := c.readState(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// readState may be called while the client runs, and before there is a state.
func (c *client) readState(name string) (s state, err error) {
	text, err := os.ReadFile(c.path(name + ".part.json"))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// waitForState waits for a state with so many bytes missing: what the storage has sent
// may not have arrived yet.
func (c *client) waitForState(name string, missing int64) {
	c.t.Helper()
	c.s.waitFor(fmt.Sprintf("a state with %d bytes missing", missing), func() bool {
		s, err := c.readState(name)
		return err == nil && s.ETag != "" && missingBytes(s) == missing
	})
}

func missingBytes(s state) (n int64) {
	for _, m := range s.Missing {
		n += m.length()
	}
	return n
}

// holdAfter makes the storage stop after some bytes until release is called.
func (s *stack) holdAfter(after int64) (release func()) {
	gate := make(chan struct{})
	s.onStore = func(w *storeReply, r *http.Request, n int) bool {
		select {
		case <-gate:
			return false
		default:
		}
		http.ServeContent(&gatedReply{w, after, gate, r.Context()}, r, "", time.Time{}, bytes.NewReader(s.content))
		return true
	}
	return func() { close(gate) }
}

type gatedReply struct {
	*storeReply
	left int64
	gate chan struct{}
	ctx  context.Context // of the request
}

func (w *gatedReply) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		if w.left == 0 {
			http.NewResponseController(w.ResponseWriter).Flush()
			select {
			case <-w.gate:
			case <-w.ctx.Done():
				return total, w.ctx.Err()
			}
			w.left = -1
		}
		piece := p
		if w.left > 0 {
			piece = p[:min(int64(len(p)), w.left)]
			w.left -= int64(len(piece))
		}
		n, err := w.storeReply.Write(piece)
		total += n
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}

// midway is what is missing of 20 MiB when every range of 8 MiB is held at 5 MiB.
const midway = 6 * MiB

// stopMidway runs a client until it has more than half of a file of 20 MiB, and
// stops it.
func stopMidway(t *testing.T, s *stack) *client {
	t.Helper()
	c := newClient(t, s)
	release := s.holdAfter(5 * MiB)
	c.start("-o", c.path("x"), s.url())
	c.waitForState("x", midway)
	c.signals <- syscall.SIGTERM
	c.endExpecting(exitInterrupted)
	release()
	c.wantFiles("x.part", "x.part.json")
	c.wantStderr("Stopped. Run the same command again to continue.")
	s.resetCounts()
	return c
}

// refusedOnce answers the first status question with an error.
func refusedOnce(status int, code, message string) func(http.ResponseWriter, int) bool {
	return func(w http.ResponseWriter, n int) bool {
		if n == 1 {
			writeJSON(w, status, apiProblem(code, message))
		}
		return n == 1
	}
}

func TestSecondStart(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	left := missingBytes(c.state("x"))
	if left != midway {
		t.Errorf("got %d bytes missing after the stop, want %d", left, midway)
	}
	c = c.nextStart()
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantFiles("x")
	c.wantContent("x", s.content)
	c.wantStderr("had been downloaded before")
	if s.sent != left {
		t.Errorf("the storage sent %d bytes to the second start, want the missing %d", s.sent, left)
	}
	if len(s.keys) != 1 {
		t.Errorf("got %d questions, want one for both starts", len(s.keys))
	}
	for i, r := range s.stores {
		if got := r.Header.Get("If-Match"); got != s.etag {
			t.Errorf("request %d of the second start came with If-Match %q, want %q", i, got, s.etag)
		}
	}
}

// A first execution whose file is no longer kept is reported by REST, too.
func TestSecondStartAfterTheFileExpired(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	left := missingBytes(c.state("x"))
	s.onStatus = refusedOnce(410, "EXPIRED", "no longer kept")
	c = c.nextStart()
	c.runExpecting(exitOK, "-wait", "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	c.wantStderr("the earlier copy has ended (EXPIRED: no longer kept); asking for a new one")
	if s.sent != left || len(s.keys) != 2 {
		t.Errorf("the storage sent %d bytes after %d questions, want %d after 2", s.sent, len(s.keys), left)
	}
}

func TestSecondStartWithoutTheFirstExecution(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		change  func(*stack)
		reuses  bool
		explain string
	}{
		{"the same file again", func(*stack) {}, true, "asking for a new one"},
		{"another file", func(s *stack) {
			s.content = slices.Clone(s.content)
			s.content[0] ^= 1
			s.checksum = map[string]string{"crc64nvme": crcText(s.content)}
		}, false, "asking for a new one"},
		{"a file that can't be compared", func(s *stack) { s.checksum = nil }, false, "asking for a new one"},
		{"another size", func(s *stack) {
			s.content = append(s.content, 1)
			s.size++
			s.checksum = map[string]string{"crc64nvme": crcText(s.content)}
		}, false, "asking for a new one"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStack(t, 20*MiB)
			c := stopMidway(t, s)
			left := missingBytes(c.state("x"))
			test.change(s)
			s.etag = `"etag-2"`
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				ctx = s.readMessages(ctx, conn)
				if len(s.keys) == 1 {
					s.sendEvent(ctx, conn, map[string]string{"type": "failed", "code": "EXPIRED", "message": "the file is no longer kept"})
				} else {
					s.sendEvent(ctx, conn, ready(s.newLink()))
				}
				<-ctx.Done()
			}
			c = c.nextStart()
			c.runExpecting(exitOK, "-o", c.path("x"), s.url())
			c.wantContent("x", s.content)
			c.wantStderr(test.explain)
			want := s.size
			if test.reuses {
				want = left
			}
			if s.sent != want || len(s.keys) != 2 {
				t.Errorf("the storage sent %d bytes after %d questions, want %d after 2", s.sent, len(s.keys), want)
			}
		})
	}
}

// Where links have no checksum, another size shows another file.
func TestSecondStartWithAnotherSize(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	s.checksum = nil
	c := stopMidway(t, s)
	s.content = append(s.content, 1)
	s.size++
	c = c.nextStart()
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
}

func TestSecondStartWithADamagedPart(t *testing.T) {
	t.Parallel()
	damages := map[string]func(path string) error{
		"a wrong byte": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			b := make([]byte, 1)
			f.ReadAt(b, 1000)
			b[0] ^= 1
			_, err = f.WriteAt(b, 1000)
			return err
		},
		"too short": func(path string) error { return os.Truncate(path, 100) },
		"gone":      os.Remove,
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s := newStack(t, 20*MiB)
			if name != "a wrong byte" { // which only a checksum can show
				s.checksum = nil
			}
			c := stopMidway(t, s)
			if err := damage(c.path("x.part")); err != nil {
				t.Fatal(err)
			}
			c = c.nextStart()
			c.runExpecting(exitOK, "-o", c.path("x"), s.url())
			c.wantFiles("x")
			c.wantContent("x", s.content)
		})
	}
}

// After a crash between dropping the old bytes and saving a state of new ones, no bytes
// are reused.
func TestSecondStartAfterACrashAtTheBeginning(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	s.checksum = nil // which would show it
	c := stopMidway(t, s)
	p, err := openPartial(c.path("x.part"))
	if err != nil {
		t.Fatal(err)
	}
	if p.state.ETag == "" {
		t.Fatal("nothing is claimed after the stop")
	}
	if err := p.forget(); err != nil {
		t.Fatal(err)
	}
	if err := p.file.Truncate(20 * MiB); err != nil {
		t.Fatal(err)
	}
	p.leave()
	c = c.nextStart()
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	if s.sent != 20*MiB {
		t.Errorf("the storage sent %d bytes to the second start, want all", s.sent)
	}
}

// Bytes of the first copy, after a stop and another one after the second question, count
// for the second copy only where a checksum proves it.
func TestStoppedAfterAskingAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		before, after bool // the links have a checksum
		same          bool // the second copy is of the same file
	}{
		{name: "no checksum"},
		{name: "a checksum only before", before: true},
		{name: "the same file under another ETag", before: true, after: true, same: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStack(t, 20*MiB)
			if !test.before {
				s.checksum = nil
			}
			c := stopMidway(t, s)
			left := missingBytes(c.state("x"))
			if !test.same {
				p, err := openPartial(c.path("x.part"))
				if err != nil {
					t.Fatal(err)
				}
				p.state.Missing = nil
				if _, err := p.file.WriteAt(s.content, 0); err != nil {
					t.Fatal(err)
				}
				if err := p.save(); err != nil {
					t.Fatal(err)
				}
				p.leave()
				s.content = bytes.Repeat([]byte("new!"), 5*MiB)
				left = s.size
			}
			s.etag = `"etag-2"`
			if !test.after {
				s.checksum = nil
			}
			sockets := 0
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, _ int) {
				ctx = s.readMessages(ctx, conn)
				s.locked(func() { sockets++ })
				switch sockets {
				case 1:
					s.sendEvent(ctx, conn, map[string]string{"type": "failed", "code": "EXPIRED", "message": "the file is no longer kept"})
				case 2: // the second copy takes its time
				default:
					s.sendEvent(ctx, conn, ready(s.newLink()))
				}
				<-ctx.Done()
			}
			c = c.nextStart()
			c.start("-o", c.path("x"), s.url())
			s.waitFor("the second copy's socket", func() bool { return sockets == 2 })
			c.signals <- syscall.SIGTERM
			c.endExpecting(exitInterrupted)
			c = c.nextStart()
			c.runExpecting(exitOK, "-o", c.path("x"), s.url())
			c.wantContent("x", s.content)
			if len(s.keys) != 2 || s.sent != left {
				t.Errorf("got %d questions, and %d bytes of the second copy, want 2 and %d", len(s.keys), s.sent, left)
			}
		})
	}
}

func TestSecondStartWhileItIsCopied(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	c.start(s.url(), "-o", c.dir)
	s.waitFor("a socket", func() bool { return len(s.sockets) == 1 })
	c.signals <- syscall.SIGTERM
	c.endExpecting(exitInterrupted)
	close(s.copyTime)
	c = c.nextStart()
	c.runExpecting(exitOK, s.url(), "-o", c.dir)
	c.wantFiles("report.bin")
	if len(s.keys) != 1 || s.sockets[1].URL.Query().Get("executionArn") != s.arn(1) {
		t.Errorf("got %d questions, want one execution for both starts", len(s.keys))
	}
	// A start for another file doesn't take this one's.
	c.nextStart().runExpecting(exitOK, s.url(), "other", "-o", c.path("y"))
	if len(s.keys) != 2 {
		t.Errorf("got %d questions, want another for another path", len(s.keys))
	}
}

func TestPartOfAnotherDownload(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	c = c.nextStart()
	c.runExpecting(exitOK, "-o", c.path("x"), s.url(), "another/path")
	c.wantStderr("is of another download; starting from the beginning")
	c.wantContent("x", s.content)
	if s.sent != 20*MiB {
		t.Errorf("the storage sent %d bytes, want all", s.sent)
	}
}

// NAME.part of another program, as a browser has it, stays as it is.
func TestPartOfAnotherProgram(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	theirs := []byte("half a film")
	for name, text := range map[string][]byte{
		"x.part":      theirs,
		"x.part.json": []byte(`{"size": 11}`),
	} {
		for _, mode := range []os.FileMode{0o666, 0o600} {
			if err := os.WriteFile(c.path(name), text, mode); err != nil {
				t.Fatal(err)
			}
			c = c.nextStart()
			c.runExpecting(exitLocal, "-f", "-o", c.path("x"), s.url())
			c.wantStderr(name + " isn't your unfinished download; move it away, or choose another name with -o")
			c.wantFiles(name)
			c.wantContent(name, text)
			if err := os.Remove(c.path(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(s.asks) != 0 {
		t.Error("a copy was started for a file that can't be written")
	}
	// An empty one is what a crash of this program leaves, and no loss.
	if err := os.WriteFile(c.path("x.part"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c = c.nextStart()
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantFiles("x")
}

// A start that fails keeps the bytes of an earlier one.
func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "another/path"} {
		s := newStack(t, 20*MiB)
		c := stopMidway(t, s)
		left := missingBytes(c.state("x"))
		s.noSockets = true
		s.onStatus = refusedOnce(404, "NOT_FOUND", "no such execution")
		s.onAsk = func(w http.ResponseWriter, n int) bool {
			if n == 2 {
				w.WriteHeader(http.StatusUnauthorized)
			}
			return n == 2
		}
		c = c.nextStart()
		c.runExpecting(exitRefused, "-o", c.path("x"), s.url(), path)
		s.onStatus = nil
		c = c.nextStart()
		c.runExpecting(exitOK, "-o", c.path("x"), s.url())
		c.wantContent("x", s.content)
		if s.sent != left {
			t.Errorf("%q: the storage sent %d bytes to the last start, want the missing %d", path, s.sent, left)
		}
	}
}

func TestNoFolder(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	c.runExpecting(exitLocal, "-o", c.path("nodir/x"), s.url())
	c.wantStderr("there is no folder " + c.path("nodir"))
	if len(s.keys) != 0 {
		t.Error("a copy was started for a file that can't be written")
	}
}

func TestOverwrite(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	old := []byte("old")
	if err := os.WriteFile(c.path("x"), old, 0o666); err != nil {
		t.Fatal(err)
	}
	c.runExpecting(exitLocal, "-o", c.path("x"), s.url())
	c.wantStderr("exists; -f overwrites it")
	c.wantFiles("x")
	c.wantContent("x", old)
	if len(s.asks) > 0 {
		t.Errorf("got %d questions for a file that can't be written, want none", len(s.asks))
	}
	c = c.nextStart()
	c.runExpecting(exitOK, "-f", "-o", c.path("x"), s.url())
	c.wantFiles("x")
	c.wantContent("x", s.content)
	for _, remembered := range []bool{true, false} { // whether the API still knows the download
		t.Run(fmt.Sprintf("appears meanwhile, remembered=%v", remembered), func(t *testing.T) {
			s, c := setUp(t, 20*MiB)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				os.WriteFile(c.path("x"), old, 0o666)
				return false
			}
			c.runExpecting(exitLocal, "-o", c.path("x"), s.url())
			c.wantStderr("exists; -f overwrites it")
			c.wantContent("x", old)
			c.wantFiles("x", "x.part", "x.part.json")
			s.resetCounts()
			if !remembered {
				s.etag, s.noSockets = `"etag-2"`, true
				s.onStatus = refusedOnce(404, "NOT_FOUND", "no such execution")
			}
			c = c.nextStart()
			c.runExpecting(exitOK, "-f", "-o", c.path("x"), s.url())
			c.wantContent("x", s.content)
			c.wantFiles("x")
			if s.sent != 0 {
				t.Errorf("the storage sent %d bytes again", s.sent)
			}
		})
	}
}

func TestTwoStartsAtOnce(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	release := s.holdAfter(MiB)
	c.start("-o", c.path("x"), s.url())
	s.waitFor("bytes", func() bool { return s.sent > 0 })
	second := c.nextStart()
	second.start("-o", c.path("x"), s.url())
	second.exitExpecting(exitLocal)
	second.wantStderr("is being written by another download")
	release()
	c.endExpecting(exitOK)
	c.wantContent("x", s.content)
	c.wantFiles("x")
}
