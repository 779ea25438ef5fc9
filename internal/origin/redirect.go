package origin

import (
	"net/http"
	"net/url"
	"strings"

	"async-download/internal/failure"
)

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
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
	return u.Scheme == "https" && c.Base.Scheme == "http" && (u.Port() == "" || u.Port() == "443" || u.Port() == c.Base.Port())
}

func samePort(a, b *url.URL) bool {
	p, err1 := portOf(a)
	q, err2 := portOf(b)
	return err1 == nil && err2 == nil && p == q
}

// follow judges a redirect by what is allowed and returns where it leads.
func (c *Client) follow(from *url.URL, resp *http.Response) (*url.URL, error) {
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, failure.New(failure.OriginStatus, "the origin answered %d without a place to go to", resp.StatusCode)
	}
	to := from.ResolveReference(location)
	to.Fragment, to.RawFragment = "", ""
	switch {
	case to.Scheme != "http" && to.Scheme != "https" || to.Hostname() == "" || to.Opaque != "":
		return nil, failure.New(failure.BlockedAddress, "the origin redirects to something other than http or https")
	case to.User != nil:
		return nil, failure.New(failure.BlockedAddress, "the origin redirects to a URL with a user in it")
	case from.Scheme == "https" && to.Scheme == "http":
		return nil, failure.New(failure.BlockedAddress, "the origin redirects from https to http")
	case !c.atHome(to) && !c.redirectAllowed(to):
		return nil, failure.New(failure.BlockedAddress, "the origin redirects to another host, which is not among OriginRedirectHosts")
	}
	return to, nil
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
