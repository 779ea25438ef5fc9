package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const MiB = 1 << 20

func TestDownload(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 100_000, 8 * MiB, 8*MiB + 1, 25*MiB + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s, c := setUp(t, size)
			c.runs(exitOK, "-o", c.dir, s.url())
			c.has("report.bin")
			c.holds("report.bin", s.content)
			c.says("its CRC64NVME is right")
			if s.sent != int64(size) {
				t.Errorf("the storage sent %d bytes, want %d", s.sent, size)
			}
			if len(s.asks) != 1 || len(s.sockets) != 1 || len(s.statuses) != 0 {
				t.Errorf("got %d questions, %d sockets, %d statuses, want 1, 1, 0", len(s.asks), len(s.sockets), len(s.statuses))
			}
			for i, r := range s.stores {
				if match := r.Header.Get("If-Match"); i > 0 && match != s.etag {
					t.Errorf("request %d came with If-Match %q, want %q", i, match, s.etag)
				}
			}
		})
	}
}

func TestWhatIsAsked(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10)
	c.runs(exitOK, "-H", "X-Api-Key: "+secretHeader, "-H", "Two: a", "-H", "Two: b", "-o", c.path("x"),
		s.url(), "a%2Fb//c%20d?token="+secretQuery+"&x=1&x=2&y")
	want := "/dev/download/a%2Fb//c%20d?token=" + secretQuery + "&x=1&x=2&y"
	if got := s.asks[0].RequestURI; got != want {
		t.Errorf("got question %q, want %q", got, want)
	}
	for what, r := range map[string]*http.Request{"question": s.asks[0], "socket": s.sockets[0]} {
		if got := fmt.Sprint(r.Header["X-Api-Key"], r.Header["Two"]); got != "["+secretHeader+"] [a b]" {
			t.Errorf("got headers %s with the %s", got, what)
		}
	}
	if got := s.sockets[0].URL.Query().Get("executionArn"); got != s.arn(1) {
		t.Errorf("the socket was opened for %q, want %q", got, s.arn(1))
	}
}

func TestProgressInLines(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 3*MiB)
	s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
		ctx = s.hear(ctx, conn)
		s.say(ctx, conn, progressEvent(MiB, nil))
		s.say(ctx, conn, map[string]string{"type": "something new"})
		conn.Write(ctx, websocket.MessageText, []byte("no JSON"))
		s.say(ctx, conn, ready(s.newLink()))
		<-ctx.Done()
	}
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.says("copying: 1.0 MiB\n")
	c.says("copying: 3.0 MiB of 3.0 MiB (100 %)\n")
	c.says("downloading: 3.0 MiB of 3.0 MiB (100 %)")
	c.says("saved " + c.path("x") + ": 3.0 MiB in ")
	if c.out.String() != "" {
		t.Errorf("got %q on stdout, want nothing", c.out.String())
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 3*MiB)
	c.runs(exitOK, "-q", "-o", c.path("x"), s.url())
	if got := c.err.String() + c.out.String(); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	c.again().runs(exitOK, "-q", "-f", "-o", c.path("x"), s.url())
	c = c.again()
	c.runs(exitLocal, "-q", "-o", c.path("x"), s.url())
	c.says("exists; -f overwrites it")
}

// jsonEvents reads what -json printed.
func jsonEvents(t *testing.T, text string) (events []map[string]any) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, event)
	}
	return events
}

func TestJSON(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 3*MiB)
	s.unverified = true
	c.runs(exitOK, "-json", "-o", c.path("x"), s.url())
	events := jsonEvents(t, c.out.String())
	phases := make(map[any]float64)
	for _, e := range events {
		if e["type"] == "progress" {
			phases[e["phase"]] = e["bytes"].(float64)
		}
	}
	if phases["copying"] != 3*MiB || phases["downloading"] != 3*MiB {
		t.Errorf("got last progress %v, want both phases at %d", phases, 3*MiB)
	}
	last := events[len(events)-1]
	if last["type"] != "saved" || last["file"] != c.path("x") || last["bytes"] != 3.0*MiB || last["checksum"] != "crc64nvme" || last["originVerified"] != false {
		t.Errorf("got last event %v", last)
	}
	if c.err.String() != "" {
		t.Errorf("got %q on stderr, want nothing", c.err.String())
	}

	s.onAsk = func(w http.ResponseWriter, n int) bool {
		writeJSON(w, 400, map[string]any{"error": map[string]string{"code": "INVALID_PATH", "message": "no .. please"}})
		return true
	}
	c = newClient(t, s)
	c.runs(exitRefused, "-json", "-o", c.path("x"), s.url())
	events = jsonEvents(t, c.out.String())
	last = events[len(events)-1]
	if last["type"] != "error" || last["exit"] != 3.0 || last["code"] != "INVALID_PATH" || last["message"] != "no .. please" {
		t.Errorf("got last event %v", last)
	}
}

// cutEach makes the storage close each of the first connections early.
func cutEach(times int, after int64) func(*storeReply, *http.Request, int) bool {
	return func(w *storeReply, r *http.Request, n int) bool {
		if n <= times {
			w.cut = after
		}
		return false
	}
}

