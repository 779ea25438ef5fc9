package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// After a copier was killed, at a random call of S3, the next one finds all parts that were
// stored: it reads again at most those that were in flight.
func TestKilled(t *testing.T) {
	const parts = 40
	data := origintest.Bytes(40, parts*small-1)
	r := rand.New(rand.NewPCG(5, 6))
	kills := 100
	if testing.Short() { // with the race detector
		kills = 10
	}
	for i := range kills {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		h := origintest.New(data, `"v1"`)
		src := newMemorySource(t, h)
		// A killed process ends nothing: what is open at S3 stays open, and what was in flight
		// may or may not arrive.
		ctx, kill := context.WithCancelCause(t.Context())
		at := 1 + r.IntN(parts+6)
		s.Fault = func(_ string, _ int, _ *http.Request) s3test.Fault {
			if at--; at == 0 {
				kill(errors.New("killed"))
			}
			return s3test.Fault{}
		}
		locked := s.Fault
		var mu sync.Mutex
		s.Fault = func(op string, n int, r *http.Request) s3test.Fault {
			mu.Lock()
			defer mu.Unlock()
			return locked(op, n, r)
		}
		_, err := job(c, src, "key").Start(ctx)
		kill(nil)
		mustCopy(t, c, s, src, "key", data)
		// All that was asked for, by both, is the file once, the parts that were
		// under way at the kill, and the second one's probe.
		if got := len(h.Requests()); err != nil && got > parts+inFlight*c.Concurrency+1 {
			t.Errorf("kill %d: got %d ranges in all, want at most %d", i, got, parts+inFlight*c.Concurrency+1)
		}
	}
}

// Parts of another version of the file, of another file, or of other sizes are not used,
// however similar the uploads are.
func TestResumeOnlyTheSame(t *testing.T) {
	const size = 40 * small
	old, fresh := origintest.Bytes(49, size), origintest.Bytes(50, size)
	for name, change := range map[string]func(c *Copier, h *origintest.File, src *Source){
		"another version": func(_ *Copier, h *origintest.File, _ *Source) { h.Replace(fresh, `"v2"`) },
		"another URL with the same validator": func(_ *Copier, h *origintest.File, src *Source) {
			h.Replace(fresh, `"v1"`)
			u := *src.URL
			u.RawQuery = "another"
			src.URL = &u
		},
		"another part size": func(c *Copier, _ *origintest.File, _ *Source) { c.PartSize = 2 * small },
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			h := origintest.New(old, `"v1"`)
			src := newSource(t, h)
			ctx, kill := context.WithCancel(t.Context())
			s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
				if op == "UploadPart" && n == inFlight*c.Concurrency+5 { // by now five have ended
					kill()
				}
				return s3test.Fault{}
			}
			if _, err := job(c, src, "key").Start(ctx); err == nil {
				t.Fatal("got no error from a copy that was killed")
			}
			if open := s.Open(); len(open) != 1 || len(s.Parts(open[0])) < 5 {
				t.Fatalf("got uploads %v, want one with parts", open)
			}
			change(c, h, &src)
			want := fresh
			if name == "another part size" {
				want = old
			}
			mustCopy(t, c, s, src, "key", want)
		})
	}
}

// An object that another worker of the download has completed in the meantime is the
// result. It is not overwritten.
func TestAnotherWorkerWasFirst(t *testing.T) {
	for _, size := range []int{1000, 10 * small, 6 * mib} {
		s := newS3(t)
		c := newCopier(t, s)
		data, theirs := origintest.Bytes(51, size), origintest.Bytes(52, size/2)
		s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
			if n == 1 && (op == "CompleteMultipartUpload" || op == "PutObject") {
				return s3test.Fault{Before: func() { s.Put("key", theirs) }}
			}
			return s3test.Fault{}
		}
		h := origintest.New(data, `"v1"`)
		h.NoRanges = size == 6*mib
		out, err := job(c, newSource(t, h), "key").Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantObject(t, s, "key", theirs, *out.Result)
	}
}

