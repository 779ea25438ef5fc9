package origin

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"async-download/internal/failure"
)

func TestJoin(t *testing.T) {
	for _, tt := range []struct {
		name, base, path, query, want string
	}{
		{"base alone", "https://o.example/api/report.csv", "", "", "https://o.example/api/report.csv"},
		{"base without a path", "https://o.example", "", "", "https://o.example"},
		{"base query kept", "https://o.example/a?k=1", "", "", "https://o.example/a?k=1"},
		{"query added to base query", "https://o.example/a?k=1", "b", "x=2&x=3", "https://o.example/a/b?k=1&x=2&x=3"},
		{"query on base alone", "https://o.example/a", "", "x=2", "https://o.example/a?x=2"},
		{"under a path", "https://o.example/a/", "b/c.bin", "", "https://o.example/a/b/c.bin"},
		{"under a path without slash", "https://o.example/a", "b/c.bin", "", "https://o.example/a/b/c.bin"},
		{"under no path", "http://o.example:8080", "b", "", "http://o.example:8080/b"},
		{"trailing slash kept", "https://o.example/a", "b/", "", "https://o.example/a/b/"},
		{"encoding kept byte for byte", "https://o.example/a", "%c3%a9%20%2B+%7e~%5B[x]%25", "", "https://o.example/a/%c3%a9%20%2B+%7e~%5B[x]%25"},
		{"encoding of the base kept", "https://o.example/a%2Fb", "c", "", "https://o.example/a%2Fb/c"},
		{"plain bytes encoded", "https://o.example", "é \"x\"", "", "https://o.example/%C3%A9%20%22x%22"},
		{"colon in a name", "https://o.example", "urn:isbn:1/12:30", "", "https://o.example/urn:isbn:1/12:30"},
		{"dots in names", "https://o.example", "..a/b../...", "", "https://o.example/..a/b../..."},
		{"at sign", "https://o.example", "@evil.example", "", "https://o.example/@evil.example"},
		{"query with a path in it", "https://o.example", "a", "next=%2F%2Fevil%0a&b=../..", "https://o.example/a?next=%2F%2Fevil%0a&b=../.."},
		{"percent signs in names", "https://o.example", "100%25/50%25%20off%25zz", "", "https://o.example/100%25/50%25%20off%25zz"},
		{"the longest path", "https://o.example", strings.Repeat("a", MaxPath), "", "https://o.example/" + strings.Repeat("a", MaxPath)},
		{"the longest query", "https://o.example/", "", strings.Repeat("a", MaxQuery), "https://o.example/?" + strings.Repeat("a", MaxQuery)},
		{"percent-encoded seven times", "https://o.example", "%25252525252541", "", "https://o.example/%25252525252541"},
		{"no escape in a name", "https://o.example", "menu2026", "", "https://o.example/menu2026"},
		{"question mark in a name", "https://o.example", "what%3F.txt", "", "https://o.example/what%3F.txt"},
		{"yen sign in a name", "https://o.example", "¥100.pdf", "", "https://o.example/%C2%A5100.pdf"},
		{"fullwidth letters in a name", "https://o.example", "ＡＢＣ．ｔｘｔ", "", "https://o.example/%EF%BC%A1%EF%BC%A2%EF%BC%A3%EF%BC%8E%EF%BD%94%EF%BD%98%EF%BD%94"},
		{"emoji with a joiner", "https://o.example", "👩‍💻.txt", "", "https://o.example/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB.txt"},
		{"parameter of a name", "https://o.example", "a;v=1/b", "", "https://o.example/a;v=1/b"},
		{"another name than the base query's", "https://o.example/a?tenant=acme", "b", "tenants=1&my-tenant=2&x=tenant", "https://o.example/a/b?tenant=acme&tenants=1&my-tenant=2&x=tenant"},
		{"query with a question mark", "https://o.example", "a", "b=?c", "https://o.example/a?b=?c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, err := ParseBase(tt.base)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Join(base, nil, tt.path, tt.query)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			// What is sent is the request URI, not String.
			if !strings.HasSuffix(tt.want, got.RequestURI()) && got.RequestURI() != "/" {
				t.Errorf("got request URI %s, want the end of %s", got.RequestURI(), tt.want)
			}
		})
	}
}

