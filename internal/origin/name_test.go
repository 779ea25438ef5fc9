package origin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// The names are those that Chromium 156 gives a download, except that a path is
// cut to its last segment, that bytes which aren't UTF-8 are read as Windows-1252,
// and that the continuations of RFC 2231 are read.
func TestDispositionName(t *testing.T) {
	for header, want := range map[string]string{
		"":                                      "",
		"attachment":                            "",
		"inline":                                "",
		`attachment; filename="r.csv"`:          "r.csv",
		`attachment; filename=r.csv`:            "r.csv",
		`ATTACHMENT; FILENAME="r.csv"`:          "r.csv",
		`inline; filename=r.csv`:                "r.csv",
		`form-data; name="f"; filename="r.csv"`: "r.csv",
		`attachment; filename="x"; filename*=UTF-8''%e2%82%ac.csv`: "€.csv",
		`attachment; filename*=UTF-8''%e2%82%ac.csv; filename="x"`: "€.csv",
		`attachment; filename="r\"s.csv"`:                          `r"s.csv`,
		`attachment; filename="a;b.csv"`:                           "a;b.csv",
		`attachment;filename="r.csv";`:                             "r.csv",
		`attachment; size=5; filename = "r.csv"`:                   "r.csv",

		// Without a type, unquoted, and with the rest of a sloppy server.
		`filename="Sintel.mp4"`:                        "Sintel.mp4",
		`filename=Sintel.mp4`:                          "Sintel.mp4",
		`; filename="Sintel.mp4"`:                      "Sintel.mp4",
		`filename*=UTF-8''Sintel.mp4`:                  "Sintel.mp4",
		`attachment; filename=myFile(1).jpg`:           "myFile(1).jpg",
		`attachment; filename=foo bar.txt`:             "foo bar.txt",
		`attachment; filename=me@home.txt`:             "me@home.txt",
		`attachment; filename=a,b[1]{2}.txt`:           "a,b[1]{2}.txt",
		`attachment; filename=a=b.txt`:                 "a=b.txt",
		`attachment; filename='r.csv'`:                 "'r.csv'",
		`attachment; filename=correct.jpg; size=12 kB`: "correct.jpg",
		`attachment; filename="a.txt"; foo`:            "a.txt",
		`attachment; filename="a.txt"; =b`:             "a.txt",
		`attachment; filename="a.txt"; filename="b"`:   "a.txt",
		`attachment; filename="a.txt`:                  "a.txt",
		`attachment; filename=`:                        "",
		`attachment; filename=""`:                      "",
		`attachment; filename`:                         "",
		`attachment; name="r.csv"`:                     "",
		`attachment; filenames="r.csv"`:                "",

		// Charsets.
		`attachment; filename="a%20b.txt"`:                             "a b.txt",
		`attachment; filename="100%.txt"`:                              "100%.txt",
		`attachment; filename="%e9.txt"`:                               "",
		"attachment; filename=\"é.txt\"":                               "é.txt",
		"attachment; filename=\"\xe9.txt\"":                            "é.txt",
		"attachment; filename=\"\x80.txt\"":                            "€.txt",
		"attachment; filename=\"\u0080%41.txt\"":                       "\u0080%41.txt",
		`attachment; filename*=UTF8''%C3%A9.txt`:                       "é.txt",
		`attachment; filename*=utf-8'en'%C3%A9.txt`:                    "é.txt",
		`attachment; filename*=ISO-8859-1''%E9.txt`:                    "é.txt",
		`attachment; filename*=Shift_JIS''%83e%83X%83g.txt`:            "テスト.txt",
		`attachment; filename="x.txt"; filename*=UTF-8''%E9.txt`:       "x.txt",
		`attachment; filename="x.txt"; filename*=klingon''a.txt`:       "x.txt",
		`attachment; filename="x.txt"; filename*=a.txt`:                "x.txt",
		`attachment; filename*="UTF-8''a.txt"`:                         "",
		`attachment; filename="=?UTF-8?B?4oKsLmNzdg==?="`:              "€.csv",
		`attachment; filename==?UTF-8?B?4oKsLmNzdg==?=`:                "€.csv",
		`attachment; filename="=?utf-8?q?=E2=82=AC_1.csv?="`:           "€ 1.csv",
		`attachment; filename="=?Shift_JIS?B?g2WDWINnLnR4dA==?="`:      "テスト.txt",
		`attachment; filename="=?EUC-KR?B?sKEudHh0?="`:                 "가.txt",
		`attachment; filename="=?GB2312?B?1tAudHh0?="`:                 "中.txt",
		`attachment; filename="=?iso-8859-1?Q?=E9.txt?="`:              "é.txt",
		`attachment; filename="=?UTF-8?B?4oKs?= =?UTF-8?B?LmNzdg==?="`: "€.csv",
		`attachment; filename="=?klingon?B?4oKsLmNzdg==?="`:            "",
		`attachment; filename="=?UTF-8?B?!!!?="`:                       "",
		`attachment; filename*0="long "; filename*1="name.txt"`:        "long name.txt",
		`attachment; filename*0*=UTF-8''%e2%82%ac; filename*1=".txt"`:  "€.txt",

		// A path is a hint.
		`attachment; filename="a/b\\c.csv"`:                   "c.csv",
		`attachment; filename="C:\dir\r.csv"`:                 "r.csv",
		`attachment; filename="../../passwd"`:                 "passwd",
		`attachment; filename="=?utf-8?B?Li4vLi4vZXRj?="`:     "etc",
		`attachment; filename*=UTF-8''..%2F..%2Fetc`:          "etc",
		`attachment; filename="/"`:                            "",
		`attachment; filename="x.txt"; filename*=UTF-8''a%2F`: "x.txt",
		`attachment; filename="a\\"`:                          "",
		`attachment; filename="a.txt\`:                        "",

		// What is no name.
		`attachment; filename="..."`:                                "",
		`attachment; filename=" . "`:                                "",
		`attachment; filename="%0d%0a"`:                             "",
		`attachment; filename="x.txt"; filename*=UTF-8''%E2%80%8B.`: "x.txt",
		`attachment; filename=".a"`:                                 ".a",
	} {
		if got := dispositionName(header); got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}

func FuzzDispositionName(f *testing.F) {
	for _, seed := range []string{`attachment; filename="a;b\"c`, `filename*=UTF-8''%C3%A9`, `inline; filename="=?big5?q?=A4?="`, "filename=\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if name := dispositionName(header); !utf8.ValidString(name) {
			t.Errorf("%q: got %q, want UTF-8", header, name)
		}
	})
}

