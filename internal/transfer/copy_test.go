package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// Sizes at which a copy takes another path or gets another part.
var sizes = []int{0, 1, small - 1, small, small + 1, 3*small + small/2, 64 * small}

func TestCopyRanges(t *testing.T) {
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			data := origintest.Bytes(1, size)
			h := origintest.New(data, `"v1"`)
			j := job(c, newSource(t, h), "key")
			j.OnSize = func(n int64) {
				if n != int64(size) {
					t.Errorf("got size %d, want %d", n, size)
				}
			}
			r := mustRun(t, j, s, data)
			if !r.Verified || !r.Pinned {
				t.Errorf("got verified %v, pinned %v, want both", r.Verified, r.Pinned)
			}
			if j.Copied() != int64(size) || j.Stored() != int64(size) {
				t.Errorf("got %d bytes copied and %d stored, want %d", j.Copied(), j.Stored(), size)
			}
			for i, request := range h.Requests() {
				if pin := request.Header.Get("If-Match"); i > 0 && size > 0 && pin != `"v1"` {
					t.Errorf("got a range pinned to %q, want it pinned to the version", pin)
				}
			}
			if size > 0 && r.Retries != 0 {
				t.Errorf("got %d retries, want none", r.Retries)
			}
			if want := max(1, (size+small-1)/small); size > 0 && r.Ranges != want {
				t.Errorf("got %d requests, want %d", r.Ranges, want)
			}
		})
	}
}

func TestCopyStreams(t *testing.T) {
	for name, set := range map[string]func(f *origintest.File){
		"known length":   func(f *origintest.File) { f.NoRanges = true },
		"unknown length": func(f *origintest.File) { f.NoRanges, f.Chunked = true, true },
	} {
		for _, size := range []int{0, 1, small + 1, 5*mib - 1, 5 * mib, 5*mib + 1} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				s := newS3(t)
				c := newCopier(t, s)
				data := origintest.Bytes(2, size)
				h := origintest.New(data, `"v1"`)
				set(h)
				r := mustCopy(t, c, s, newSource(t, h), "key", data)
				if !r.Verified || r.Ranges != 1 {
					t.Errorf("got verified %v and %d requests, want true and 1", r.Verified, r.Ranges)
				}
			})
		}
	}
}

// The SDK has different code for HTTPS and HTTP, and this package has for stores that keep
// no checksum of the whole object.
func TestChecksumOnEveryPath(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		for _, composite := range []bool{false, true} {
			for _, ranges := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s composite=%v ranges=%v", scheme, composite, ranges), func(t *testing.T) {
					s := s3test.New(t)
					if scheme == "https" {
						s = s3test.NewTLS(t)
					}
					s.MinPart, s.Composite = small, composite
					c := newCopier(t, s)
					c.PartSize = 300 * kib // more than one write
					data, parts := origintest.Bytes(3, 700*kib), 3
					if !ranges {
						data, parts = origintest.Bytes(3, 6*mib), 2
					}
					h := origintest.New(data, `"v1"`)
					h.NoRanges = !ranges
					r := mustCopy(t, c, s, newSource(t, h), "key", data)
					head, err := c.S3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &c.Bucket, Key: aws.String("key"), ChecksumMode: types.ChecksumModeEnabled})
					if err != nil {
						t.Fatal(err)
					}
					var whole sums
					_, _ = whole.Write(data)
					if r.Checksum.CRC64NVME != whole.base64CRC64() {
						t.Errorf("got checksum %q, want %q", r.Checksum.CRC64NVME, whole.base64CRC64())
					}
					if got := fromHead(head).Checksum; composite && (got.CRC32 == "" || got.CRC32 != r.Checksum.CRC32) || !composite && got.CRC64NVME != r.Checksum.CRC64NVME {
						t.Errorf("S3 reports %+v, the copy %+v", got, r.Checksum)
					}
					if r.Parts != parts {
						t.Errorf("got %d parts, want %d", r.Parts, parts)
					}
				})
			}
		}
	}
}