func TestFiveCuts(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 40*MiB)
	s.onStore = cutEach(5, 3*MiB+11)
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.holds("x", s.content)
	if s.sent != 40*MiB {
		t.Errorf("the storage sent %d bytes in all, want %d: none twice", s.sent, 40*MiB)
	}
	if len(s.stores) < 10 {
		t.Errorf("got %d requests, want five ranges and five cuts at least", len(s.stores))
	}
}

// part reads what a stopped client left.
func (c *client) state(name string) (s state) {
	c.t.Helper()
	text, err := os.ReadFile(c.path(name + ".part.json"))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func missingBytes(s state) (n int64) {
	for _, m := range s.Missing {
		n += m.length()
	}
	return n
}

// hold makes the storage stop after some bytes until release is called.
func (s *stack) hold(after int64) (release func()) {
	gate := make(chan struct{})
	s.onStore = func(w *storeReply, r *http.Request, n int) bool {
		select {
		case <-gate:
			return false
		default:
		}
		http.ServeContent(&gatedReply{w, after, gate, r.Context()}, r, "", time.Time{}, strings.NewReader(string(s.content)))
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

// stopMidway runs a client until the storage has sent half of a file of 20 MiB,
// and stops it.
func stopMidway(t *testing.T, s *stack) *client {
	t.Helper()
	c := newClient(t, s)
	release := s.hold(5 * MiB)
	c.start("-o", c.path("x"), s.url())
	s.sees("three half ranges", func() bool { return s.sent >= 14*MiB })
	time.Sleep(100 * time.Millisecond) // for the bytes on their way
	c.signals <- syscall.SIGTERM
	c.ends(exitInterrupted)
	release()
	c.has("x.part", "x.part.json", "x.part.lock")
	c.says("stopped; the same command goes on")
	s.set(func() { s.onStore, s.sent, s.stores = nil, 0, nil })
	return c
}

func TestSecondStart(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	left := missingBytes(c.state("x"))
	if left > 8*MiB {
		t.Errorf("got %d bytes missing after the stop, want about 6 MiB", left)
	}
	info, err := os.Stat(c.path("x.part.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v of the state, want 0600", info.Mode())
	}
	c = c.again()
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.has("x")
	c.holds("x", s.content)
	c.says("were here from before")
	if s.sent != left {
		t.Errorf("the storage sent %d bytes to the second start, want the missing %d", s.sent, left)
	}
	if len(s.asks) != 1 {
		t.Errorf("got %d questions, want one for both starts", len(s.asks))
	}
	for i, r := range s.stores {
		if got := r.Header.Get("If-Match"); got != s.etag {
			t.Errorf("request %d of the second start came with If-Match %q, want %q", i, got, s.etag)
		}
	}
}

// A first execution whose file is no longer kept says so by REST too.
func TestSecondStartAfterTheFileExpired(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	left := missingBytes(c.state("x"))
	s.onStatus = func(w http.ResponseWriter, n int) bool {
		if n == 1 {
			writeJSON(w, 410, map[string]any{"error": map[string]string{"code": "EXPIRED", "message": "no longer kept"}})
		}
		return n == 1
	}
	c = c.again()
	c.runs(exitOK, "-no-socket", "-o", c.path("x"), s.url())
	c.holds("x", s.content)
	c.says("the earlier copy has ended (EXPIRED: no longer kept); asking for a new one")
	if s.sent != left || len(s.asks) != 2 {
		t.Errorf("the storage sent %d bytes after %d questions, want %d after 2", s.sent, len(s.asks), left)
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
				ctx = s.hear(ctx, conn)
				if len(s.asks) == 1 {
					s.say(ctx, conn, map[string]string{"type": "failed", "code": "EXPIRED", "message": "the file is no longer kept"})
				} else {
					s.say(ctx, conn, ready(s.newLink()))
				}
				<-ctx.Done()
			}
			c = c.again()
			c.runs(exitOK, "-o", c.path("x"), s.url())
			c.holds("x", s.content)
			c.says(test.explain)
			want := s.size
			if test.reuses {
				want = left
			}
			if s.sent != want || len(s.asks) != 2 {
				t.Errorf("the storage sent %d bytes after %d questions, want %d after 2", s.sent, len(s.asks), want)
			}
		})
	}
}

// A stack whose links have no checksum is believed only as far as the size goes.
func TestSecondStartWithAnotherSize(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	s.checksum = nil
	c := stopMidway(t, s)
	s.content = append(s.content, 1)
	s.size++
	c = c.again()
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.holds("x", s.content)
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
			c = c.again()
			c.runs(exitOK, "-o", c.path("x"), s.url())
			c.has("x")
			c.holds("x", s.content)
		})
	}
}

// A crash after the bytes were dropped, and before the first new ones were noted,
// leaves no claim about those.
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
	c = c.again()
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.holds("x", s.content)
	if s.sent != 20*MiB {
		t.Errorf("the storage sent %d bytes to the second start, want all", s.sent)
	}
}

