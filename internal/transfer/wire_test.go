package transfer

import (
	"fmt"
	"strings"
	"testing"

	"async-download/internal/origin/origintest"
)

// What real servers put on the wire, byte for byte, and what the object then is.
func TestRepliesAsReceived(t *testing.T) {
	data := string(origintest.Bytes(60, 2*small))
	// file answers a request for "/file.bin" with these header lines.
	file := func(lines ...string) func(string) string {
		return func(string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n%s", strings.Join(lines, "\r\n"), len(data), data)
		}
	}
	// redirect sends the first request to location and answers the request for target.
	redirect := func(location, target string) func(string) string {
		return func(head string) string {
			if strings.HasPrefix(head, "GET /start ") {
				return "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + "\r\n\r\n"
			}
			if !strings.HasPrefix(head, "GET "+target+" HTTP/1.1\r\n") {
				return "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
			}
			return file("A: b")(head)
		}
	}
	const anything = "application/octet-stream"
	for _, tt := range []struct {
		name        string
		path        string
		reply       func(head string) string
		disposition string // of the object
		contentType string
		encoding    string
	}{
		{"name without a disposition type", "/x", file(`Content-Disposition: filename="Sintel.mp4"`), `filename="Sintel.mp4"`, anything, ""},
		{"unquoted name", "/x", file("Content-Disposition: attachment; filename=my file(1).jpg"), `filename="my file(1).jpg"`, anything, ""},
		{"garbage behind a name", "/x", file("Content-Disposition: attachment; filename=correct.jpg; size=12 kB"), `filename="correct.jpg"`, anything, ""},
		{"encoded word", "/x", file("Content-Disposition: attachment; filename==?Shift_JIS?B?g2WDWINnLnR4dA==?="),
			`filename="___.txt"; filename*=UTF-8''%E3%83%86%E3%82%B9%E3%83%88.txt`, anything, ""},
		{"Latin-1 bytes", "/x", file("Content-Disposition: attachment; filename=\"\xe9.txt\""), `filename="_.txt"; filename*=UTF-8''%C3%A9.txt`, anything, ""},
		{"name that can't be read", "/a/b.bin", file("Content-Disposition: attachment; filename==?klingon?B?4oKs?="), `filename="b.bin"`, anything, ""},
		{"name of the redirect's target", "/start", redirect("/files/report.pdf?sig=1", "/files/report.pdf?sig=1"), `filename="report.pdf"`, anything, ""},
		{"type with unreadable parameters", "/x", file("Content-Type: text/csv; charset"), `filename="x"`, "text/csv", ""},
		{"no type", "/x", file("Content-Type: pdf"), `filename="x"`, anything, ""},
		{"any type", "/x", file("Content-Type: */*"), `filename="x"`, anything, ""},
		{"aws-chunked", "/x", file("Content-Encoding: aws-chunked"), `filename="x"`, anything, ""},
		{"gzip and aws-chunked", "/x", file("Content-Encoding: gzip,aws-chunked"), `filename="x"`, anything, "gzip"},
		{"gzip and aws-chunked in two lines", "/x", file("Content-Encoding: aws-chunked", "Content-Encoding: gzip"), `filename="x"`, anything, "gzip"},
		{"Location with a space and quotes", "/start", redirect(`/a "b".bin?c d`, "/a%20%22b%22.bin?c%20d"), `filename="a _b_.bin"`, anything, ""},
		{"Location with a stray percent sign", "/start", redirect("/100%.bin?é=1", "/100%.bin?%C3%A9=1"), `filename="100_.bin"; filename*=UTF-8''100%25.bin`, anything, ""},
		{"cookie wall", "/x", func(head string) string {
			if !strings.Contains(head, "\r\nCookie: wall=1\r\n") {
				return "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nSet-Cookie: wall=1\r\nLocation: /x\r\n\r\n"
			}
			return file("A: b")(head)
		}, `filename="x"`, anything, ""},
		{"firewall that demands Accept", "/x", func(head string) string {
			if !strings.Contains(head, "\r\nAccept: */*\r\n") {
				return "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
			}
			return file("A: b")(head)
		}, `filename="x"`, anything, ""},
		{"range unit in another case", "/x", func(head string) string {
			var start, end int
			_, span, found := strings.Cut(head, "Range: bytes=")
			if n, _ := fmt.Sscanf(span, "%d-%d", &start, &end); !found || n != 2 {
				return "HTTP/1.1 500 No Range\r\nContent-Length: 0\r\n\r\n"
			}
			end = min(end, len(data)-1)
			return fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: Bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%s",
				start, end, len(data), end-start+1, data[start:end+1])
		}, `filename="x"`, anything, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newS3(t)
			src := sourceOf(t, "http://"+origintest.Raw(t, tt.reply)+tt.path)
			src.Client.Attempts = 2
			mustCopy(t, newCopier(t, s), s, src, "key", []byte(data))
			got := s.Object("key").Header
			if d := got.Get("Content-Disposition"); d != "attachment; "+tt.disposition {
				t.Errorf("got %s, want attachment; %s", d, tt.disposition)
			}
			if got.Get("Content-Type") != tt.contentType || got.Get("Content-Encoding") != tt.encoding {
				t.Errorf("got type %q and encoding %q, want %q and %q", got.Get("Content-Type"), got.Get("Content-Encoding"), tt.contentType, tt.encoding)
			}
		})
	}
}