func TestObjectSpeaksForItself(t *testing.T) {
	for _, size := range []int{10, 3 * small} {
		s := newS3(t)
		c := newCopier(t, s)
		h := origintest.New(origintest.Bytes(4, size), `"v1"`)
		h.Header = http.Header{
			"Content-Type":        {"text/csv; charset=utf-8"},
			"Content-Disposition": {`attachment; filename*=UTF-8''a%2Fr%C3%A9sum%C3%A9%22.csv`},
		}
		j := job(c, newSource(t, h), "key")
		j.Metadata = map[string]string{"ticket": "hash"}
		if _, err := j.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := s.Object("key").Header
		for name, want := range map[string]string{
			"Content-Type":                "text/csv; charset=utf-8",
			"Content-Disposition":         `attachment; filename="r_sum__.csv"; filename*=UTF-8''r%C3%A9sum%C3%A9_.csv`,
			"X-Amz-Meta-Verified":         "true",
			"X-Amz-Meta-Origin-Validator": `"v1"`,
			"X-Amz-Meta-Ticket":           "hash",
		} {
			if got.Get(name) != want {
				t.Errorf("%d bytes: got %s %q, want %q", size, name, got.Get(name), want)
			}
		}
	}
}

// Start is called again after a finished copy when the answer of a Lambda was lost.
func TestStartAgainAfterTheEnd(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	data := origintest.Bytes(5, 5*small)
	h := origintest.New(data, `"v1"`)
	src := newSource(t, h)
	mustCopy(t, c, s, src, "key", data)
	before := len(h.Requests())
	mustCopy(t, c, s, src, "key", data)
	if after := len(h.Requests()); after != before {
		t.Errorf("the origin was asked %d times again, want 0", after-before)
	}
}

func TestReplace(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	c.Replace = true
	for i, size := range []int{10, 4 * small, 6 * mib} {
		data := origintest.Bytes(uint64(i), size)
		h := origintest.New(data, `"v1"`)
		h.NoRanges = i == 2
		s.Put("key", origintest.Bytes(9, size))
		mustCopy(t, c, s, newSource(t, h), "key", data)
	}
}

func TestTooLarge(t *testing.T) {
	for name, set := range map[string]func(f *origintest.File){
		"ranges":         func(*origintest.File) {},
		"known length":   func(f *origintest.File) { f.NoRanges = true },
		"unknown length": func(f *origintest.File) { f.NoRanges, f.Chunked = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			c.MaxBytes = 6*mib - 1
			h := origintest.New(origintest.Bytes(6, 6*mib), `"v1"`)
			set(h)
			_, err := job(c, newSource(t, h), "key").Start(t.Context())
			wantFailure(t, c, s, "key", err, failure.TooLarge)
			c.MaxBytes++
			mustCopy(t, c, s, newSource(t, h), "key", origintest.Bytes(6, 6*mib))
		})
	}
}

func TestOriginStatus(t *testing.T) {
	for _, status := range []int{204, 206, 300, 304, 400, 401, 403, 404, 410, 416, 451, 501} {
		s := newS3(t)
		c := newCopier(t, s)
		var n atomic.Int64
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.Add(1); w.WriteHeader(status) }))
		_, err := job(c, src, "key").Start(t.Context())
		wantFailure(t, c, s, "key", err, failure.OriginStatus)
		if status != 206 && !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("got %q, want the status %d in it", err, status)
		}
		if n.Load() > 2 {
			t.Errorf("%d: got %d requests, want no retries", status, n.Load())
		}
	}
}

// A query, a header and a password never appear in what is reported or logged.
func TestErrorsKeepSecrets(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	for name, src := range map[string]Source{
		"refused":  sourceOf(t, "http://127.0.0.1:1/a?token=planted"),
		"status":   newSource(t, http.NotFoundHandler()),
		"redirect": newSource(t, http.RedirectHandler("http://169.254.169.254/?token=planted", http.StatusFound)),
		"garbage":  newSource(t, http.RedirectHandler("http://[::1?token=planted", http.StatusFound)),
		"name":     sourceOf(t, "http://nowhere.invalid/a?token=planted"),
		"cut":      newSource(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })),
	} {
		src.Client.Header = http.Header{"Authorization": {"planted"}}
		_, err := job(c, src, "key").Start(t.Context())
		if err == nil {
			t.Fatalf("%s: got no error", name)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), "planted") || strings.Contains(fmt.Sprintf("%+v", e), "planted") {
				t.Errorf("%s: the error says %q", name, e)
			}
		}
	}
}

