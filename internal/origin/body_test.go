package origin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"async-download/internal/origin/origintest"
)

// Chunks of HTTP/1.0 are no bytes of the file, and what only looks like one is.
func TestUnchunked(t *testing.T) {
	long := strings.Repeat("x", maxChunk)
	for _, tt := range []struct{ name, body, want string }{
		{"chunks", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde"},
		{"extended chunks", "3 \r\nabc\r\n0\r\nA: b\r\n\r\n", "abc"},
		{"the longest head", "3" + strings.Repeat(" ", 13) + "\r\nabc\r\n0\r\n\r\n", "abc"},
		{"a longer head", "3" + strings.Repeat(" ", 14) + "\r\nabc\r\n0\r\n\r\n", "3" + strings.Repeat(" ", 14) + "\r\nabc\r\n0\r\n\r\n"},
		{"no bytes in chunks", "0\r\n\r\n", ""},
		{"the largest chunk", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", maxChunk, long), long},
		{"no chunks", "abc", "abc"},
		{"nothing", "", ""},
		{"a number", "3", "3"},
		{"a line with a number", "3\r\n", "3\r\n"},
		{"a number before other lines", "3\r\nabcdef\r\n", "3\r\nabcdef\r\n"},
		{"a date before other lines", "20261128\r\na\r\n", "20261128\r\na\r\n"},
		{"more than the file has", "fffff\r\nabc\r\n", "fffff\r\nabc\r\n"},
		{"lines without CR", "3\nabc\n", "3\nabc\n"},
		{"an empty line", "\r\nabc\r\n", "\r\nabc\r\n"},
	} {
		host := origintest.Raw(t, func(string) string { return "HTTP/1.0 200 OK\r\nA: b\r\n\r\n" + tt.body })
		c, base := clientOf(t, "http://"+host+"/")
		if _, got, err := read(t, c, base); got != tt.want || err != nil {
			t.Errorf("%s: got %.40q, %v, want %.40q", tt.name, got, err, tt.want)
		}
	}
}

// A reply without a length may have a range only if it isn't encoded.
func TestHasLength(t *testing.T) {
	for _, tt := range []struct {
		length   int64
		encoding []string
		want     bool
	}{
		{10, nil, true},
		{10, []string{"gzip"}, true},
		{9, nil, false},
		{0, nil, false},
		{-1, nil, true},
		{-1, []string{"Identity"}, true},
		{-1, []string{"gzip"}, false},
		{-1, []string{"identity", "gzip"}, false},
	} {
		resp := &http.Response{ContentLength: tt.length, Header: http.Header{"Content-Encoding": tt.encoding}}
		if got := hasLength(resp, 10); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}
