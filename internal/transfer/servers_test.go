package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"async-download/internal/failure"
	"async-download/internal/object"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
)

// answer is what a server does instead of serving the file; false if it serves it.
type answer func(w http.ResponseWriter, r *http.Request, n int) bool

func status(code int, when func(r *http.Request, n int) bool) answer {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !when(r, n) {
			return false
		}
		w.WriteHeader(code)
		return true
	}
}

// raw writes text, with RANGE replaced by the range, and closes the connection.
func raw(text string, when func(r *http.Request, n int) bool) answer {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !when(r, n) {
			return false
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, strings.Replace(text, "RANGE", strings.TrimPrefix(r.Header.Get("Range"), "bytes="), 1))
		return true
	}
}

// noBytes is a reply that describes a range and has no bytes of it.
var noBytes = fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes RANGE/%d\r\nContent-Length: %d\r\n\r\n", 10*small, small)

func hasRange(r *http.Request, _ int) bool { return r.Header.Get("Range") != "" }
func plain(r *http.Request, n int) bool    { return !hasRange(r, n) }
func pinnedBy(r *http.Request, _ int) bool {
	return r.Header.Get("If-Match") != "" || r.Header.Get("If-Unmodified-Since") != ""
}
func laterRange(r *http.Request, n int) bool {
	return hasRange(r, n) && !strings.HasPrefix(r.Header.Get("Range"), "bytes=0-")
}

// span makes r ask for at most n bytes from where it asks.
func span(r *http.Request, n int) {
	start, end, ok := rangeOf(r)
	if !ok {
		end = 1 << 40
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, min(end, start+n-1)))
}

