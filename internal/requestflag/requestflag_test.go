package requestflag

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"async-download/internal/rest"
)

// parse returns the request of a command line whose stdin has a text.
func parse(t *testing.T, stdin string, args ...string) (Request, error) {
	t.Helper()
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	flags := Define(set, "for a test", strings.NewReader(stdin))
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags.Request()
}

func fileWith(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "@" + path
}

func TestRequest(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	large := strings.Repeat("x", MaxBody)
	for _, test := range []struct {
		args []string
		want Request // without a method: an error
	}{
		{nil, Request{Method: "GET"}},
		{[]string{"-X", "POST"}, Request{Method: "POST"}},
		{[]string{"-X", "GET"}, Request{Method: "GET"}},
		{[]string{"-d", "a=b"}, Request{Method: "POST", Body: []byte("a=b"), ContentType: form}},
		{[]string{"-d", ""}, Request{Method: "POST", ContentType: form}},
		{[]string{"-d", fileWith(t, "from a file\n")}, Request{Method: "POST", Body: []byte("from a file\n"), ContentType: form}},
		{[]string{"-d", "@-"}, Request{Method: "POST", Body: []byte("from stdin"), ContentType: form}},
		{[]string{"-d", fileWith(t, large)}, Request{Method: "POST", Body: []byte(large), ContentType: form}},
		{[]string{"-d", "{}", "-H", "content-type: text/x"}, Request{Method: "POST", Body: []byte("{}"), ContentType: "text/x"}},
		{[]string{"-X", "POST", "-H", "Content-Type: text/x"}, Request{Method: "POST", ContentType: "text/x"}},
		{args: []string{"-X", "GET", "-d", "x"}},
		{args: []string{"-X", "PUT"}},
		{args: []string{"-X", "post"}},
		{args: []string{"-d", large + "x"}},
		{args: []string{"-d", fileWith(t, large+"x")}},
		{args: []string{"-d", "@/no/such/file"}},
	} {
		got, err := parse(t, "from stdin", test.args...)
		if (err == nil) != (test.want.Method != "") {
			t.Errorf("%.40q: got %v, want the method %q", test.args, err, test.want.Method)
			continue
		}
		if err == nil && (got.Method != test.want.Method || string(got.Body) != string(test.want.Body) || got.ContentType != test.want.ContentType || len(got.Header) > 0) {
			t.Errorf("%.40q: got %.200v, want %.200v", test.args, got, test.want)
		}
	}
	if MaxBody != rest.MaxBody {
		t.Errorf("got a limit of %d, the API's is %d", MaxBody, rest.MaxBody)
	}
}

func TestHeaders(t *testing.T) {
	for _, test := range []struct{ text, want string }{ // "": an error
		{"A:b:c ", "map[A:[b:c]]"},
		{" x-key : v", "map[X-Key:[v]]"},
		{fileWith(t, "A: b\r\n\n a: c"), "map[A:[b c]]"},
		{"@-", "map[From:[stdin]]"},
		{"Content-Type: text/x", "map[Content-Type:[text/x]]"}, // of a GET
		{"secret", ""},
		{"bad name: secret", ""},
		{": secret", ""},
		{"a: secret\r\nc: d", ""},
		{"a: secret\x00", ""},
		{"", ""},
		{fileWith(t, "A: b\nsecret"), ""},
		{"@/no/such/file", ""},
	} {
		r, err := parse(t, "From: stdin\n", "-H", test.text)
		if got := fmt.Sprint(r.Header); (err == nil) != (test.want != "") || err == nil && got != test.want {
			t.Errorf("%q: got %s, %v, want %s", test.text, got, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, which has the value", test.text, err)
		}
	}
	if r, err := parse(t, "", "-H", "A: b", "-H", "a: c"); err != nil || fmt.Sprint(r.Header) != "map[A:[b c]]" {
		t.Errorf("-H twice: got %v, %v", r.Header, err)
	}
}

func TestParse(t *testing.T) {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	number := set.Int("n", 0, "")
	got, err := Parse(set, []string{"a", "-n", "1", "b", "-n=2"})
	if err != nil || !slices.Equal(got, []string{"a", "b"}) || *number != 2 {
		t.Errorf("got %q, %v, -n %d, want a, b and 2", got, err, *number)
	}
	if _, err := Parse(set, []string{"a", "-x"}); err == nil {
		t.Error("an unknown flag behind an argument is accepted")
	}
}
