// Package load checks that load.js can fail: k6 runs it against a stack that loses,
// duplicates, and corrupts what it delivers.
package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const file = "the file's bytes"

// stack is a download app that misbehaves as its fields say.
type stack struct {
	bytes   string        // body of the link
	status  int           // status of the link, 0 for 200
	length  int           // size in the event
	links   int           // messages with the link, or downloads for one key
	unready int64         // number of GETs that wait and are answered that the file isn't ready
	silent  bool          // no message
	failed  bool          // an error instead of a link
	closed  bool          // the socket is closed instead of a message
	slow    time.Duration // delay before the link
	refuse  int64         // number of GETs, and of handshakes, that are refused
	refused struct{ get, handshake, unready atomic.Int64 }
}

func (s *stack) serve(t *testing.T) string {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/download/{path...}", func(w http.ResponseWriter, r *http.Request) {
		if s.refused.get.Add(1) <= s.refuse {
			http.Error(w, "{}", http.StatusTooManyRequests)
			return
		}
		if r.Header.Get("Prefer") != "" {
			s.wait(t, w, r, server.URL+"/file")
			return
		}
		fmt.Fprintf(w, `{"webSocketUrl":"ws%s/socket?executionArn=x"}`, strings.TrimPrefix(server.URL, "http"))
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		if s.status != 0 {
			w.WriteHeader(s.status)
		}
		fmt.Fprint(w, s.bytes)
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("format") != "json" || r.URL.Query().Get("executionArn") != "x" {
			t.Errorf("got %s, want the URL from the answer and format=json", r.URL)
		}
		if s.refused.handshake.Add(1) <= s.refuse {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		c, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if s.closed {
			return
		}
		c.WriteMessage(websocket.TextMessage, []byte(`{"type":"progress","bytesCopied":1,"bytesTotal":null}`))
		time.Sleep(s.slow)
		message := fmt.Sprintf(`{"type":"ready","url":"%s/file","size":%d}`, server.URL, s.length)
		if s.failed {
			message = `{"type":"failed","code":"INTERNAL","message":"a fault"}`
		}
		for range s.links {
			if !s.silent {
				c.WriteMessage(websocket.TextMessage, []byte(message))
			}
		}
		for { // until the client closes
			if _, _, err := c.ReadMessage(); err != nil {
				return
			}
		}
	})
	return server.URL
}

// wait answers a GET with Prefer: wait.
func (s *stack) wait(t *testing.T, w http.ResponseWriter, r *http.Request, link string) {
	if r.Header.Get("Prefer") != "wait=20" || len(r.Header.Get("Idempotency-Key")) != 32 {
		t.Errorf("got the headers %v", r.Header)
	}
	switch n := s.refused.unready.Add(1); {
	case s.silent || n <= s.unready:
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":{"code":"NOT_READY"}}`)
	case s.failed:
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, `{"error":{"code":"ORIGIN_STATUS"}}`)
	default:
		time.Sleep(s.slow)
		w.Header().Set("Location", link)
		w.WriteHeader(http.StatusSeeOther)
		if s.links == 1 {
			n = 1
		}
		fmt.Fprintf(w, `{"executionArn":"%d"}`, n)
	}
}