// Stopped when all was fetched, and again after the second question: what the
// first one's copy brought isn't taken for the second's.
func TestStoppedAfterAskingAgain(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"no checksum": false, "a checksum only before": true} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t, 20*MiB)
			if !first {
				s.checksum = nil
			}
			c := stopMidway(t, s)
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
			s.set(func() {
				s.content = bytes.Repeat([]byte("new!"), 5*MiB)
				s.checksum, s.etag = nil, `"etag-2"`
			})
			sockets := 0
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, _ int) {
				ctx = s.hear(ctx, conn)
				s.set(func() { sockets++ })
				switch sockets {
				case 1:
					s.say(ctx, conn, map[string]string{"type": "failed", "code": "EXPIRED", "message": "the file is no longer kept"})
				case 2: // the second copy takes its time
				default:
					s.say(ctx, conn, ready(s.newLink()))
				}
				<-ctx.Done()
			}
			c = c.again()
			c.start("-o", c.path("x"), s.url())
			s.sees("the second copy's socket", func() bool { return sockets == 2 })
			c.signals <- syscall.SIGTERM
			c.ends(exitInterrupted)
			c = c.again()
			c.runs(exitOK, "-o", c.path("x"), s.url())
			c.holds("x", s.content)
			if len(s.asks) != 2 {
				t.Errorf("got %d questions, want 2", len(s.asks))
			}
		})
	}
}

func TestSecondStartWhileItIsCopied(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	c.start(s.url(), "-o", c.dir)
	s.sees("a socket", func() bool { return len(s.sockets) == 1 })
	c.signals <- syscall.SIGTERM
	c.ends(exitInterrupted)
	close(s.copyTime)
	c = c.again()
	c.runs(exitOK, s.url(), "-o", c.dir)
	c.has("report.bin")
	if len(s.asks) != 1 || s.sockets[1].URL.Query().Get("executionArn") != s.arn(1) {
		t.Errorf("got %d questions, want one execution for both starts", len(s.asks))
	}
	// A start for another file doesn't take this one's.
	c.again().runs(exitOK, s.url(), "other", "-o", c.path("y"))
	if len(s.asks) != 2 {
		t.Errorf("got %d questions, want another for another path", len(s.asks))
	}
}

func TestPartOfAnotherDownload(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	c = c.again()
	c.runs(exitOK, "-o", c.path("x"), s.url(), "another/path")
	c.says("is of another download; starting anew")
	c.holds("x", s.content)
	if s.sent != 20*MiB {
		t.Errorf("the storage sent %d bytes, want all", s.sent)
	}
}

// NAME.part of another program, as a browser has it, stays as it is.
func TestPartOfAnotherProgram(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	theirs := []byte("half a film")
	if err := os.WriteFile(c.path("x.part"), theirs, 0o666); err != nil {
		t.Fatal(err)
	}
	c.runs(exitLocal, "-f", "-o", c.path("x"), s.url())
	c.says("x.part is not this program's")
	c.says("move them away, or choose another name with -o")
	c.has("x.part")
	c.holds("x.part", theirs)
	if len(s.asks) != 0 {
		t.Error("a copy was started for a file that can't be written")
	}
	for _, name := range []string{"x.part.json", "x.part.lock"} {
		for _, text := range []string{"{", `{"size": 11}`} {
			if err := os.WriteFile(c.path(name), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			c = c.again()
			c.runs(exitLocal, "-f", "-o", c.path("x"), s.url())
			c.says(name + " is not this program's")
			c.has("x.part", name)
			c.holds("x.part", theirs)
			c.holds(name, []byte(text))
		}
		if err := os.Remove(c.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	// An empty one is what a crash of this program leaves, and no loss.
	if err := os.Truncate(c.path("x.part"), 0); err != nil {
		t.Fatal(err)
	}
	c = c.again()
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.has("x")
}

// A start that comes to nothing leaves what an earlier one has fetched.
func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "another/path"} {
		s := newStack(t, 20*MiB)
		c := stopMidway(t, s)
		left := missingBytes(c.state("x"))
		s.noSockets = true
		s.onStatus = func(w http.ResponseWriter, n int) bool {
			if n == 1 {
				writeJSON(w, 404, map[string]any{"error": map[string]string{"code": "NOT_FOUND", "message": "no such execution"}})
			}
			return n == 1
		}
		s.onAsk = func(w http.ResponseWriter, n int) bool {
			if n == 2 {
				w.WriteHeader(http.StatusUnauthorized)
			}
			return n == 2
		}
		c = c.again()
		c.runs(exitRefused, "-o", c.path("x"), s.url(), path)
		s.onStatus = nil
		c = c.again()
		c.runs(exitOK, "-o", c.path("x"), s.url())
		c.holds("x", s.content)
		if s.sent != left {
			t.Errorf("%q: the storage sent %d bytes to the last start, want the missing %d", path, s.sent, left)
		}
	}
}

func TestExpiredLink(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(w http.ResponseWriter){
		"403":              func(w http.ResponseWriter) { storeError(w, 403, "AccessDenied") },
		"400 ExpiredToken": func(w http.ResponseWriter) { storeError(w, 400, "ExpiredToken") },
	}
	for name, refuse := range kinds {
		t.Run(name, func(t *testing.T) {
			s, c := setUp(t, 40*MiB)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				switch link := r.URL.Query().Get("link"); {
				case link == "1" && n <= 3:
					w.cut = 2 * MiB
				case link == "1":
					refuse(w)
					return true
				}
				return false
			}
			c.runs(exitOK, "-o", c.path("x"), s.url())
			c.holds("x", s.content)
			c.says("the link has expired; asking for a new one")
			if s.sent != 40*MiB || s.links != 2 || len(s.asks) != 1 {
				t.Errorf("got %d bytes, %d links, %d questions, want %d, 2, 1", s.sent, s.links, len(s.asks), 40*MiB)
			}
		})
	}
}

