package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// ledger is a Record that several runs share, as the table is.
type ledger struct {
	mu     sync.Mutex
	sentBy string
	place  Place
	calls  []string
}

// run is the Record of one run.
type run struct {
	*ledger
	name string
	// fault, if set, returns errors before and after a call takes effect.
	fault func() (before, after error)
}

func (r *run) call(name string, apply func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var after error
	if r.fault != nil {
		var before error
		if before, after = r.fault(); before != nil {
			return before
		}
	}
	r.calls = append(r.calls, name)
	if err := apply(); err != nil {
		return err
	}
	return after
}

func (r *run) Sending(context.Context) error {
	return r.call("sending", func() error {
		if r.sentBy != "" && r.sentBy != r.name {
			return ErrSent
		}
		r.sentBy = r.name
		return nil
	})
}

func (r *run) Unsent(context.Context) error {
	return r.call("unsent", func() error { r.sentBy = ""; return nil })
}

func (r *run) Moved(_ context.Context, to Place) error {
	return r.call("moved", func() error { r.place = to; return nil })
}

// request returns the POST of a run.
func (l *ledger) request(u *url.URL, name string) *Request {
	return &Request{
		URL: u, Method: http.MethodPost, Body: []byte("planted-body"), ContentType: "application/json",
		Header: http.Header{"Authorization": {"Bearer planted"}}, Place: l.place, Record: &run{ledger: l, name: name},
	}
}

// wire is an origin that answers from a script and notes what it was asked.
type wire struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // "METHOD path", with the body of a POST
}

// step answers a request. It writes to the connection itself where no well-behaved
// server does.
type step func(w http.ResponseWriter, r *http.Request)

func newWire(t *testing.T, answer func(n int, r *http.Request) step) *wire {
	s := &wire{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		text := r.Method + " " + r.URL.Path
		if r.Method == http.MethodPost {
			text += " " + string(body)
		}
		s.seen = append(s.seen, text)
		n := len(s.seen)
		s.mu.Unlock()
		answer(n, r)(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *wire) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// reply answers with a status, headers given as name, value, and a body.
func reply(status int, body string, headers ...string) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// drop closes the connection after it has sent text; with a reset if reset is set.
func drop(text string, reset bool) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, text)
		if reset {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		_ = conn.Close()
	}
}

const post = "POST /report planted-body"

