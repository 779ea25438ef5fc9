package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"async-download/internal/failure"
)

// round asks for r's file, as each run of a download does: with what was recorded and
// nothing else. It returns the wait, or the file or failure.
func round(t *testing.T, c *Client, l *ledger, r Request) (time.Duration, string) {
	t.Helper()
	r.Place, r.Record = l.place, &run{ledger: l, name: fmt.Sprint("run", len(l.calls))}
	f, err := c.Open(t.Context(), &r, 100)
	var accepted *Accepted
	if errors.As(err, &accepted) {
		return accepted.After, ""
	}
	if err != nil {
		return 0, err.Error()
	}
	defer f.Close()
	return 0, "file of " + f.at.url.Path
}

// Where an origin that answers 202 is asked next, and when.
func TestAccepted(t *testing.T) {
	const blocked = "BLOCKED_ADDRESS: the origin leads to "
	for _, tt := range []struct {
		name    string
		method  string
		answers []step // the last one is repeated
		waits   []time.Duration
		want    string
		asked   []string
		moves   int
	}{
		{"no Location", "GET", []step{reply(202, ""), reply(202, "", "Retry-After", "7"), reply(200, "file")},
			[]time.Duration{5 * time.Second, 7 * time.Second}, "file of /api/report", []string{"GET /api/report", "GET /api/report", "GET /api/report"}, 0},
		{"blank Location", "GET", []step{reply(202, "", "Location", " "), reply(200, "file")},
			[]time.Duration{5 * time.Second}, "file of /api/report", []string{"GET /api/report", "GET /api/report"}, 0},
		{"Location", "GET", []step{reply(202, "", "Location", "jobs/1", "Retry-After", "0"), reply(202, ""), reply(200, "file")},
			[]time.Duration{time.Second, 5 * time.Second}, "file of /api/jobs/1", []string{"GET /api/report", "GET /api/jobs/1", "GET /api/jobs/1"}, 1},
		{"another Location each time", "GET", []step{reply(202, "", "Location", "/api/1"), reply(202, "", "Location", "/api/2"), reply(200, "file")},
			[]time.Duration{5 * time.Second, 5 * time.Second}, "file of /api/2", []string{"GET /api/report", "GET /api/1", "GET /api/2"}, 2},
		{"redirect to the file", "GET", []step{reply(202, "", "Location", "/api/1"), reply(303, "", "Location", "/api/file"), reply(200, "file")},
			[]time.Duration{5 * time.Second}, "file of /api/file", []string{"GET /api/report", "GET /api/1", "GET /api/file"}, 1},
		{"redirect to a place that isn't ready", "GET", []step{reply(302, "", "Location", "/api/1"), reply(202, ""), reply(200, "file")},
			[]time.Duration{5 * time.Second}, "file of /api/1", []string{"GET /api/report", "GET /api/1", "GET /api/1"}, 1},
		{"gone", "GET", []step{reply(202, "", "Location", "/api/1"), reply(404, "")},
			[]time.Duration{5 * time.Second}, "ORIGIN_STATUS: the origin answered 404 Not Found", []string{"GET /api/report", "GET /api/1", "GET /api/1"}, 1},
		{"Retry-After in a year", "GET", []step{reply(202, "", "Retry-After", "31536000"), reply(200, "file")},
			[]time.Duration{time.Hour}, "file of /api/report", []string{"GET /api/report", "GET /api/report"}, 0},
		{"malformed Retry-After", "GET", []step{reply(202, "", "Retry-After", "-3"), reply(200, "file")},
			[]time.Duration{5 * time.Second}, "file of /api/report", []string{"GET /api/report", "GET /api/report"}, 0},
		{"POST", "POST", []step{reply(202, "", "Location", "/api/1"), reply(202, ""), reply(200, "file")},
			[]time.Duration{5 * time.Second, 5 * time.Second}, "file of /api/1", []string{"POST /api/report body", "GET /api/1", "GET /api/1"}, 1},
		{"POST to the same URL", "POST", []step{reply(202, "", "Location", "/api/report"), reply(200, "file")},
			[]time.Duration{5 * time.Second}, "file of /api/report", []string{"POST /api/report body", "GET /api/report"}, 1},
		{"POST, redirect, 202", "POST", []step{reply(303, "", "Location", "/api/1"), reply(202, ""), reply(200, "file")},
			[]time.Duration{5 * time.Second}, "file of /api/1", []string{"POST /api/report body", "GET /api/1", "GET /api/1"}, 1},
		{"another host", "GET", []step{reply(202, "", "Location", "http://other.example/")}, nil, blocked + "another host, which is not among OriginRedirectHosts", []string{"GET /api/report"}, 0},
		{"outside of the origin's path", "GET", []step{reply(202, "", "Location", "/admin")}, nil, blocked + "a place on its own host that can't be asked for: it is outside of OriginUrl", []string{"GET /api/report"}, 0},
		{"POST, outside of the origin's path", "POST", []step{reply(202, "", "Location", "/admin")}, nil, blocked + "a place on its own host that can't be asked for: it is outside of OriginUrl", []string{"POST /api/report body"}, 0},
		{"another scheme", "GET", []step{reply(202, "", "Location", "file:///etc/passwd")}, nil, blocked + "something other than http or https", []string{"GET /api/report"}, 0},
		{"a user", "GET", []step{reply(202, "", "Location", "//u:p@x/")}, nil, blocked + "a URL with a user in it", []string{"GET /api/report"}, 0},
		{"not a URL", "GET", []step{reply(202, "", "Location", "http://[")}, nil, "ORIGIN_STATUS: the origin answered 202 without a URL to go to", []string{"GET /api/report"}, 0},
		{"long", "GET", []step{reply(202, "", "Location", "/api/"+strings.Repeat("x", maxPlace))}, nil, "ORIGIN_STATUS: the origin leads to a URL of more than 16384 bytes", []string{"GET /api/report"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newWire(t, func(n int, _ *http.Request) step { return tt.answers[min(n, len(tt.answers))-1] })
			c, base := clientOf(t, s.URL+"/api")
			r := Request{URL: base.JoinPath("report"), Method: tt.method, Body: []byte("body")}
			l := &ledger{}
			for i := 0; ; i++ {
				wait, got := round(t, c, l, r)
				if i < len(tt.waits) && wait == tt.waits[i] {
					continue
				}
				if i != len(tt.waits) || got != tt.want {
					t.Errorf("round %d: got %s and %q, want %s and %q", i, wait, got, tt.waits, tt.want)
				}
				break
			}
			if asked := s.asked(); !slices.Equal(asked, tt.asked) {
				t.Errorf("got requests %q, want %q", asked, tt.asked)
			}
			moves := len(slices.DeleteFunc(l.calls, func(call string) bool { return call != "moved" }))
			if moves != tt.moves {
				t.Errorf("got %d records of another place, want %d", moves, tt.moves)
			}
		})
	}
}