func TestExpiredLinkWithoutStatus(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10*MiB)
	s.minLink = 2
	s.onStatus = func(w http.ResponseWriter, n int) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.holds("x", s.content)
	if len(s.sockets) != 2 {
		t.Errorf("got %d sockets, want the new link from a second", len(s.sockets))
	}
}

// The time that a new link takes is not the storage's silence.
func TestNewLinkTakesLong(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10*MiB)
	s.minLink = 2
	s.onStatus = func(w http.ResponseWriter, n int) bool {
		time.Sleep(400 * time.Millisecond)
		return false
	}
	c.runs(exitOK, "-patience", "300ms", "-o", c.path("x"), s.url())
	c.holds("x", s.content)
}

func TestEveryLinkRefused(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10*MiB)
	s.minLink = 1000
	c.runs(exitRefused, "-o", c.path("x"), s.url())
	c.says("refuses every link")
}

func TestSocketRefused(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.noSockets = true
	s.copyTime = make(chan struct{})
	s.onStatus = func(w http.ResponseWriter, n int) bool {
		switch n {
		case 1:
			w.Header().Set("Retry-After", "1")
		case 2:
			close(s.copyTime)
		}
		return false
	}
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.holds("x", s.content)
	if len(s.statuses) < 2 {
		t.Fatalf("got %d statuses, want 2", len(s.statuses))
	}
	if gap := s.statuses[1].Sub(s.statuses[0]); gap < time.Second {
		t.Errorf("the second status came after %v, Retry-After said 1 s", gap)
	}
}

func TestNoSocket(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	c.runs(exitOK, "-no-socket", "-o", c.path("x"), s.url())
	if len(s.sockets) != 0 || len(s.statuses) != 1 {
		t.Errorf("got %d sockets, %d statuses, want 0, 1", len(s.sockets), len(s.statuses))
	}
}

func TestServerClosesTheSocket(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
		ctx = s.hear(ctx, conn)
		if n < 5 {
			s.say(ctx, conn, progressEvent(int64(n), 1000))
			if n%2 == 0 {
				conn.Close(websocket.StatusGoingAway, "2 hours") // as API Gateway
			}
			return // or cut
		}
		s.say(ctx, conn, ready(s.newLink()))
		<-ctx.Done()
	}
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.holds("x", s.content)
	if len(s.asks) != 1 || len(s.sockets) != 5 {
		t.Errorf("got %d questions, %d sockets, want 1, 5", len(s.asks), len(s.sockets))
	}
	for i, r := range s.sockets {
		if got := r.URL.Query().Get("executionArn"); got != s.arn(1) {
			t.Errorf("socket %d was opened for %q, want %q", i, got, s.arn(1))
		}
	}
}

func TestDeadSocket(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	c.tempo.pulse = 50 * time.Millisecond
	dead := make(chan struct{})
	s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
		if n == 1 {
			<-dead // no read, so no pong
			return
		}
		ctx = s.hear(ctx, conn)
		s.say(ctx, conn, ready(s.newLink()))
		<-ctx.Done()
	}
	c.start("-o", c.path("x"), s.url())
	s.sees("another way to the link", func() bool { return s.links == 1 })
	close(dead)
	c.ends(exitOK)
	c.holds("x", s.content)
}

func TestSocketIsKeptFromBeingIdle(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	c.tempo.talk, c.tempo.pulse = 1300*time.Millisecond, 500*time.Millisecond
	c.start("-o", c.path("x"), s.url())
	s.sees("two messages", func() bool { return len(s.said) >= 2 })
	close(s.copyTime)
	c.ends(exitOK)
	if s.said[0] != `{"action":"ping"}` || len(s.sockets) != 1 {
		t.Errorf("got %q on %d sockets, want pings on one", s.said, len(s.sockets))
	}
}

