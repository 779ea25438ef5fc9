package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
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
			c.runExpecting(exitOK, "-o", c.dir, s.url())
			c.wantFiles("report.bin")
			c.wantContent("report.bin", s.content)
			c.wantStderr("CRC64NVME verified")
			if s.sent != int64(size) {
				t.Errorf("the storage sent %d bytes, want %d", s.sent, size)
			}
			if len(s.keys) != 1 || len(s.sockets) != 1 || len(s.statuses) != 0 {
				t.Errorf("got %d questions, %d sockets, %d statuses, want 1, 1, 0", len(s.keys), len(s.sockets), len(s.statuses))
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
	c.runExpecting(exitOK, "-H", "X-Api-Key: "+secretHeader, "-H", "Two: a", "-H", "Two: b", "-o", c.path("x"),
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
		ctx = s.readMessages(ctx, conn)
		s.sendEvent(ctx, conn, progressEvent(MiB, nil))
		s.sendEvent(ctx, conn, map[string]string{"type": "something new"})
		conn.Write(ctx, websocket.MessageText, []byte("no JSON"))
		s.sendEvent(ctx, conn, ready(s.newLink()))
		<-ctx.Done()
	}
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	// A copy that took half a second has a rate.
	for _, want := range []string{`copying: 1\.0 MiB`, `copying: 3\.0 MiB of 3\.0 MiB \(100 %\)`} {
		if got := c.err.String(); !regexp.MustCompile(want + `(, .+/s.*)?\n`).MatchString(got) {
			t.Errorf("got stderr:\n%s\nwant it to match: %s", got, want)
		}
	}
	c.wantStderr("downloading: 3.0 MiB of 3.0 MiB (100 %)")
	c.wantStderr("saved " + c.path("x") + ": 3.0 MiB in ")
	if c.out.String() != "" {
		t.Errorf("got %q on stdout, want nothing", c.out.String())
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 3*MiB)
	c.runExpecting(exitOK, "-q", "-o", c.path("x"), s.url())
	if got := c.err.String() + c.out.String(); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	c.nextStart().runExpecting(exitOK, "-q", "-f", "-o", c.path("x"), s.url())
	c = c.nextStart()
	c.runExpecting(exitLocal, "-q", "-o", c.path("x"), s.url())
	c.wantStderr("exists; -f overwrites it")
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
	c.runExpecting(exitOK, "-json", "-o", c.path("x"), s.url())
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
		writeJSON(w, 400, apiProblem("INVALID_PATH", "no .. please"))
		return true
	}
	c = newClient(t, s)
	c.runExpecting(exitRefused, "-json", "-o", c.path("x"), s.url())
	events = jsonEvents(t, c.out.String())
	last = events[len(events)-1]
	if last["type"] != "error" || last["exit"] != 3.0 || last["code"] != "INVALID_PATH" || last["message"] != "no .. please" {
		t.Errorf("got last event %v", last)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	event := func(code, message string) func(*stack) {
		return func(s *stack) {
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				ctx = s.readMessages(ctx, conn)
				s.sendEvent(ctx, conn, map[string]string{"type": "failed", "code": code, "message": message})
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
	byStatus := func(status int, body string) func(*stack) {
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
		{"origin's 404", event("ORIGIN_STATUS", "the origin answered 404"), exitFailed, "download: ORIGIN_STATUS: the origin answered 404 (execution 00000000000000000000000000000001)\n"},
		{"a message that plays with the terminal", event("STORAGE", "a\x1b[2Jb\r\u202ec"), exitFailed, `STORAGE: a\x1b[2Jb\r\u202ec (execution `},
		{"expired", event("EXPIRED", "nobody came"), exitExpired, "EXPIRED: nobody came"},
		{"cancelled by another", event("CANCELLED", "it was cancelled"), exitCancelled, "CANCELLED"},
		{"refused", answer(400, `{"error":{"code":"INVALID_PATH","message":"change the path"}}`), exitRefused, "INVALID_PATH: change the path"},
		{"no such API", answer(404, `{"message":"Not Found"}`), exitRefused, "the API answered 404 Not Found; is the API's URL the stack's DownloadApiUrl?"},
		{"API Gateway's refusal", answer(403, `{"message":"Forbidden"}`), exitRefused, "the API answered 403 Forbidden; does the API expect a header (-H) or a signature (-sign)?"},
		{"no API", answer(200, `<html>`), exitRefused, "not that of a download API"},
		{"another API", answer(200, `{"hello":1}`), exitRefused, "not that of a download API"},
		{"a redirect", func(s *stack) {
			s.onAsk = func(w http.ResponseWriter, n int) bool {
				w.Header().Set("Location", "/dev/followed")
				w.WriteHeader(302)
				return true
			}
		}, exitRefused, "the API answered 302"},
		{"throttled every time", answer(429, `{"error":{"code":"THROTTLED","message":"come later"}}`), exitRefused, "THROTTLED: come later"},
		{"failed, by status", byStatus(200, `{"status":"FAILED","error":{"code":"TOO_LARGE","message":"too large"}}`), exitFailed, "TOO_LARGE: too large"},
		{"cancelled, by status", byStatus(200, `{"status":"CANCELLED","error":{"code":"CANCELLED","message":"stopped"}}`), exitCancelled, "CANCELLED: stopped"},
		{"expired, by status", byStatus(410, `{"error":{"code":"EXPIRED","message":"no longer kept"}}`), exitExpired, "EXPIRED: no longer kept"},
		{"unknown, by status", byStatus(404, `{"error":{"code":"NOT_FOUND","message":"no such execution"}}`), exitExpired, "no longer knows"},
		{"forbidden, by status", byStatus(403, `{"message":"Forbidden"}`), exitRefused, "403"},
		{"gone from the storage", func(s *stack) {
			s.onStore = func(w *storeReply, r *http.Request, n int) bool { storeError(w, 404, "NoSuchKey"); return true }
		}, exitExpired, "EXPIRED"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, c := setUp(t, 1000)
			test.set(s)
			c.runExpecting(test.exit, "-o", c.path("x"), s.url())
			c.wantStderr(test.says)
			if test.name != "forbidden, by status" { // after which new credentials may help
				c.wantFiles()
			}
		})
	}
}

func TestThrottledAtFirst(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
		var first time.Time
		s.onAsk = func(w http.ResponseWriter, n int) bool {
			if n == 1 {
				first = time.Now()
				w.Header().Set("Retry-After", "1")
				writeJSON(w, 429, apiProblem("THROTTLED", "later"))
			}
			if n == 2 && time.Since(first) < time.Second {
				t.Errorf("asked again after %v, Retry-After said 1 s", time.Since(first))
			}
			return n == 1
		}
		c.runExpecting(exitOK, "-o", c.path("x"), s.url())
		c.wantStderr("THROTTLED: later; trying again\n")
	})
}

