package origin

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"async-download/internal/failure"
)

const (
	// MaxPath is the longest path accepted from a client, in bytes as sent. All
	// common servers and proxies accept 2 KiB; few accept much more.
	MaxPath = 2 << 10
	// MaxQuery is the longest query in bytes. API Gateway limits the request line
	// and all headers to 10,240 bytes, so nothing longer arrives.
	MaxQuery = 8 << 10
)

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
		return nil, errors.New("origin URL: it must not hold a user or password; use headers")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("origin URL: it must not have a fragment")
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

// Join returns the URL of one file: base, with path below base's path and
// rawQuery after base's query.
//
// path is percent-encoded as the client sent it, without a leading slash; "" is
// base itself. It is kept byte for byte, except that a byte which can't appear
// in a URL (a space, a quote, a letter outside ASCII) is encoded. rawQuery is
// already encoded.
//
// allowed are the paths below base that may be asked for, each with everything
// below it, not percent-encoded; none allows every path.
//
// The result always has base's scheme and host and a path below base's: the parts are set
// as fields, never parsed again. A path that some
// server could read as leading elsewhere, a path that isn't allowed, and a query
// that sets a name of base's own query are refused with [failure.InvalidPath],
// in a message that doesn't repeat them.
func Join(base *url.URL, allowed []string, path, rawQuery string) (*url.URL, error) {
	if len(path) > MaxPath {
		return nil, invalid("the path is longer than %d bytes", MaxPath)
	}
	if len(rawQuery) > MaxQuery {
		return nil, invalid("the query is longer than %d bytes", MaxQuery)
	}
	if err := checkPath(path, base.RawQuery != ""); err != nil {
		return nil, invalid("%s", err)
	}
	if !pathAllowed(allowed, splitPath(path)) {
		return nil, invalid("this API doesn't serve this path")
	}
	if err := checkQuery(rawQuery); err != nil {
		return nil, invalid("%s", err)
	}
	if err := checkOverride(base.RawQuery, rawQuery); err != nil {
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
			return nil, invalid("the path has a %% that isn't followed by two hexadecimal digits")
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

// checkQuery accepts any query that can appear in a request line. Its meaning
// is between the client and the origin.
func checkQuery(raw string) error {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return errors.New("the query has a character that has to be percent-encoded")
		case c == '%' && !isEscape(raw[i:]):
			return errors.New("the query has a % that isn't followed by two hexadecimal digits")
		}
	}
	return nil
}

// EncodeQuery returns the query that has values, as [Join] takes it: names sorted,
// the values of one name in their order, spaces as %20. API Gateway hands a
// request's query over decoded, with U+FFFD instead of what isn't UTF-8. Such a query is
// refused with [failure.InvalidPath], since it doesn't show which file it asks for.
func EncodeQuery(values url.Values) (string, error) {
	lost := func(s string) bool { return strings.ContainsRune(s, utf8.RuneError) } // invalid bytes, too
	for name, list := range values {
		if lost(name) || slices.ContainsFunc(list, lost) {
			return "", invalid("the query isn't UTF-8")
		}
	}
	// A plus sign in a name or value is %2B by now.
	return strings.ReplaceAll(values.Encode(), "+", "%20"), nil
}

// encodeRest percent-encodes the bytes that can't appear in a URL's path and
// leaves the others, encoded ones among them, as they are.
func encodeRest(path string) string {
	return escape(path, func(c byte) bool { return strings.IndexByte("\"<>^`{|}", c) >= 0 })
}

// escape percent-encodes what no URL holds (controls, spaces, bytes outside
// ASCII) and the bytes that also reports.
func escape(s string, also func(byte) bool) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || also(c) {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