func TestJoinRefuses(t *testing.T) {
	base, _ := url.Parse("https://o.example/base/dir")
	for name, in := range map[string][2]string{
		"dot dot":                      {"..", ""},
		"dot dot inside":               {"a/../b", ""},
		"dot":                          {"a/./b", ""},
		"dot at the end":               {"a/.", ""},
		"encoded dots":                 {"%2e%2E/a", ""},
		"half encoded dots":            {".%2e/a", ""},
		"double-encoded dots":          {"%252e%252e/a", ""},
		"triple-encoded dots":          {"%25252e./a", ""},
		"percent signs for ever":       {"%2525252525252541", ""},
		"dots with a parameter":        {"..;x=1/a", ""},
		"encoded slash":                {"a%2fb", ""},
		"encoded dots and slash":       {"..%2f..%2fetc", ""},
		"double-encoded slash":         {"a%252Fb", ""},
		"backslash":                    {`a\b`, ""},
		"encoded backslash":            {"a%5cb", ""},
		"double-encoded backslash":     {"a%255Cb", ""},
		"line feed":                    {"a\nb", ""},
		"encoded CR LF":                {"a%0d%0aHost:x", ""},
		"double-encoded LF":            {"a%250ab", ""},
		"NUL":                          {"a%00.txt", ""},
		"plain NUL":                    {"a\x00", ""},
		"DEL":                          {"a%7f", ""},
		"C1 control":                   {"a%c2%85", ""},
		"bad percent-encoding":         {"a%zz", ""},
		"cut percent-encoding":         {"a%2", ""},
		"lone percent sign":            {"100%", ""},
		"empty segment":                {"a//b", ""},
		"leading slash":                {"/a", ""},
		"a slash alone":                {"/", ""},
		"two trailing slashes":         {"a//", ""},
		"host":                         {"//evil.example/x", ""},
		"scheme and host":              {"http://evil.example/x", ""},
		"scheme, slashes merged":       {"http:/evil.example/x", ""},
		"scheme without slashes":       {"HTTPS:evil.example", ""},
		"scheme alone":                 {"ftp:", ""},
		"scheme deeper":                {"a/gopher:/evil.example", ""},
		"encoded scheme":               {"http%3a/evil.example", ""},
		"not UTF-8":                    {"a%ff", ""},
		"overlong dot":                 {"%c0%ae%c0%ae/a", ""},
		"plain not UTF-8":              {"a\xff", ""},
		"query in the path":            {"a?b=1", ""},
		"fragment in the path":         {"a#b", ""},
		"long path":                    {strings.Repeat("a", MaxPath+1), ""},
		"long query":                   {"a", strings.Repeat("q", MaxQuery+1)},
		"fragment in the query":        {"a", "b=1#c"},
		"line feed in the query":       {"a", "b=1\r\nX-Header: 1"},
		"DEL in the query":             {"a", "b=\x7f"},
		"space in the query":           {"a", "b=1 HTTP/1.1"},
		"bad percent-encoded query":    {"a", "b=%"},
		"query with bytes over ASCII":  {"a", "b=é"},
		"percent-encoding cut at path": {"a/%", ""},

		// A stray percent sign hides nothing.
		"dots behind a stray percent sign":          {"x%25%252f..%252f..%252fprivate/key", ""},
		"backslash behind a stray percent sign":     {"x%25%255c", ""},
		"NUL behind a stray percent sign":           {"x%25%2500", ""},
		"CR LF behind a stray percent sign":         {"x%25%250d%250aA:b", ""},
		"not UTF-8 at the second level":             {"x%25%25ff", ""},
		"%u escape":                                 {"%25u0041", ""},
		"dots before an encoded question mark":      {"..%3f/", ""},
		"dots before an encoded number sign":        {"..%23/", ""},
		"dots before a twice encoded semicolon":     {"..%253b/", ""},
		"dots before a Windows stream":              {"..::$INDEX_ALLOCATION/", ""},
		"dots and a space":                          {"..%20/a", ""},
		"dots and a plus sign":                      {"..+/a", ""},
		"dot and a no-break space":                  {".%C2%A0/a", ""},
		"two dots, a soft hyphen, a dot":            {"..%C2%AD./a", ""},
		"ellipsis and a space":                      {"…%20/a", ""},
		"dot, space, dot":                           {".%20./a", ""},
		"fullwidth dots":                            {"%EF%BC%8E%EF%BC%8E/a", ""},
		"fullwidth dots, plain":                     {"．．/a", ""},
		"two dot leader":                            {"%E2%80%A5/a", ""},
		"one dot leaders":                           {"․․/a", ""},
		"small full stops":                          {"﹒﹒/a", ""},
		"dots with a soft hyphen":                   {".%C2%AD./a", ""},
		"dots with a zero width space":              {".\u200b.\u200b/a", ""},
		"dots with a Hangul filler":                 {".\u3164./a", ""},
		"dots with a variation selector":            {"..\ufe0f/a", ""},
		"fullwidth slash":                           {"a／b", ""},
		"fullwidth backslash":                       {"a＼b", ""},
		"account of":                                {"a℀b", ""},
		"fullwidth percent signs":                   {"％2e％2e/a", ""},
		"fullwidth percent signs, encoded":          {"%EF%BC%852e%EF%BC%852e/a", ""},
		"soft hyphen within an encoding":            {"%25%C2%AD2e%25%C2%AD2e/a", ""},
		"dots and yen signs (Windows, Japanese)":    {"..¥..¥a", ""},
		"dots and won signs (Windows, Korean)":      {"..₩a", ""},
		"dots and division slashes (Windows)":       {"..∕a", ""},
		"combining dot that hides an encoded slash": {"a%252f%CC%87..", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Join(base, nil, in[0], in[1])
			if code := failure.CodeOf(err); code != failure.InvalidPath {
				t.Errorf("Join(%q, %q): got %v, code %q, want code %q", in[0], in[1], got, code, failure.InvalidPath)
			}
			if err != nil && len(in[0]) > 8 && strings.Contains(err.Error(), in[0]) {
				t.Errorf("the message repeats the path: %v", err)
			}
		})
	}
}

func TestParseBaseRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "o.example/a", "//o.example", "ftp://o.example", "file:///etc/passwd", "javascript:alert(1)", "data:,x",
		"http://", "http:o.example", "http:///a", "http://:80/", "http://o.example:/", "https://o.example:99999999999x/",
		"https://user@o.example", "https://user:pw@o.example", "https://o.example/#a", "https://o.example/#",
		"https://o.example/a/../b", "https://o.example/%2e%2e/b", "https://o.example/a?b=é", "https://o.example/%zz",
		"https://o.example/\n", "https://[::1", "gopher://o.example",
	} {
		if got, err := ParseBase(raw); err == nil {
			t.Errorf("ParseBase(%q): got %v, want an error", raw, got)
		} else if strings.Contains(err.Error(), "user:pw") {
			t.Errorf("the error has the password in it: %v", err)
		}
	}
}

// FuzzJoin checks that all results have the base's scheme and host, a path under the
// base's, and a request line that reads back the same.
func FuzzJoin(f *testing.F) {
	for _, seed := range []string{"", "a/b", "..", "%2e%2e/x", "a%2fb", `\\evil`, "//evil", "http:/x", "é", "%00", "a;b", "%25", "a?b", "a#b", "@x", ":80"} {
		f.Add("https://o.example/base/dir?k=1", seed, "q=1")
	}
	f.Add("http://o.example", "a", "a=%0a&b#")
	f.Fuzz(func(t *testing.T, rawBase, path, query string) {
		base, err := ParseBase(rawBase)
		if err != nil {
			return
		}
		got, err := Join(base, nil, path, query)
		if err != nil {
			if failure.CodeOf(err) != failure.InvalidPath {
				t.Fatalf("got code %q, want %q", failure.CodeOf(err), failure.InvalidPath)
			}
			return
		}
		if got.Scheme != base.Scheme || got.Host != base.Host || got.User != nil || got.Fragment != "" || got.Opaque != "" {
			t.Fatalf("got %v, want the scheme and host of %v", got, base)
		}
		if !utf8.ValidString(path) || strings.ContainsAny(path, "\\\x00\r\n?#") {
			t.Fatalf("path %q got through", path)
		}
		uri := got.RequestURI()
		if strings.ContainsAny(uri, "\r\n \x00#") {
			t.Fatalf("got request URI %q", uri)
		}
		if path != "" && !strings.HasPrefix(got.EscapedPath(), strings.TrimSuffix(base.EscapedPath(), "/")+"/") {
			t.Fatalf("got path %q, want it under %q", got.EscapedPath(), base.EscapedPath())
		}
		parsed, err := url.Parse(got.String())
		if err != nil || parsed.Host != base.Host || parsed.Scheme != base.Scheme || parsed.RequestURI() != uri {
			t.Fatalf("%q reads back as %v (%v)", got, parsed, err)
		}
		for _, segment := range strings.Split(strings.TrimPrefix(parsed.Path, base.Path), "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("got path %q with a dot segment", parsed.Path)
			}
		}
	})
}