func TestSegments(t *testing.T) {
	for _, composite := range []bool{false, true} {
		t.Run(fmt.Sprint("composite=", composite), func(t *testing.T) {
			s := newMemoryS3(t)
			s.Composite = composite
			s.Page = 7 // lists have pages
			c := newCopier(t, s)
			c.SegmentBytes = 4 * small
			data := origintest.Bytes(7, 63*small+5)
			src := newMemorySource(t, origintest.New(data, `"v1"`))
			out, err := job(c, src, "key").Start(t.Context())
			if err != nil || out.Work == nil {
				t.Fatalf("got %+v, %v, want work", out, err)
			}
			if got := len(out.Work.Segments); got != 16 {
				t.Fatalf("got %d segments, want 16", got)
			}
			state, err := json.Marshal(out)
			if err != nil || bytes.Contains(state, []byte("planted")) || bytes.Contains(state, []byte("http")) {
				t.Fatalf("the state is %s (%v), want no URL and no query in it", state, err)
			}
			for i, segment := range out.Work.Segments {
				if i == 3 || i == 9 {
					continue // these workers were killed before they did anything
				}
				if err := job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, segment); err != nil {
					t.Fatal(err)
				}
			}
			if out, err = job(c, src, "key").Finish(t.Context(), *out.Work); err != nil || out.Work == nil {
				t.Fatalf("got %+v, %v, want work", out, err)
			}
			if got, want := out.Work.Segments, []Segment{{13, 16}, {37, 40}}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("got segments %v, want %v", got, want)
			}
			copySegments(t, c, src, out.Work)
			mustFinish(t, c, s, src, out.Work, data)
			if got := s.Calls("UploadPart"); got != 64+1 {
				t.Errorf("got %d parts stored, want 64 and the marker", got)
			}
			// A worker that comes late, and a Finish whose answer was lost.
			plan := Plan{Key: "key", UploadID: "upload-1", Size: int64(len(data)), PartSize: small, Pin: origin.Pin{Kind: origin.StrongETag, Value: `"v1"`}}
			if err := job(c, src, "key").CopySegment(t.Context(), plan, Segment{1, 4}); err != nil {
				t.Errorf("a late worker: %v", err)
			}
			if second, err := job(c, src, "key").Finish(t.Context(), Work{Plan: plan, Missing: 1}); err != nil || second.Result == nil {
				t.Errorf("a second Finish: got %+v, %v, want the result", second, err)
			}
		})
	}
}

// A segment that is run again copies only what is missing.
func TestSegmentAgain(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	c.SegmentBytes, c.Concurrency = 16*small, 1
	data := origintest.Bytes(8, 20*small)
	h := origintest.New(data, `"v1"`)
	src := newSource(t, h)
	out, err := job(c, src, "key").Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
		if op == "UploadPart" && n == 10 {
			cancel()
		}
		return s3test.Fault{}
	}
	if err := job(c, src, "key").CopySegment(ctx, out.Work.Plan, out.Work.Segments[0]); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the cancel", err)
	}
	before := len(h.Requests())
	have := len(s.Parts(out.Work.Plan.UploadID)) - 1
	if err := job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, out.Work.Segments[0]); err != nil {
		t.Fatal(err)
	}
	// One more may be counted that was on its way when the first worker stopped.
	if got, want := len(h.Requests())-before, 16-have; got > want+1 || have < 3 {
		t.Errorf("got %d ranges read again with %d parts there, want %d", got, have, want)
	}
}

