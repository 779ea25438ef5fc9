package origin

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"

	"async-download/internal/failure"
)

func TestContentRange(t *testing.T) {
	for s, want := range map[string][3]int64{
		"bytes 0-0/1":        {0, 0, 1},
		"bytes 0-99/1000":    {0, 99, 1000},
		"bytes 900-999/1000": {900, 999, 1000},
		"Bytes 0-99/1000":    {0, 99, 1000},
		"BYTES 0-99/1000":    {0, 99, 1000},
		"bytes 0-9223372036854775806/9223372036854775807": {0, 1<<63 - 2, 1<<63 - 1},
	} {
		start, end, total, ok := contentRange(s)
		if got := [3]int64{start, end, total}; !ok || got != want {
			t.Errorf("%q: got %v, %v, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{
		"", "bytes", "bytes ", "bytes */1000", "bytes 0-99/*", "bytes 0-99", "bytes 0-/1000", "bytes -99/1000", "bytes 99-0/1000",
		"bytes 0-1000/1000", "bytes 0-99/99", "items 0-99/1000", "bytes=0-99/1000", "bytes 0-99/1000 ", " bytes 0-99/1000",
		"bytes  0-99/1000", "bytes +0-99/1000", "bytes 0--99/1000", "bytes 0x0-99/1000", "bytes 0-99/1000, bytes 200-299/1000",
		"bytes 0-9223372036854775807/9223372036854775808", "bytes 18446744073709551616-18446744073709551617/18446744073709551618",
	} {
		if start, end, total, ok := contentRange(s); ok {
			t.Errorf("%q: got %d-%d/%d, want it refused", s, start, end, total)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-99/1000", "bytes */5", "bytes 0-0/1", "bytes 5-4/9", "bytes 0-9/*", "multipart/byteranges"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, end, total, ok := contentRange(s)
		if !ok {
			return
		}
		if start < 0 || end < start || total <= end {
			t.Fatalf("%q: got %d-%d/%d", s, start, end, total)
		}
		// Nothing but leading zeros may be read into it.
		printed := fmt.Sprintf("bytes %d-%d/%d", start, end, total)
		if a, b, c, ok := contentRange(printed); !ok || a != start || b != end || c != total {
			t.Fatalf("%q reads back as %d-%d/%d", printed, a, b, c)
		}
	})
}

// A reply is believed if it describes bytes that begin where they should and are
// as many as it has, and never else.
func TestOnlyTheRightRangeIsBelieved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1<<50).Draw(t, "size")
		start := rapid.Int64Range(0, size-1).Draw(t, "start")
		end := rapid.Int64Range(start+1, size).Draw(t, "end") // exclusive
		// At most one thing about the reply is wrong.
		wrong := rapid.SampledFrom([]string{"", "start", "end", "total", "length", "status", "etag", "shorter", "longer"}).Draw(t, "wrong")
		by := func(name string) int64 {
			if name != wrong {
				return 0
			}
			return rapid.SampledFrom([]int64{1, -1, 4096}).Draw(t, "by")
		}
		a, b, total, length := start+by("start"), end-1+by("end"), size+by("total"), end-start+by("length")
		most := end // of the bytes that are used
		switch wrong {
		case "shorter":
			b = rapid.Int64Range(start, end-1).Draw(t, "last")
			length, most = b-a+1, b+1
		case "longer":
			b = rapid.Int64Range(end-1, size-1).Draw(t, "last")
			length = b - a + 1
		}
		status, tag := 206, `"v"`
		if wrong == "status" {
			status = rapid.SampledFrom([]int{200, 204, 416, 412, 500, 302}).Draw(t, "status")
		}
		if wrong == "etag" {
			tag = rapid.SampledFrom([]string{`"w"`, `W/"v"`, ""}).Draw(t, "etag")
		}
		chunked := rapid.Bool().Draw(t, "chunked")
		resp := &http.Response{StatusCode: status, ContentLength: length, Header: http.Header{
			"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", a, b, total)}, "Etag": {tag},
		}}
		if chunked {
			resp.ContentLength = -1
		}
		f := &File{Size: size, Pin: Pin{Kind: StrongETag, Value: `"v"`}}
		got, err := f.check(resp, start, end)
		right := wrong == "" || wrong == "length" && chunked || (wrong == "shorter" || wrong == "longer") && (!chunked || b == end-1)
		if err == nil && got != most {
			t.Fatalf("got bytes up to %d, want up to %d", got, most)
		}
		if (err == nil) != right {
			t.Fatalf("got %v for %d %v length %d, asked for %d-%d/%d", err, status, resp.Header, resp.ContentLength, start, end-1, size)
		}
		var f2 *failure.Error
		if err != nil && !errors.As(err, &f2) {
			t.Fatalf("got %v, want a failure", err)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "120", "-1", "1e3", "99999999999999999999", "Tue, 24 Nov 2026 10:00:00 GMT", "Tuesday, 24-Nov-26 10:00:00 GMT", "soon", " 5 "} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if d, _ := RetryAfter(s, now); d < 0 || d > MaxRetryAfter {
			t.Fatalf("%q: got %s", s, d)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second, "-1": 0, "1.5": 0, "soon": 0,
		"3601": MaxRetryAfter, "99999999999999999999": MaxRetryAfter,
		"Tue, 24 Nov 2026 10:00:30 GMT": 30 * time.Second, "Tuesday, 24-Nov-26 10:01:00 GMT": time.Minute,
		"Tue, 24 Nov 2026 09:00:00 GMT": 0, "Wed, 25 Nov 2026 10:00:00 GMT": MaxRetryAfter,
	} {
		if got, _ := RetryAfter(s, now); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
}

func TestDigest(t *testing.T) {
	sum := sha256.Sum256([]byte("x"))
	sha := base64.StdEncoding.EncodeToString(sum[:])
	for _, tt := range []struct {
		name   string
		header http.Header
		whole  bool
		want   string
	}{
		{"none", http.Header{}, true, ""},
		{"repr", http.Header{"Repr-Digest": {"sha-256=:" + sha + ":"}}, false, "sha-256"},
		{"repr, two lines", http.Header{"Repr-Digest": {"md5=:AAAA:", "sha-256=:" + sha + ":"}}, false, "sha-256"},
		{"repr with parameters", http.Header{"Repr-Digest": {"a=1, sha-256=:" + sha + ":;q=1"}}, false, "sha-256"},
		{"the better one", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Digest": {"sha-256=" + sha}}, true, "sha-256"},
		{"old", http.Header{"Digest": {"SHA-256=" + sha}}, false, "sha-256"},
		{"md5 of the whole", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, true, "md5"},
		{"md5 of a range", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, false, ""},
		{"content digest of the whole", http.Header{"Content-Digest": {"sha-256=:" + sha + ":"}}, true, "sha-256"},
		{"content digest of a range", http.Header{"Content-Digest": {"sha-256=:" + sha + ":"}}, false, ""},
		{"wrong length", http.Header{"Repr-Digest": {"sha-256=:AAAA:"}}, true, ""},
		{"not base64", http.Header{"Repr-Digest": {"sha-256=:!:"}}, true, ""},
		{"not bytes", http.Header{"Repr-Digest": {"sha-256=" + sha}}, true, ""},
		{"unknown", http.Header{"Repr-Digest": {"crc32c=:AAAAAA==:"}}, true, ""},
	} {
		d := digest(tt.header, tt.whole)
		if d.Algorithm != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, d.Algorithm, tt.want)
		}
		if parsed := ParseDigest(d.String()); parsed.Algorithm != d.Algorithm || !parsed.Matches(d.Sum) {
			t.Errorf("%s: %q reads back as %v", tt.name, d, parsed)
		}
	}
}

func FuzzDigest(f *testing.F) {
	f.Add("sha-256=:AAAA:", "SHA-256=AAAA,md5=B", "AAAAAAAAAAAAAAAAAAAAAA==")
	f.Add("a=:;b=::,,=,sha-512=::", "=,=", ":")
	f.Fuzz(func(t *testing.T, repr, old, md5 string) {
		d := digest(http.Header{"Repr-Digest": {repr}, "Digest": {old}, "Content-Md5": {md5}, "Content-Digest": {repr}}, true)
		if !d.IsZero() && len(d.Sum) != digestSizes[d.Algorithm] {
			t.Fatalf("got %d bytes of %s", len(d.Sum), d.Algorithm)
		}
		if parsed := ParseDigest(d.String()); parsed.Algorithm != d.Algorithm || !parsed.Matches(d.Sum) {
			t.Fatalf("%q reads back as %v", d, parsed)
		}
	})
}