// A client can't set what the origin's own URL sets, however a server reads names.
func TestJoinKeepsTheBaseQuery(t *testing.T) {
	for _, tt := range []struct{ own, query string }{
		{"tenant=acme", "tenant=other"},
		{"tenant=acme", "tenant"},
		{"tenant=acme", "a=b&tenant=other"},
		{"tenant", "tenant=other"},
		{"a=1&tenant=acme", "tenant=acme"},
		{"t%65nant=acme", "tenant=other"},
		{"tenant=acme", "%74enant=other"},
		{"tenant=acme", "%2574enant=other"},
		{"tenant=acme", "Tenant=other"},
		{"tenant=acme", "TENANT%3dother"},
		{"tenant=acme", "a=b;tenant=other"},
		{"tenant=acme", "a=b%26tenant=other"},
		{"tenant=acme", "a=b%253Btenant=other"},
		{"tenant=acme", "?tenant=other"},
		{"tenant=acme", "tenant[]=other"},
		{"tenant=acme", "tenant%5B%5D=other"},
		{"tenant=acme", "tenant[x]=other"},
		{"tenant=acme", "tenant[0][x]=other"},
		{"tenant=acme", "[tenant]=other"},
		{"tenant=acme", "tenant.x=other"},
		{"tenant[]=acme", "tenant=other"},
		{"filter[tenant]=acme", "filter[tenant]=other"},
		{"my_tenant=acme", "my.tenant=other"},
		{"my_tenant=acme", "my+tenant=other"},
		{"my_tenant=acme", "my%20tenant[a]=other"},
		{"my_tenant=acme", "my[tenant=other"},
		{"my.tenant=acme", "my.tenant=other"},
		{"my+tenant=acme", "my%20tenant=other"},
		{"tenant=acme", "+tenant=other"},
		{"tenant=acme", "tenant+=other"},
		{"tenant=acme", "tenant%00x=other"},
		{"tenant=acme", "%EF%BD%94enant=other"},
		{"tenant=acme", "ten%C2%ADant=other"},
		{"kind=a", "%E2%84%AAind=b"},
		{"tenant=acme", "%25252525252525254eenant=other"},
		{"tenant=acme", "%25u0074enant=other"},
		{"tenant=acme", "a=b%25u0026tenant=other"},
		{"tenant_id=acme", "tenant_%C4%B1d=other"},
		{"tenant_id=acme", "TENANT_%C4%B0D=other"},
	} {
		base, err := ParseBase("https://o.example/files?" + tt.own)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Join(base, nil, "a", tt.query); failure.CodeOf(err) != failure.InvalidPath {
			t.Errorf("%s with %s: got %v, %v, want code %s", tt.own, tt.query, got, err, failure.InvalidPath)
		}
	}
	// A proxy that decodes before it forwards would put the client's query first.
	base, _ := ParseBase("https://o.example/files?tenant=acme")
	for _, path := range []string{"a%3Ftenant=other", "a%253Fb=1", "a%23", "a%EF%BC%9Fb"} {
		if got, err := Join(base, nil, path, ""); failure.CodeOf(err) != failure.InvalidPath {
			t.Errorf("%s: got %v, %v, want code %s", path, got, err, failure.InvalidPath)
		}
	}
}