// Rounds without progress end with the reason.
func TestFinishWithoutProgress(t *testing.T) {
	data := origintest.Bytes(9, 20*small)
	for name, tt := range map[string]struct {
		run    time.Duration
		status int // that the origin answers from then on, 0 for the file
		rounds int
		want   failure.Code
	}{
		"origin too slow":     {run: time.Microsecond /* no origin moves a part in that */, rounds: 1, want: failure.OriginTooSlow},
		"no part can be kept": {rounds: idleRounds, want: failure.Storage},
		"origin out of order": {status: 503, rounds: idleRounds, want: failure.OriginStatus},
		"file gone":           {status: 404, rounds: 1, want: failure.OriginStatus},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newS3(t)
			c := newCopier(t, s)
			c.SegmentBytes = 4 * small
			h := origintest.New(data, `"v1"`)
			var status atomic.Int64
			src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n := status.Load(); n != 0 {
					w.WriteHeader(int(n))
					return
				}
				h.ServeHTTP(w, r)
			}))
			out, err := job(c, src, "key").Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, out.Work.Segments[0]); err != nil {
				t.Fatal(err)
			}
			if out, err = job(c, src, "key").Finish(t.Context(), *out.Work); err != nil {
				t.Fatal(err)
			}
			status.Store(int64(tt.status))
			rounds := 0
			for err == nil {
				rounds++
				j := job(c, src, "key")
				j.Run = tt.run
				out, err = j.Finish(t.Context(), *out.Work)
			}
			if rounds != tt.rounds {
				t.Errorf("got an end after %d rounds, want %d", rounds, tt.rounds)
			}
			wantFailure(t, c, s, "key", err, tt.want)
		})
	}
}

// A file that changed while its segments were copied is copied again, from one
// version; one that can't be read by ranges any more, as one stream.
func TestSegmentsOfAChangedFile(t *testing.T) {
	old, fresh := origintest.Bytes(9, 20*small), origintest.Bytes(10, 19*small)
	for name, tt := range map[string]struct {
		then func(h *origintest.File)
		does answer // from then on, nil for the file
		want []byte
	}{
		"changed":            {func(h *origintest.File) { h.Replace(fresh, `"v2"`) }, nil, fresh},
		"shrank":             {func(h *origintest.File) { h.Replace(fresh[:2*small], `"v1"`) }, nil, fresh[:2*small]},
		"is sent whole only": {func(h *origintest.File) { h.NoRanges = true }, nil, old},
		"ranges are closed":  {func(*origintest.File) {}, raw("", laterRange), old},
		"ranges are 503":     {func(*origintest.File) {}, status(503, laterRange), old},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMemoryS3(t)
			c := newCopier(t, s)
			c.SegmentBytes = 4 * small
			h := origintest.New(old, `"v1"`)
			var changed atomic.Bool
			src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
				if tt.does == nil || !changed.Load() || !tt.does(w, r, n) {
					h.ServeHTTP(w, r)
				}
			}))
			src.Client.Attempts = 3
			out, err := job(c, src, "key").Start(t.Context())
			for round := 0; err == nil && out.Work != nil && round < 10; round++ {
				for i, segment := range out.Work.Segments {
					if round > 0 || i < 2 {
						_ = job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, segment)
					}
				}
				if round == 0 {
					tt.then(h)
					changed.Store(true)
				}
				out, err = job(c, src, "key").Finish(t.Context(), *out.Work)
			}
			if err != nil || out.Result == nil {
				t.Fatalf("got %+v, %v, want a result", out, err)
			}
			wantObject(t, s, "key", tt.want, *out.Result)
		})
	}
}

// A copy survives a round without progress.
func TestOneBadRound(t *testing.T) {
	t.Parallel()
	s := newS3(t)
	var bad atomic.Bool
	bad.Store(true)
	s.Fault = func(op string, n int, r *http.Request) s3test.Fault {
		if op == "UploadPart" && r.URL.Query().Get("partNumber") == "7" && bad.Load() {
			return s3test.Fault{Code: "InternalError", Status: 500}
		}
		return s3test.Fault{}
	}
	c := newCopier(t, s)
	c.SegmentBytes = 2 * small
	data := origintest.Bytes(64, 20*small)
	src := newSource(t, origintest.New(data, `"a"`))
	out, err := job(c, src, "key").Start(t.Context())
	for round := 1; err == nil && out.Work != nil; round++ {
		for _, segment := range out.Work.Segments {
			_ = job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, segment)
		}
		out, err = job(c, src, "key").Finish(t.Context(), *out.Work)
		bad.Store(round < 2)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, "key", data, *out.Result)
}