// The copier gets every file that curl gets: by ranges where their version can be proven,
// else as one stream.
func TestServers(t *testing.T) {
	const parts = 10
	data := origintest.Bytes(70, parts*small)
	old := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct {
		etag     string
		modified time.Time
		does     answer
		ranges   int            // at least, by the run that succeeded
		kind     origin.PinKind // "": not pinned
		requests int            // at most; 0: as many as parts, and one
	}{
		// What pins.
		"date":                  {modified: old, ranges: parts, kind: origin.LastModified},
		"date and weak tag":     {etag: `W/"v1"`, modified: old, ranges: parts, kind: origin.LastModified},
		"tag without quotes":    {etag: `v1`, ranges: parts, kind: origin.OpaqueETag},
		"tag split at a comma":  {etag: `"v,1"`, does: status(412, pinnedBy), ranges: parts, kind: origin.StrongETag},
		"recent date, weak tag": {etag: `W/"v1"`, modified: old, does: sentAt(old.Add(59 * time.Second)), ranges: 2, requests: 2},
		"weak tag":              {etag: `W/"v1"`, ranges: 2, requests: 2},
		"nothing":               {ranges: 2, requests: 2},

		// What can't be pinned with a condition, or at all.
		"condition is 412":           {etag: `"v1"`, does: status(412, pinnedBy), ranges: parts, kind: origin.StrongETag, requests: 3 * parts},
		"condition is 400":           {etag: `"v1"`, does: status(400, pinnedBy), ranges: parts, kind: origin.StrongETag, requests: 3 * parts},
		"condition is 403":           {etag: `"v1"`, does: status(403, pinnedBy), ranges: parts, kind: origin.StrongETag, requests: 3 * parts},
		"condition is 500":           {etag: `"v1"`, does: status(500, pinnedBy), ranges: parts, kind: origin.StrongETag, requests: 5 * parts},
		"date's condition is 412":    {modified: old, does: status(412, pinnedBy), ranges: parts, kind: origin.LastModified, requests: 3 * parts},
		"416 of the same total":      {etag: `"v1"`, does: outside(parts*small, laterRange), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"a tag per reply":            {does: tagged(func(n int) string { return fmt.Sprintf(`"v%d"`, n) }), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"a tag per node":             {does: tagged(func(n int) string { return fmt.Sprintf(`"v%d"`, n%2) }), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"a malformed tag per reply":  {does: tagged(func(n int) string { return fmt.Sprintf(`v%d`, n) }), ranges: 1, kind: origin.OpaqueETag, requests: 3 * parts},
		"a date per node":            {does: dated(func(n int) time.Time { return old.Add(time.Duration(n%2) * time.Second) }), ranges: 1, kind: origin.LastModified, requests: 3 * parts},
		"a weak tag per node":        {modified: old, does: tagged(func(n int) string { return fmt.Sprintf(`W/"v%d"`, n%2) }), ranges: 1, kind: origin.LastModified, requests: 3 * parts},
		"later ranges are 400":       {etag: `"v1"`, does: status(400, laterRange), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"later ranges are 403":       {etag: `"v1"`, does: status(403, laterRange), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"later ranges are 404":       {etag: `"v1"`, does: status(404, laterRange), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"later ranges are 501":       {etag: `"v1"`, does: status(501, laterRange), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"later ranges are in a 200":  {etag: `"v1"`, does: dropRange(laterRange), ranges: 1, kind: origin.StrongETag, requests: 10 * parts},
		"conditions are in a 200":    {etag: `"v1"`, does: dropRange(pinnedBy), ranges: parts, kind: origin.StrongETag, requests: 10 * parts},
		"each fourth reply is a 200": {etag: `"v1"`, does: dropRange(func(_ *http.Request, n int) bool { return n%4 == 0 }), ranges: parts, kind: origin.StrongETag, requests: 10 * parts},
		"later ranges are something": {etag: `"v1"`, does: status(418, laterRange), ranges: 1, kind: origin.StrongETag, requests: 3 * parts},
		"later ranges are 502":       {etag: `"v1"`, does: status(502, laterRange), ranges: 1, kind: origin.StrongETag, requests: 5 * parts},
		"later ranges are 503":       {etag: `"v1"`, does: status(503, laterRange), ranges: 1, kind: origin.StrongETag, requests: 5 * parts},
		"later ranges are closed":    {etag: `"v1"`, does: raw("", laterRange), ranges: 1, kind: origin.StrongETag, requests: 5 * parts},
		"ranges far behind are closed": {etag: `"v1"`, does: raw("", func(r *http.Request, n int) bool {
			start, _, _ := rangeOf(r)
			return start >= 3*small
		}), ranges: 1, kind: origin.StrongETag, requests: 8 * parts},
		"later ranges are cut":     {etag: `"v1"`, does: raw(noBytes, laterRange), ranges: 1, kind: origin.StrongETag, requests: 5 * parts},
		"later ranges are no HTTP": {etag: `"v1"`, does: raw("hello\r\n\r\n", laterRange), ranges: 1, kind: origin.StrongETag, requests: 5 * parts},

		// A first range that is refused.
		"ranges are 400":     {etag: `"v1"`, does: status(400, hasRange), ranges: 2, kind: origin.StrongETag, requests: 2},
		"ranges are 403":     {does: status(403, hasRange), ranges: 2, requests: 2},
		"ranges are 404":     {does: status(404, hasRange), ranges: 2, requests: 2},
		"ranges are 405":     {does: status(405, hasRange), ranges: 2, requests: 2},
		"ranges are 406":     {does: status(406, hasRange), ranges: 2, requests: 2},
		"ranges are 416":     {does: status(416, hasRange), ranges: 2, requests: 2},
		"ranges are 501":     {does: status(501, hasRange), ranges: 2, requests: 2},
		"ranges are 500":     {does: status(500, hasRange), ranges: 2, requests: origin.Attempts},
		"ranges are 408":     {does: status(408, hasRange), ranges: 2, requests: origin.Attempts},
		"ranges are 429":     {does: status(429, hasRange), ranges: 2, requests: origin.Attempts},
		"ranges are 503":     {does: status(503, hasRange), ranges: 2, requests: origin.Attempts},
		"ranges are closed":  {does: raw("", hasRange), ranges: 2, requests: origin.Attempts},
		"ranges are no HTTP": {does: raw("hello\r\n\r\n", hasRange), ranges: 2, requests: 2},
		"large ranges are 400": {does: status(400, func(r *http.Request, n int) bool {
			return hasRange(r, n) && !strings.HasSuffix(r.Header.Get("Range"), "-99")
		}), ranges: 2, requests: 2},
		"203 instead of 200":    {does: whole(203), ranges: 1, requests: 1},
		"206 of the whole file": {does: whole(206), ranges: 1, requests: 1},
		"206 of the whole file, with a tag": {does: func(w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("ETag", `"v1"`)
			return whole(206)(w, r, n)
		}, ranges: 1, kind: origin.StrongETag, requests: 1},
		"206 of the whole file to a plain GET": {does: func(w http.ResponseWriter, r *http.Request, n int) bool {
			return status(400, hasRange)(w, r, n) || whole(206)(w, r, n)
		}, ranges: 2, requests: 2},

		// Servers that answer nothing but ranges.
		"only ranges, short":         {etag: `"v1"`, does: only(func(r *http.Request) { span(r, 1000) }), ranges: 5 * parts, kind: origin.StrongETag, requests: 6 * parts},
		"only ranges, dated":         {modified: old, does: only(func(*http.Request) {}), ranges: parts, kind: origin.LastModified},
		"only ranges, without a pin": {does: only(func(*http.Request) {}), ranges: 3, requests: 3},
		"short ranges":               {etag: `"v1"`, does: func(_ http.ResponseWriter, r *http.Request, _ int) bool { span(r, 1000); return false }, ranges: 5 * parts, kind: origin.StrongETag, requests: 6 * parts},
		"short later ranges": {etag: `"v1"`, does: func(_ http.ResponseWriter, r *http.Request, n int) bool {
			span(r, map[bool]int{true: 1000, false: small}[laterRange(r, n)])
			return false
		}, ranges: 4 * parts, kind: origin.StrongETag, requests: 6 * parts},
		"long later ranges": {etag: `"v1"`, does: lengthen(laterRange), ranges: parts, kind: origin.StrongETag},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMemoryS3(t)
			c := newCopier(t, s)
			h := &origintest.File{}
			h.ReplaceAt(data, tt.etag, tt.modified)
			var requests atomic.Int64
			src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
				requests.Add(1)
				if tt.does == nil || !tt.does(w, r, n) {
					h.ServeHTTP(w, r)
				}
			}))
			r := mustCopy(t, c, s, src, "key", data)
			if pinned := tt.kind != ""; r.Ranges < tt.ranges || r.Pinned != pinned || !r.Verified {
				t.Errorf("got %d requests, pinned %v, verified %v, want at least %d, %v, true", r.Ranges, r.Pinned, r.Verified, tt.ranges, pinned)
			}
			if got := s.Object("key").Header.Get("X-Amz-Meta-" + object.MetaPin); got != string(tt.kind) {
				t.Errorf("got pin kind %q, want %q", got, tt.kind)
			}
			if most := cmp.Or(tt.requests, parts+1); requests.Load() > int64(most) {
				t.Errorf("got %d requests in all, want at most %d", requests.Load(), most)
			}
		})
	}
}

// dropRange answers with the whole file.
func dropRange(when func(r *http.Request, n int) bool) answer {
	return func(_ http.ResponseWriter, r *http.Request, n int) bool {
		if when(r, n) {
			r.Header.Del("Range")
		}
		return false
	}
}

// lengthen answers with the range and another part behind it.
func lengthen(when func(r *http.Request, n int) bool) answer {
	return func(_ http.ResponseWriter, r *http.Request, n int) bool {
		if when(r, n) {
			span(r, small)
			start, end, _ := rangeOf(r)
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end+small))
		}
		return false
	}
}