func TestThresholds(t *testing.T) {
	k6 := os.Getenv("K6")
	if k6 == "" {
		t.Fatal("K6 is not set; scripts/load.sh --self-check runs this test")
	}
	good := func(change func(*stack)) *stack {
		s := &stack{bytes: file, length: len(file), links: 1}
		change(s)
		return s
	}
	whole := sha256.Sum256([]byte(file))
	sum := hex.EncodeToString(whole[:])
	for _, test := range []struct {
		name     string
		stack    *stack
		scenario string
		sum      string // expected SHA-256, "" if unknown
		want     string // the threshold that fails, "" if none
		row      string // a line of the summary
	}{
		{"no fault", good(func(s *stack) {}), "soak", sum, "", `delivered +[1-9]\d*, [\d.]+ per second, each with the right SHA-256`},
		{"ramp", good(func(s *stack) {}), "ramp", sum, "", `lost +0`},
		{"spike", good(func(s *stack) {}), "spike", sum, "", `requested +2 `},
		{"large", good(func(s *stack) {}), "large", "", "", `delivered +4, [\d.]+ per second; no SHA256 was given`},
		{"refused at first", good(func(s *stack) { s.refuse = 2 }), "spike", sum, "", `refused +4,`},
		{"no link", good(func(s *stack) { s.silent = true }), "spike", sum, "lost: count == 0", `lost +2`},
		{"an error", good(func(s *stack) { s.failed = true }), "spike", sum, "lost: count == 0", `lost +2`},
		{"closed", good(func(s *stack) { s.closed = true }), "spike", sum, "lost: count == 0", `closed before a link came`},
		{"two links", good(func(s *stack) { s.links = 2 }), "spike", sum, "doubled: count == 0", `duplicates +2`},
		{"other bytes", good(func(s *stack) { s.bytes = strings.ToUpper(file) }), "spike", sum, "wrong: count == 0", `wrong bytes +2`},
		{"fewer bytes", good(func(s *stack) { s.bytes = file[1:] }), "spike", "", "wrong: count == 0", `wrong bytes +2`},
		{"refused link", good(func(s *stack) { s.status = 403 }), "spike", sum, "wrong: count == 0", `wrong bytes +2`},
		{"by HTTP", good(func(s *stack) {}), "http", sum, "", `delivered +[1-9]\d*, [\d.]+ per second, each with the right SHA-256`},
		{"by HTTP, refused and not ready at first", good(func(s *stack) { s.refuse, s.unready = 2, 2 }), "http", sum, "get_to_link: p(95) < 500", `not ready +2 answers`},
		{"by HTTP, never ready", good(func(s *stack) { s.silent = true }), "http", sum, "lost: count == 0", `lost +[1-9]`},
		{"by HTTP, an error", good(func(s *stack) { s.failed = true }), "http", sum, "lost: count == 0", `lost +[1-9]`},
		{"by HTTP, two downloads for a key", good(func(s *stack) { s.links = 2 }), "http", sum, "doubled: count == 0", `duplicates +[1-9]`},
		{"by HTTP, other bytes", good(func(s *stack) { s.bytes = strings.ToUpper(file) }), "http", sum, "wrong: count == 0", `wrong bytes +[1-9]`},
		{"by HTTP, slow", good(func(s *stack) { s.slow = 800 * time.Millisecond }), "http", sum, "get_to_link: p(95) < 500", `p95 0\.8`},
		{"slow", good(func(s *stack) { s.slow = 800 * time.Millisecond }), "large", sum, "get_to_link: p(95) < 500", `p95 0\.8`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c := exec.CommandContext(ctx, k6, "run", "--quiet", "--no-usage-report", "--address", "",
				"-e", "SCENARIO="+test.scenario, "-e", "USERS=2", "-e", "DURATION=2s", "-e", "LATE_MS=1500", "-e", "SPIKE_AFTER_MS=500", "-e", "P95_MS=500",
				"-e", "API_URL="+test.stack.serve(t), "-e", "FILE_PATH=a/b.bin", "-e", "SHA256="+test.sum, "load.js")
			out, err := c.CombinedOutput()
			var exit *exec.ExitError
			if red := errors.As(err, &exit); err != nil && !red || red != (test.want != "") {
				t.Errorf("k6: got %v, want red: %v", err, test.want != "")
			}
			verdict := "all thresholds met"
			if test.want != "" {
				verdict = "NOT MET .*" + regexp.QuoteMeta(test.want)
			}
			for _, row := range []string{test.row, verdict} {
				if !regexp.MustCompile(row).Match(out) {
					t.Errorf("got no %q in\n%s", row, out)
				}
			}
		})
	}
}