// The file of a place is read by ranges there, with the cookies that the origin set on
// the way and the caller's headers; by the run that opened it and by those that continue.
func TestRangesOfAPlace(t *testing.T) {
	const size = 300
	s := newWire(t, func(n int, r *http.Request) step {
		switch r.URL.Path {
		case "/report":
			return reply(202, "", "Location", "/1?sig=planted", "Set-Cookie", "session=a; Path=/; Max-Age=60")
		case "/1":
			if r.URL.RawQuery != "sig=planted" || r.Header.Get("Authorization") != "Bearer token" || r.Header.Get("Cookie") != "session=a" {
				return reply(403, "")
			}
			if n < 4 {
				return reply(202, "", "Set-Cookie", "other=b; Max-Age=0")
			}
			var from, to int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			return reply(206, strings.Repeat("x", to-from+1), "ETag", `"v"`, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, size))
		}
		return reply(404, "")
	})
	c, base := clientOf(t, s.URL+"/")
	r := Request{URL: base.JoinPath("report"), Method: http.MethodPost, Header: http.Header{"Authorization": {"Bearer token"}}}
	l := &ledger{}
	for i, want := range []string{"", "", "", "file of /1"} {
		if _, got := round(t, c, l, r); got != want {
			t.Fatalf("round %d: got %q, want %q", i, got, want)
		}
	}
	r.Place = l.place
	f, err := c.Reopen(&r, size, Pin{Kind: StrongETag, Value: `"v"`})
	if err != nil {
		t.Fatal(err)
	}
	rd := f.Range(t.Context(), 100, size)
	defer rd.Close()
	b := make([]byte, size-100)
	if n, err := rd.Read(b); n != size-100 || err != nil {
		t.Errorf("got %d bytes, %v, want %d", n, err, size-100)
	}
	if _, err := c.Reopen(&Request{URL: r.URL, Method: http.MethodPost}, size, Pin{}); failure.CodeOf(err) != failure.OriginUnreachable {
		t.Errorf("got %v for ranges of a POST, want a refusal", err)
	}
}

