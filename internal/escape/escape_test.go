package escape

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	tests := map[string]string{
		"":                            "",
		"the origin answered 404":     "the origin answered 404",
		"Übersicht 報告　(1) \U0001f4c4": "Übersicht 報告　(1) \U0001f4c4",
		`C:\x1b`:                      `C:\x1b`, // escaped text stays as it is
		"a\x1b[2Jb":                   `a\x1b[2Jb`,
		"a\r\nb\tc\x00\x7f":           `a\r\nb\tc\x00\x7f`,
		"a\u009b2Jb\u0085":            `a\u009b2Jb\u0085`, // C1
		"a\x9bb\xff\xe2\x82":          `a\x9bb\xff\xe2\x82`,
		"gpj.\u202eexe\u2066\u200f":   `gpj.\u202eexe\u2066\u200f`,
		"\ufeffa\u00ad\u200bb\u2028":  `\ufeffa\u00ad\u200bb\u2028`,
		"a\u3164\ufe0f\u034fb":        `a\u3164\ufe0f\u034fb`,
		"\U000e0041":                  `\U000e0041`,
	}
	for text, want := range tests {
		got := Text(text)
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if twice := Text(got); twice != got {
			t.Errorf("%q: got %q the second time, want %q", text, twice, got)
		}
	}
}

func TestCut(t *testing.T) {
	tests := []struct {
		text  string
		limit int
		want  string
	}{
		{"abcdef", 6, "abcdef"},
		{"abcdefg", 6, "abc…"},
		{"ab\x1bdef", 6, "ab…"}, // an escape is kept whole or not at all
		{"ääää", 8, "ääää"},
		{"äääää", 8, "ää…"},
		{strings.Repeat("x", 10), 3, "…"},
	}
	for _, test := range tests {
		if got := Cut(test.text, test.limit); got != test.want {
			t.Errorf("%q to %d: got %q, want %q", test.text, test.limit, got, test.want)
		}
	}
	if got := Text(strings.Repeat("\x1b", 1<<20)); len(got) > MaxText {
		t.Errorf("got %d bytes, want at most %d", len(got), MaxText)
	}
}

func TestJSON(t *testing.T) {
	for _, text := range []string{"plain", "a\x1b[2J\u009b\u202e\x7f\u2028", "\U000e0041 \U0001f4c4 報告"} {
		encoded, err := json.Marshal(map[string]string{"message": text})
		if err != nil {
			t.Fatal(err)
		}
		got := JSON(append(encoded, '\n'))
		var back map[string]string
		if err := json.Unmarshal(got, &back); err != nil || back["message"] != text {
			t.Errorf("%q: got %s, which decodes to %q (%v)", text, got, back["message"], err)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(string(got), "\n"), func(r rune) bool { return !visible(r) }); i >= 0 {
			t.Errorf("%q: got %q, which isn't all visible", text, got)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b[2J\u202e\xff", 10)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = max(3, min(limit, 1000))
		got := Cut(text, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) || strings.ContainsFunc(got, func(r rune) bool { return unicode.Is(unicode.Cf, r) }) {
			t.Errorf("%q to %d: got %q", text, limit, got)
		}
		if twice := Cut(got, limit); twice != got {
			t.Errorf("%q to %d: got %q, then %q", text, limit, got, twice)
		}
	})
}
