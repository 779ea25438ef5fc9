package headerflag

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdd(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "headers")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	tests := []struct{ text, want string }{
		{"A:b:c ", "map[A:[b:c]]"},
		{" x-key : v", "map[X-Key:[v]]"},
		{file("A: b\r\n\n a: c"), "map[A:[b c]]"},
		{"@-", "map[From:[stdin]]"},
		{"secret", ""}, {"bad name: secret", ""}, {": secret", ""}, {"a: secret\r\nc: d", ""}, {"a: secret\x00", ""}, {"", ""},
		{file("A: b\nsecret"), ""}, {"@/no/such/file", ""},
	}
	for _, test := range tests {
		headers := make(http.Header)
		err := Add(headers, test.text, strings.NewReader("From: stdin\n"))
		if got := fmt.Sprint(headers); (err == nil) != (test.want != "") || err == nil && got != test.want {
			t.Errorf("%q: got %s, %v, want %s", test.text, got, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, which has the value", test.text, err)
		}
	}
}