// One connection is enough, for a new copy and for one that is continued: the first reply
// keeps its connection until it is read.
func TestOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		c.Concurrency, c.PartSize = 1, mib // more than the client's buffer holds
		data := origintest.Bytes(65, 5*mib)
		h := origintest.New(data, `"v1"`)
		var most atomic.Int64
		most.Store(3)
		ctx, cancel := context.WithCancel(t.Context())
		src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if most.Add(-1) < 0 {
				cancel()
				return
			}
			h.ServeHTTP(w, r)
		}))
		src.Client.Connections, src.Client.FirstByteTimeout, src.Client.Attempts = 1, 20*time.Second, 1
		if _, err := job(c, src, "key").Start(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the copy to be broken off", err)
		}
		most.Store(1000)
		mustCopy(t, c, s, src, "key", data)
	})
}

// timeouts fails the chosen requests with the error of a dialer's time-out, which
// errors.Is regards as the end of a context.
type timeouts struct {
	http.RoundTripper
	hit func(*http.Request) bool
}

func (r timeouts) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.hit(req) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	}
	return r.RoundTripper.RoundTrip(req)
}

// A time-out of the network isn't the end of a worker's time.
func TestNetworkTimeOut(t *testing.T) {
	part := func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") != fmt.Sprint(markerPart)
	}
	for name, tt := range map[string]struct {
		hit      func(*http.Request) bool
		size     int
		noRanges bool
	}{
		"a small file": {part, 100, false},
		"ranges":       {part, 10 * small, false},
		"a stream":     {part, 10 * small, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newS3(t)
			c := newCopier(t, s)
			c.SegmentBytes = 1 << 30
			inner := c.S3.Options().HTTPClient.(*http.Client)
			broken := *inner
			broken.Transport = timeouts{inner.Transport, tt.hit}
			c.S3 = s3.New(c.S3.Options(), func(o *s3.Options) { o.HTTPClient = &broken })
			h := origintest.New(origintest.Bytes(66, tt.size), `"v1"`)
			h.NoRanges = tt.noRanges
			out, err := job(c, newSource(t, h), "key").Start(t.Context())
			if out.Work != nil {
				t.Fatalf("got work %+v, want an error", out.Work)
			}
			wantFailure(t, c, s, "key", err, failure.Storage)
		})
	}
}

// At a deadline Start returns what is left instead of failing.
func TestDeadlineLeavesWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		c.SegmentBytes = mib
		data := origintest.Bytes(10, 40*small)
		h := origintest.New(data, `"v1"`)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		src := newMemorySource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
			if n > 20 && ctx.Err() == nil {
				<-r.Context().Done()
				return
			}
			h.ServeHTTP(w, r)
		}))
		out, err := job(c, src, "key").Start(ctx)
		if err != nil || out.Work == nil || out.Work.Missing != 20 {
			t.Fatalf("got %+v, %v, want work with 20 parts missing", out, err)
		}
		copySegments(t, c, src, out.Work)
		mustFinish(t, c, s, src, out.Work, data)
	})
}