// The completion of a killed worker may arrive after the look for the object and before
// the one for its upload. Nothing is copied again.
func TestFinishedMeanwhile(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	data := origintest.Bytes(53, 10*small)
	s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
		if n == 1 && op == "ListMultipartUploads" {
			return s3test.Fault{Before: func() { s.Put("key", data) }}
		}
		return s3test.Fault{}
	}
	h := origintest.New(data, `"v1"`)
	mustCopy(t, c, s, newSource(t, h), "key", data)
	if got := len(h.Requests()); got != 1 {
		t.Errorf("got %d requests at the origin, want the first one's alone", got)
	}
	if got := s.Calls("CreateMultipartUpload"); got != 0 {
		t.Errorf("got %d uploads, want none", got)
	}
}

// Progress counts each byte once, as it passes. It never decreases and never exceeds the
// file's size: not when a part is sent again, nor in a run that continues another or begins
// again.
func TestProgress(t *testing.T) {
	for name, test := range map[string]struct {
		size   int64
		stored int // parts of the first run, the marker among them
	}{"ranges": {40*small - 1, 20}, "stream": {16*mib - 1, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newS3(t)
			c := newCopier(t, s)
			ctx, kill := context.WithCancel(t.Context())
			var second atomic.Bool
			s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
				switch {
				case op != "UploadPart":
				case n%3 == 0:
					return s3test.Fault{Code: "InternalError", Status: 500}
				case n > test.stored && !second.Load():
					return s3test.Fault{Drop: true, Before: func() { kill(); <-ctx.Done() }}
				}
				return s3test.Fault{}
			}
			h := origintest.New(origintest.Bytes(54, int(test.size)), `"v1"`)
			h.NoRanges, h.Chunked = name == "stream", name == "stream"
			src := newSource(t, h)
			first := job(c, src, "key")
			if _, err := first.Start(ctx); err == nil {
				t.Fatal("got no error from a copy that was killed")
			}
			if got := first.Copied(); got <= first.Stored() || got > test.size {
				t.Errorf("got %d bytes copied of %d, want more than the %d that were stored", got, test.size, first.Stored())
			}
			second.Store(true)
			resumed := job(c, src, "key")
			resumed.Reported = first.Copied()
			resumed.OnSize = func(int64) {
				if got := resumed.Copied(); got != resumed.Reported {
					t.Errorf("got %d bytes copied at the start, want the %d of the first run", got, resumed.Reported)
				}
			}
			if _, err := resumed.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := resumed.Copied(); got != test.size {
				t.Errorf("got %d bytes copied, want %d", got, test.size)
			}
			if got := resumed.Stored() + resumed.Resumed(); got != test.size {
				t.Errorf("got %d bytes resumed and %d stored, want %d in all", resumed.Resumed(), resumed.Stored(), test.size)
			}
		})
	}
}

// The progress of all segments adds up to the file, over several rounds.
func TestProgressOfSegments(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	c.SegmentBytes = 4 * small
	data := origintest.Bytes(67, 15*small+5)
	src := newSource(t, origintest.New(data, `"v1"`))
	out, err := job(c, src, "key").Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
		if op == "UploadPart" && n%3 == 0 && n < 100 {
			return s3test.Fault{Code: "AccessDenied", Status: 403}
		}
		return s3test.Fault{}
	}
	copied := map[Segment]int64{}
	for out.Work != nil {
		for _, segment := range out.Work.Segments {
			j, home := job(c, src, "key"), c.Home(out.Work.Plan, segment)
			j.Reported = copied[home]
			_ = j.CopySegment(t.Context(), out.Work.Plan, segment)
			if j.Copied() < copied[home] {
				t.Errorf("segment %v: got %d bytes copied after %d", home, j.Copied(), copied[home])
			}
			copied[home] = j.Copied()
		}
		if out, err = job(c, src, "key").Finish(t.Context(), *out.Work); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	for _, n := range copied {
		total += n
	}
	if len(copied) != 4 || total != int64(len(data)) {
		t.Errorf("got %d bytes copied in %d segments, want %d in 4", total, len(copied), len(data))
	}
}

