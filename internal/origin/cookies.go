package origin

import (
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxCookies is how many cookies of one host are kept: what RFC 6265 wants of a
	// browser. An origin that sets another one with each range would outgrow the
	// size that it accepts for a request's headers.
	maxCookies = 50
	// maxSetCookies is how many are remembered for encode, of all hosts and paths.
	maxSetCookies = 4 * maxCookies
	// maxEncodedCookies is how many bytes of cookies are encoded: with a body of 256
	// KiB, well below the 400 KB of a DynamoDB item.
	maxEncodedCookies = 32 << 10
)

// cookies are those of one fetch. Hosts and ports are kept apart, whatever a
// cookie's Domain says. It is safe for concurrent use.
type cookies struct {
	mu    sync.Mutex
	hosts map[string]*cookiejar.Jar
	set   []setCookie // what the jars were given, which they don't return
}

// setCookie is a cookie as it was set by a reply from URL, which has no query.
type setCookie struct {
	URL    string `json:"url"`
	Cookie string `json:"cookie"`
	name   string
}

// jar returns the cookies of u's host and port.
func (c *cookies) jar(u *url.URL) *cookiejar.Jar {
	c.mu.Lock()
	defer c.mu.Unlock()
	host := strings.ToLower(u.Host)
	if c.hosts[host] == nil {
		if c.hosts == nil {
			c.hosts = map[string]*cookiejar.Jar{}
		}
		c.hosts[host], _ = cookiejar.New(nil) // it never returns an error
	}
	return c.hosts[host]
}

// add sends u's cookies with req.
func (c *cookies) add(req *http.Request, u *url.URL) {
	pairs := req.Header.Values("Cookie")
	for _, cookie := range c.jar(u).Cookies(u) {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	if len(pairs) > 0 {
		req.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
}

// readCookies returns the cookies that a reply sets, read as browsers and curl do (RFC
// 6265, section 5.2): net/http would drop or change those whose name or value has
// characters that a server shouldn't send, such as quotes, brackets, and commas.
func readCookies(h http.Header) []*http.Cookie {
	var all []*http.Cookie
	for _, line := range h.Values("Set-Cookie") {
		pair, attributes, _ := strings.Cut(line, ";")
		name, value, found := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		cookie, err := http.ParseSetCookie("c=;" + attributes)
		if !found || name == "" || err != nil {
			continue
		}
		cookie.Name, cookie.Value = name, value
		all = append(all, cookie)
	}
	return all
}

// writeCookie returns a line that readCookies reads as cookie.
func writeCookie(cookie *http.Cookie) string {
	c := *cookie
	c.Name, c.Value = "c", ""
	return cookie.Name + "=" + cookie.Value + strings.TrimPrefix(c.String(), "c=")
}

// keep remembers the cookies that a reply from u sets.
func (c *cookies) keep(u *url.URL, resp *http.Response) {
	set := readCookies(resp.Header)
	if len(set) == 0 {
		return
	}
	jar := c.jar(u)
	if len(jar.Cookies(u)) >= maxCookies {
		return
	}
	jar.SetCookies(u, set)
	from := absolute(&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cookie := range set {
		if cookie.MaxAge > 0 { // counted from now, not from when it is decoded
			cookie.Expires, cookie.MaxAge = time.Now().Add(time.Duration(cookie.MaxAge)*time.Second), 0
		}
		s := setCookie{from, writeCookie(cookie), cookie.Name + ";" + cookie.Path + ";" + strings.ToLower(cookie.Domain)}
		c.set = slices.DeleteFunc(c.set, func(old setCookie) bool { return old.URL == s.URL && old.name == s.name })
		c.set = append(c.set, s)
		if len(c.set) > maxSetCookies {
			c.set = c.set[1:]
		}
	}
}

// encode returns the cookies for decodeCookies, nil if there are none. The oldest are
// dropped if they are too many.
func (c *cookies) encode() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, size := len(c.set), len("[]")
	for ; first > 0; first-- {
		b, err := json.Marshal(c.set[first-1])
		if size += len(b) + len(","); err != nil || size > maxEncodedCookies {
			break
		}
	}
	if first == len(c.set) {
		return nil
	}
	b, _ := json.Marshal(c.set[first:]) // strings, encoded before
	return b
}

// decodeCookies returns the cookies that encode returned.
func decodeCookies(b []byte) *cookies {
	c := &cookies{}
	var set []setCookie
	if json.Unmarshal(b, &set) != nil {
		return c
	}
	for _, s := range set {
		u, err := resolve(&url.URL{Scheme: "http"}, s.URL)
		if err != nil {
			continue
		}
		c.keep(u, &http.Response{Header: http.Header{"Set-Cookie": {s.Cookie}}})
	}
	return c
}
