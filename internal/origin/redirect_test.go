package origin

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
)

// clientOf returns a client of the origin at raw, which may be on loopback, and
// raw's URL. It closes its connections before the servers that the test started.
func clientOf(t *testing.T, raw string) (*Client, *url.URL) {
	t.Helper()
	u, err := ParseBase(raw)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{Base: u, AllowLoopback: true, Backoff: time.Millisecond, Attempts: 2}
	t.Cleanup(c.CloseIdleConnections)
	return c, u
}

// read opens u and returns the whole file.
func read(t *testing.T, c *Client, u *url.URL) (*File, string, error) {
	t.Helper()
	f, err := c.Open(t.Context(), &Request{URL: u}, 0)
	if err != nil {
		return nil, "", err
	}
	body := f.Stream()
	defer body.Close()
	b, err := io.ReadAll(body)
	return f, string(b), err
}

// reopen returns the file at u, of size bytes, whose validator is "v1".
func reopen(t *testing.T, c *Client, u *url.URL, size int64) *File {
	t.Helper()
	f, err := c.Reopen(&Request{URL: u}, size, Pin{Kind: StrongETag, Value: `"v1"`})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A redirect on the origin's own host leads only where a client may ask.
func TestRedirectsAtHome(t *testing.T) {
	var location string
	var got []string
	host := origintest.Raw(t, func(head string) string {
		target, _, _ := strings.Cut(strings.TrimPrefix(head, "GET "), " HTTP/1.1\r\n")
		if target == "/files/reports/start?tenant=acme" || target == "/files/reports/start?tenant=acme&sig=1" {
			return "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + "\r\n\r\n"
		}
		got = append(got, target)
		return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile"
	})
	for _, tt := range []struct {
		location string
		want     string // the request that follows, "" for none
	}{
		{"/files/reports/a.bin", "/files/reports/a.bin"},
		{"a.bin", "/files/reports/a.bin"},
		{"a.bin?tenant=acme&sig=1", "/files/reports/a.bin?tenant=acme&sig=1"},
		{"?tenant=acme&sig=1", ""}, // to the start again
		{"/files/reports/", "/files/reports/"},
		{"/files/reports/100%.bin", "/files/reports/100%.bin"},
		{"/files/reports//a.bin", "/files/reports//a.bin"},
		{"/files/reports/a;jsessionid=1/b", "/files/reports/a;jsessionid=1/b"},
		{"/%66iles/reports/a.bin", "/%66iles/reports/a.bin"},
		{"/", ""},
		{"/private/key", ""},
		{"/filesystem/reports/a", ""},
		{"/files", ""},
		{"/files/private/key", ""},
		{"/files/private/reports/a", ""},
		{"../private/key", ""},
		{"%2e%2e/private/key", ""},
		{"/files/reports/%252e%252e/private", ""},
		{"/files/reports/..%2fprivate", ""},
		{"/files/reports/..%5cprivate", ""},
		{"/files/reports/..;/private", ""},
		{"/files/reports/..%3f/", ""},
		{"/files/reports/．．/private", ""},
		{"/files/reports/x%25%252f..%252fprivate", ""},
		{`\private\key`, ""},
		{`/files/reports\..\..\private`, ""},
		{"/files//reports/a", ""},
		{"/files/reports/a?tenant=other", ""},
		{"/files/reports/a?tenant=acme&tenant=other", ""},
		{"/files/reports/a?tenant=acme&x=1;Tenant=other", ""},
		{"/files/reports/a%3ftenant=other", ""},
	} {
		t.Run(tt.location, func(t *testing.T) {
			c, base := clientOf(t, "http://"+host+"/files?tenant=acme")
			c.AllowedPaths = []string{"reports"}
			c.RedirectHosts = []string{"*"} // for other hosts, not for other paths
			u, err := Join(base, c.AllowedPaths, "reports/start", "")
			if err != nil {
				t.Fatal(err)
			}
			location, got = tt.location, nil
			_, body, err := read(t, c, u)
			switch {
			case tt.want == "" && (failure.CodeOf(err) != failure.BlockedAddress && failure.CodeOf(err) != failure.OriginStatus || len(got) > 0):
				t.Errorf("got %q, %v after requests for %q, want code %s and no request", body, err, got, failure.BlockedAddress)
			case tt.want != "" && (body != "file" || err != nil || !slices.Equal(got, []string{tt.want})):
				t.Errorf("got %q, %v after requests for %q, want the file from %s", body, err, got, tt.want)
			}
		})
	}
}

// An origin without a path, as copyurl's, has no place on its host to stay below.
func TestRedirectsBelowTheRoot(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/start" {
			w.Header().Set("Location", "/a%2Fb//c") // http.Redirect would clean it
			w.WriteHeader(http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, r.RequestURI)
	}))
	t.Cleanup(server.Close)
	c, base := clientOf(t, server.URL+"/")
	_, body, err := read(t, c, base.JoinPath("start"))
	if body != "/a%2Fb//c" || err != nil {
		t.Errorf("got %q, %v, want the reply of /a%%2Fb//c", body, err)
	}
}

