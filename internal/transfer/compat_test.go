package transfer

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// Other stores support less than S3. The copier stores the same bytes there, by ranges and
// as a stream, in one run and in two.
func TestStoresThatKnowLess(t *testing.T) {
	for name, set := range map[string]func(s *s3test.Server){
		"no checksum behind a body":  func(s *s3test.Server) { s.NoTrailers = true },
		"and none of the whole":      func(s *s3test.Server) { s.NoTrailers, s.Composite = true, true },
		"something else as a CRC-64": func(s *s3test.Server) { s.Wrong64 = true },
		"none of a part":             func(s *s3test.Server) { s.NoPartSums = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			set(s)
			c := newCopier(t, s)
			data := origintest.Bytes(61, 10*small+7)
			h := origintest.New(data, `"v1"`)
			ctx, cancel := context.WithCancel(t.Context())
			var most atomic.Int64 // requests, then the copy is broken off
			most.Store(1000)
			src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if most.Add(-1) == 0 {
					cancel()
				}
				h.ServeHTTP(w, r)
			}))
			mustCopy(t, c, s, src, "ranges", data)
			stream := origintest.New(data, `"v1"`)
			stream.NoRanges = true
			mustCopy(t, c, s, newSource(t, stream), "stream", data)

			most.Store(6)
			if _, err := job(c, src, "again").Start(ctx); err == nil {
				t.Fatal("got no error from a copy that was broken off")
			}
			j := job(c, src, "again")
			if mustRun(t, j, s, data); j.Resumed() == 0 {
				t.Error("got a copy from the beginning, want it continued")
			}
		})
	}
}