func TestBadEnds(t *testing.T) {
	t.Parallel()
	event := func(code, message string) func(*stack) {
		return func(s *stack) {
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				ctx = s.hear(ctx, conn)
				s.say(ctx, conn, map[string]string{"type": "failed", "code": code, "message": message})
				<-ctx.Done()
			}
		}
	}
	answer := func(status int, body string) func(*stack) {
		return func(s *stack) {
			s.onAsk = func(w http.ResponseWriter, n int) bool {
				w.WriteHeader(status)
				io.WriteString(w, body)
				return true
			}
		}
	}
	bySatus := func(status int, body string) func(*stack) {
		return func(s *stack) {
			s.noSockets = true
			s.onStatus = func(w http.ResponseWriter, n int) bool {
				w.WriteHeader(status)
				io.WriteString(w, body)
				return true
			}
		}
	}
	tests := []struct {
		name string
		set  func(*stack)
		exit int
		says string
	}{
		{"origin's 404", event("ORIGIN_STATUS", "the origin answered 404"), exitFailed, "download: ORIGIN_STATUS: the origin answered 404\n"},
		{"a message that plays with the terminal", event("STORAGE", "a\x1b[2Jb\r\u202ec"), exitFailed, "STORAGE: a[2Jbc\n"},
		{"expired", event("EXPIRED", "nobody came"), exitExpired, "EXPIRED: nobody came"},
		{"cancelled by another", event("CANCELLED", "it was cancelled"), exitCancelled, "CANCELLED"},
		{"refused", answer(400, `{"error":{"code":"INVALID_PATH","message":"change the path"}}`), exitRefused, "INVALID_PATH: change the path"},
		{"API Gateway's refusal", answer(403, `{"message":"Forbidden"}`), exitRefused, "the API answered 403 Forbidden: Forbidden"},
		{"no API", answer(200, `<html>`), exitRefused, "not that of a download API"},
		{"another API", answer(200, `{"hello":1}`), exitRefused, "not that of a download API"},
		{"a redirect", func(s *stack) {
			s.onAsk = func(w http.ResponseWriter, n int) bool {
				w.Header().Set("Location", "/dev/followed")
				w.WriteHeader(302)
				return true
			}
		}, exitRefused, "the API answered 302"},
		{"throttled for good", answer(429, `{"error":{"code":"THROTTLED","message":"come later"}}`), exitRefused, "THROTTLED: come later"},
		{"failed, by status", bySatus(200, `{"status":"FAILED","error":{"code":"TOO_LARGE","message":"too large"}}`), exitFailed, "TOO_LARGE: too large"},
		{"cancelled, by status", bySatus(200, `{"status":"CANCELLED","error":{"code":"CANCELLED","message":"stopped"}}`), exitCancelled, "CANCELLED: stopped"},
		{"expired, by status", bySatus(410, `{"error":{"code":"EXPIRED","message":"no longer kept"}}`), exitExpired, "EXPIRED: no longer kept"},
		{"unknown, by status", bySatus(404, `{"error":{"code":"NOT_FOUND","message":"no such execution"}}`), exitExpired, "no longer knows"},
		{"forbidden, by status", bySatus(403, `{"message":"Forbidden"}`), exitRefused, "403"},
		{"gone from the storage", func(s *stack) {
			s.onStore = func(w *storeReply, r *http.Request, n int) bool { storeError(w, 404, "NoSuchKey"); return true }
		}, exitExpired, "EXPIRED"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, c := setUp(t, 1000)
			test.set(s)
			c.runs(test.exit, "-o", c.path("x"), s.url())
			c.says(test.says)
			if test.name != "forbidden, by status" { // the one that new credentials may mend
				c.has()
			}
		})
	}
}

func TestThrottledAtFirst(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	var first time.Time
	s.onAsk = func(w http.ResponseWriter, n int) bool {
		if n == 1 {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			writeJSON(w, 429, map[string]any{"error": map[string]string{"code": "THROTTLED", "message": "later"}})
		}
		if n == 2 && time.Since(first) < time.Second {
			t.Errorf("asked again after %v, Retry-After said 1 s", time.Since(first))
		}
		return n == 1
	}
	c.runs(exitOK, "-o", c.path("x"), s.url())
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.api.Close()
	c.runs(exitNetwork, "-o", c.path("x"), s.url()+"/", "p?"+secretQuery)
	c.says("the API can't be reached: dial tcp")
	c.has()
}

func TestNoFolder(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	c.runs(exitLocal, "-o", c.path("nodir/x"), s.url())
	c.says("there is no folder " + c.path("nodir"))
}

func TestPatience(t *testing.T) {
	t.Parallel()
	t.Run("with the API", func(t *testing.T) {
		s, c := setUp(t, 1000)
		s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
			s.set(func() { s.noSockets = true })
		}
		s.onStatus = func(w http.ResponseWriter, n int) bool { w.WriteHeader(502); return true }
		c.start("-patience", "300ms", "-o", c.path("x"), s.url())
		c.ends(exitNetwork)
		c.says("the API can't be reached; trying again for 300ms")
		c.says("neither the WebSocket nor the status URL could be reached for 300ms")
		c.has("x.part", "x.part.json", "x.part.lock")
	})
	t.Run("with the storage", func(t *testing.T) {
		s, c := setUp(t, 20*MiB)
		s.onStore = func(w *storeReply, r *http.Request, n int) bool {
			if n <= 2 {
				w.cut = 3 * MiB
				return false
			}
			storeError(w, 503, "SlowDown")
			return true
		}
		c.runs(exitNetwork, "-patience", "300ms", "-o", c.path("x"), s.url())
		c.says("the storage sent nothing for 300ms: the storage answered 503 SlowDown")
		s.onStore, s.sent = nil, 0
		c = c.again()
		c.runs(exitOK, "-o", c.path("x"), s.url())
		c.holds("x", s.content)
		if s.sent != 14*MiB {
			t.Errorf("the storage sent %d bytes to the second start, want %d", s.sent, 14*MiB)
		}
	})
}