// Secret headers are sent to the origin's host until a redirect leaves it, then
// never: not after a redirect that comes back, not with ranges from there. A fetch
// that starts again from the file's own URL sends them again.
func TestSecretStaysAtHome(t *testing.T) {
	const secret = "planted"
	type request struct{ host, path, secret string }
	var mu sync.Mutex
	var got []request
	note := func(host string, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, request{host, r.URL.Path, r.Header.Get("X-Secret")})
	}
	file := origintest.New(origintest.Bytes(1, size), `"v1"`)
	var home, other *httptest.Server
	expired := false
	home = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note("home", r)
		switch r.URL.Path {
		case "/start":
			http.Redirect(w, r, "/hop", http.StatusFound)
		case "/hop":
			http.Redirect(w, r, other.URL+"/hop", http.StatusTemporaryRedirect)
		case "/back":
			if expired {
				expired = false
				w.WriteHeader(http.StatusForbidden)
				return
			}
			file.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(home.Close)
	other = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note("other", r)
		http.Redirect(w, r, home.URL+"/back", http.StatusPermanentRedirect)
	}))
	t.Cleanup(other.Close)

	c, base := clientOf(t, home.URL+"/")
	c.Header = http.Header{"x-secret": {secret}}
	c.RedirectHosts = []string{strings.TrimPrefix(other.URL, "http://")}
	f, err := c.Open(t.Context(), &Request{URL: base.JoinPath("start")}, 100)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	chain := []request{{"home", "/start", secret}, {"home", "/hop", secret}, {"other", "/hop", ""}, {"home", "/back", ""}}
	if !slices.Equal(got, chain) {
		t.Errorf("got %v, want %v", got, chain)
	}

	readRange := func() {
		t.Helper()
		got = nil
		r := f.Range(t.Context(), 100, 200)
		defer r.Close()
		if _, err := io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if readRange(); !slices.Equal(got, chain[3:]) {
		t.Errorf("a range: got %v, want %v", got, chain[3:])
	}
	expired = true
	if readRange(); !slices.Equal(got, slices.Concat(chain[3:], chain)) {
		t.Errorf("a range after the target expired: got %v, want %v and then %v", got, chain[3:], chain)
	}
}