func TestAPIUnreachable(t *testing.T) {
	t.Parallel()
	_, c := setUp(t, 1000)
	c.runExpecting(exitNetwork, "-o", c.path("x"), "http://"+nobody+"/dev/", "p?"+secretQuery)
	c.wantStderr("the API can't be reached: dial tcp")
	c.wantFiles()
}

func TestStdout(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 20 * MiB} {
		s, c := setUp(t, size)
		var got buffer
		c.stdout = &got
		s.onStore = cutEach(3, 2*MiB)
		c.runExpecting(exitOK, "-o", "-", "-json", s.url())
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

func TestStdoutIsNamed(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10)
	c.stdout = io.Discard
	c.runExpecting(exitOK, "-o", "-", s.url())
	c.wantStderr("\nsaved to stdout: 10 B in ")
}

func TestPipeIsWrittenInOrder(t *testing.T) {
	t.Parallel()
	p := &pipe{w: io.Discard, sums: &sums{}}
	if _, err := p.WriteAt([]byte("abc"), 0); err != nil {
		t.Error(err)
	}
	if _, err := p.WriteAt([]byte("e"), 4); err == nil {
		t.Error("got no error for a byte that was left out")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write(p []byte) (int, error) { return 0, syscall.EPIPE }

func TestStdoutBreaks(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 20*MiB)
	c.stdout = brokenPipe{}
	c.runExpecting(exitLocal, "-o", "-", s.url())
	c.wantStderr("write: broken pipe")
}

func TestOutputIsNoRegularFile(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	if err := syscall.Mkfifo(c.path("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	c.runExpecting(exitLocal, "-f", "-o", c.path("x"), s.url())
	c.wantStderr("isn't a file")
	if info, err := os.Stat(c.path("x")); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe was replaced: %v, %v", info, err)
	}
}

func TestNamesFromTheOrigin(t *testing.T) {
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
		c.runExpecting(exitOK, "-o", c.dir, s.url(), "some/end.csv")
		c.wantFiles(want)
	}
}
