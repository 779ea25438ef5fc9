package origin

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"async-download/internal/failure"
)

const (
	// MaxPath is the longest path taken from a client, in bytes as sent. Every
	// server and proxy worth naming takes 2 KiB; few take much more.
	MaxPath = 2 << 10
	// MaxQuery is the longest query. API Gateway holds the request line and all
	// headers to 10,240 bytes, so nothing longer arrives with its headers.
	MaxQuery = 8 << 10
)

// decodings is how often a path is percent-decoded in search of something
// hidden. Nobody encodes a name five times for an honest reason.
const decodings = 5

// ParseBase reads the configured URL of the origin. It has to be http or https,
// with a host, and without userinfo (secrets travel as headers) or fragment; it
// may have a path and a query. The error says which of these is wrong and
// doesn't repeat the URL.
func ParseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("origin URL: not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("origin URL: the scheme has to be http or https")
	case u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("origin URL: no host")
	case u.User != nil:
		return nil, errors.New("origin URL: a user or password can't stand in it; use headers")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("origin URL: a fragment means nothing to a server")
	case strings.HasSuffix(u.Host, ":"):
		return nil, errors.New("origin URL: a colon without a port")
	}
	if err := checkQuery(u.RawQuery); err != nil {
		return nil, errors.New("origin URL: " + err.Error())
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, errors.New("origin URL: a dot segment in the path")
		}
	}
	return u, nil
}

// Join returns the URL of one file: base, with path under base's path and
// rawQuery after base's query.
//
// path is percent-encoded as the client sent it, without a leading slash; "" is
// base itself. It is kept byte for byte, except that a byte which can't stand
// in a URL (a space, a quote, a letter outside ASCII) is encoded. rawQuery is
// already encoded. The result has base's scheme and host and a path under
// base's, whatever the client sent: the parts are set as fields, never parsed
// again, and a path that some server could read as leading elsewhere is
// refused with [failure.InvalidPath], in a message that doesn't repeat it.
func Join(base *url.URL, path, rawQuery string) (*url.URL, error) {
	if len(path) > MaxPath {
		return nil, invalid("the path is longer than %d bytes", MaxPath)
	}
	if len(rawQuery) > MaxQuery {
		return nil, invalid("the query is longer than %d bytes", MaxQuery)
	}
	if err := checkPath(path); err != nil {
		return nil, invalid("%s", err)
	}
	if err := checkQuery(rawQuery); err != nil {
		return nil, invalid("%s", err)
	}

	u := &url.URL{
		Scheme:   base.Scheme,
		Host:     base.Host,
		Path:     base.Path,
		RawPath:  base.EscapedPath(),
		RawQuery: base.RawQuery,
	}
	if path != "" {
		raw := strings.TrimSuffix(base.EscapedPath(), "/") + "/" + encodeRest(path)
		decoded, err := url.PathUnescape(raw)
		if err != nil {
			return nil, invalid("the path isn't percent-encoded rightly")
		}
		u.Path, u.RawPath = decoded, raw
		// url.URL drops a RawPath that it would have encoded otherwise, and
		// with it the promise to keep the client's bytes.
		if u.EscapedPath() != raw {
			return nil, invalid("the path has a character that has to be percent-encoded")
		}
	}
	if u.RawQuery != "" && rawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += rawQuery

	if under := strings.TrimSuffix(base.EscapedPath(), "/"); !strings.HasPrefix(u.EscapedPath(), under) {
		return nil, invalid("the path leads out of the origin's base URL")
	}
	return u, nil
}

func invalid(format string, args ...any) error {
	return failure.New(failure.InvalidPath, format, args...)
}

// checkPath refuses what a server behind us might take for another place than
// the one that stands there: a proxy decodes once more than its backend, a
// servlet container drops what follows a semicolon, Windows reads a backslash
// as a slash, and a gateway that merges slashes makes http:/host of http://host.
func checkPath(path string) error {
	if path == "" {
		return nil
	}
	if !utf8.ValidString(path) {
		return errors.New("the path isn't UTF-8")
	}
	segments := strings.Split(path, "/")
	for i, raw := range segments {
		if raw == "" && i > 0 && i == len(segments)-1 {
			break // a trailing slash
		}
		if raw == "" {
			return errors.New("the path has an empty segment")
		}
		if strings.ContainsAny(raw, "?#") {
			return errors.New("the path has a ? or # that isn't percent-encoded")
		}
		if err := checkSegment(raw); err != nil {
			return err
		}
	}
	return nil
}

func checkSegment(raw string) error {
	segment := raw
	for n := 0; ; n++ {
		if err := checkDecoded(segment); err != nil {
			return err
		}
		next, err := url.PathUnescape(segment)
		switch {
		case err != nil && n == 0:
			return errors.New("the path isn't percent-encoded rightly")
		case err != nil || next == segment:
			return nil // what is left is a name with a percent sign in it
		case n == 0 && !utf8.ValidString(next):
			return errors.New("the path isn't UTF-8")
		case n == decodings:
			return errors.New("the path is percent-encoded too often")
		}
		segment = next
	}
}

// checkDecoded judges one segment after any number of decodings.
func checkDecoded(segment string) error {
	name, _, _ := strings.Cut(segment, ";")
	scheme, rest, colon := strings.Cut(segment, ":")
	switch {
	case name == "." || name == "..":
		return errors.New("the path has a dot segment")
	case strings.ContainsAny(segment, `/\`):
		return errors.New("the path has an encoded slash or a backslash")
	case strings.ContainsFunc(segment, unicode.IsControl):
		return errors.New("the path has a control character")
	case colon && (rest == "" || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")):
		return errors.New("the path has a URL scheme in it")
	}
	return nil
}

// checkQuery takes any query that can stand in a request line. What it means
// is between the client and the origin.
func checkQuery(raw string) error {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return errors.New("the query has a character that has to be percent-encoded")
		case c == '%' && (i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2])):
			return errors.New("the query isn't percent-encoded rightly")
		}
	}
	return nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// encodeRest percent-encodes the bytes that can't stand in a URL's path and
// leaves the others, encoded ones among them, as they are.
func encodeRest(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>^`{|}", c) >= 0 {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
