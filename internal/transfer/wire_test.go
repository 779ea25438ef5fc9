package transfer

import (
	"fmt"
	"strings"
	"testing"

	"async-download/internal/origin/origintest"
)

// Replies of real servers, byte for byte, and the objects that they become.
func TestRepliesAsReceived(t *testing.T) {
	data := string(origintest.Bytes(60, 2*small))
	// ranged answers a request for a range with reply, another one with the file.
	ranged := func(reply func(part, contentRange string) string) func(string) string {
		return func(head string) string {
			var start, end int
			_, span, found := strings.Cut(head, "Range: bytes=")
			if n, _ := fmt.Sscanf(span, "%d-%d", &start, &end); !found || n != 2 {
				return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(data), data)
			}
			end = min(end, len(data)-1)
			return reply(data[start:end+1], fmt.Sprintf("ETag: \"v1\"\r\nContent-Range: bytes %d-%d/%d\r\n", start, end, len(data)))
		}
	}
	chunks := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }
	// wall redirects requests without the cookie that it sets.
	wall := func(cookie string) func(string) string {
		return func(head string) string {
			if !strings.Contains(head, "\r\nCookie: "+cookie+"\r\n") {
				return "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nSet-Cookie: " + cookie + "; Path=/\r\nLocation: /x\r\n\r\n"
			}
			return ranged(nil)("")
		}
	}
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
		{"cookie wall", "/x", wall("wall=1"), `filename="x"`, anything, ""},
		{"cookie with quotes", "/x", wall(`wall={"a":"\b"}`), `filename="x"`, anything, ""},
		{"cookie with a comma and a space", "/x", wall("wall=a, b"), `filename="x"`, anything, ""},
		{"cookie of another charset", "/x", wall("wall=\xe9"), `filename="x"`, anything, ""},
		{"cookie with a name in brackets", "/x", wall("wall[1]=1"), `filename="x"`, anything, ""},
		{"200 with a range", "/x", ranged(func(part, lines string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", lines, len(part), part)
		}), `filename="x"`, anything, ""},
		{"203 with a range in chunks", "/x", ranged(func(part, lines string) string {
			return "HTTP/1.1 203 OK\r\n" + lines + "Transfer-Encoding: chunked\r\n\r\n" + chunks(part)
		}), `filename="x"`, anything, ""},
		{"range whose chunks have the whole file", "/x", ranged(func(_, lines string) string {
			return "HTTP/1.1 206 OK\r\n" + lines + "Transfer-Encoding: chunked\r\n\r\n" + chunks(data)
		}), `filename="x"`, anything, ""},
		{"range without a length that is the whole file", "/x", ranged(func(_, lines string) string {
			return "HTTP/1.1 206 OK\r\n" + lines + "\r\n" + data
		}), `filename="x"`, anything, ""},
		{"range that is said to be two", "/x", ranged(func(part, lines string) string {
			return fmt.Sprintf("HTTP/1.1 206 OK\r\n%sContent-Range: bytes 1-%d/%d\r\nContent-Length: %d\r\n\r\n%s", lines, len(part), len(data), len(part), strings.Repeat("x", len(part)))
		}), `filename="x"`, anything, ""},
		{"range as one of several parts, in chunks", "/x", ranged(func(part, lines string) string {
			return "HTTP/1.1 206 OK\r\n" + lines + "Content-Type: multipart/byteranges; boundary=a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks("--a\r\n\r\n"+part+"\r\n--a--\r\n")
		}), `filename="x"`, anything, ""},
		{"compressed range", "/x", ranged(func(part, lines string) string {
			return "HTTP/1.1 206 OK\r\n" + lines + "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(part[:len(part)/3])
		}), `filename="x"`, anything, ""},
		{"whole file by a range that is too short for it", "/x", func(head string) string {
			if !strings.Contains(head, "Range: ") {
				return ranged(nil)("")
			}
			return "HTTP/1.1 206 OK\r\nContent-Range: bytes 0-99/100\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(data)
		}, `filename="x"`, anything, ""},
		{"chunks of HTTP/1.0", "/x", func(string) string {
			return "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(data)
		}, `filename="x"`, anything, ""},
		{"201", "/x", func(string) string { return strings.Replace(ranged(nil)(""), "200", "201", 1) }, `filename="x"`, anything, ""},
		{"226", "/x", func(string) string { return strings.Replace(ranged(nil)(""), "200", "226", 1) }, `filename="x"`, anything, ""},
		{"unknown success", "/x", func(string) string { return strings.Replace(ranged(nil)(""), "200", "299", 1) }, `filename="x"`, anything, ""},
		{"several choices", "/start", func(head string) string {
			return strings.Replace(redirect("/chosen", "/chosen")(head), "302", "300", 1)
		}, `filename="start"`, anything, ""},
		{"unknown redirect", "/start", func(head string) string {
			return strings.Replace(redirect("/there", "/there")(head), "302", "399", 1)
		}, `filename="start"`, anything, ""},
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
