package origin

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"async-download/internal/origin/origintest"
)

// What Open learns from the first reply, and what it asks next if that is of no use.
func TestFirstReply(t *testing.T) {
	const first = 100
	part := func(contentRange string, length int) string {
		return fmt.Sprintf("206 OK\r\nETag: \"v1\"\r\nContent-Range: bytes %s\r\nContent-Length: %d\r\n\r\n%s", contentRange, length, strings.Repeat("x", length))
	}
	chunked := func(contentRange string) string {
		return "206 OK\r\nETag: \"v1\"\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes " + contentRange + "\r\n\r\n"
	}
	unpinned := func(reply string) string { return strings.Replace(reply, "ETag: \"v1\"\r\n", "", 1) }
	const ranged, plain, all = "bytes=0-99", "", "bytes=0-"
	file, none := "200 OK\r\nContent-Length: 4\r\n\r\nfile", "400 No\r\nContent-Length: 0\r\n\r\n"
	stream := "4 bytes, ranged false, framed true, first to -1"
	for _, tt := range []struct {
		name    string
		replies []string
		asked   []string
		want    string
	}{
		{"the first bytes", []string{part("0-99/1000", 100)}, []string{ranged}, "1000 bytes, ranged true, framed true, first to 100"},
		{"fewer", []string{part("0-49/1000", 50)}, []string{ranged}, "1000 bytes, ranged true, framed true, first to 50"},
		{"chunked", []string{chunked("0-99/1000")}, []string{ranged}, "1000 bytes, ranged true, framed true, first to 100"},
		{"fewer, chunked", []string{chunked("0-49/1000"), file}, []string{ranged, plain}, stream},
		{"all bytes, chunked", []string{chunked("0-49/50")}, []string{ranged}, "50 bytes, ranged true, framed true, first to 50"},
		{"all bytes, as many as were asked for", []string{part("0-99/100", 100)}, []string{ranged}, "100 bytes, ranged true, framed true, first to 100"},
		{"all bytes, more than were asked for", []string{part("0-100/101", 101)}, []string{ranged}, "101 bytes, ranged false, framed true, first to -1"},
		{"all bytes, no validator", []string{unpinned(part("0-49/50", 50))}, []string{ranged}, "50 bytes, ranged false, framed true, first to 50"},
		{"no bytes", []string{part("0-99/1000", 0), file}, []string{ranged, plain}, stream},
		{"another length", []string{part("0-98/1000", 100), file}, []string{ranged, plain}, stream},
		{"another range", []string{part("1-100/1000", 100), file}, []string{ranged, plain}, stream},
		{"no validator", []string{unpinned(part("0-99/1000", 100)), file}, []string{ranged, plain}, stream},
		{"refused", []string{none, file}, []string{ranged, plain}, stream},
		{"refused, then ranges again", []string{none, part("0-99/1000", 100)}, []string{ranged, plain}, "ORIGIN_STATUS: the origin answered with a range that nobody asked for"},
		{"all bytes by a range only", []string{unpinned(part("0-99/1000", 100)), none, part("0-999/1000", 1000)}, []string{ranged, plain, all}, "1000 bytes, ranged false, framed true, first to -1"},
		{"some bytes by a range only", []string{unpinned(part("0-99/1000", 100)), none, unpinned(part("0-99/1000", 100))}, []string{ranged, plain, all},
			"ORIGIN_STATUS: the origin sends the file only in parts, and nothing shows that they are of one version"},
		{"no range is right", []string{unpinned(part("0-99/1000", 100)), none, part("1-100/1000", 100)}, []string{ranged, plain, all}, "ORIGIN_STATUS: the origin answered with a range that nobody asked for"},
		{"nothing by a range or without", []string{unpinned(part("0-99/1000", 100)), none, none}, []string{ranged, plain, all}, "ORIGIN_STATUS: the origin answered 400 Bad Request"},
		{"an empty file", []string{"200 OK\r\nContent-Length: 0\r\n\r\n"}, []string{ranged}, "0 bytes, ranged false, framed true, first to -1"},
		{"until the connection ends", []string{"200 OK\r\n\r\nfile"}, []string{ranged}, "-1 bytes, ranged false, framed false, first to -1"},
		{"a chunked file", []string{"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}, []string{ranged}, "-1 bytes, ranged false, framed true, first to -1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []string
			host := origintest.Raw(t, func(head string) string {
				_, after, _ := strings.Cut(head, "Range: ")
				asked = append(asked, strings.TrimSuffix(strings.SplitAfter(after+"\r\n", "\r\n")[0], "\r\n"))
				return "HTTP/1.1 " + tt.replies[min(len(asked), len(tt.replies))-1]
			})
			c, u := clientOf(t, "http://"+host+"/")
			got := ""
			if f, err := c.Open(t.Context(), &Request{URL: u}, first); err != nil {
				got = err.Error()
			} else {
				got = fmt.Sprintf("%d bytes, ranged %t, framed %t, first to %d", f.Size, f.Ranged, f.Framed, f.firstEnd)
				_ = f.Close()
			}
			if got != tt.want || !slices.Equal(asked, tt.asked) {
				t.Errorf("got %q after requests for %q, want %q after %q", got, asked, tt.want, tt.asked)
			}
		})
	}
}