// Deadlines that leave no work: nothing came, or only the end is missing.
func TestDeadlineWithoutWork(t *testing.T) {
	data := origintest.Bytes(16, 10*small)
	t.Run("no answer", inVirtualTime(func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := job(c, newMemorySource(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		})), "key").Start(ctx)
		wantFailure(t, c, s, "key", err, failure.OriginUnreachable)
	}))
	t.Run("a small file that stalls", inVirtualTime(func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		h := origintest.New(data[:small], `"v1"`)
		_, err := job(c, newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origintest.Slow(h, w, r, 100, func(sent int) bool {
				if sent > 0 {
					<-r.Context().Done()
				}
				return sent == 0
			})
		})), "key").Start(ctx)
		wantFailure(t, c, s, "key", err, failure.OriginTooSlow)
	}))
	for _, op := range []string{"HeadObject", "ListMultipartUploads", "CreateMultipartUpload", "CompleteMultipartUpload", "GetObject"} {
		t.Run("in "+op, inVirtualTime(func(t *testing.T) {
			s := newMemoryS3(t)
			c := newCopier(t, s)
			c.SegmentBytes = mib
			h := origintest.New(data, `"v1"`)
			h.Header = http.Header{"Repr-Digest": {sha256Header(data)}}
			src := newMemorySource(t, h)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s.Fault = func(called string, n int, r *http.Request) s3test.Fault {
				if called == op && n == 1 {
					return s3test.Fault{Drop: true, Before: func() { time.Sleep(time.Minute) }}
				}
				return s3test.Fault{}
			}
			_, err := job(c, src, "key").Start(ctx)
			var outOfTime *OutOfTime
			var later *origin.Later
			if !errors.As(err, &outOfTime) || errors.As(err, &later) {
				t.Fatalf("got %v, want an OutOfTime, which is no wish of the origin's", err)
			}
			before := len(h.Requests())
			mustCopy(t, c, s, src, "key", data)
			reread := len(h.Requests()) - before
			if copied := op == "CompleteMultipartUpload" || op == "GetObject"; copied && reread > 1 {
				t.Errorf("got %d ranges read again, want the probe at most", reread)
			}
		}))
	}
}

// A part isn't begun when the deadline is nearer than the time that the last part took.
func TestWorthwhilePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, tt := range []struct {
			ctx  context.Context
			took time.Duration
			want error
			fast bool
		}{
			{soon, 0, nil, false}, // none was read yet
			{soon, 1, nil, true},
			{soon, 2*time.Second - 1, nil, true},
			{soon, 2 * time.Second, nil, false},
			{soon, time.Minute, nil, false},
			{soon, time.Minute + 1, errLate, false},
			{t.Context(), time.Hour, nil, false},
		} {
			c := &rangeCopy{took: tt.took}
			if err := c.worthwhile(tt.ctx); err != tt.want || c.late != (err != nil) || c.isFast() != tt.fast {
				t.Errorf("after a part of %s: got %v, late %t, fast %t, want %v, fast %t", tt.took, err, c.late, c.isFast(), tt.want, tt.fast)
			}
		}
		// Nor is it read.
		c := &rangeCopy{took: time.Hour}
		r := &gatedReader{Reader: strings.NewReader("x"), ctx: soon, gate: newGate(1), worthwhile: func() error { return c.worthwhile(soon) }}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != errLate {
			t.Errorf("got %d bytes, %v, want %v", n, err, errLate)
		}
	})
}

// The same in a whole copy.
func TestNoPartBegunTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		c.SegmentBytes, c.Concurrency = mib, 1
		h := origintest.New(origintest.Bytes(11, 100*small), `"v1"`)
		src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			h.ServeHTTP(w, r)
		}))
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5500*time.Millisecond)
		defer cancel()
		out, err := job(c, src, "key").Start(ctx)
		if took := time.Since(began); err != nil || out.Work == nil || out.Work.Missing != 95 || took != 5*time.Second {
			t.Fatalf("got %+v, %v after %s, want work of all parts except 5 after 5 s", out, err, took)
		}
	})
}