// outside answers 416 with the file's own size.
func outside(size int, when func(*http.Request, int) bool) answer {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !when(r, n) {
			return false
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true
	}
}

// tagged serves the file under another ETag each time; conditions hold for none.
func tagged(tag func(n int) string) answer {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		if m := r.Header.Get("If-Match"); m != "" && m != tag(n) {
			w.WriteHeader(http.StatusPreconditionFailed)
			return true
		}
		w.Header().Set("ETag", tag(n))
		r.Header.Del("If-Match")
		return false
	}
}

// sentAt serves the file with another Date than now.
func sentAt(date time.Time) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
		return false
	}
}

func dated(at func(n int) time.Time) answer {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		if since, err := http.ParseTime(r.Header.Get("If-Unmodified-Since")); err == nil && at(n).Truncate(time.Second).After(since) {
			w.WriteHeader(http.StatusPreconditionFailed)
			return true
		}
		w.Header().Set("Last-Modified", at(n).UTC().Format(http.TimeFormat))
		return false
	}
}

// whole answers every request with the whole file and another status.
func whole(code int) answer {
	return func(w http.ResponseWriter, r *http.Request, _ int) bool {
		data := origintest.Bytes(70, 10*small)
		if code == http.StatusPartialContent {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(data)-1, len(data)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.WriteHeader(code)
		_, _ = w.Write(data)
		return true
	}
}

// only refuses requests without a range.
func only(change func(r *http.Request)) answer {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		if plain(r, n) {
			w.WriteHeader(http.StatusBadRequest)
			return true
		}
		change(r)
		return false
	}
}

