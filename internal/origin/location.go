package origin

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

var errLocation = errors.New("not a URL")

// schemeOf matches the scheme of an absolute URL, with its colon.
var schemeOf = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// resolve returns the URL that location means on a page at from, read as
// browsers read it (https://url.spec.whatwg.org): blanks around it and line
// breaks in it are ignored, backslashes are slashes, and characters that can't
// appear in a URL are percent-encoded. Everything else stays as it is, a stray
// percent sign too. The fragment is dropped. The error holds nothing of location.
//
// The scheme may be another than http and https; what follows it is then not
// read. The result may have a user.
func resolve(from *url.URL, location string) (*url.URL, error) {
	rest := strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(location)
	rest = strings.TrimFunc(rest, func(r rune) bool { return r <= ' ' })
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, hasQuery := strings.Cut(rest, "?")
	if rest == "" && !hasQuery {
		return nil, errLocation // to itself, which a server doesn't mean
	}
	rest = strings.ReplaceAll(rest, `\`, "/")

	to := &url.URL{Scheme: from.Scheme, Host: from.Host, User: from.User}
	absolute := false
	if scheme := schemeOf.FindString(rest); scheme != "" {
		rest = rest[len(scheme):]
		to.Scheme = strings.ToLower(strings.TrimSuffix(scheme, ":"))
		if to.Scheme != "http" && to.Scheme != "https" {
			return to, nil
		}
		// http:a is relative on an http page, and a host on an https page.
		absolute = to.Scheme != from.Scheme
	}
	path := rawPath(from)
	switch {
	case absolute || strings.HasPrefix(rest, "//"):
		rest = strings.TrimLeft(rest, "/")
		end := strings.IndexByte(rest+"/", '/')
		authority, err := url.Parse("http://" + escape(rest[:end], func(byte) bool { return false }))
		if err != nil || authority.Hostname() == "" {
			return nil, errLocation
		}
		to.Host, to.User, path = authority.Host, authority.User, rest[end:]
	case rest == "":
	case rest[0] == '/':
		path = rest
	default:
		path = path[:strings.LastIndexByte(path, '/')+1] + rest
	}
	setPath(to, withoutDots(escape(path, func(c byte) bool { return strings.IndexByte("\"<>^`{}", c) >= 0 })))
	to.RawQuery = escape(query, func(c byte) bool { return strings.IndexByte(`"<>'`, c) >= 0 })
	to.ForceQuery = hasQuery && query == ""
	return to, nil
}

// withoutDots resolves the dot segments of an absolute path, encoded ones too.
func withoutDots(path string) string {
	var kept []string
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch strings.ReplaceAll(strings.ToLower(s), "%2e", ".") {
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
			if last {
				kept = append(kept, "")
			}
		case ".":
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/")
}

// setPath makes raw the path that a request for u is sent with, byte for byte.
// Path is its leniently decoded form.
func setPath(u *url.URL, raw string) {
	u.Path, u.RawPath = unescape(raw), raw
	// url.URL encodes a path that it takes for malformed, except in Opaque, which
	// goes into the request line as it is unless it begins with two slashes.
	if u.EscapedPath() != raw && !strings.HasPrefix(raw, "//") {
		u.Opaque = raw
	}
}

// rawPath returns the path that a request for u is sent with.
func rawPath(u *url.URL) string {
	if u.Opaque != "" {
		return u.Opaque
	}
	return u.EscapedPath()
}
