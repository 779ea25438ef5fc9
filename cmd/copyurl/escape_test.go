package main

import (
	"net/http"
	"strings"
	"testing"
	"unicode"

	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// S3 chooses its error codes, and a web page may have chosen the key.
func TestForeignTextIsEscaped(t *testing.T) {
	const hostile = "a\u009b2J\u202eb" // clears a screen, and turns text around
	refused := func(string, int, *http.Request) s3test.Fault { return s3test.Fault{Code: hostile, Status: 403} }
	for name, test := range map[string]struct {
		fault func(string, int, *http.Request) s3test.Fault
		key   string
	}{
		"error code": {refused, "key"},
		"key":        {nil, hostile},
	} {
		t.Run(name, func(t *testing.T) {
			newS3(t).Fault = test.fault
			var stdout, stderr strings.Builder
			url := serve(t, origintest.New([]byte("x"), `"v1"`))
			run(t.Context(), []string{url, target(test.key)}, &stdout, &stderr)
			printed := stdout.String() + stderr.String()
			if !strings.Contains(printed, `\u009b2J\u202e`) {
				t.Errorf("got %q, want the text, escaped, in it", printed)
			}
			if i := strings.IndexFunc(printed, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }); i >= 0 {
				t.Errorf("got %q, want no control character", printed)
			}
		})
	}
}