// Parts are refused where nothing shows that they are of one version of the file.
func TestPartsWithoutAVersion(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	h := origintest.New(origintest.Bytes(71, 10*small), "")
	refuse := only(func(r *http.Request) { span(r, 1000) })
	src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
		if !refuse(w, r, n) {
			h.ServeHTTP(w, r)
		}
	}))
	_, err := job(c, src, "key").Start(t.Context())
	wantFailure(t, c, s, "key", err, failure.OriginStatus)
}

// A limited server accepts few connections: the copier steps down to them, keeps
// what it has, and finishes.
func TestConnectionLimit(t *testing.T) {
	const parts = 20
	data := origintest.Bytes(72, parts*small)
	const closed, hangs = 0, 1
	for limit, codes := range map[int64][]int{1: {403, 429, 503, closed}, 2: {200, 400, 403, 404, 429, 500, 503, closed, hangs}, 3: {403, 429, 503}} {
		for _, code := range codes {
			for _, segment := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d connections, else %d, segment=%v", limit, code, segment), inVirtualTime(func(t *testing.T) {
					s := newMemoryS3(t)
					c := newCopier(t, s)
					c.Concurrency = 8
					h := origintest.New(data, `"v1"`)
					var open, refused atomic.Int64
					src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						leave := sync.OnceFunc(func() { open.Add(-1) })
						defer leave()
						if open.Add(1) > limit {
							leave()
							refused.Add(1)
							switch code {
							case closed:
								panic(http.ErrAbortHandler)
							case hangs:
								<-r.Context().Done()
							default:
								w.WriteHeader(code)
								_, _ = io.WriteString(w, "too many connections")
							}
							return
						}
						origintest.Slow(h, w, r, small/4, func(sent int) bool {
							time.Sleep(10 * time.Millisecond)
							if sent == small-small/4 { // its last piece: the client may come again
								leave()
							}
							return true
						})
					}))
					src.Client.Attempts = 3 // a part that only waits and tries again doesn't come through
					if code == hangs {
						src.Client.FirstByteTimeout = 500 * time.Millisecond
					}
					if segment {
						c.SegmentBytes = 4 * small
						out, err := job(c, src, "key").Start(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						for open.Load() > 0 { // the first reply, which was closed, still counts
							time.Sleep(time.Millisecond)
						}
						if err := job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, Segment{1, parts}); err != nil {
							t.Fatal(err)
						}
						mustFinish(t, c, s, src, out.Work, data)
					} else {
						r := mustCopy(t, c, s, src, "key", data)
						if !r.Pinned || r.Parts != parts {
							t.Errorf("got pinned %v and %d parts, want true and %d", r.Pinned, r.Parts, parts)
						}
					}
					most := int64(2 * parts)
					if code == closed {
						most *= 3 // it may be an accident, and is tried again
					}
					if n := refused.Load(); n > most {
						t.Errorf("got %d refused requests, want at most %d", n, most)
					}
					if got := asked(h); got > len(data)*5/4+2*small {
						t.Errorf("got %d bytes served, want the file's %d and little more", got, len(data))
					}
				}))
			}
		}
	}
}

