package origin

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A client's path passes through gateways, proxies and frameworks that each may
// decode it again, normalize its Unicode, or cut it. The functions here find
// what any of them could read, so that no reading leads out of the origin's base
// URL or of AllowedPaths.

// maxReadings bounds the readings of one path segment or query. A name that is
// encoded three times and needs normalization has five.
const maxReadings = 8

var errTooManyReadings = errors.New("percent-encoded too often")

// readings returns what servers may read when they get s: s itself and
// everything that repeated percent-decoding and Unicode compatibility
// normalization, in any order, make of it.
func readings(s string) ([]string, error) {
	all := []string{s}
	for i := 0; i < len(all); i++ {
		for _, next := range []string{unescape(all[i]), fold(all[i])} {
			if !slices.Contains(all, next) {
				all = append(all, next)
			}
		}
		if len(all) > maxReadings {
			return nil, errTooManyReadings
		}
	}
	return all, nil
}

// unescape decodes every valid %XX once and keeps everything else, a stray
// percent sign among it, as lenient servers do.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if !isEscape(s[i:]) {
			b.WriteByte(s[i])
			continue
		}
		b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		i += 2
	}
	return b.String()
}

// isEscape reports whether s begins with a percent sign and two hexadecimal digits.
func isEscape(s string) bool { return len(s) >= 3 && s[0] == '%' && isHex(s[1]) && isHex(s[2]) }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// fold returns s in Unicode's NFKC form without the characters that are
// displayed as nothing (Default_Ignorable_Code_Point): fullwidth dots become
// dots and soft hyphens vanish. s may be in any encoding; what isn't UTF-8 stays.
func fold(s string) string {
	if !utf8.ValidString(s) {
		return s
	}
	drop := func(r rune) rune {
		if unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return -1
		}
		return r
	}
	return strings.Map(drop, norm.NFKC.String(strings.Map(drop, s)))
}

// checkPath refuses a path with a segment that some server could read as
// another place: a proxy decodes more often than its backend, a servlet container
// drops what follows a semicolon, a proxy that decodes before it forwards makes a
// query of what follows an encoded question mark, Windows reads a backslash as a
// slash and drops trailing dots and spaces, and a gateway that merges slashes
// makes http:/host of http://host.
//
// keepQuery refuses an encoded ? or #, behind which the base's own query would
// lose its meaning.
func checkPath(path string, keepQuery bool) error {
	if path == "" {
		return nil
	}
	segments := strings.Split(path, "/")
	for i, raw := range segments {
		if raw == "" && i == len(segments)-1 {
			break // a trailing slash
		}
		if raw == "" {
			return errors.New("the path has an empty segment")
		}
		if strings.ContainsAny(raw, "?#") {
			return errors.New("the path has a ? or # that isn't percent-encoded")
		}
		if err := checkSegment(raw, keepQuery); err != nil {
			return err
		}
	}
	return nil
}

func checkSegment(raw string, keepQuery bool) error {
	if len(raw) > 2 && strings.Trim(raw, ".") == "" {
		return nil // a name, as long as nothing else is in it
	}
	all, err := readings(raw)
	if err != nil {
		return errors.New("the path is percent-encoded too often")
	}
	for _, s := range all {
		if err := checkReading(s); err != nil {
			return err
		}
		if keepQuery && strings.ContainsAny(s, "?#") {
			return errors.New("the path has a ? or #, which the origin's URL doesn't allow because it has a query")
		}
	}
	return nil
}

