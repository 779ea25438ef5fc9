package origin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"async-download/internal/failure"
)

// verdict names what an error means for a range.
func verdict(err error) string {
	var busy *Busy
	var failed *transient
	switch {
	case err == nil:
		return "believed"
	case errors.As(err, &busy):
		return "busy"
	case failure.CodeOf(err) == failure.OriginChanged:
		return "changed"
	}
	out := "final"
	if errors.As(err, &failed) {
		out = fmt.Sprint("again ", failed.after)
	}
	if errors.Is(err, ErrRangeRefused) {
		out += ", refused"
	}
	return out
}

// What a reply to a range from byte 10 to 19 of 1000 means.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		length int64
		header http.Header
		want   string
	}{
		{"right", 206, 10, http.Header{"Content-Range": {"bytes 10-19/1000"}}, "believed"},
		{"chunked", 206, -1, http.Header{"Content-Range": {"bytes 10-19/1000"}}, "believed"},
		{"chunked and shorter", 206, -1, http.Header{"Content-Range": {"bytes 10-18/1000"}}, "again 0s, refused"},
		{"empty", 206, 0, http.Header{"Content-Range": {"bytes 10-19/1000"}}, "again 0s, refused"},
		{"another length", 206, 9, http.Header{"Content-Range": {"bytes 10-19/1000"}}, "again 0s, refused"},
		{"another range", 206, 10, http.Header{"Content-Range": {"bytes 0-9/1000"}}, "again 0s, refused"},
		{"no range", 206, 10, nil, "again 0s, refused"},
		{"another size", 206, 10, http.Header{"Content-Range": {"bytes 10-19/999"}}, "changed"},
		{"another version", 206, 10, http.Header{"Content-Range": {"bytes 10-19/1000"}, "Etag": {`"v2"`}}, "changed"},
		{"no version", 206, 10, http.Header{"Content-Range": {"bytes 10-19/1000"}, "Etag": nil}, "again 0s, refused"},
		{"the file", 200, 1000, nil, "again 0s, refused"},
		{"another file", 200, 1000, http.Header{"Etag": {`"v2"`}}, "changed"},
		{"condition failed", 412, 0, nil, "changed"},
		{"not satisfiable", 416, 0, nil, "changed"},
		{"not satisfiable in another size", 416, 0, http.Header{"Content-Range": {"bytes */10"}}, "changed"},
		{"not satisfiable in this size", 416, 0, http.Header{"Content-Range": {"bytes */1000"}}, "final, refused"},
		{"forbidden", 403, 0, http.Header{"Retry-After": {"7"}}, "again 7s, refused"},
		{"not found", 404, 0, http.Header{"Retry-After": {"7"}}, "final, refused"},
		{"unavailable", 503, 0, http.Header{"Retry-After": {"7"}}, "again 7s"},
	} {
		h := http.Header{"Etag": {`"v1"`}}
		for name, values := range tt.header {
			h[name] = values
		}
		f := &File{Size: 1000, Pin: Pin{Kind: StrongETag, Value: `"v1"`}}
		end, err := f.check(&http.Response{StatusCode: tt.status, ContentLength: tt.length, Header: h}, 10, 20)
		if got := verdict(err); got != tt.want || err == nil && end != 20 {
			t.Errorf("%s: got %s, bytes up to %d, want %s", tt.name, got, end, tt.want)
		}
	}
}