// The request that follows a redirect is written as browsers and curl write it.
func TestLocationAsInBrowsers(t *testing.T) {
	for _, tt := range []struct{ location, want string }{
		{"/a b.bin", "/a%20b.bin"},
		{"/a b.bin?c=d e&f=\"g\"", "/a%20b.bin?c=d%20e&f=%22g%22"},
		{`/"a"<b>.bin?<c>`, "/%22a%22%3Cb%3E.bin?%3Cc%3E"},
		{"/é.bin?é", "/%C3%A9.bin?%C3%A9"},
		{"/\xe9.bin?\xe9", "/%E9.bin?%E9"},
		{"/%e9%C3%A9?%e9", "/%e9%C3%A9?%e9"},
		{"/100%?100%", "/100%?100%"},
		{"/100%zz/%4", "/100%zz/%4"},
		{"/it's?it's", "/it's?it%27s"},
		{"/a|b[c]{d}^`", "/a|b[c]%7Bd%7D%5E%60"},
		{"/a+b%20c%2Bd", "/a+b%20c%2Bd"},
		{"/a#b c", "/a"},
		{"  /a\t", "/a"},
		{"b", "/dir/b"},
		{"./b", "/dir/b"},
		{"../b", "/b"},
		{"../../../b", "/b"},
		{"/x/%2E%2e/b", "/b"},
		{"/x/..", "/"},
		{"/x/.", "/x/"},
		{`\x\y?a\b`, `/x/y?a\b`},
		{"?c=d", "/dir/start?c=d"},
		{"/a?", "/a?"},
		{"http:b", "/dir/b"},
		{"http:/b", "/b"},
		{"//{host}/b", "/b"},
		{`\\{host}\b`, "/b"},
		{"HTTP://{host}/b c", "/b%20c"},
		{"http:///{host}/b", "/b"},
		{"http://{host}", "/"},
		{"http://{host}?a=/b", "/?a=/b"},
		{"//{host}//b//", "//b//"},
	} {
		t.Run(tt.location, func(t *testing.T) {
			var host string
			var line string
			host = origintest.Raw(t, func(head string) string {
				request, _, _ := strings.Cut(head, "\r\n")
				if request == "GET /dir/start HTTP/1.1" {
					return "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + strings.ReplaceAll(tt.location, "{host}", host) + "\r\n\r\n"
				}
				line = request
				return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile"
			})
			c, base := clientOf(t, "http://"+host+"/")
			_, body, err := read(t, c, base.JoinPath("dir/start"))
			if want := "GET " + tt.want + " HTTP/1.1"; line != want || body != "file" || err != nil {
				t.Errorf("got %q, %v from %q, want the file from %q", body, err, line, want)
			}
		})
	}
}

func TestLocationRefused(t *testing.T) {
	for location, want := range map[string]failure.Code{
		"":                         failure.OriginStatus,
		"   ":                      failure.OriginStatus,
		"#a":                       failure.OriginStatus,
		"http://":                  failure.OriginStatus,
		"http://a b/":              failure.OriginStatus,
		"http://[::1/":             failure.OriginStatus,
		"http://a:port/":           failure.OriginStatus,
		"ftp://a/":                 failure.BlockedAddress,
		"javascript:alert(1)":      failure.BlockedAddress,
		"file:///etc/passwd":       failure.BlockedAddress,
		"http://u:p@files.example": failure.BlockedAddress,
		`http:\\u@files.example`:   failure.BlockedAddress,
		"https:other.example/":     failure.BlockedAddress,
		`/\other.example/`:         failure.BlockedAddress,
		"/\t/other.example/":       failure.BlockedAddress,
		"//files.example:81/":      failure.BlockedAddress,
		"//files.example.:80/":     failure.BlockedAddress,
	} {
		c := &Client{Base: &url.URL{Scheme: "http", Host: "files.example"}}
		got, err := c.follow(place{url: c.Base}, &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {location}}})
		if failure.CodeOf(err) != want {
			t.Errorf("%q: got %v, %v, want code %s", location, got.url, err, want)
		}
	}
}

// What counts as the configured host, which gets the secret headers.
func TestAtHome(t *testing.T) {
	for _, tt := range []struct {
		base, at string
		want     bool
	}{
		{"http://h:8080", "http://H:8080", true},
		{"http://h:8080", "http://h", false},
		{"http://h:8080", "http://other:8080", false},
		{"http://h:8080", "https://h", true},
		{"http://h:8080", "https://h:443", true},
		{"http://h:8080", "https://h:8080", true},
		{"http://h:8080", "https://h:8443", false},
		{"http://h", "https://h", true},
		{"https://h", "https://h:443", true},
		{"https://h", "http://h", false},
		{"https://h", "http://h:443", false},
		{"https://h:0", "https://h:0", false},
	} {
		base, err1 := url.Parse(tt.base)
		at, err2 := url.Parse(tt.at)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if got := (&Client{Base: base}).atHome(at); got != tt.want {
			t.Errorf("%s with the origin %s: got %t, want %t", tt.at, tt.base, got, tt.want)
		}
	}
}