// All parts honor a Retry-After of a limited server. A long one ends the run when all open
// parts are stored.
func TestConnectionLimitRetryAfter(t *testing.T) {
	data := origintest.Bytes(73, 8*small)
	for _, after := range []string{"1", "90"} {
		t.Run(after, inVirtualTime(func(t *testing.T) {
			s := newMemoryS3(t)
			c := newCopier(t, s)
			h := origintest.New(data, `"v1"`)
			var mu sync.Mutex
			open, refusedAt, early := 0, time.Time{}, 0
			src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				if !refusedAt.IsZero() && open == 0 && time.Since(refusedAt) < 900*time.Millisecond {
					early++
				}
				busy := open > 0
				if busy {
					refusedAt = time.Now()
				} else {
					open++
				}
				mu.Unlock()
				if busy {
					w.Header().Set("Retry-After", after)
					w.WriteHeader(503)
					return
				}
				origintest.Slow(h, w, r, small/4, func(int) bool { time.Sleep(20 * time.Millisecond); return true })
				mu.Lock()
				open--
				mu.Unlock()
			}))
			_, err := job(c, src, "key").Start(t.Context())
			var later *origin.Later
			switch {
			case after == "1" && err != nil:
				t.Fatal(err)
			case after == "1" && early >= c.Concurrency: // each other connection may have had one on its way
				t.Errorf("got %d requests less than a second after a refusal, want %d at most", early, c.Concurrency-1)
			case after == "90":
				if !errors.As(err, &later) || later.After < 80*time.Second {
					t.Fatalf("got %v, want a wait of 90 s", err)
				}
				if stored := len(s.Parts("upload-1")) - 1; stored < 1 {
					t.Error("got no part stored, want what was open read to its end")
				}
			}
		}))
	}
}

// A copier of one connection never opens a second one, in any way to copy.
func TestOnlyOneConnection(t *testing.T) {
	data := origintest.Bytes(74, 10*small)
	for name, does := range map[string]answer{
		"ranges":           nil,
		"no conditions":    status(412, pinnedBy),
		"a stream at last": tagged(func(n int) string { return fmt.Sprintf(`"v%d"`, n) }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			c.Concurrency = 1
			data := data
			if does == nil {
				c.PartSize = mib // more than the client's buffer holds: the first reply stays open
				data = origintest.Bytes(74, 3*mib)
			}
			h := origintest.New(data, `"v1"`)
			piece := len(data) / 10 / 32
			var arrived atomic.Int64
			src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, behind := arrived.Add(1), 0
				if does != nil && does(w, r, int(n)) {
					return
				}
				origintest.Slow(h, w, r, piece, func(sent int) bool {
					if sent == 4*piece { // a second connection has time to ask
						time.Sleep(10 * time.Millisecond)
					}
					if arrived.Load() > n {
						behind++
					}
					// A few pieces may be on their way to a client that has closed this connection
					// and asks on the next one.
					if behind == 20 {
						t.Error("got two requests at once")
					}
					return true
				})
			}))
			src.Client.Connections = 8 // the client's own limit isn't what keeps it
			mustCopy(t, c, s, src, "key", data)
		})
	}
}