// The URL that is asked next: the place that the request was led to, if there is one.
func TestCurrent(t *testing.T) {
	at := &url.URL{Scheme: "http", Host: "h", Path: "/a"}
	there := &url.URL{Scheme: "http", Host: "h", Path: "/there"}
	for want, r := range map[string]*Request{
		"http://h/a":      {URL: at},
		"http://h/b%7F?q": {URL: at, Place: Place{URL: "http://h/b\x7f?q"}},
		"http://h/there":  {URL: at, Place: Place{URL: "http://h/b"}, start: place{url: there}},
	} {
		if got := r.Current().String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := (&Request{URL: at, Place: Place{URL: "http://["}}).Current(); got != at {
		t.Errorf("got %s for a place that can't be read, want the file's own URL", got)
	}
}

func TestLongestPlace(t *testing.T) {
	for _, tt := range []struct {
		length int
		want   failure.Code
	}{{maxPlace, ""}, {maxPlace + 1, failure.OriginStatus}} {
		to := &url.URL{Scheme: "http", Host: "h", Path: strings.Repeat("/", tt.length-len("http://h"))}
		err := (&Request{}).moved(t.Context(), place{url: to, cookies: &cookies{}})
		if got := failure.CodeOf(err); got != tt.want {
			t.Errorf("%d bytes: got %v, want code %q", tt.length, err, tt.want)
		}
	}
}

// Once the way to a place has left the origin's host, the secret and the caller's
// headers are sent nowhere any more, in no later run.
func TestPlaceAway(t *testing.T) {
	var authorized []string
	var home string
	note := func(r *http.Request) {
		if r.Header.Get("Authorization")+r.Header.Get("X-Secret") != "" {
			authorized = append(authorized, r.URL.Path)
		}
	}
	other := newWire(t, func(_ int, r *http.Request) step {
		note(r)
		return reply(202, "", "Location", home+"/back")
	})
	s := newWire(t, func(n int, r *http.Request) step {
		note(r)
		if r.URL.Path == "/report" {
			return reply(202, "", "Location", other.URL+"/job")
		}
		return reply(200, "file")
	})
	home = s.URL
	c, base := clientOf(t, s.URL+"/")
	c.RedirectHosts = []string{other.Listener.Addr().String()}
	c.Header = http.Header{"X-Secret": {"secret"}}
	r := Request{URL: base.JoinPath("report"), Header: http.Header{"Authorization": {"Bearer token"}}}
	l := &ledger{}
	for i, want := range []string{"", "", "file of /back"} {
		if _, got := round(t, c, l, r); got != want {
			t.Fatalf("round %d: got %q, want %q", i, got, want)
		}
	}
	if !slices.Equal(authorized, []string{"/report"}) {
		t.Errorf("got credentials at %q, want them at /report only", authorized)
	}
	// A place that was allowed when it was recorded needn't be any more.
	c2, _ := clientOf(t, s.URL+"/api")
	if _, got := round(t, c2, l, r); !strings.HasPrefix(got, "BLOCKED_ADDRESS") {
		t.Errorf("got %q at a place outside of the origin, want it refused", got)
	}
}

// What resolve returns is asked for, byte for byte, after it was recorded.
func FuzzPlace(f *testing.F) {
	for _, location := range []string{"a", "/a%2Fb//c?x=%zz", "//h:81//x?", "/%", "?q", "https://h/é\"<>?'", "/;a=/..;/", "//[::1]/%2e%2e/a", "/a?b#c"} {
		f.Add(location)
	}
	f.Fuzz(func(t *testing.T, location string) {
		from, _ := url.Parse("http://h:80/dir/file?q=1")
		u, err := resolve(from, location)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			return
		}
		for _, base := range []string{"http://other/x", "https://other/x"} {
			b, _ := url.Parse(base)
			recorded, err := resolve(b, absolute(u))
			if err != nil || recorded.Scheme != u.Scheme || recorded.Host != u.Host || recorded.RequestURI() != u.RequestURI() {
				t.Errorf("got %v, %v, want %v", recorded, err, u)
			}
		}
	})
}