func checkReading(segment string) error {
	scheme, rest, colon := strings.Cut(segment, ":")
	switch {
	case !utf8.ValidString(segment):
		return errors.New("the path isn't UTF-8")
	case strings.Contains(segment, "/"):
		return errors.New("the path has an encoded slash (%2F), which proxies and servers read differently; origins that need one in a name can't be served")
	case strings.Contains(segment, `\`):
		return errors.New("the path has a backslash")
	case strings.ContainsFunc(segment, unicode.IsControl):
		return errors.New("the path has a control character")
	case hasUnicodeEscape(segment):
		return errors.New("the path has a %uXXXX escape")
	case colon && (rest == "" || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")):
		return errors.New("the path has a URL scheme in it")
	case slices.ContainsFunc(strings.FieldsFunc(segment, endsName), isDots):
		return errors.New("the path has a dot segment")
	}
	return nil
}

// hasUnicodeEscape reports a %uXXXX, which IIS and old JavaScript decode.
func hasUnicodeEscape(s string) bool {
	for ; len(s) >= 6; s = s[1:] {
		if s[0] == '%' && s[1]|0x20 == 'u' && isHex(s[2]) && isHex(s[3]) && isHex(s[4]) && isHex(s[5]) {
			return true
		}
	}
	return false
}

// endsName reports where a server may end a segment's name: before parameters, a
// query, a fragment or a Windows stream, and at the signs that Windows code pages
// turn into a slash or a backslash.
func endsName(r rune) bool { return strings.ContainsRune(";?#:\u00a5\u20a9\u2044\u2215\u2216", r) }

// isDots reports whether name is a dot segment or may become one where dots,
// spaces and plus signs are trimmed.
func isDots(name string) bool {
	return strings.Contains(name, ".") && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '.' && r != '+' && !unicode.IsSpace(r)
	})
}

// splitPath returns the segments of a percent-encoded path, decoded once, without
// the empty one behind a trailing slash.
func splitPath(path string) []string {
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = unescape(s)
	}
	return segments
}

// pathAllowed reports whether the decoded segments of a path are one of the
// allowed paths or below one.
func pathAllowed(allowed []string, segments []string) bool {
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(prefix string) bool {
		return startsWith(segments, strings.Split(strings.TrimSuffix(prefix, "/"), "/"))
	})
}

func startsWith(segments, prefix []string) bool {
	return len(segments) >= len(prefix) && slices.Equal(segments[:len(prefix)], prefix)
}

// checkOverride refuses a query that sets a name which own sets, as any server
// could read query: decoded several times, split at semicolons, with the name in
// another case, as an array or as a map.
func checkOverride(own, query string) error {
	if own == "" || query == "" {
		return nil
	}
	taken := map[string]bool{}
	for _, name := range queryNames(own) {
		for _, key := range queryKeys(unescape(name)) {
			taken[key] = true
		}
	}
	all, err := readings(query)
	if err != nil {
		return errors.New("the query is percent-encoded too often")
	}
	for _, s := range all {
		if hasUnicodeEscape(s) {
			return errors.New("the query has a %uXXXX escape")
		}
		for _, name := range queryNames(s) {
			if slices.ContainsFunc(queryKeys(name), func(key string) bool { return taken[key] }) {
				return errors.New("the query sets a name that the origin's own URL sets")
			}
		}
	}
	return nil
}

// queryNames returns the names in a query, split at & as all servers do, at ; as
// some do, and at further question marks.
func queryNames(query string) []string {
	var names []string
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune("&;?", r) }) {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	return names
}

// queryKeys returns the keys under which a server may store the value of name:
// ASP.NET ignores case, and Java does so by upper case, in which a dotless i is an I;
// PHP drops what follows a NUL and makes underscores of dots, spaces and open
// brackets; a[b], [a] and a.b set a in PHP, Rails and qs.
func queryKeys(name string) []string {
	name, _, _ = strings.Cut(strings.ToLower(strings.ToUpper(fold(name))), "\x00")
	space := func(r rune) bool { return r == '+' || unicode.IsSpace(r) }
	name = strings.TrimFunc(name, space)
	name = strings.TrimLeftFunc(name, func(r rune) bool { return r == '[' || space(r) })
	flat := func(name string) string {
		return strings.Map(func(r rune) rune {
			if r == '.' || r == '[' || space(r) {
				return '_'
			}
			return r
		}, name)
	}
	array, _, _ := strings.Cut(name, "[")
	keys := []string{flat(name), flat(array), name, name[:strings.IndexAny(name+".", "[].")]}
	return slices.DeleteFunc(keys, func(key string) bool { return key == "" })
}