// Two workers on one download, begun together or one after the other.
func TestTwoWorkers(t *testing.T) {
	data := origintest.Bytes(41, 20*small)
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 15 {
		gap := time.Duration(r.IntN(25)) * time.Millisecond
		if i%3 == 0 {
			gap = 0
		}
		synctest.Test(t, func(t *testing.T) {
			take := func() { time.Sleep(rand.N(4 * time.Millisecond)) }
			s := newMemoryS3(t)
			s.Fault = func(string, int, *http.Request) s3test.Fault { return s3test.Fault{Before: take, During: take} }
			h := origintest.New(data, `"v1"`)
			src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				take()
				h.ServeHTTP(w, r)
			}))
			var wg sync.WaitGroup
			errs := make([]error, 2)
			results := make([]Outcome, 2)
			for w := range 2 {
				c := newCopier(t, s)
				wg.Go(func() {
					time.Sleep(gap * time.Duration(w))
					results[w], errs[w] = job(c, src, "key").Start(t.Context())
				})
			}
			wg.Wait()
			for w := range 2 {
				if errs[w] != nil {
					t.Fatalf("trial %d, gap %s: worker %d got %v", i, gap, w, errs[w])
				}
				wantObject(t, s, "key", data, *results[w].Result)
			}
		})
	}
}

// A worker that fails or is cancelled doesn't take the other's upload with it.
func TestLoserLeavesTheWinnerAlone(t *testing.T) {
	data := origintest.Bytes(42, 20*small)
	for name, lose := range map[string]func(w http.ResponseWriter, cancel context.CancelCauseFunc){
		"fails": func(w http.ResponseWriter, _ context.CancelCauseFunc) { w.WriteHeader(http.StatusNotFound) },
		"is cancelled": func(_ http.ResponseWriter, cancel context.CancelCauseFunc) {
			cancel(failure.New(failure.Cancelled, "timed out"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			winner, loser := newCopier(t, s), newCopier(t, s)
			h := origintest.New(data, `"v1"`)
			ctx, cancel := context.WithCancelCause(t.Context())
			begun := make(chan struct{})
			var lost atomic.Int64
			src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Loser") != "" {
					switch n := lost.Add(1); {
					case n == 4:
						close(begun) // its upload is open
					case n > 4:
						lose(w, cancel)
						return
					}
				}
				h.ServeHTTP(w, r)
			}))
			same := sourceOf(t, src.URL.String())
			same.Client.Header = http.Header{"Loser": {"yes"}}
			var wg sync.WaitGroup
			wg.Go(func() {
				<-begun
				if _, err := job(winner, src, "key").Start(t.Context()); err != nil {
					t.Errorf("the winner: %v", err)
				}
			})
			_, _ = job(loser, same, "key").Start(ctx)
			wg.Wait()
			if o := s.Object("key"); o == nil || !bytes.Equal(o.Data, data) {
				t.Errorf("got %v, want the file", o)
			}
			s.Idle()
			if err := winner.Abort(t.Context(), "key"); err != nil { // what the loser had under way
				t.Fatal(err)
			}
			wantNoUpload(t, s)
		})
	}
}

// A cancel ends a copy at once. After the abort nothing is left, not even a part that was
// in flight when its upload was aborted.
func TestCancel(t *testing.T) {
	for name, set := range map[string]func(f *origintest.File){
		"ranges": func(*origintest.File) {},
		"stream": func(f *origintest.File) { f.NoRanges = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			h := origintest.New(origintest.Bytes(43, 24*mib), `"v1"`)
			set(h)
			c.PartSize = 5 * mib
			ctx, cancel := context.WithCancelCause(t.Context())
			var sent atomic.Int64
			src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				origintest.Slow(h, w, r, 64*kib, func(int) bool {
					if sent.Add(64*kib) > 12*mib {
						for name == "stream" && len(s.Parts("upload-1")) < 2 && r.Context().Err() == nil { // S3 may take longer than the copier waits
							time.Sleep(time.Millisecond)
						}
						cancel(failure.New(failure.Cancelled, "stopped by the client"))
						<-r.Context().Done()
						return false
					}
					return true
				})
			}))
			cancelled := make(chan time.Time, 1)
			context.AfterFunc(ctx, func() { cancelled <- time.Now() })
			_, err := job(c, src, "key").Start(ctx)
			if d := time.Since(<-cancelled); d > 10*time.Second {
				t.Errorf("got %s until it stopped, want 1 s and little more", d)
			}
			if open := s.Open(); name == "stream" && len(open) > 0 {
				t.Errorf("got open uploads %v of a stream, which nobody can continue", open)
			}
			wantFailure(t, c, s, "key", err, failure.Cancelled)
		})
	}
}

