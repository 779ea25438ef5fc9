package origin

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
)

// maxCookies is how many cookies of one host are kept: what RFC 6265 wants of a
// browser. An origin that sets another one with each range would outgrow the
// size that it accepts for a request's headers.
const maxCookies = 50

// cookies are those of one fetch. Hosts and ports are kept apart, whatever a
// cookie's Domain says. It is safe for concurrent use.
type cookies struct {
	mu    sync.Mutex
	hosts map[string]*cookiejar.Jar
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
	for _, cookie := range c.jar(u).Cookies(u) {
		req.AddCookie(cookie)
	}
}

// keep remembers the cookies that a reply from u sets.
func (c *cookies) keep(u *url.URL, resp *http.Response) {
	set := resp.Cookies()
	if len(set) == 0 {
		return
	}
	jar := c.jar(u)
	if len(jar.Cookies(u)) >= maxCookies {
		return
	}
	jar.SetCookies(u, set)
}
