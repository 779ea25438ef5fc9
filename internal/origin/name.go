package origin

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// fileName returns the name that a reply gives its file in Content-Disposition,
// read as Chromium reads it. Without one it is the last segment of the first of
// urls that ends like a file, else of the first that ends in a name at all: a
// redirect's target often has the file's name where the file's own URL has an
// identifier. The result is "" if there is none. It is not fit for a header or a
// file system.
func fileName(h http.Header, urls ...*url.URL) string {
	for _, header := range h.Values("Content-Disposition") {
		if name := dispositionName(header); name != "" {
			return name
		}
	}
	name := ""
	for _, u := range urls {
		last := lastSegment(u)
		if looksLikeFile(last) {
			return last
		}
		if name == "" {
			name = last
		}
	}
	return name
}

// lastSegment returns the decoded last segment of u's path without its parameters, such
// as a session's identifier.
func lastSegment(u *url.URL) string {
	last, _, _ := strings.Cut(path.Base(rawPath(u)), ";")
	return usable(path.Base("/" + toUTF8(unescape(last))))
}

// usable returns name, "" if it is made of nothing but dots, slashes, spaces, and controls.
func usable(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r != '.' && r != '/' && unicode.IsGraphic(r) && !unicode.IsSpace(r) }) {
		return name
	}
	return ""
}

// looksLikeFile reports whether name has an extension, and not one of a program
// that serves files.
func looksLikeFile(name string) bool {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case "", ".php", ".asp", ".aspx", ".ashx", ".jsp", ".cgi", ".do", ".action":
		return false
	default:
		return len(ext) < len(name) && strings.ContainsFunc(ext, func(r rune) bool { return 'a' <= r && r <= 'z' })
	}
}

// dispositionName returns the file name in a Content-Disposition, "" if it has none
// that can be read. RFC 6266 is the rule; what else servers send is read as
// Chromium does: no type, unquoted values with spaces and parentheses, quotes that
// aren't closed, percent-encoding, encoded words (RFC 2047) and bytes that are
// neither ASCII nor UTF-8.
func dispositionName(header string) string {
	plain, extended, continued := "", "", ""
	for _, param := range splitParams(header) {
		name, value, found := strings.Cut(param, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !found: // the disposition's type, whatever it is
		case name == "filename" && plain == "":
			plain = decodePlain(unquote(value))
		case name == "filename*" && extended == "":
			extended = decodeExtended(value)
		}
	}
	if strings.Contains(header, "filename*0") { // in pieces (RFC 2231)
		if _, params, err := mime.ParseMediaType(header); err == nil {
			continued = params["filename"]
		}
	}
	for _, name := range []string{extended, plain, continued} {
		// The name is a hint, and some servers send a whole path, with either slash.
		if name = usable(name[strings.LastIndexAny(name, `/\`)+1:]); name != "" {
			return name
		}
	}
	return ""
}

// splitParams splits a header at semicolons outside of quotes.
func splitParams(header string) []string {
	var params []string
	begin, quoted := 0, false
	for i := 0; i < len(header); i++ {
		switch c := header[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			params = append(params, strings.TrimSpace(header[begin:i]))
			begin = i + 1
		}
	}
	return append(params, strings.TrimSpace(header[begin:]))
}

// unquote removes quotes, an opening one that isn't closed too. A backslash
// escapes a quote or a backslash only: Windows paths have single ones.
func unquote(s string) string {
	rest, quoted := strings.CutPrefix(s, `"`)
	if !quoted {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && i+1 < len(rest) && (rest[i+1] == '"' || rest[i+1] == '\\'):
			i++
			b.WriteByte(rest[i])
		case c == '"':
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decodePlain decodes a filename parameter: encoded words, else percent-encoding,
// which many servers use though no standard has it there.
func decodePlain(s string) string {
	if !isASCII(s) {
		return toUTF8(s)
	}
	if strings.Contains(s, "=?") {
		words := mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
			encoding, err := htmlindex.Get(charset)
			if err != nil {
				return nil, err
			}
			return encoding.NewDecoder().Reader(in), nil
		}}
		decoded, err := words.DecodeHeader(s)
		if err != nil || strings.Contains(decoded, "=?") && strings.Contains(decoded, "?=") {
			return "" // a word that can't be decoded is no name
		}
		return decoded
	}
	if decoded := unescape(s); utf8.ValidString(decoded) {
		return decoded
	}
	return ""
}

// decodeExtended decodes the value of filename*, charset'language'name (RFC 8187).
func decodeExtended(s string) string {
	charset, rest, _ := strings.Cut(s, "'")
	_, value, found := strings.Cut(rest, "'")
	if !found || !isASCII(value) || strings.Contains(s, `"`) {
		return ""
	}
	encoding, err := htmlindex.Get(strings.TrimSpace(charset))
	if err != nil {
		return ""
	}
	decoded, err := encoding.NewDecoder().String(unescape(value))
	if err != nil || strings.ContainsRune(decoded, utf8.RuneError) {
		return ""
	}
	return decoded
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// toUTF8 returns s, or, where it isn't UTF-8, what its bytes are in Windows' western
// code page, which has ISO-8859-1 in it.
func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	decoded, err := charmap.Windows1252.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "_")
	}
	return decoded
}