func TestFileName(t *testing.T) {
	for _, tt := range []struct{ disposition, first, last, want string }{
		{`filename="r.csv"`, "https://o.example/a.bin", "https://cdn.example/b.bin", "r.csv"},
		{`attachment; filename="/"`, "https://o.example/a/b%20c.bin?x=secret.txt", "", "b c.bin"},
		{"", "https://o.example/a.bin", "https://cdn.example/b.bin", "a.bin"},
		{"", "https://o.example/files/4711", "https://cdn.example/b.bin?sig=1", "b.bin"},
		{"", "https://o.example/v1.2", "https://cdn.example/b.7z", "b.7z"},
		{"", "https://o.example/a.a", "https://cdn.example/b.bin", "a.a"},
		{"", "https://o.example/a.Z", "https://cdn.example/b.bin", "a.Z"},
		{"", "https://o.example/download.php", "https://cdn.example/b.bin", "b.bin"},
		{"", "https://o.example/.hidden", "https://cdn.example/b.bin", "b.bin"},
		{"", "https://o.example/", "https://cdn.example/4711", "4711"},
		{"", "https://o.example/a", "https://cdn.example/4711", "a"},
		{"", "https://o.example/%E9.txt", "", "é.txt"},
		{"", "https://o.example/a/", "", "a"},
		{"", "https://o.example/a.pdf;jsessionid=planted", "", "a.pdf"},
		{"", "https://o.example/a;v=1/b%3Bc.pdf", "", "b;c.pdf"},
		{"", "https://o.example/folder%2Fa.pdf", "", "a.pdf"},
		{"", "https://o.example/...", "https://cdn.example/4711", "4711"},
		{"attachment\nattachment; filename=r.csv", "https://o.example/a.bin", "", "r.csv"},
		{"attachment; filename=r.csv\nattachment; filename=s.csv", "https://o.example/a.bin", "", "r.csv"},
		{"", "https://o.example/", "", ""},
		{"", "https://o.example", "", ""},
	} {
		h := http.Header{}
		if tt.disposition != "" {
			h["Content-Disposition"] = strings.Split(tt.disposition, "\n")
		}
		var urls []*url.URL
		for _, raw := range []string{tt.first, tt.last} {
			if u, err := url.Parse(raw); err == nil && raw != "" {
				urls = append(urls, u)
			}
		}
		if got := fileName(h, urls...); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}