// What the network says of a connection holds the address; its query is a secret.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	t.Run("storage", func(t *testing.T) {
		s, c := setUp(t, 1000)
		s.storage.Close()
		c.runs(exitNetwork, "-patience", "200ms", "-o", c.path("x"), s.url())
		c.says("the storage sent nothing for 200ms: dial tcp")
	})
	t.Run("socket", func(t *testing.T) {
		s, c := setUp(t, 1000)
		s.onAsk = func(w http.ResponseWriter, n int) bool {
			writeJSON(w, 200, map[string]string{
				"executionArn": "arn",
				"webSocketUrl": "ws" + strings.TrimPrefix(s.storage.URL, "http") + "/?executionArn=arn",
				"statusUrl":    s.url() + "/executions/1",
				"ticket":       secretTicket,
			})
			return true
		}
		s.onStatus = func(w http.ResponseWriter, n int) bool {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
			return true
		}
		s.storage.Close()
		c.runs(exitNetwork, "-patience", "200ms", "-o", c.path("x"), s.url())
		c.says("could be reached for 200ms: dial tcp")
	})
}

func TestStandstill(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 3*MiB)
	c.tempo.stall = time.Second // a busy machine stands still for less
	gate := make(chan struct{})
	defer close(gate)
	s.onStore = func(w *storeReply, r *http.Request, n int) bool {
		if n > 2 {
			return false
		}
		if n == 1 {
			http.ServeContent(&gatedReply{w, MiB, gate, r.Context()}, r, "", time.Time{}, strings.NewReader(string(s.content)))
		} else { // not even headers
			<-r.Context().Done()
		}
		return true
	}
	c.runs(exitOK, "-o", c.path("x"), s.url())
	c.holds("x", s.content)
	if s.sent != 3*MiB {
		t.Errorf("the storage sent %d bytes, want %d", s.sent, 3*MiB)
	}
}

// After an outage the first connection that is back wakes the others.
func TestNobodySleepsOnAfterAnOutage(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 40*MiB)
	c.tempo.backoff, c.tempo.maxBackoff = time.Hour, time.Hour
	back := make(chan struct{})
	s.onStore = func(w *storeReply, r *http.Request, n int) bool {
		switch n {
		case 1: // holds on
			http.ServeContent(&gatedReply{w, MiB, back, r.Context()}, r, "", time.Time{}, strings.NewReader(string(s.content)))
		case 2: // asks for another try
			storeError(w, 503, "SlowDown")
		default:
			return false
		}
		return true
	}
	c.start("-connections", "2", "-o", c.path("x"), s.url())
	s.sees("the refusal", func() bool { return len(s.stores) == 2 })
	time.Sleep(4 * c.tempo.outage)
	close(back)
	c.ends(exitOK)
	c.holds("x", s.content)
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		checksum map[string]string
		exit     int
		says     string
	}{
		{"wrong", map[string]string{"crc64nvme": crcText([]byte("something else"))}, exitChecksum, "don't have the CRC64NVME"},
		{"none", nil, exitOK, "unverified"},
		{"composite", map[string]string{"sha256": "AAAA-3", "crc32c": "AAAAAA==-3"}, exitOK, "unverified"},
		{"malformed", map[string]string{"crc64nvme": "AAAA"}, exitOK, "unverified"},
	}
	for _, test := range tests {
		for _, to := range []string{"file", "stdout"} {
			t.Run(test.name+" to "+to, func(t *testing.T) {
				s, c := setUp(t, 9*MiB)
				s.checksum = test.checksum
				output := c.path("x")
				if to == "stdout" {
					output, c.stdout = "-", io.Discard
				}
				c.runs(test.exit, "-o", output, s.url())
				c.says(test.says)
				if test.exit != exitOK {
					c.has()
				}
			})
		}
	}
}

func TestRepliesThatLie(t *testing.T) {
	t.Parallel()
	reply := func(status int, contentRange string, length int, body []byte) func(*storeReply) bool {
		return func(w *storeReply) bool {
			w.Header().Set("Content-Range", contentRange)
			w.Header().Set("Content-Length", fmt.Sprint(length))
			w.WriteHeader(status)
			w.Write(body)
			return true
		}
	}
	const size = 20 * MiB
	eight := make([]byte, 8*MiB)
	tests := []struct {
		name string
		lie  func(*storeReply) bool
		exit int
		says string
	}{
		{"another range", reply(206, fmt.Sprintf("bytes 1-%d/%d", 8*MiB, size), 8*MiB, eight), exitNetwork, "not the range that was asked for"},
		{"another size", reply(206, fmt.Sprintf("bytes 0-%d/%d", 8*MiB-1, size+1), 8*MiB, eight), exitChecksum, "not the one this download began with"},
		{"no range", reply(206, "", 8*MiB, eight), exitChecksum, "not the one"},
		{"another length", reply(206, fmt.Sprintf("bytes 0-%d/%d", 8*MiB-1, size), 5, eight[:5]), exitNetwork, "announced 5 bytes"},
		{"the whole file", func(w *storeReply) bool {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.Write(make([]byte, size))
			return true
		}, exitNetwork, "ignores ranges"},
		{"no ETag", func(w *storeReply) bool { w.Header().Del("ETag"); return false }, exitNetwork, "no strong ETag"},
		{"a weak ETag", func(w *storeReply) bool { w.Header().Set("ETag", `W/"x"`); return false }, exitNetwork, "no strong ETag"},
		{"an odd status", func(w *storeReply) bool { storeError(w, 418, "Teapot"); return true }, exitNetwork, "the storage answered 418 Teapot"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, c := setUp(t, size)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool { return test.lie(w) }
			c.runs(test.exit, "-o", c.path("x"), s.url())
			c.says(test.says)
			if _, err := os.Stat(c.path("x")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is a file: %v", err)
			}
		})
	}
}