// What a failed request means for its range, by what happened to this range and to the
// others of its file.
func TestJudgeRange(t *testing.T) {
	const retry, final = "again 0s", "final, refused"
	for _, tt := range []struct {
		status  int
		after   time.Duration
		most    int // tries that are worth making, 0 for any
		refused bool
		open    int64 // other requests for the file
		served  bool  // another range was
		resumed bool  // the file was opened by an earlier run
		want    []string
	}{
		{status: 502, want: []string{retry, retry, final}},
		{status: 502, open: 1, want: []string{retry, retry, "busy"}},
		{status: 502, served: true, want: []string{retry, retry, retry}},
		{status: 502, resumed: true, want: []string{retry, retry, retry}},
		{status: 500, resumed: true, want: []string{retry, retry, final}},
		{status: 502, after: time.Second, want: []string{"again 1s", "again 1s", "again 1s"}},
		{most: unreadable, want: []string{retry, final}},
		{status: 429, open: 1, want: []string{"busy"}},
		{status: 503, open: 1, want: []string{"busy"}},
		{status: 403, refused: true, open: 1, want: []string{"busy"}},
		{status: 403, refused: true, want: []string{"again 0s, refused", "again 0s, refused", final}},
	} {
		f := &File{opened: !tt.resumed}
		f.open.Store(tt.open)
		f.served.Store(tt.served)
		r := &Reader{f: f}
		err := &transient{failure: failure.New(failure.OriginStatus, "no"), status: tt.status, after: tt.after, most: tt.most}
		if tt.refused {
			err.failure.Err = ErrRangeRefused
		}
		var got []string
		for range tt.want {
			got = append(got, verdict(r.judge(err)))
			r.tries.n++
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
	if got := verdict((&Reader{f: &File{}}).judge(failure.New(failure.OriginStatus, "no"))); got != "final" {
		t.Errorf("got %s for a failure that no other try fixes", got)
	}
}

// A range ends where it was asked to end, although the first reply has more.
func TestRangeWithinTheFirstReply(t *testing.T) {
	server := newWire(t, func(int, *http.Request) step {
		return func(w http.ResponseWriter, r *http.Request) { ranged(w, r, func(b []byte) { _, _ = w.Write(b) }) }
	})
	c, u := clientOf(t, server.URL+"/")
	f, err := c.Open(t.Context(), &Request{URL: u}, 100)
	if err != nil {
		t.Fatal(err)
	}
	r := f.Range(t.Context(), 0, 50)
	defer r.Close()
	_, err1 := io.ReadFull(r, make([]byte, 20))
	b, err2 := io.ReadAll(r)
	if len(b) != 30 || err1 != nil || err2 != nil || f.Requests() != 1 {
		t.Errorf("got 20 and %d bytes, %v, %v, after %d requests, want 20 and 30 after one", len(b), err1, err2, f.Requests())
	}
}

// A reply without a length has the bytes that it describes, and no others.
func TestChunkedRanges(t *testing.T) {
	server := newWire(t, func(int, *http.Request) step {
		return func(w http.ResponseWriter, r *http.Request) {
			var start, end int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end)
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end, size))
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			_, _ = w.Write(make([]byte, end-start+1))
			if start == 400 {
				_, _ = w.Write([]byte("more"))
			}
		}
	})
	c, u := clientOf(t, server.URL+"/")
	f, err := c.Open(t.Context(), &Request{URL: u}, 100)
	if err != nil {
		t.Fatal(err)
	}
	r := f.Range(t.Context(), 0, 300)
	defer r.Close()
	if b, err := io.ReadAll(r); len(b) != 300 || err != nil || f.Requests() != 2 {
		t.Errorf("got %d bytes, %v, after %d requests, want 300 after 2", len(b), err, f.Requests())
	}
	longer := f.Range(t.Context(), 400, 500)
	defer longer.Close()
	if b, err := io.ReadAll(longer); !errors.Is(err, ErrRangeRefused) {
		t.Errorf("got %d bytes, %v, from a longer range, want it refused", len(b), err)
	}
	for sent, want := range map[string]string{"ab": "ab <nil>", "abc": "abc <nil>", "abcd": "refused"} {
		resp := &http.Response{ContentLength: -1, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(sent))}
		resp.Body = newBody(t.Context(), func(error) {}, resp)
		expect(resp, 3)
		b, err := io.ReadAll(resp.Body)
		got := fmt.Sprintf("%s %v", b, err)
		if errors.Is(err, ErrRangeRefused) {
			got = "refused"
		}
		if got != want {
			t.Errorf("%s for three bytes: got %s, want %s", sent, got, want)
		}
	}
}

// A connection that breaks after 64 KiB was worth its try, another one wasn't.
func TestProgressOfBrokenConnections(t *testing.T) {
	for sent, want := range map[int]string{progress: "EOF after 4", progress - 1: "ORIGIN_TRUNCATED after 2"} {
		size := 4 * progress
		server := newWire(t, func(int, *http.Request) step {
			return func(w http.ResponseWriter, r *http.Request) {
				var start int
				_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start)
				w.Header().Set("ETag", `"v1"`)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, size-1, size))
				w.Header().Set("Content-Length", fmt.Sprint(size-start))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(make([]byte, min(sent, size-start)))
			}
		})
		c, u := clientOf(t, server.URL+"/")
		f := reopen(t, c, u, int64(size))
		r := f.Range(t.Context(), 0, int64(size))
		_, err := io.Copy(io.Discard, r)
		_ = r.Close()
		got := "EOF"
		if err != nil {
			got = string(failure.CodeOf(err))
		}
		if got = fmt.Sprint(got, " after ", f.Requests()); got != want {
			t.Errorf("%d bytes with each connection: got %s requests, want %s", sent, got, want)
		}
	}
}

// Where a redirect's target has expired, the new one is asked for the ranges that follow.
func TestExpiredTarget(t *testing.T) {
	signed, valid := 0, 1
	server := newWire(t, func(_ int, r *http.Request) step {
		if r.URL.Path == "/" {
			signed++
			return reply(302, "", "Location", fmt.Sprint("/", signed))
		}
		if r.URL.Path != fmt.Sprint("/", valid) {
			return reply(403, "")
		}
		return func(w http.ResponseWriter, r *http.Request) { ranged(w, r, func(b []byte) { _, _ = w.Write(b) }) }
	})
	c, u := clientOf(t, server.URL+"/")
	f, err := c.Open(t.Context(), &Request{URL: u}, 100)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	valid = 2
	for range 2 {
		r := f.Range(t.Context(), 100, 200)
		if b, err := io.ReadAll(r); len(b) != 100 || err != nil {
			t.Errorf("got %d bytes, %v, want 100", len(b), err)
		}
		_ = r.Close()
	}
	if asked, want := server.asked(), []string{"GET /", "GET /1", "GET /1", "GET /", "GET /2", "GET /2"}; !slices.Equal(asked, want) {
		t.Errorf("got requests %q, want %q", asked, want)
	}
}
