package transfer

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// Retries are the requests that a file wouldn't have needed. The first one, for fewer bytes
// than a part or for a part that is stored, is none.
func TestRetriesAreCounted(t *testing.T) {
	for name, tt := range map[string]struct {
		large   int64
		stored  int // parts that an earlier run stored
		failing int // requests that fail, after the first
		want    int
	}{
		"small parts":             {small, 0, 0, 0},
		"small parts, a failure":  {small, 0, 1, 1},
		"large parts":             {2 * small, 0, 0, 0},
		"large parts, a failure":  {2 * small, 0, 1, 1},
		"continued":               {small, 3, 0, 0},
		"continued, two failures": {small, 3, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMemoryS3(t)
			c := newCopier(t, s)
			c.largeParts, c.Concurrency = tt.large, 1
			data := origintest.Bytes(70, 64*small)
			h := origintest.New(data, `"v1"`)
			var failing atomic.Int64
			src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "bytes=0-4095" && failing.Add(-1) >= 0 {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
				h.ServeHTTP(w, r)
			}))
			if tt.stored > 0 {
				var over atomic.Bool
				s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
					if op == "UploadPart" && n > 1+tt.stored && !over.Load() {
						return s3test.Fault{Code: "AccessDenied", Status: 403}
					}
					return s3test.Fault{}
				}
				if _, err := job(c, src, "key").Start(t.Context()); failure.CodeOf(err) != failure.Storage {
					t.Fatalf("got %v, want a refusal", err)
				}
				over.Store(true)
			}
			failing.Store(int64(tt.failing))
			j := job(c, src, "key")
			if r := mustRun(t, j, s, data); r.Retries != tt.want || (j.Resumed() > 0) != (tt.stored > 0) {
				t.Errorf("got %d retries of %d requests, %d bytes resumed, want %d", r.Retries, r.Ranges, j.Resumed(), tt.want)
			}
		})
	}
}

// A file of one segment is copied at once, and one whose segments are all stored is
// completed.
func TestNoSegmentLeft(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	c.SegmentBytes = 4 * small
	one := origintest.Bytes(71, 4*small)
	mustCopy(t, c, s, newSource(t, origintest.New(one, `"v1"`)), "one", one)

	data := origintest.Bytes(72, 4*small+1)
	src := newSource(t, origintest.New(data, `"v1"`))
	out, err := job(c, src, "key").Start(t.Context())
	if err != nil || out.Work == nil {
		t.Fatalf("got %+v, %v, want segments", out, err)
	}
	copySegments(t, c, src, out.Work)
	mustCopy(t, c, s, src, "key", data)
}

// A late worker may store a part again between the list and the completion: Finish lists
// the parts again, a few times.
func TestFinishListsAgain(t *testing.T) {
	for invalid, want := range map[int]failure.Code{restarts - 1: "", restarts: failure.Storage} {
		s := newS3(t)
		c := newCopier(t, s)
		c.SegmentBytes = 4 * small
		src := newSource(t, origintest.New(origintest.Bytes(73, 5*small), `"v1"`))
		out, err := job(c, src, "key").Start(t.Context())
		if err != nil || out.Work == nil {
			t.Fatalf("got %+v, %v, want segments", out, err)
		}
		copySegments(t, c, src, out.Work)
		s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
			if op == "CompleteMultipartUpload" && n <= invalid {
				return s3test.Fault{Code: "InvalidPart", Status: 400}
			}
			return s3test.Fault{}
		}
		if _, err := job(c, src, "key").Finish(t.Context(), *out.Work); failure.CodeOf(err) != want || s.Calls("CompleteMultipartUpload") != restarts {
			t.Errorf("got %v after %d completions, want code %q after %d", err, s.Calls("CompleteMultipartUpload"), want, restarts)
		}
	}
}

// A copier without segments returns no work at its deadline, but the error.
func TestDeadlineWithoutSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		c.Concurrency = 1
		h := origintest.New(origintest.Bytes(74, 10*small), `"v1"`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		src := newMemorySource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 5 {
				<-r.Context().Done()
				return
			}
			h.ServeHTTP(w, r)
		}))
		if out, err := job(c, src, "key").Start(ctx); !errors.Is(err, context.DeadlineExceeded) || out.Work != nil {
			t.Errorf("got %+v, %v, want the end of the time", out, err)
		}
	})
}

// A stream that breaks is begun again, a few times.
func TestStreamsAreBegunAgain(t *testing.T) {
	data := origintest.Bytes(75, 3*small)
	for broken, code := range map[int]failure.Code{restarts: "", restarts + 1: failure.OriginTruncated} {
		s := newS3(t)
		c := newCopier(t, s)
		h := origintest.New(data, "")
		h.NoRanges = true
		requests := 0
		src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
			if requests = n; n <= broken {
				origintest.Cut(h, w, r, small, origintest.FIN)
				return
			}
			h.ServeHTTP(w, r)
		}))
		_, err := job(c, src, "key").Start(t.Context())
		if failure.CodeOf(err) != code || requests != restarts+1 {
			t.Errorf("%d broken: got %v after %d requests, want code %q after %d", broken, err, requests, code, restarts+1)
		}
	}
}