func TestFileChangesMidway(t *testing.T) {
	t.Parallel()
	// The storage must not be believed where it ignores If-Match either.
	for _, honest := range []bool{true, false} {
		t.Run(fmt.Sprintf("honest=%v", honest), func(t *testing.T) {
			s, c := setUp(t, 20*MiB)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				if n > 1 {
					w.Header().Set("ETag", `"etag-2"`)
					if !honest {
						r.Header.Del("If-Match")
					}
				}
				return false
			}
			c.runs(exitChecksum, "-o", c.path("x"), s.url())
			c.says("not the one this download began with")
			c.has()
		})
	}
}

func TestCtrlCWithNobodyToAsk(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	c.start("-o", c.path("x"), s.url())
	s.sees("a socket", func() bool { return len(s.sockets) == 1 })
	c.signals <- os.Interrupt
	c.ends(exitCancelled)
	c.has()
	if !s.cancelled {
		t.Error("the execution was not cancelled")
	}
}

// What is delivered can't be cancelled, and isn't lost by the try.
func TestCtrlCTooLate(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	left := missingBytes(c.state("x"))
	s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) { <-s.hear(ctx, conn).Done() }
	c = c.again()
	c.start("-o", c.path("x"), s.url())
	s.sees("the second start's socket", func() bool { return len(s.sockets) == 2 })
	c.signals <- os.Interrupt
	c.ends(exitInterrupted)
	if s.deletes != 1 || missingBytes(c.state("x")) != left {
		t.Errorf("got %d cancels and %d bytes missing, want 1 and %d", s.deletes, missingBytes(c.state("x")), left)
	}
	c.has("x.part", "x.part.json", "x.part.lock")
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
		{"no", "n\n", exitInterrupted, false, []string{"x.part", "x.part.json", "x.part.lock"}},
		{"go on", "\n", exitOK, false, []string{"x"}},
		{"Ctrl-C", "^C", exitInterrupted, false, []string{"x.part", "x.part.json", "x.part.lock"}},
		{"end of input", "", exitInterrupted, false, []string{"x.part", "x.part.json", "x.part.lock"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, c := setUp(t, 1000)
			s.copyTime = make(chan struct{})
			stdin, typed := io.Pipe()
			defer typed.Close()
			c.stdin, c.person = stdin, true
			c.start("-o", c.path("x"), s.url())
			s.sees("a socket", func() bool { return len(s.sockets) == 1 })
			c.signals <- os.Interrupt
			s.sees("the question", func() bool { return strings.Contains(c.err.String(), "Cancel the copy?") })
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
			c.ends(test.exit)
			c.has(test.files...)
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
	s.sees("a socket", func() bool { return len(s.sockets) == 1 })
	s.mu.Lock() // the API hangs
	c.signals <- os.Interrupt
	time.Sleep(100 * time.Millisecond)
	c.signals <- os.Interrupt
	select {
	case got := <-c.exit:
		if got != exitInterrupted {
			t.Errorf("got exit code %d, want %d", got, exitInterrupted)
		}
	case <-time.After(20 * time.Second):
		t.Error("still running 20 s after the second Ctrl-C")
	}
	s.mu.Unlock()
	c.has("x.part", "x.part.json", "x.part.lock")
}

func TestCtrlCWhileItComes(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	release := s.hold(MiB)
	c.start("-o", c.path("x"), s.url())
	s.sees("bytes", func() bool { return s.sent > 0 })
	c.signals <- os.Interrupt
	c.ends(exitInterrupted)
	release()
	c.has("x.part", "x.part.json", "x.part.lock")
	if s.deletes != 0 {
		t.Error("a delivered download was cancelled")
	}
}

func TestStdout(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 20 * MiB} {
		s, c := setUp(t, size)
		var got buffer
		c.stdout = &got
		s.onStore = cutEach(3, 2*MiB)
		c.runs(exitOK, "-o", "-", "-json", s.url())
		if got.String() != string(s.content) {
			t.Errorf("got %d bytes, want the file's %d", len(got.String()), size)
		}
		if s.sent != int64(size) {
			t.Errorf("the storage sent %d bytes, want %d", s.sent, size)
		}
		events := jsonEvents(t, c.err.String())
		if last := events[len(events)-1]; last["type"] != "saved" || last["file"] != "-" {
			t.Errorf("got last event %v on stderr", last)
		}
	}
}