// Cookies survive a record as they were, each at its own host, port and path, until
// they expire; how many there may be is limited.
func TestCookiesRecorded(t *testing.T) {
	c := &cookies{}
	set := func(at string, lines ...string) {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		c.keep(u, &http.Response{Header: http.Header{"Set-Cookie": lines}})
	}
	set("http://h/a/b?token=planted", "plain=1", "path=2; Path=/a", `quoted="x y"`, "gone=1; Max-Age=-1", "late=3; Max-Age=100", "early=4; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
	set("http://h:81/", "port=5; HttpOnly; SameSite=Strict", "only=6; Secure")
	set("https://s/", "tls=7; Secure", "tls=8; Secure")
	d := decodeCookies(c.encode())
	if strings.Contains(string(c.encode()), "planted") {
		t.Error("got a query among the cookies")
	}
	for at, want := range map[string]string{
		"http://h/a/c": `plain=1; quoted="x y"; path=2; late=3`, "http://h/x": "", "http://h:81/x": "port=5", "https://s/": "tls=8", "http://s/": "",
	} {
		u, _ := url.Parse(at)
		for name, jar := range map[string]*cookies{"kept": c, "recorded": d} {
			req := &http.Request{Header: http.Header{}}
			jar.add(req, u)
			if _, sent := req.Header["Cookie"]; sent != (want != "") {
				t.Errorf("%s, %s: got headers %v, want no empty one", at, name, req.Header)
			}
			got, wanted := strings.Split(req.Header.Get("Cookie"), "; "), strings.Split(want, "; ")
			slices.Sort(got)
			slices.Sort(wanted)
			if !slices.Equal(got, wanted) {
				t.Errorf("%s, %s: got %q, want %q", at, name, got, wanted)
			}
		}
	}
	for i := range 1000 {
		set(fmt.Sprintf("http://h%d/", i%30), fmt.Sprintf("c%d=%s", i, strings.Repeat("x", 1000)))
	}
	if n := len(c.set); n != maxSetCookies {
		t.Errorf("got %d cookies, want %d", n, maxSetCookies)
	}
	if n := len(c.encode()); n == 0 || n > maxEncodedCookies {
		t.Errorf("got %d bytes, want some and at most %d", n, maxEncodedCookies)
	}
	c = &cookies{}
	set("http://h/", "a=1")
	set("http://h/", "b=2")
	set("http://h:81/", "a=3")
	set("http://h/", "a=4")
	if got := fmt.Sprint(c.set); got != "[{http://h/ b=2 b;;} {http://h:81/ a=3 a;;} {http://h/ a=4 a;;}]" {
		t.Errorf("got %s, want each cookie as it was set last", got)
	}
	c = &cookies{set: []setCookie{{}, {}}}
	c.set[1].Cookie = strings.Repeat("x", maxEncodedCookies-len(`[{"url":"","cookie":""},]`))
	if n := len(c.encode()); n != maxEncodedCookies-1 {
		t.Errorf("got %d bytes, want the last cookie, which just fits", n)
	}
	if c.set[1].Cookie += "x"; c.encode() != nil {
		t.Error("got a cookie that is too long")
	}
	if decodeCookies([]byte("{")).encode() != nil {
		t.Error("got cookies from nonsense")
	}
}
