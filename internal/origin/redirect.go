package origin

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"async-download/internal/failure"
)

// redirects reports whether a status, which came from p, leads elsewhere. Unknown ones are
// read as 300, whose Location may be followed (RFC 9110, section 15.4), by GET.
func (p place) redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	case http.StatusNotModified, http.StatusUseProxy, 306:
		return false
	}
	return status/100 == 3 && !p.post
}

// atHome reports whether u is on the configured host, where the secret headers
// belong.
func (c *Client) atHome(u *url.URL) bool {
	if !strings.EqualFold(u.Hostname(), c.Base.Hostname()) {
		return false
	}
	if u.Scheme == c.Base.Scheme {
		return samePort(u, c.Base)
	}
	// http to https on the same host: to the standard port, or to the same one.
	return u.Scheme == "https" && (u.Port() == "" || u.Port() == "443" || u.Port() == c.Base.Port())
}

func samePort(a, b *url.URL) bool {
	p, err1 := portOf(a)
	q, err2 := portOf(b)
	return err1 == nil && err2 == nil && p == q
}

// place is where a request goes.
type place struct {
	url *url.URL
	// away: a redirect on the way here left the configured host. The secret headers
	// are then not sent, even if a later redirect came back: another host chose
	// where to.
	away bool
	// cookies are shared by all requests for one file.
	cookies *cookies
	request *Request
	// post: the request's POST goes here. repeated: because a place that got it before
	// redirected it.
	post, repeated bool
}

// follow returns where a redirect, or the Location of a 202, leads if that is allowed.
// 307 and 308 repeat the request there, everything else asks by GET.
func (c *Client) follow(from place, resp *http.Response) (place, error) {
	to, err := resolve(from.url, resp.Header.Get("Location"))
	if err != nil {
		return place{}, failure.New(failure.OriginStatus, "the origin answered %d without a URL to go to", resp.StatusCode)
	}
	if from.url.Scheme == "https" && to.Scheme == "http" {
		return place{}, failure.New(failure.BlockedAddress, "the origin leads from https to http")
	}
	if err := c.allowed(to); err != nil {
		return place{}, err
	}
	next := place{url: to, away: from.away || !c.atHome(to), cookies: from.cookies, request: from.request}
	switch resp.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next.post, next.repeated = from.post, from.post
	}
	return next, nil
}

// allowed returns an error if the origin may not lead to u.
func (c *Client) allowed(u *url.URL) error {
	home := c.atHome(u)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return failure.New(failure.BlockedAddress, "the origin leads to something other than http or https")
	case u.User != nil:
		return failure.New(failure.BlockedAddress, "the origin leads to a URL with a user in it")
	case !home && !c.redirectAllowed(u):
		return failure.New(failure.BlockedAddress, "the origin leads to another host, which is not among OriginRedirectHosts")
	}
	if home {
		if err := c.checkScope(u); err != nil {
			return failure.New(failure.BlockedAddress, "the origin leads to a place on its own host that can't be asked for: %s", err)
		}
	}
	return nil
}

// checkScope refuses a URL on the configured host that a client couldn't ask for,
// by the same rules as [Join]. A client may be able to choose where the origin
// redirects to, and the request has the secret headers.
func (c *Client) checkScope(u *url.URL) error {
	base := splitPath(strings.TrimPrefix(c.Base.EscapedPath(), "/"))
	if len(base) > 0 || len(c.AllowedPaths) > 0 {
		path := strings.TrimPrefix(rawPath(u), "/")
		segments := splitPath(path)
		if !startsWith(segments, base) {
			return errors.New("it is outside of OriginUrl")
		}
		// The path of base itself needs no check: it is configured.
		rest := slices.DeleteFunc(strings.Split(path, "/")[len(base):], func(s string) bool { return s == "" })
		if err := checkPath(strings.Join(rest, "/"), c.Base.RawQuery != ""); err != nil {
			return err
		}
		if !pathAllowed(c.AllowedPaths, segments[len(base):]) {
			return errors.New("it is outside of AllowedPaths")
		}
	}
	return checkOverride(c.Base.RawQuery, without(u.RawQuery, c.Base.RawQuery))
}

// without returns query without the pairs that own has too: a redirect may repeat
// OriginUrl's own query, though not change it.
func without(query, own string) string {
	pairs := strings.Split(own, "&")
	rest := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool { return slices.Contains(pairs, pair) })
	return strings.Join(rest, "&")
}

func (c *Client) redirectAllowed(u *url.URL) bool {
	for _, host := range c.RedirectHosts {
		if host == "*" {
			return true
		}
		allowed := &url.URL{Scheme: u.Scheme, Host: host}
		if strings.EqualFold(allowed.Hostname(), u.Hostname()) && samePort(allowed, u) {
			return true
		}
	}
	return false
}