func TestPipeIsWrittenInOrder(t *testing.T) {
	t.Parallel()
	p := &pipe{w: io.Discard}
	if _, err := p.WriteAt([]byte("abc"), 0); err != nil {
		t.Error(err)
	}
	if _, err := p.WriteAt([]byte("e"), 4); err == nil {
		t.Error("a byte was left out and nothing said")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write(p []byte) (int, error) { return 0, syscall.EPIPE }

func TestStdoutBreaks(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	c.stdout = brokenPipe{}
	c.runs(exitLocal, "-o", "-", s.url())
	c.says("write: broken pipe")
}

// fullPipe is one whose reader has stopped, and reads no more until the end of
// the test.
type fullPipe struct{ ended <-chan struct{} }

func (p fullPipe) Write([]byte) (int, error) { <-p.ended; return 0, syscall.EPIPE }

func TestCtrlCWhileNobodyReads(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, MiB)
	c.stdout = fullPipe{t.Context().Done()}
	c.start("-o", "-", s.url())
	s.sees("bytes", func() bool { return s.sent > 0 })
	c.signals <- os.Interrupt
	c.exits(exitInterrupted)
	c.says("stopped")
}

// Where even the display hangs, the second signal ends the program.
func TestCtrlCTwiceWhileItHangs(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, MiB)
	c.stdout = fullPipe{t.Context().Done()}
	c.start("-json", "-o", c.path("x"), s.url())
	s.sees("the question", func() bool { return len(s.asks) == 1 })
	c.signals <- syscall.SIGTERM
	select {
	case <-c.exit:
		t.Fatal("nothing hangs")
	case <-time.After(300 * time.Millisecond):
	}
	c.signals <- os.Interrupt
	c.exits(exitInterrupted)
}

func TestOverwrite(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1000)
	old := []byte("old")
	for _, output := range []string{"report.bin", ""} { // named by the user, by the link
		c := newClient(t, s)
		if err := os.WriteFile(c.path("report.bin"), old, 0o666); err != nil {
			t.Fatal(err)
		}
		s.asks, s.sent = nil, 0
		c.runs(exitLocal, "-o", c.path(output), s.url())
		c.says("exists; -f overwrites it")
		c.holds("report.bin", old)
		if s.sent > 0 || output != "" && len(s.asks) > 0 {
			t.Errorf("%q: got %d questions and %d bytes for a file that can't be written", output, len(s.asks), s.sent)
		}
		c = c.again()
		c.runs(exitOK, "-f", "-o", c.path(output), s.url())
		c.has("report.bin")
		c.holds("report.bin", s.content)
	}
	for _, remembered := range []bool{true, false} { // whether the API still knows the download
		t.Run(fmt.Sprintf("appears meanwhile, remembered=%v", remembered), func(t *testing.T) {
			s, c := setUp(t, 20*MiB)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				os.WriteFile(c.path("x"), old, 0o666)
				return false
			}
			c.runs(exitLocal, "-o", c.path("x"), s.url())
			c.says("exists; -f overwrites it")
			c.holds("x", old)
			c.has("x", "x.part", "x.part.json", "x.part.lock")
			s.onStore, s.sent = nil, 0
			if !remembered {
				s.etag, s.noSockets = `"etag-2"`, true
				s.onStatus = func(w http.ResponseWriter, n int) bool {
					if n == 1 {
						writeJSON(w, 404, map[string]any{"error": map[string]string{"code": "NOT_FOUND", "message": "no such execution"}})
					}
					return n == 1
				}
			}
			c = c.again()
			c.runs(exitOK, "-f", "-o", c.path("x"), s.url())
			c.holds("x", s.content)
			c.has("x")
			if s.sent != 0 {
				t.Errorf("the storage sent %d bytes again", s.sent)
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	if err := syscall.Mkfifo(c.path("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	c.runs(exitLocal, "-f", "-o", c.path("x"), s.url())
	c.says("is no file")
	if info, err := os.Stat(c.path("x")); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe was replaced: %v, %v", info, err)
	}
}

func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	release := s.hold(MiB)
	c.start("-o", c.path("x"), s.url())
	s.sees("bytes", func() bool { return s.sent > 0 })
	second := c.again()
	second.start("-o", c.path("x"), s.url())
	second.exits(exitLocal)
	second.says("is being written by another download")
	release()
	c.ends(exitOK)
	c.holds("x", s.content)
	c.has("x")
}

func TestNowhereToWrite(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	c.runs(exitLocal, "-o", c.path("no/such/folder/x"), s.url())
	if len(s.asks) != 0 {
		t.Error("a copy was started for a file that can't be written")
	}
}

func TestNamesFromElsewhere(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"../../etc/passwd": "passwd",
		`..\..\boot.ini`:   "boot.ini",
		".bashrc":          "bashrc",
		"..":               "end.csv", // of the path
		"":                 "end.csv",
	} {
		s, c := setUp(t, 10)
		s.fileName = name
		c.runs(exitOK, "-o", c.dir, s.url(), "some/end.csv")
		c.has(want)
	}
}