func TestJoinKeepsToAllowedPaths(t *testing.T) {
	base, _ := ParseBase("https://o.example/files")
	for _, tt := range []struct {
		allowed, path string
		want          bool
	}{
		{"", "", true},
		{"", "anything/at/all", true},
		{"reports", "reports", true},
		{"reports", "reports/", true},
		{"reports", "reports/a/b", true},
		{"reports/", "reports/a", true},
		{"reports,media/2026", "media/2026/a", true},
		{"reports", "%72eports/a", true},
		{"März", "M%C3%A4rz/a", true},
		{"März", "März/a", true},
		{"reports", "", false},
		{"reports", "report", false},
		{"reports", "reports2", false},
		{"reports", "reports.old/a", false},
		{"reports", "Reports/a", false},
		{"reports", "private/reports", false},
		{"media/2026", "media", false},
		{"media/2026", "media/2025/a", false},
		{"reports", "reports%20/a", false},
		{"reports", "reports;x/a", false},
		{"reports", "reports%3Fx/a", false},
		{"reports", "re%2570orts/a", false},
		{"reports", "reports/..%3f/private", false},
		{"reports", "reports/x%25%252f..%252f..%252fprivate/key.txt", false},
		{"reports", "reports/%E2%80%A5/private", false},
	} {
		var allowed []string
		if tt.allowed != "" {
			allowed = strings.Split(tt.allowed, ",")
		}
		if got, err := Join(base, allowed, tt.path, ""); (err == nil) != tt.want || err != nil && failure.CodeOf(err) != failure.InvalidPath {
			t.Errorf("%q with AllowedPaths %q: got %v, %v, want allowed %v", tt.path, tt.allowed, got, err, tt.want)
		}
	}
}

func TestEncodeQuery(t *testing.T) {
	for _, tt := range []struct {
		values url.Values
		want   string
		ok     bool
	}{
		{nil, "", true},
		{url.Values{"b": {"2"}, "a": {"z", "y"}}, "a=z&a=y&b=2", true},
		{url.Values{"a b": {"c d"}, "e+f": {"g+h"}}, "a%20b=c%20d&e%2Bf=g%2Bh", true},
		{url.Values{"é": {"%"}, "x": {""}}, "x=&%C3%A9=%25", true},
		{url.Values{"a": {"caf\ufffd"}}, "", false},
		{url.Values{"\ufffd": {"a"}}, "", false},
		{url.Values{"a": {"b", "\xe9"}}, "", false},
	} {
		got, err := EncodeQuery(tt.values)
		if got != tt.want || (err == nil) != tt.ok || err != nil && failure.CodeOf(err) != failure.InvalidPath {
			t.Errorf("%v: got %q, %v, want %q", tt.values, got, err, tt.want)
		}
	}
}
