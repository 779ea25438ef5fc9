package origin

import (
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Pin proves that ranges are of one version of a file: each reply must repeat it.
// The zero Pin proves nothing.
type Pin struct {
	Kind PinKind `json:"kind"`
	// Value is the ETag or the Last-Modified, byte for byte.
	Value string `json:"value"`
	// Tag is the ETag that has to be repeated beside a Last-Modified, "" if there
	// was none. It may be weak or malformed.
	Tag string `json:"tag,omitempty"`
	// Unsent: replies are compared with the pin, but requests don't have it as a
	// condition, which some servers can't read.
	Unsent bool `json:"unsent,omitempty"`
}

// PinKind says which header pins.
type PinKind string

// The kinds, best first.
const (
	// StrongETag is sent as If-Match.
	StrongETag PinKind = "etag"
	// LastModified is a date that counts as strong by RFC 9110, section 8.8.2.2. It
	// is sent as If-Unmodified-Since. What it can't see is a file that is replaced
	// within the same second by another of the same size.
	LastModified PinKind = "last-modified"
	// OpaqueETag is an ETag that isn't well formed, such as one without quotes. It
	// is compared and never sent.
	OpaqueETag PinKind = "opaque-etag"
)

// IsZero reports that nothing pins.
func (p Pin) IsZero() bool { return p.Kind == "" }

// strongAfter is how much older than its reply a Last-Modified must be: a file that
// was changed twice within the clock's resolution, or by a server whose clock
// differs, is then over.
const strongAfter = time.Minute

// maxETag is the longest ETag that pins: it travels in a header with every
// range and in the workflow's state.
const maxETag = 1 << 10

// pinOf returns the best pin that a reply has.
func pinOf(h http.Header) Pin {
	tag := single(h, "ETag")
	if len(tag) > maxETag || !utf8.ValidString(tag) { // JSON would change it
		tag = ""
	}
	if isBlank(tag) {
		tag = "" // the same for all versions
	}
	if isStrong(tag) {
		// Some servers split a condition at every comma, also within quotes.
		return Pin{Kind: StrongETag, Value: tag, Unsent: strings.Contains(tag, ",")}
	}
	modified := single(h, "Last-Modified")
	at, err1 := parseTime(modified)
	date, err2 := parseTime(single(h, "Date"))
	if err1 == nil && err2 == nil && at.After(firstModified) && date.Sub(at) >= strongAfter {
		return Pin{Kind: LastModified, Value: modified, Tag: tag}
	}
	if tag != "" && !isWeak(tag) {
		return Pin{Kind: OpaqueETag, Value: tag, Unsent: true}
	}
	return Pin{}
}

// firstModified is before every date that a file was really modified at: 1970, 1980 and
// 1985 are what build tools, archives and packages set for each version.
var firstModified = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// single returns the value of a header, "" if it has several different ones.
func single(h http.Header, name string) string {
	values := slices.Compact(slices.Clone(h.Values(name)))
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// isBlank reports a tag in which a program wrote that it has none.
func isBlank(tag string) bool {
	switch strings.ToLower(strings.Trim(tag, `"`)) {
	case "", "-", "null", "(null)", "undefined", "none", "nil", "nan", "unknown":
		return true
	}
	return false
}

// isWeak reports a weak tag, also one that was put in quotes again.
func isWeak(tag string) bool {
	return strings.HasPrefix(strings.ToUpper(strings.TrimLeft(tag, `"`)), "W/")
}

// isStrong reports whether tag is a strong ETag and well formed.
func isStrong(tag string) bool {
	if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return false
	}
	for i := 1; i < len(tag)-1; i++ {
		if c := tag[i]; c == '"' || c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// condition adds the pin to a request.
func (p Pin) condition(h http.Header) {
	switch {
	case p.Unsent:
	case p.Kind == StrongETag:
		h.Set("If-Match", p.Value)
	case p.Kind == LastModified:
		h.Set("If-Unmodified-Since", p.Value)
	}
}

// compare returns whether a reply repeats the pin, and whether it has another one,
// of another version. A reply that lacks what pins is neither.
func (p Pin) compare(h http.Header) (same, other bool) {
	tag := single(h, "ETag")
	got := tag
	if p.Kind == LastModified {
		got = single(h, "Last-Modified")
	}
	if got != p.Value {
		return false, got != ""
	}
	if p.Tag != "" && tag != p.Tag {
		return false, tag != ""
	}
	return true, false
}