// Answers to a POST, the requests that follow, and the outcome. The last step of a script
// is repeated.
func TestPost(t *testing.T) {
	file := reply(200, "file")
	for _, tt := range []struct {
		name   string
		script []step
		asked  []string
		want   string // the file, or the failure
	}{
		{"200", []step{file}, []string{post}, "file"},
		{"201", []step{reply(201, "file")}, []string{post}, "file"},
		{"empty file", []step{reply(200, "")}, []string{post}, ""},
		{"range that nobody asked for", []step{reply(206, "file", "Content-Range", "bytes 0-3/4")}, []string{post}, "ORIGIN_STATUS: the origin answered 206 Partial Content"},
		{"204", []step{reply(204, "")}, []string{post}, "ORIGIN_STATUS: the origin answered 204 No Content"},
		{"400", []step{reply(400, "no")}, []string{post}, "ORIGIN_STATUS: the origin answered 400 Bad Request"},
		{"401", []step{reply(401, "no")}, []string{post}, "ORIGIN_STATUS: the origin answered 401 Unauthorized"},
		{"416", []step{reply(416, "no"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 416 Requested Range Not Satisfiable"},
		{"408", []step{reply(408, "no"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 408 Request Timeout; " + notRepeated},
		{"500", []step{reply(500, "no"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 500 Internal Server Error; " + notRepeated},
		{"500 with Retry-After", []step{reply(500, "no", "Retry-After", "0"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 500 Internal Server Error; " + notRepeated},
		{"503", []step{reply(503, "no"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 503 Service Unavailable; " + notRepeated},
		{"429", []step{reply(429, "no"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 429 Too Many Requests; " + notRepeated},
		{"429 with a malformed Retry-After", []step{reply(429, "no", "Retry-After", "soon"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 429 Too Many Requests; " + notRepeated},
		{"503 with Retry-After", []step{reply(503, "no", "Retry-After", "0"), file}, []string{post, post}, "file"},
		{"429 with Retry-After", []step{reply(429, "no", "Retry-After", "0"), reply(503, "no", "Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"), file}, []string{post, post, post}, "file"},
		{"429 with Retry-After, then 500", []step{reply(429, "no", "Retry-After", "0"), reply(500, "no"), file}, []string{post, post}, "ORIGIN_STATUS: the origin answered 500 Internal Server Error; " + notRepeated},
		{"429 with Retry-After without end", []step{reply(429, "no", "Retry-After", "0")}, []string{post, post, post}, "ORIGIN_STATUS: the origin answered 429 Too Many Requests"},
		{"closed before an answer", []step{drop("", false), file}, []string{post}, "ORIGIN_UNREACHABLE: the origin can't be reached; " + notRepeated},
		{"reset before an answer", []step{drop("", true), file}, []string{post}, "ORIGIN_UNREACHABLE: the origin can't be reached; " + notRepeated},
		{"closed in the headers", []step{drop("HTTP/1.1 200 OK\r\nContent-", false), file}, []string{post}, "ORIGIN_UNREACHABLE: the origin's reply can't be read: malformed header line; " + notRepeated},
		{"no HTTP", []step{drop("hello\r\n\r\n", false), file}, []string{post}, "ORIGIN_UNREACHABLE: the origin's reply can't be read: malformed status line; " + notRepeated},
		{"closed in the body", []step{drop("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfile", false), file}, []string{post}, "ORIGIN_TRUNCATED: the origin's connection broke after 4 of 9 bytes; " + notRepeated},
		{"reset in the body", []step{drop("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true), file}, []string{post}, "ORIGIN_TRUNCATED: the origin's connection broke after 0 of 9 bytes; " + notRepeated},
		{"303", []step{reply(303, "", "Location", "/result"), file}, []string{post, "GET /result"}, "file"},
		{"302", []step{reply(302, "", "Location", "/result"), file}, []string{post, "GET /result"}, "file"},
		{"301", []step{reply(301, "", "Location", "/result"), file}, []string{post, "GET /result"}, "file"},
		{"303 to a place that fails at first", []step{reply(303, "", "Location", "/result"), drop("", true), reply(503, ""), file}, []string{post, "GET /result", "GET /result", "GET /result"}, "file"},
		{"303 to a place that redirects", []step{reply(303, "", "Location", "/a"), reply(302, "", "Location", "/b"), reply(503, ""), reply(302, "", "Location", "/c"), file},
			[]string{post, "GET /a", "GET /b", "GET /a", "GET /c"}, "file"},
		{"300", []step{reply(300, "", "Location", "/there"), file}, []string{post}, "ORIGIN_STATUS: the origin answered 300 Multiple Choices"},
		{"303 to nothing", []step{reply(303, ""), file}, []string{post}, "ORIGIN_STATUS: the origin answered 303 without a URL to go to"},
		{"303 to a forbidden place", []step{reply(303, "", "Location", "ftp://x/"), file}, []string{post}, "BLOCKED_ADDRESS: the origin leads to something other than http or https"},
		{"307", []step{reply(307, "", "Location", "/there"), file}, []string{post, "POST /there planted-body"}, "file"},
		{"308", []step{reply(308, "", "Location", "/there"), file}, []string{post, "POST /there planted-body"}, "file"},
		{"307, then closed", []step{reply(307, "", "Location", "/there"), drop("", false), file}, []string{post, "POST /there planted-body"}, "ORIGIN_UNREACHABLE: the origin can't be reached; " + notRepeated},
		{"307, then 429 with Retry-After", []step{reply(307, "", "Location", "/there"), reply(429, "", "Retry-After", "0"), file},
			[]string{post, "POST /there planted-body", "POST /there planted-body"}, "file"},
		{"307, then 303", []step{reply(307, "", "Location", "/there"), reply(303, "", "Location", "/result"), file}, []string{post, "POST /there planted-body", "GET /result"}, "file"},
		{"202 without a place", []step{reply(202, "")}, []string{post}, "ORIGIN_STATUS: the origin answered 202 Accepted without a Location, so nothing shows where the file will be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newWire(t, func(n int, _ *http.Request) step { return tt.script[min(n, len(tt.script))-1] })
			c, base := clientOf(t, s.URL+"/")
			c.Attempts = 3
			l := &ledger{}
			r := l.request(base.JoinPath("report"), "run")
			got := outcome(t, c, r)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if asked := s.asked(); !slices.Equal(asked, tt.asked) {
				t.Errorf("got requests %q, want %q", asked, tt.asked)
			}
			// Whatever came of it, it isn't made again, by this run or by another one, unless
			// the origin's last word was that it refused it.
			refused := strings.HasSuffix(tt.name, "without end")
			for name, repeated := range map[string]*Request{"the same run": r, "another run": l.request(base.JoinPath("report"), "another")} {
				before := len(s.asked())
				_ = outcome(t, c, repeated)
				for _, asked := range s.asked()[before:] {
					if strings.HasPrefix(asked, "POST") && !refused {
						t.Errorf("got %q by %s, want no POST", asked, name)
					}
				}
			}
		})
	}
}

const notRepeated = "the request isn't repeated, since the origin may have executed it"

// outcome returns r's file, or why there is none.
func outcome(t *testing.T, c *Client, r *Request) string {
	t.Helper()
	f, err := c.Open(t.Context(), r, 100)
	if err == nil {
		body := io.ReadCloser(f.Range(t.Context(), 0, max(f.Size, 0)))
		if !f.Ranged {
			body = f.Stream()
		}
		defer body.Close()
		var b []byte
		if b, err = io.ReadAll(body); err == nil {
			return string(b)
		}
	}
	if Temporary(err) && r.Method == http.MethodPost {
		t.Errorf("got %v, which another try may fix", err)
	}
	return err.Error()
}

// What a POST is on the wire: at home with everything, elsewhere with neither the
// origin's secret nor the caller's headers.
func TestPostOnTheWire(t *testing.T) {
	var heads []http.Header
	note := func(r *http.Request) {
		h := r.Header.Clone()
		h.Set("Method", r.Method)
		h.Set("Host", r.Host)
		h.Set("Length", fmt.Sprint(r.ContentLength, r.TransferEncoding))
		heads = append(heads, h)
	}
	elsewhere := newWire(t, func(_ int, r *http.Request) step { note(r); return reply(200, "file") })
	var to string
	s := newWire(t, func(_ int, r *http.Request) step { note(r); return reply(307, "", "Location", to, "Set-Cookie", "a=b") })
	c, base := clientOf(t, s.URL+"/")
	c.Header = http.Header{"X-Secret": {"secret"}, "X-Both": {"the stack's"}, "Host": {"backend.example"}}
	c.RedirectHosts = []string{elsewhere.Listener.Addr().String()}
	to = elsewhere.URL + "/there"
	r := (&ledger{}).request(base.JoinPath("report"), "run")
	r.Header.Set("X-Both", "the caller's")
	r.Header.Set("Accept", "text/csv")
	if got := outcome(t, c, r); got != "file" {
		t.Fatalf("got %s, want the file", got)
	}
	want := []map[string]string{
		{"Host": "backend.example", "Authorization": "Bearer planted", "X-Both": "the stack's", "X-Secret": "secret", "Accept": "text/csv"},
		{"Host": elsewhere.Listener.Addr().String(), "Authorization": "", "X-Both": "", "X-Secret": "", "Accept": "*/*"},
	}
	same := map[string]string{"Method": "POST", "User-Agent": "async-download", "Length": "12 []", "Content-Type": "application/json", "Range": "", "Cookie": ""}
	for _, w := range want {
		maps.Copy(w, same)
	}
	if len(heads) != len(want) {
		t.Fatalf("got %d requests, want %d", len(heads), len(want))
	}
	for i, w := range want {
		for name, value := range w {
			if got := heads[i].Get(name); got != value {
				t.Errorf("request %d: got %s %q, want %q", i, name, got, value)
			}
		}
	}
	// An empty body has a length, too.
	heads, to = nil, s.URL
	s2 := newWire(t, func(_ int, r *http.Request) step { note(r); return reply(200, "") })
	c2, base2 := clientOf(t, s2.URL+"/")
	_ = outcome(t, c2, &Request{URL: base2, Method: http.MethodPost, Header: http.Header{"X-Idempotency-Key": {"replays are tempting"}}})
	if got := heads[0].Get("Length"); got != "0 []" {
		t.Errorf("got length %s of an empty body, want 0", got)
	}
}

// A POST that can't have reached the origin is tried again; the mark is taken back in
// between, so that a worker that dies then is no reason to fail.
func TestPostThatNeverLeft(t *testing.T) {
	s := newWire(t, func(int, *http.Request) step { return reply(200, "file") })
	c, base := clientOf(t, s.URL+"/")
	c.Attempts = 3
	dials := 0
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials < 3 {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	l := &ledger{}
	if got := outcome(t, c, l.request(base.JoinPath("report"), "run")); got != "file" {
		t.Errorf("got %s, want the file", got)
	}
	if want := []string{"sending", "unsent", "sending", "unsent", "sending"}; !slices.Equal(l.calls, want) {
		t.Errorf("got calls %q, want %q", l.calls, want)
	}
	if asked := s.asked(); !slices.Equal(asked, []string{post}) {
		t.Errorf("got requests %q, want one POST", asked)
	}
}

// An origin that thinks for longer than OriginAnswerSeconds is asked once.
func TestPostTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var posts atomic.Int32
		c, u := inMemory(t, func(_ http.ResponseWriter, r *http.Request) {
			posts.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		c.FirstByteTimeout = 100 * time.Millisecond
		if got, want := outcome(t, c, (&ledger{}).request(u, "run")), "ORIGIN_TOO_SLOW: the origin didn't answer within 100ms"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if n := posts.Load(); n != 1 {
			t.Errorf("got %d requests, want one", n)
		}
	})
}

// Whatever the origin does, and whenever workers die, the origin sees no POST after one
// that it didn't refuse or redirect.
func TestPostNeverTwice(t *testing.T) {
	for seed := range uint64(400) {
		neverTwice(t, seed)
	}
}

// errKilled ends what a process does that was killed.
var errKilled = errors.New("killed")

func neverTwice(t *testing.T, seed uint64) {
	var mu sync.Mutex // of what follows
	random := rand.New(rand.NewPCG(seed, 1))
	executed := false // a POST that may have been
	var kill context.CancelCauseFunc
	dead := false
	die := func() {
		dead = true
		kill(errKilled)
	}
	answers := []struct {
		step     step
		executes bool
	}{
		{drop("", false), true},
		{drop("", true), true},
		{drop("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfile", true), true},
		{reply(429, "", "Retry-After", "0"), false},
		{reply(503, "", "Retry-After", "0"), false},
		{reply(503, "", "Retry-After", "90"), false},
		{reply(503, ""), true},
		{reply(429, ""), true},
		{reply(502, ""), true},
		{reply(404, ""), true},
		{reply(307, "", "Location", "/again"), false},
		{reply(308, "", "Location", "/report"), false},
		{reply(303, "", "Location", "/result"), true},
		{reply(302, "", "Location", "/report"), true},
		{reply(202, "", "Location", "/place", "Retry-After", "0"), true},
		{reply(202, ""), true},
		{reply(200, "file"), true},
	}
	s := newWire(t, func(_ int, r *http.Request) step {
		mu.Lock()
		defer mu.Unlock()
		isPost := r.Method == http.MethodPost
		if isPost && executed {
			t.Errorf("seed %d: got a second POST, of %s", seed, r.URL.Path)
		}
		answer := answers[random.IntN(len(answers))]
		executed = executed || isPost && answer.executes
		switch random.IntN(8) {
		case 0:
			die()
		case 1:
			executed = executed || isPost // and no answer comes
			die()
			return drop("", false)
		}
		return answer.step
	})
	defer s.Close()
	base, err := url.Parse(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{}
	for n := range 8 {
		ctx, cancel := context.WithCancelCause(t.Context())
		mu.Lock()
		kill, dead = cancel, false
		mu.Unlock()
		r := l.request(base.JoinPath("report"), fmt.Sprint("run", n))
		r.Record.(*run).fault = func() (before, after error) {
			mu.Lock()
			defer mu.Unlock()
			if dead {
				return errKilled, nil
			}
			switch random.IntN(8) {
			case 0:
				die()
				return errKilled, nil
			case 1:
				die()
				return nil, errKilled
			}
			return nil, nil
		}
		c := &Client{Base: base, AllowLoopback: true, Backoff: time.Microsecond, Attempts: 3}
		f, err := c.Open(ctx, r, 100)
		if err == nil {
			body := f.Stream()
			_, err = io.Copy(io.Discard, body)
			_ = body.Close()
		}
		c.CloseIdleConnections()
		cancel(nil)
		var later *Later
		var accepted *Accepted
		mu.Lock()
		over := !dead && !errors.As(err, &later) && !errors.As(err, &accepted)
		mu.Unlock()
		if over {
			return
		}
	}
}