func TestOriginTooSlow(t *testing.T) {
	t.Run("stream at the deadline", inVirtualTime(func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		h := origintest.New(origintest.Bytes(12, mib), "")
		src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origintest.Slow(h, w, r, 100*kib, func(int) bool { time.Sleep(time.Second); return r.Context().Err() == nil })
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := job(c, src, "key").Start(ctx)
		wantFailure(t, c, s, "key", err, failure.OriginTooSlow)
	}))
	t.Run("stream that can't be carried", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for _, tt := range []struct {
				name  string
				ctx   context.Context
				began time.Duration // ago
				n     int           // bytes until now, of size
				size  int64
				limit int64
				want  failure.Code
			}{
				{"just fast enough", soon, speedAfter, 2000, 3000, 1 << 40, ""}, // 100 bytes a second
				{"a byte too many", soon, speedAfter, 2000, 3001, 1 << 40, failure.OriginTooSlow},
				{"not measured yet", soon, speedAfter - 1, 2000, 3001, 1 << 40, ""},
				{"no deadline", t.Context(), speedAfter, 2000, 3001, 1 << 40, ""},
				{"unknown size", soon, speedAfter, 2000, -1, 1 << 40, ""},
				{"as large as may be", soon, 0, 2000, -1, 2000, ""},
				{"too large", soon, 0, 2000, -1, 1999, failure.TooLarge},
			} {
				r := &streamReader{ctx: tt.ctx, src: bytes.NewReader(make([]byte, tt.n)), size: tt.size, limit: tt.limit, began: time.Now().Add(-tt.began)}
				if _, err := r.Read(make([]byte, tt.n)); failure.CodeOf(err) != tt.want {
					t.Errorf("%s: got %v, want code %q", tt.name, err, tt.want)
				} else if tt.size == 3001 && err != nil && !strings.Contains(err.Error(), "at 100 bytes a second the other 1001 bytes") {
					t.Errorf("%s: got %v, want the speed and what is left", tt.name, err)
				}
			}
		})
	})
	t.Run("part that can't be moved in one run", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		c.SegmentBytes = small
		h := origintest.New(origintest.Bytes(13, 64*kib), `"v1"`)
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origintest.Slow(h, w, r, 512, func(int) bool { time.Sleep(5 * time.Millisecond); return true })
		}))
		f, err := src.Client.Open(t.Context(), src.Request, small)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		j := job(c, src, "key")
		j.Run = time.Minute
		err = j.isFast(t.Context(), f, Plan{Size: 1 << 45, PartSize: 4 << 30})
		if failure.CodeOf(err) != failure.OriginTooSlow {
			t.Errorf("got %v, want %s", err, failure.OriginTooSlow)
		}
		if err := j.isFast(t.Context(), f, Plan{Size: 1 << 45, PartSize: 2 * small}); err != nil {
			t.Errorf("got %v for parts that can be moved", err)
		}
		j.Run = 1
		if err := j.isFast(t.Context(), f, Plan{Size: 1 << 45, PartSize: small}); err != nil {
			t.Errorf("got %v for parts of the usual size, which needn't be measured", err)
		}
	})
}

func TestCallerMetadataAndUploadHook(t *testing.T) {
	for _, stream := range []bool{false, true} {
		s := newS3(t)
		c := newCopier(t, s)
		refused := failure.New(failure.Cancelled, "no")
		h := origintest.New(origintest.Bytes(14, 6*mib), `"v1"`)
		h.NoRanges = stream
		j := job(c, newSource(t, h), "key")
		j.OnUpload = func(_ context.Context, id string) error {
			if len(s.Open()) != 1 || s.Open()[0] != id {
				t.Errorf("got upload %q, want the open one, %v", id, s.Open())
			}
			return refused
		}
		_, err := j.Start(t.Context())
		if !errors.Is(err, refused) {
			t.Fatalf("stream %t: got %v, want the hook's error", stream, err)
		}
		wantFailure(t, c, s, "key", err, failure.Cancelled)
	}
}

// After a long Retry-After in the middle, the next Start continues with what was copied.
func TestLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		data := origintest.Bytes(15, 20*small)
		h := origintest.New(data, `"v1"`)
		busy := atomic.Bool{}
		src := newMemorySource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 12 {
				busy.Store(true)
			}
			if busy.Load() {
				w.Header().Set("Retry-After", "90")
				w.WriteHeader(503)
				return
			}
			h.ServeHTTP(w, r)
		}))
		began := time.Now()
		_, err := job(c, src, "key").Start(t.Context())
		var later *origin.Later
		if !errors.As(err, &later) || later.After < 90*time.Second || later.After > 108*time.Second {
			t.Fatalf("got %v, want another try in 90 s to 108 s", err)
		}
		if failure.CodeOf(err) != failure.OriginStatus {
			t.Errorf("got code %s, want %s", failure.CodeOf(err), failure.OriginStatus)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("got a sleep of %s, want none", took)
		}
		busy.Store(false)
		before := len(h.Requests())
		mustCopy(t, c, s, src, "key", data)
		if got := len(h.Requests()) - before; got > 13 {
			t.Errorf("got %d ranges read again, want only what was missing", got)
		}
	})
}
