package origin

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// steps are what gateways, proxies, frameworks and file systems do to a path
// before they look a file up. They are written without the guard's own code.
var steps = []struct {
	name string
	do   func(path string) string
}{
	{"decode", decodeLeniently},
	{"decode strictly", func(path string) string {
		if decoded, err := url.PathUnescape(path); err == nil {
			return decoded
		}
		return path
	}},
	{"drop parameters", eachSegment(func(s string) string { s, _, _ = strings.Cut(s, ";"); return s })},
	{"drop streams", eachSegment(func(s string) string { s, _, _ = strings.Cut(s, ":"); return s })},
	{"merge slashes", func(path string) string {
		for strings.Contains(path, "//") {
			path = strings.ReplaceAll(path, "//", "/")
		}
		return path
	}},
	{"backslash is slash", func(path string) string { return strings.ReplaceAll(path, `\`, "/") }},
	{"NFKC", norm.NFKC.String},
	{"NFC", norm.NFC.String},
	{"drop invisible characters", strings.NewReplacer("\u00ad", "", "\u200b", "", "\u200d", "", "\ufeff", "", "\ufe0f", "", "\u3164", "", "\u1160", "", "\u034f", "").Replace},
	{"cut at ?", func(path string) string { path, _, _ = strings.Cut(path, "?"); return path }},
	{"cut at #", func(path string) string { path, _, _ = strings.Cut(path, "#"); return path }},
	{"lower-case", strings.ToLower},
	{"trim dots and spaces", eachSegment(func(s string) string {
		if s == "." || s == ".." {
			return s
		}
		return strings.TrimRight(s, ". ")
	})},
	{"trim spaces", eachSegment(strings.TrimSpace)},
	{"plus is space", func(path string) string { return strings.ReplaceAll(path, "+", " ") }},
	{"cut at NUL", func(path string) string { path, _, _ = strings.Cut(path, "\x00"); return path }},
	{"Windows best fit", strings.NewReplacer("¥", `\`, "₩", `\`, "∖", `\`, "⁄", "/", "∕", "/").Replace},
	{"resolve dots", func(path string) string { return strings.Join(resolveDots(path), "/") }},
}

func eachSegment(do func(string) string) func(string) string {
	return func(path string) string {
		segments := strings.Split(path, "/")
		for i, s := range segments {
			segments[i] = do(s)
		}
		return strings.Join(segments, "/")
	}
}

func decodeLeniently(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if i+2 < len(path) && path[i] == '%' {
			if c, err := url.PathUnescape(path[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// resolveDots returns the segments that path leads to, without empty ones.
func resolveDots(path string) []string {
	var at []string
	for _, s := range strings.Split(path, "/") {
		switch s {
		case "", ".":
		case "..":
			at = at[:max(len(at)-1, 0)]
		default:
			at = append(at, s)
		}
	}
	return at
}

// server does some of the steps, in this order.
type server struct {
	steps []int
	at    map[string][]string // where it looks for the base and the paths below it that may be allowed
}

// allowedPaths are what AllowedPaths are in these tests, where they aren't empty.
var allowedPaths = []string{"reports", "Media/März"}

func newServer(steps []int) server {
	s := server{steps, map[string][]string{}}
	for _, path := range append([]string{""}, allowedPaths...) {
		s.at[path] = s.lookUp("/base/Dir/" + (&url.URL{Path: path}).EscapedPath())
	}
	return s
}

// servers each begin with a decoding: one that doesn't decode at all has no names with
// spaces.
var servers = func() []server {
	byName := map[string]int{}
	for i, s := range steps {
		byName[s.name] = i
	}
	var list []server
	for _, line := range []string{
		"decode", "decode strictly", "decode, decode", "decode, decode, decode", "decode strictly, decode strictly, decode",
		"decode, drop parameters", "drop parameters, decode", "decode, drop parameters, decode", "decode, drop streams",
		"decode, merge slashes", "decode, backslash is slash", "decode, decode, backslash is slash",
		"decode, NFKC", "decode, NFKC, decode", "decode, decode, NFKC", "decode, NFKC, drop invisible characters, NFKC, decode, backslash is slash",
		"decode, drop invisible characters", "decode, drop invisible characters, decode",
		"decode, cut at ?", "decode, decode, cut at ?", "decode, NFKC, cut at ?, trim spaces", "decode, cut at #", "decode, cut at NUL",
		"decode, lower-case", "lower-case, decode, NFKC, decode", "decode, trim dots and spaces", "decode, trim spaces",
		"plus is space, decode, trim spaces", "decode, plus is space, trim dots and spaces, drop parameters",
		"decode, Windows best fit, backslash is slash, trim dots and spaces", "decode, resolve dots, decode, resolve dots, decode, drop parameters",
	} {
		var steps []int
		for _, name := range strings.Split(line, ", ") {
			i, ok := byName[name]
			if !ok {
				panic(name)
			}
			steps = append(steps, i)
		}
		list = append(list, newServer(steps))
	}
	return list
}()

// lookUp returns where the server looks for path.
func (s server) lookUp(path string) []string {
	for _, i := range s.steps {
		path = steps[i].do(path)
	}
	return resolveDots(path)
}

// pieces are what the fuzzed paths are made of.
var pieces = []string{
	"/", ".", "..", "%", "25", "2e", "2f", "5c", "%2e", "%2E%2e", "%252e", "%25252e", "%2f", "%252f", "%5c", "%255c",
	";", "%3b", "%3f", "%253f", "%23", ":", "%3a", " ", "%20", "+", "%2b", "%00", "%2500", "%0d%0a", "%c0%ae", "%ff", "%25ff", "%u002e", "%25u002e",
	"．", "‥", "․", "﹒", "／", "＼", "％", "？", "；", "%EF%BC%8E", "%EF%BC%8F", "%EF%BC%85", "%25EF%25BC%258E",
	"\u00ad", "%C2%AD", "\u200b", "\u3164", "\ufe0f", "\u034f", "\u0301", "\u0307", "\u0338", "¥", "₩", "∕", "⁄", "℀", "\u00a0", "\u3000", "\u2028",
	"reports", "Reports", "%72eports", "Media", "März", "M%C3%A4rz", "a", "x", "c", "private", "http:", "A", "%41", "0", "%25", "%2525", "…", "...",
}

func pathOf(tokens []byte) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(pieces[int(t)%len(pieces)])
	}
	return b.String()
}

// keepsInside reports a path that Join accepts and that one of the servers would look
// up outside of the base or of the allowed paths, of which nil is all.
func keepsInside(t *testing.T, path string, allowed []string, servers []server) {
	t.Helper()
	base := &url.URL{Scheme: "https", Host: "o.example", Path: "/base/Dir"}
	u, err := Join(base, allowed, path, "")
	if err != nil {
		return
	}
	if allowed == nil {
		allowed = []string{""}
	}
	for _, s := range servers {
		got := s.lookUp(u.EscapedPath())
		inside := slices.ContainsFunc(allowed, func(path string) bool {
			want := s.at[path]
			return len(got) >= len(want) && slices.Equal(got[:len(want)], want)
		})
		if !inside || slices.Contains(got, "..") || strings.ContainsAny(strings.Join(got, ""), "\x00\r\n") {
			var names []string
			for _, i := range s.steps {
				names = append(names, steps[i].name)
			}
			t.Errorf("%q with AllowedPaths %q becomes %q after: %s", path, allowed, got, strings.Join(names, ", "))
		}
	}
}

// FuzzJoinInside makes paths of dangerous pieces and looks them up as the servers
// above, and as one that does a random sequence of their steps.
func FuzzJoinInside(f *testing.F) {
	for _, path := range []string{"x%25%252f..%252f..%252fprivate", "..%3f/", "‥/a", "%25u002e.", "..;/", ".. /", "a/b;c/d"} {
		f.Add([]byte(nil), []byte{0, 0, 0}, path)
	}
	f.Add([]byte{71, 0, 2, 18, 0}, []byte{0, 9}, "")
	f.Fuzz(func(t *testing.T, tokens, more []byte, suffix string) {
		order := []int{0}
		for _, b := range more[:min(len(more), 8)] {
			order = append(order, int(b)%len(steps))
		}
		servers := append(slices.Clip(servers), newServer(order))
		path := pathOf(tokens[:min(len(tokens), 40)]) + suffix
		for _, p := range []string{path, "reports/" + path, "Media/M%C3%A4rz/" + path} {
			keepsInside(t, p, nil, servers)
			keepsInside(t, p, allowedPaths, servers)
		}
	})
}

// TestJoinInside is the same for a fixed set of paths: all of two pieces,
// and longer random ones.
func TestJoinInside(t *testing.T) {
	check := func(path string) {
		keepsInside(t, strings.TrimPrefix(path, "/"), nil, servers)
		keepsInside(t, "reports"+path, allowedPaths, servers)
	}
	for a := range pieces {
		for b := range pieces {
			check("/x/" + pieces[a] + pieces[b] + "/private")
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		tokens := make([]byte, 1+r.IntN(12))
		for i := range tokens {
			tokens[i] = byte(r.IntN(len(pieces)))
		}
		check("/" + pathOf(tokens))
		check(pathOf(tokens))
		if t.Failed() {
			return
		}
	}
}

// parsers are ways in which servers find the names in a query.
var parsers = []func(query string) []string{
	func(q string) []string { return strings.Split(q, "&") },
	func(q string) []string {
		return strings.FieldsFunc(q, func(r rune) bool { return r == '&' || r == ';' })
	},
	func(q string) []string { return strings.Split(strings.ReplaceAll(q, "&amp;", "&"), "&") },
}

// namings are what servers make of a name after decoding.
var namings = []func(name string) string{
	func(s string) string { return s },
	strings.ToLower,
	func(s string) string { return norm.NFKC.String(strings.ReplaceAll(s, "\u00ad", "")) },
	func(s string) string { s, _, _ = strings.Cut(s, "["); return s },
	func(s string) string { s, _, _ = strings.Cut(s, "."); return s },
	func(s string) string { s, _, _ = strings.Cut(strings.TrimPrefix(s, "["), "]"); return s },
	func(s string) string {
		s, _, _ = strings.Cut(strings.TrimLeft(s, " "), "\x00")
		s, _, _ = strings.Cut(s, "[")
		return strings.NewReplacer(".", "_", " ", "_").Replace(s)
	},
	strings.TrimSpace,
}

var queryPieces = []string{"&", ";", "=", "%26", "%3b", "%3d", "%2526", "%253D", "te", "nant", "tenant", "Tenant", "TENANT", "%74enant", "%2574enant", "my", "_id", ".id", "+id",
	"%20id", "[", "]", "[]", "%5B", "%5D", "%00", "%2500", "?", "+", "%20", "%EF%BD%94", "%C2%AD", "a", "b", "x", "amp;", "%", "25", "74", "."}

// keepsQuery reports a query that Join accepts and that sets a name of the base's
// query for one of the servers above.
func keepsQuery(t *testing.T, query string) {
	t.Helper()
	base := &url.URL{Scheme: "https", Host: "o.example", Path: "/files", RawQuery: "tenant=acme&my_id=1"}
	if _, err := Join(base, nil, "a", query); err != nil {
		return
	}
	sent := query
	for decodings := range 4 {
		for _, parse := range parsers {
			for _, pair := range parse(query) {
				name, _, _ := strings.Cut(pair, "=")
				name = decodeLeniently(strings.ReplaceAll(name, "+", " "))
				for i, normalize := range namings {
					if got := normalize(name); got == "tenant" || got == "my_id" {
						t.Errorf("%q sets %s after %d decodings, with naming %d", sent, got, decodings, i)
					}
				}
			}
		}
		query = decodeLeniently(query)
	}
}

// TestJoinQuery does this for a fixed set of random queries.
func TestJoinQuery(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		var query strings.Builder
		for range 1 + r.IntN(8) {
			query.WriteString(queryPieces[r.IntN(len(queryPieces))])
		}
		if keepsQuery(t, query.String()); t.Failed() {
			return
		}
	}
}