func TestRedirectHosts(t *testing.T) {
	for _, tt := range []struct {
		host, to string
		want     bool
	}{
		{"*", "https://cdn.example:1", true},
		{"cdn.example", "https://CDN.example", true},
		{"cdn.example", "http://cdn.example", true},
		{"cdn.example", "https://cdn.example:8443", false},
		{"cdn.example", "https://other.example", false},
		{"cdn.example:8443", "https://cdn.example:8443", true},
		{"cdn.example:8443", "https://cdn.example", false},
	} {
		to, err := url.Parse(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Client{RedirectHosts: []string{tt.host}}).redirectAllowed(to); got != tt.want {
			t.Errorf("%s with the host %s: got %t, want %t", tt.to, tt.host, got, tt.want)
		}
	}
}

// Cookies of one fetch go back to the host and port that set them.
func TestCookies(t *testing.T) {
	var mu sync.Mutex
	got := map[string][]string{}
	note := func(where string, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got[where] = append(got[where], r.Header.Get("Cookie"))
	}
	data := origintest.Bytes(2, size)
	file := origintest.New(data, `"v1"`)
	var home, other *httptest.Server
	home = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r.URL.Path, r)
		_, err := r.Cookie("wall")
		switch {
		case err != nil: // a redirect to itself
			http.SetCookie(w, &http.Cookie{Name: "wall", Value: "1", Path: "/", Domain: r.URL.Hostname()})
			http.SetCookie(w, &http.Cookie{Name: "elsewhere", Value: "1", Path: "/other"})
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case r.URL.Path == "/start":
			http.Redirect(w, r, other.URL, http.StatusFound)
		default:
			file.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(home.Close)
	other = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note("other", r)
		http.SetCookie(w, &http.Cookie{Name: "other", Value: "2"})
		http.Redirect(w, r, home.URL+"/file", http.StatusFound)
	}))
	t.Cleanup(other.Close)
	c, base := clientOf(t, home.URL+"/")
	c.RedirectHosts = []string{strings.TrimPrefix(other.URL, "http://")}
	for fetch := range 2 {
		clear(got)
		f, err := c.Open(t.Context(), &Request{URL: base.JoinPath("start")}, 100)
		if err != nil {
			t.Fatal(err)
		}
		r := f.Range(t.Context(), 0, size)
		b, err := io.ReadAll(r)
		_ = r.Close()
		if string(b) != string(data) || err != nil {
			t.Errorf("got %d bytes, %v, want the file", len(b), err)
		}
		want := map[string][]string{"/start": {"", "wall=1"}, "other": {""}, "/file": {"wall=1", "wall=1"}}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("fetch %d: got cookies %v, want %v", fetch+1, got, want)
		}
	}
}

// The cookies of a fetch are added to one among the secret headers.
func TestCookiesBesideASecretOne(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Cookie("wall"); err != nil {
			http.SetCookie(w, &http.Cookie{Name: "wall", Value: "1"})
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, r.Header.Get("Cookie"))
	}))
	t.Cleanup(server.Close)
	c, base := clientOf(t, server.URL+"/")
	c.Header = http.Header{"Cookie": {"session=planted"}}
	if _, body, err := read(t, c, base); body != "session=planted; wall=1" || err != nil {
		t.Errorf("got cookies %q, %v", body, err)
	}
	if c.Header.Get("Cookie") != "session=planted" {
		t.Errorf("the secret headers are now %v", c.Header)
	}
}

// An origin that sets another cookie with each reply doesn't outgrow a request.
func TestManyCookies(t *testing.T) {
	n, most := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		most = max(most, len(r.Cookies()))
		http.SetCookie(w, &http.Cookie{Name: fmt.Sprint("c", n), Value: "1"})
		ranged(w, r, func(b []byte) { _, _ = w.Write(b) })
	}))
	t.Cleanup(server.Close)
	c, base := clientOf(t, server.URL+"/")
	f := reopen(t, c, base, size)
	for i := range int64(2 * maxCookies) {
		r := f.Range(t.Context(), i, i+1)
		if _, err := io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
	if most != maxCookies {
		t.Errorf("got a request with %d cookies, want at most %d", most, maxCookies)
	}
}
