package bodyflag

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"async-download/internal/rest"
)

func TestMethod(t *testing.T) {
	for _, tt := range []struct {
		text    string
		hasBody bool
		want    string // "" is an error
	}{{"", false, "GET"}, {"", true, "POST"}, {"POST", false, "POST"}, {"GET", false, "GET"}, {"GET", true, ""}, {"PUT", false, ""}, {"post", false, ""}} {
		if got, err := Method(tt.text, tt.hasBody); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q, %v: got %q, %v, want %q", tt.text, tt.hasBody, got, err, tt.want)
		}
	}
}

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"a=b": "a=b", "": "", "@" + file: "from a file\n", "@-": "from stdin"} {
		if got, err := Read(text, strings.NewReader("from stdin")); string(got) != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	large := strings.Repeat("x", MaxBytes)
	if got, err := Read("@-", strings.NewReader(large)); len(got) != MaxBytes || err != nil {
		t.Errorf("got %d bytes, %v, want the largest body", len(got), err)
	}
	for _, text := range []string{large + "x", "@-", "@" + file + ".none"} {
		if got, err := Read(text, strings.NewReader(large+"x")); err == nil {
			t.Errorf("%.20q: got %d bytes, want an error", text, len(got))
		}
	}
	if MaxBytes != rest.MaxBody {
		t.Errorf("got a limit of %d, the API's is %d", MaxBytes, rest.MaxBody)
	}
}