// A part of a cancelled copy doesn't arrive if its last byte wasn't read; else its answer is
// awaited.
func TestLastByte(t *testing.T) {
	for name, plan := range map[string]Plan{"checksum behind": {}, "composite": {Composite: true}, "plain": {Plain: true}} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s late=%v", name, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					end := func() { cancel(); synctest.Wait() }
					b := newBody(10, plan)
					b.last = func() {}
					b.src = io.MultiReader(strings.NewReader("01234"), readerFunc(func(p []byte) (int, error) {
						if !late {
							end()
						}
						return copy(p, "56789"), nil
					}))
					call, done := b.context(ctx)
					defer done(nil)
					n, _ := io.Copy(io.Discard, b)
					if late {
						end()
					}
					began := time.Now()
					<-call.Done()
					took := time.Since(began)
					if all := n == b.encodedLength(); all != late || (took == settling) != late {
						t.Errorf("got %d of %d bytes and an end after %s, want all of them and %s only where the end is late", n, b.encodedLength(), took, settling)
					}
				})
			})
		}
	}
}

// A body has its bytes and no more of its source, read in pieces of any size.
func TestBodyInPieces(t *testing.T) {
	for name, plan := range map[string]Plan{"checksum behind": {}, "composite": {Composite: true}, "plain": {Plain: true}} {
		var first string
		for _, piece := range []int{1000, 1, 3} {
			b := newBody(10, plan)
			b.src, b.last = strings.NewReader("0123456789 and more"), func() {}
			var got []byte
			buf := make([]byte, piece)
			for {
				n, err := b.Read(buf)
				got = append(got, buf[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil || n == 0 {
					t.Fatalf("%s: got %d bytes, %v", name, n, err)
				}
			}
			if first == "" {
				first = string(got)
			}
			if string(got) != first || int64(len(got)) != b.encodedLength() || !strings.Contains(first, "0123456789") || strings.Contains(first, "more") {
				t.Errorf("%s in pieces of %d: got %q, want %d bytes as in %q", name, piece, got, b.encodedLength(), first)
			}
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAbortOutlastsALatePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		ctx, cancel := context.WithCancelCause(t.Context())
		release := make(chan struct{})
		late := sync.OnceFunc(func() {
			close(release)
			for len(s.Parts("upload-1")) == 0 { // the abort took all others
				time.Sleep(time.Millisecond)
			}
		})
		s.Fault = func(op string, n int, r *http.Request) s3test.Fault {
			switch {
			case op == "UploadPart" && n == 5:
				// It has arrived at S3 and will be stored, also if its sender gives up.
				return s3test.Fault{During: func() {
					cancel(failure.New(failure.Cancelled, "stopped"))
					<-release
				}}
			case op == "ListParts" && s.Calls("AbortMultipartUpload") == 1:
				late()
			}
			return s3test.Fault{}
		}
		_, err := job(c, newMemorySource(t, origintest.New(origintest.Bytes(44, 10*small), `"v1"`)), "key").Start(ctx)
		if failure.CodeOf(err) != failure.Cancelled {
			t.Fatalf("got %v, want %s", err, failure.Cancelled)
		}
		if err := c.Abort(t.Context(), "key"); err != nil {
			t.Fatal(err)
		}
		wantNoUpload(t, s)
		if got := s.Calls("AbortMultipartUpload"); got != 2 {
			t.Errorf("got %d aborts, want one more for the late part", got)
		}
	})
}

// A copy whose upload is aborted begins again. So does one whose upload was reopened by a
// late part, without its other parts.
func TestUploadAbortedMidCopy(t *testing.T) {
	data := origintest.Bytes(45, 20*small)
	for name, fault := range map[string]func(abort func()) s3test.Fault{
		"gone":         func(abort func()) s3test.Fault { return s3test.Fault{Before: abort} },
		"brought back": func(abort func()) s3test.Fault { return s3test.Fault{During: abort} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
				if op != "UploadPart" || n != inFlight*c.Concurrency+5 { // by now five have ended
					return s3test.Fault{}
				}
				return fault(func() {
					_, err := c.S3.AbortMultipartUpload(context.Background(), &s3.AbortMultipartUploadInput{Bucket: &c.Bucket, Key: aws.String("key"), UploadId: &s.Open()[0]})
					if err != nil {
						t.Error(err)
					}
				})
			}
			mustCopy(t, c, s, newSource(t, origintest.New(data, `"v1"`)), "key", data)
		})
	}
}
