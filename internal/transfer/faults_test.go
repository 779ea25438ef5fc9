package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// asked returns how many bytes the ranges so far asked for.
func asked(h *origintest.File) int {
	total := 0
	for _, r := range h.Requests() {
		var start, end int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end); err == nil {
			total += end - start + 1
		}
	}
	return total
}

// A body that ends early, by FIN or by RST, at any byte: the rest is read from
// there.
func TestCutBodies(t *testing.T) {
	const size = 5*small + 77
	data := origintest.Bytes(20, size)
	places := []int{0, 1, small - 1, small, small + 1, size - 1}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		places = append(places, r.IntN(size))
	}
	for _, how := range []origintest.How{origintest.FIN, origintest.RST} {
		t.Run(map[origintest.How]string{origintest.FIN: "FIN", origintest.RST: "RST"}[how], func(t *testing.T) {
			t.Parallel()
			s := newS3(t)
			c := newCopier(t, s)
			for i, at := range places {
				if how == origintest.RST && i > 60 {
					break
				}
				h := origintest.New(data, `"v1"`)
				var once atomic.Bool
				src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var start, end int
					_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end)
					if start <= at && at <= end && once.CompareAndSwap(false, true) {
						origintest.Cut(h, w, r, at-start, how)
						return
					}
					h.ServeHTTP(w, r)
				}))
				mustCopy(t, c, s, src, fmt.Sprint("key", i), data)
				if got := asked(h); got > size+small {
					t.Errorf("cut at %d: %d bytes were asked for again, want at most a part", at, got-size)
				}
				if !once.Load() {
					t.Errorf("nothing was cut at %d", at)
				}
			}
		})
	}
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		s := newS3(t)
		c := newCopier(t, s)
		data := origintest.Bytes(21, 12*mib)
		for i, at := range []int{0, 1, 5 * mib, 11 * mib} {
			h := origintest.New(data, "")
			h.NoRanges, h.Chunked = true, i%2 == 0
			src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
				if n <= 2 {
					origintest.Cut(h, w, r, at, origintest.How(n-1))
					return
				}
				h.ServeHTTP(w, r)
			}))
			var told atomic.Int64
			c.Progress = func(n int64) { told.Add(n) }
			mustCopy(t, c, s, src, fmt.Sprint("key", i), data)
			if told.Load() != int64(len(data)) {
				t.Errorf("got progress of %d bytes, want %d", told.Load(), len(data))
			}
		}
	})
	t.Run("stream that always breaks", func(t *testing.T) {
		t.Parallel()
		s := newS3(t)
		c := newCopier(t, s)
		h := origintest.New(data, "")
		h.NoRanges = true
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origintest.Cut(h, w, r, small, origintest.FIN)
		}))
		_, err := c.Start(t.Context(), src, "key", nil)
		wantFailure(t, c, s, "key", err, failure.OriginTruncated)
		if got := len(h.Requests()); got != restarts+1 {
			t.Errorf("got %d tries, want %d", got, restarts+1)
		}
	})
}

// A range that stalls is dropped after the idle limit and read on elsewhere.
func TestStalledBody(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	data := origintest.Bytes(22, 8*small)
	h := origintest.New(data, `"v1"`)
	src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
		if n == 3 {
			origintest.Slow(h, w, r, small/2, func(sent int) bool {
				if sent > 0 {
					<-r.Context().Done()
				}
				return sent == 0
			})
			return
		}
		h.ServeHTTP(w, r)
	}))
	src.Client.IdleTimeout = 100 * time.Millisecond
	began := time.Now()
	mustCopy(t, c, s, src, "key", data)
	if d := time.Since(began); d < 100*time.Millisecond || d > 2*time.Second {
		t.Errorf("got %s, want the idle limit of 100 ms and little more", d)
	}
}

// 1,000 times the file is replaced in the middle, at a random request: what
// comes of it is one of the versions or ORIGIN_CHANGED, never a mix.
func TestFileReplacedMidCopy(t *testing.T) {
	const size = 4 * small
	old, fresh := origintest.Bytes(23, size), origintest.Bytes(24, size)
	for _, kind := range []string{"If-Match honoured", "If-Match ignored"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newS3(t)
			c := newCopier(t, s)
			r := rand.New(rand.NewPCG(3, uint64(len(kind))))
			counts := map[string]int{}
			var trial atomic.Pointer[http.Handler]
			src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*trial.Load()).ServeHTTP(w, r) }))
			for i := range 500 {
				h := origintest.New(old, `"old"`)
				at := 1 + r.IntN(5)
				flips := 1 + r.IntN(6) // more than the restarts: the file never rests
				next := origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
					if n%at == 0 && n/at <= flips {
						if n/at%2 == 1 {
							h.Replace(fresh, `"fresh"`)
						} else {
							h.Replace(old, `"old"`)
						}
					}
					if kind == "If-Match ignored" {
						r.Header.Del("If-Match")
					}
					h.ServeHTTP(w, r)
				})
				trial.Store(&next)
				key := fmt.Sprint("key", i)
				_, err := c.Start(t.Context(), src, key, nil)
				switch o := s.Object(key); {
				case err == nil && o != nil && isOneOf(o.Data, old, fresh):
					counts["whole"]++
				case flips == 1 && err != nil:
					t.Fatalf("trial %d: got %v though the file changed once only, want the new version", i, err)
				case failure.CodeOf(err) == failure.OriginChanged && o == nil:
					counts["changed"]++
					if err := c.Abort(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				default:
					t.Fatalf("trial %d: got %v and %d bytes that are neither version", i, err, len(o.Data))
				}
			}
			wantNoUpload(t, s)
			if counts["whole"] < 100 || counts["changed"] < 5 {
				t.Errorf("got %v, want many of both", counts)
			}
		})
	}
}

// Without a strong validator nothing is read in parallel.
func TestNoPin(t *testing.T) {
	data := origintest.Bytes(25, 10*small)
	for name, tt := range map[string]struct {
		etag   string
		header http.Header
	}{
		"no validator":       {"", nil},
		"Last-Modified only": {"", http.Header{"Last-Modified": {"Tue, 24 Nov 2026 10:00:00 GMT"}}},
		"weak ETag":          {`W/"v1"`, nil},
		"unquoted ETag":      {`v1`, nil},
		"two ETags":          {"", http.Header{"Etag": {`"a"`, `"b"`}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			h := origintest.New(data, tt.etag)
			h.Header = tt.header
			r := mustCopy(t, c, s, newSource(t, h), "key", data)
			if r.Pinned || !r.Verified {
				t.Errorf("got pinned %v, verified %v, want false, true", r.Pinned, r.Verified)
			}
			if r.Ranges > 2 {
				t.Errorf("got %d requests, want one wasted at most", r.Ranges)
			}
		})
	}
}

// A range that is answered with the whole file, always, or only when it is pinned.
func TestRangeAnsweredWith200(t *testing.T) {
	data := origintest.Bytes(26, 10*small)
	whole := origintest.New(data, `"v1"`)
	whole.NoRanges = true
	for name, h := range map[string]http.Handler{
		"always": whole,
		"advertised": func() http.Handler {
			f := origintest.New(data, `"v1"`)
			f.NoRanges, f.Header = true, http.Header{"Accept-Ranges": {"bytes"}}
			return f
		}(),
		"only with If-Match": func() http.Handler {
			ranged := origintest.New(data, `"v1"`)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-Match") != "" {
					r.Header.Del("Range")
				}
				ranged.ServeHTTP(w, r)
			})
		}(),
		"only with gzip accepted": func() http.Handler {
			ranged := origintest.New(data, `"v1"`)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
					r.Header.Del("Range")
				}
				ranged.ServeHTTP(w, r)
			})
		}(),
		"now and then": func() http.Handler {
			ranged := origintest.New(data, `"v1"`)
			return origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
				if n%4 == 0 {
					r.Header.Del("Range")
				}
				ranged.ServeHTTP(w, r)
			})
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			r := mustCopy(t, c, s, newSource(t, h), "key", data)
			if (name == "always" || name == "advertised") && r.Ranges != 1 {
				t.Errorf("got %d requests, want the body of the first to be used", r.Ranges)
			}
		})
	}
}

// Replies with another range than the one asked for are never written, whether
// the first or a later one is wrong.
func TestWrongRanges(t *testing.T) {
	data := origintest.Bytes(27, 10*small)
	wrong := map[string]func(h http.Header){
		"start":           func(h http.Header) { h.Set("Content-Range", shift(h.Get("Content-Range"), 1, 0, 0)) },
		"end":             func(h http.Header) { h.Set("Content-Range", shift(h.Get("Content-Range"), 0, -1, 0)) },
		"start and end":   func(h http.Header) { h.Set("Content-Range", shift(h.Get("Content-Range"), 1, 1, 0)) },
		"total":           func(h http.Header) { h.Set("Content-Range", shift(h.Get("Content-Range"), 0, 0, 5)) },
		"missing":         func(h http.Header) { h.Del("Content-Range") },
		"unknown total":   func(h http.Header) { h.Set("Content-Range", "bytes 0-4095/*") },
		"unit":            func(h http.Header) { h.Set("Content-Range", "items 0-4095/40960") },
		"multipart":       func(h http.Header) { h.Del("Content-Range"); h.Set("Content-Type", "multipart/byteranges; boundary=x") },
		"another version": func(h http.Header) { h.Set("ETag", `"v2"`) },
		"no version":      func(h http.Header) { h.Del("ETag") },
		"weak version":    func(h http.Header) { h.Set("ETag", `W/"v1"`) },
		"garbage":         func(h http.Header) { h.Set("Content-Range", "bytes 18446744073709551616-/1") },
		"longer than its own": func(h http.Header) {
			h.Del("Content-Length")
			h.Set("Content-Range", shift(h.Get("Content-Range"), 0, -1, 0))
		},
	}
	for name, mangle := range wrong {
		for _, from := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s from request %d", name, from), func(t *testing.T) {
				s := newS3(t)
				c := newCopier(t, s)
				h := origintest.New(data, `"v1"`)
				src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
					if n >= from && r.Header.Get("Range") != "" {
						w = &mangled{w, mangle, name == "another version" && from == 1} // of which there is only one then
					}
					h.ServeHTTP(w, r)
				}))
				out, err := c.Start(t.Context(), src, "key", nil)
				if err != nil {
					wantFailure(t, c, s, "key", err, failure.OriginChanged)
					return
				}
				wantObject(t, s, "key", data, *out.Result)
			})
		}
	}
}

// mangled is a reply whose headers are wrong, and its bytes too: they would be
// seen in the object.
type mangled struct {
	http.ResponseWriter
	f         func(http.Header)
	keepBytes bool
}

func (m *mangled) Write(p []byte) (int, error) {
	if !m.keepBytes {
		p = bytes.Clone(p)
		for i := range p {
			p[i] ^= 0xff
		}
	}
	return m.ResponseWriter.Write(p)
}

func (m *mangled) WriteHeader(status int) {
	m.f(m.Header())
	m.ResponseWriter.WriteHeader(status)
}

func shift(contentRange string, start, end, total int) string {
	var a, b, c int
	_, _ = fmt.Sscanf(contentRange, "bytes %d-%d/%d", &a, &b, &c)
	return fmt.Sprintf("bytes %d-%d/%d", a+start, b+end, c+total)
}

// gzip that nobody asked for is stored as it came, under its name.
func TestGzipUnasked(t *testing.T) {
	for _, size := range []int{100, 10 * small, 6 * mib} {
		s := newS3(t)
		c := newCopier(t, s)
		data := origintest.Bytes(28, size) // it needn't be gzip: it must not be looked at
		h := origintest.New(data, `"v1"`)
		h.NoRanges = size == 6*mib
		h.Header = http.Header{"Content-Encoding": {"gzip"}}
		mustCopy(t, c, s, newSource(t, h), "key", data)
		if got := s.Object("key").Header.Get("Content-Encoding"); got != "gzip" {
			t.Errorf("got Content-Encoding %q, want gzip", got)
		}
		if got := h.Requests()[0].Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("got Accept-Encoding %q, want identity", got)
		}
	}
}

func sha256Header(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// A body that neither a length nor chunks frame can be cut without a trace:
// verified says so, and a digest settles it.
func TestCloseDelimitedBody(t *testing.T) {
	data := origintest.Bytes(29, 6*mib)
	t.Run("whole", func(t *testing.T) {
		s := newS3(t)
		h := origintest.New(data, "")
		h.NoRanges, h.CloseDelimited = true, true
		if r := mustCopy(t, newCopier(t, s), s, newSource(t, h), "key", data); r.Verified {
			t.Error("got verified, want not")
		}
	})
	t.Run("cut", func(t *testing.T) {
		s := newS3(t)
		if r := mustCopy(t, newCopier(t, s), s, newSource(t, origintest.CutRaw(data, 5*mib+1)), "key", data[:5*mib+1]); r.Verified {
			t.Error("got verified, want not")
		}
	})
	t.Run("whole with a digest", func(t *testing.T) {
		s := newS3(t)
		h := origintest.New(data, "")
		h.NoRanges, h.CloseDelimited = true, true
		h.Header = http.Header{"Repr-Digest": {sha256Header(data)}}
		if r := mustCopy(t, newCopier(t, s), s, newSource(t, h), "key", data); !r.Verified || r.Digest != "sha-256" {
			t.Errorf("got verified %v by %q, want true by sha-256", r.Verified, r.Digest)
		}
	})
	t.Run("cut with a digest", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		cut := origintest.CutRaw(data, 5*mib+1)
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Repr-Digest", sha256Header(data))
			cut.ServeHTTP(w, r)
		}))
		_, err := c.Start(t.Context(), src, "key", nil)
		wantFailure(t, c, s, "key", err, failure.DigestMismatch)
	})
}

// Every digest that an origin offers is checked, on every way of copying.
func TestDigests(t *testing.T) {
	flipped := func(data []byte) []byte {
		b := bytes.Clone(data)
		b[len(b)*2/3] ^= 4
		return b
	}
	for name, header := range digestHeaders {
		for _, size := range []int{100, 10 * small, 6 * mib} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				t.Parallel()
				s := newS3(t)
				c := newCopier(t, s)
				data := origintest.Bytes(30, size)
				h := origintest.New(data, `"v1"`)
				h.NoRanges = size == 6*mib
				h.Header = header(data)
				r := mustCopy(t, c, s, newSource(t, h), "key", data)
				onlyWhole := strings.HasPrefix(name, "Content-") && size == 10*small // speaks of the range there
				if (r.Digest != "") == onlyWhole {
					t.Errorf("got digest %q", r.Digest)
				}
				bad := origintest.New(flipped(data), `"v1"`)
				bad.NoRanges, bad.Header = h.NoRanges, h.Header
				_, err := c.Start(t.Context(), newSource(t, bad), "bad", nil)
				if onlyWhole {
					if err != nil {
						t.Errorf("got %v for the digest of a range", err)
					}
					return
				}
				wantFailure(t, c, s, "bad", err, failure.DigestMismatch)
			})
		}
	}
	t.Run("none", func(t *testing.T) {
		s := newS3(t)
		data := origintest.Bytes(31, 10*small)
		if r := mustCopy(t, newCopier(t, s), s, newSource(t, origintest.New(data, `"v1"`)), "key", data); r.Digest != "" {
			t.Errorf("got digest %q, want none claimed", r.Digest)
		}
	})
	t.Run("of segments", func(t *testing.T) {
		for _, good := range []bool{true, false} {
			s := newS3(t)
			c := newCopier(t, s)
			c.SegmentBytes = 2 * small
			data := origintest.Bytes(32, 10*small)
			h := origintest.New(data, `"v1"`)
			h.Header = http.Header{"Repr-Digest": {sha256Header(data)}}
			if !good {
				h.Replace(flipped(data), `"v1"`)
			}
			src := newSource(t, h)
			out, err := c.Start(t.Context(), src, "key", nil)
			for err == nil && out.Work != nil {
				for _, segment := range out.Work.Segments {
					if err := c.CopySegment(t.Context(), src, out.Work.Plan, segment); err != nil {
						t.Fatal(err)
					}
				}
				out, err = c.Finish(t.Context(), src, *out.Work)
			}
			if !good {
				wantFailure(t, c, s, "key", err, failure.DigestMismatch)
				continue
			}
			if err != nil || out.Result.Digest != "sha-256" {
				t.Fatalf("got %+v, %v, want the digest checked", out.Result, err)
			}
			wantObject(t, s, "key", data, *out.Result)
		}
	})
}

// What an origin asks for is kept to, and a long wait isn't slept here. (The
// exact times are tested in package origin, on a clock of its own.)
func TestRetryAfter(t *testing.T) {
	data := origintest.Bytes(33, 100)
	for name, tt := range map[string]struct {
		value string
		least time.Duration
		later bool
	}{
		"seconds": {"1", time.Second, false},
		"past":    {"Tue, 24 Nov 2020 10:00:00 GMT", 0, false},
		"garbage": {"soon", 0, false},
		"a day":   {"86400", 0, true},
	} {
		for _, status := range []int{429, 503} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				t.Parallel()
				s := newS3(t)
				c := newCopier(t, s)
				h := origintest.New(data, `"v1"`)
				src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
					if n == 1 {
						w.Header().Set("Retry-After", tt.value)
						w.WriteHeader(status)
						return
					}
					h.ServeHTTP(w, r)
				}))
				began := time.Now()
				_, err := c.Start(t.Context(), src, "key", nil)
				var later *origin.Later
				if errors.As(err, &later) != tt.later || err != nil && !tt.later {
					t.Fatalf("got %v", err)
				}
				if tt.later && (later.After < origin.MaxRetryAfter || later.After > origin.MaxRetryAfter*6/5) {
					t.Errorf("got %s, want the cap %s and at most a fifth more", later.After, origin.MaxRetryAfter)
				}
				if took := time.Since(began); took < tt.least || took > origin.MaxSleep {
					t.Errorf("it took %s, want at least %s and no long sleep", took, tt.least)
				}
			})
		}
	}
}

// 1,000 copies from an origin that fails 30 % of its requests.
func TestFlakyOrigin(t *testing.T) {
	const jobs, size = 1000, 2*small + 9
	data := origintest.Bytes(34, size)
	s := newS3(t)
	c := newCopier(t, s)
	var requests atomic.Int64
	h := origintest.New(data, `"v1"`)
	var tries sync.Map // how often each range of each job was asked for
	src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		id := r.URL.Path + r.Header.Get("Range")
		n, _ := tries.LoadOrStore(id, new(atomic.Int64))
		// By hash, not by chance, so that the test is the same each time.
		sum := sha256.Sum256(fmt.Append(nil, id, " ", n.(*atomic.Int64).Add(1)))
		switch v := binary.BigEndian.Uint32(sum[:]) % 100; {
		case v < 15:
			w.WriteHeader([]int{500, 502, 503, 504, 429}[v%5])
		case v < 30:
			origintest.Cut(h, w, r, int(v)*100, origintest.How(v%2))
		default:
			h.ServeHTTP(w, r)
		}
	}))
	var failed atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			u := *src.URL
			u.Path = fmt.Sprint("/job", i)
			key := fmt.Sprint("key", i)
			if _, err := c.Start(t.Context(), Source{src.Client, &u}, key, nil); err != nil {
				t.Log(err, errors.Unwrap(failure.As(err)))
				failed.Add(1)
				return
			}
			if o := s.Object(key); o == nil || !bytes.Equal(o.Data, data) {
				t.Errorf("%s is another file", key)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > jobs/1000 {
		t.Errorf("%d of %d copies failed, want at most %d", n, jobs, jobs/1000)
	}
	ideal := float64(jobs * 3)
	if ratio := float64(requests.Load()) / ideal; ratio > 1.6 || ratio < 1.2 {
		t.Errorf("got %.2f times the ideal number of requests, want at most 1.6 and more than 1.2", ratio)
	}
	wantNoUpload(t, s)
}

// A bit that flips between us and S3 is found there, and the part sent again.
func TestBitFlipOnTheWayToS3(t *testing.T) {
	for name, tt := range map[string]struct {
		op   string
		size int
		set  func(f *origintest.File)
	}{
		"a part of ranges":   {"UploadPart", 10 * small, func(*origintest.File) {}},
		"a part of a stream": {"UploadPart", 12 * mib, func(f *origintest.File) { f.NoRanges = true }},
		"a small object":     {"PutObject", 100, func(*origintest.File) {}},
	} {
		for _, composite := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " composite=", composite), func(t *testing.T) {
				s := newS3(t)
				s.Composite = composite
				s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
					return s3test.Fault{Flip: op == tt.op && (n <= 2 || 5 <= n && n <= 7)} // the first may be the marker
				}
				data := origintest.Bytes(35, tt.size)
				h := origintest.New(data, `"v1"`)
				tt.set(h)
				mustCopy(t, newCopier(t, s), s, newSource(t, h), "key", data)
			})
		}
	}
}

// S3 refuses, breaks, or says so inside of a 200: each call, twice in a row.
func TestS3Fails(t *testing.T) {
	ops := []string{"HeadObject", "ListMultipartUploads", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"}
	for _, op := range ops {
		for name, fault := range map[string]s3test.Fault{
			"SlowDown":                  {Code: "SlowDown", Status: 503},
			"InternalError":             {Code: "InternalError", Status: 500},
			"RequestTimeout":            {Code: "RequestTimeout", Status: 400},
			"InternalError inside 200":  {Code: "InternalError", Inside: true},
			"connection drops":          {Drop: true, Read: 100},
			"reply lost":                {Lose: true},
			"SlowDown before the bytes": {Code: "SlowDown", Status: 503, Before: func() {}},
		} {
			if fault.Inside && op != "CompleteMultipartUpload" {
				continue // only a completion sends its status before it is done
			}
			if op == "HeadObject" && fault.Code == "RequestTimeout" {
				continue // a HEAD has no body to name it in
			}
			t.Run(op+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newS3(t)
				c := newCopier(t, s)
				s.Fault = func(called string, n int, _ *http.Request) s3test.Fault {
					if called == op && n <= 2 {
						return fault
					}
					return s3test.Fault{}
				}
				size := 10 * small
				if op == "PutObject" {
					size = 1000
				}
				data := origintest.Bytes(36, size)
				mustCopy(t, c, s, newSource(t, origintest.New(data, `"v1"`)), "key", data)
			})
		}
		for code, status := range map[string]int{"AccessDenied": 403, "NoSuchBucket": 404, "SlowDown": 503} {
			if op == "HeadObject" && code != "SlowDown" {
				continue // by S3's own words that is "no such object, or you may not know"
			}
			t.Run(op+" for ever "+code, func(t *testing.T) {
				t.Parallel()
				s := newS3(t)
				c := newCopier(t, s)
				var healed atomic.Bool
				s.Fault = func(called string, _ int, _ *http.Request) s3test.Fault {
					if called == op && !healed.Load() {
						return s3test.Fault{Code: code, Status: status}
					}
					return s3test.Fault{}
				}
				size := 10 * small
				if op == "PutObject" {
					size = 1000
				}
				_, err := c.Start(t.Context(), newSource(t, origintest.New(origintest.Bytes(37, size), `"v1"`)), "key", nil)
				healed.Store(true)
				wantFailure(t, c, s, "key", err, failure.Storage)
				if got := s.Calls(op); code != "SlowDown" && got > 12 {
					t.Errorf("got %d calls that were refused for good, want none repeated", got)
				}
			})
		}
	}
}

// A role that may not list the bucket is told 403 of an object that isn't there.
func TestMissingObjectIsForbidden(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	s.Fault = func(op string, n int, r *http.Request) s3test.Fault {
		if op == "HeadObject" && s.Object("key") == nil {
			return s3test.Fault{Code: "AccessDenied", Status: 403}
		}
		return s3test.Fault{Lose: op == "CompleteMultipartUpload" && n == 1}
	}
	data := origintest.Bytes(48, 10*small)
	mustCopy(t, c, s, newSource(t, origintest.New(data, `"v1"`)), "key", data)
}

// A completion whose answer is lost has happened, also when the SDK's own second
// try then meets NoSuchUpload.
func TestLostReplyOfCompletion(t *testing.T) {
	for _, size := range []int{1000, 10 * small, 6 * mib} {
		s := newS3(t)
		c := newCopier(t, s)
		s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
			return s3test.Fault{Lose: n == 1 && (op == "CompleteMultipartUpload" || op == "PutObject")}
		}
		data := origintest.Bytes(38, size)
		h := origintest.New(data, `"v1"`)
		h.NoRanges = size == 6*mib
		mustCopy(t, c, s, newSource(t, h), "key", data)
	}
}

// The same where no second look at the key would find it: in Finish, and where
// an object may be replaced.
func TestLostReplyIsSettled(t *testing.T) {
	data := origintest.Bytes(53, 10*small)
	lose := func(op string, n int, _ *http.Request) s3test.Fault {
		return s3test.Fault{Lose: n == 1 && op == "CompleteMultipartUpload"}
	}
	t.Run("replace", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		c.Replace, s.Fault = true, lose
		s.Put("key", origintest.Bytes(54, 10*small))
		h := origintest.New(data, `"v1"`)
		mustCopy(t, c, s, newSource(t, h), "key", data)
		if got := len(h.Requests()); got != 10 {
			t.Errorf("got %d ranges, want none read twice", got)
		}
	})
	t.Run("finish", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		c.SegmentBytes, s.Fault = 5*small, lose
		src := newSource(t, origintest.New(data, `"v1"`))
		out, err := c.Start(t.Context(), src, "key", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, segment := range out.Work.Segments {
			if err := c.CopySegment(t.Context(), src, out.Work.Plan, segment); err != nil {
				t.Fatal(err)
			}
		}
		if out, err = c.Finish(t.Context(), src, *out.Work); err != nil || out.Result == nil {
			t.Fatalf("got %+v, %v, want a result", out, err)
		}
		wantObject(t, s, "key", data, *out.Result)
	})
}

// A reply that promises more by its Content-Range than its chunks bring.
func TestShortChunkedRange(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-999/1000")
		w.WriteHeader(http.StatusPartialContent)
		w.(http.Flusher).Flush()
		_, _ = w.Write(make([]byte, 500))
	}))
	_, err := c.Start(t.Context(), src, "key", nil)
	wantFailure(t, c, s, "key", err, failure.OriginTruncated)
}

// An upload whose creation lost its answer is gone after the copy.
func TestLostReplyOfCreation(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
		return s3test.Fault{Lose: n == 1 && op == "CreateMultipartUpload"}
	}
	data := origintest.Bytes(39, 10*small)
	mustCopy(t, c, s, newSource(t, origintest.New(data, `"v1"`)), "key", data)
	if got := s.Calls("CreateMultipartUpload"); got != 2 {
		t.Errorf("got %d uploads made, want 2", got)
	}
}

// A copier that dies, at 100 random moments, leaves nothing that the next one
// doesn't find: it reads again no more than the parts that were under way.
func TestKilled(t *testing.T) {
	const parts = 40
	data := origintest.Bytes(40, parts*small-1)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 100 {
		s := newS3(t)
		c := newCopier(t, s)
		h := origintest.New(data, `"v1"`)
		src := newSource(t, h)
		// A killed process says nothing to anybody: what is open at S3 stays, and
		// what was on the way may or may not arrive.
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
		_, err := c.Start(ctx, src, "key", nil)
		kill(nil)
		mustCopy(t, c, s, src, "key", data)
		// All that was asked for, by both, is the file once, the parts that were
		// under way at the kill, and the second one's probe.
		if got := len(h.Requests()); err != nil && got > parts+inFlight*c.Concurrency+1 {
			t.Errorf("kill %d: got %d ranges in all, want at most %d", i, got, parts+inFlight*c.Concurrency+1)
		}
	}
}

// Parts of another version of the file, of another file or of other sizes are
// left alone, however alike the uploads are.
func TestResumeOnlyTheSame(t *testing.T) {
	const size = 20 * small
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
				if op == "UploadPart" && n == 12 {
					kill()
				}
				return s3test.Fault{}
			}
			if _, err := c.Start(ctx, src, "key", nil); err == nil {
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

// An object that came meanwhile is neither overwritten nor an error: another
// worker of this download was first.
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
		out, err := c.Start(t.Context(), newSource(t, h), "key", nil)
		if err != nil {
			t.Fatal(err)
		}
		wantObject(t, s, "key", theirs, *out.Result)
	}
}

// Two workers on one download, begun together or one after the other.
func TestTwoWorkers(t *testing.T) {
	data := origintest.Bytes(41, 20*small)
	r := rand.New(rand.NewPCG(7, 8))
	for i := range 30 {
		s := newS3(t)
		h := origintest.New(data, `"v1"`)
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Millisecond)
			h.ServeHTTP(w, r)
		}))
		gap := time.Duration(r.IntN(20)) * time.Millisecond
		if i%3 == 0 {
			gap = 0
		}
		var wg sync.WaitGroup
		errs := make([]error, 2)
		results := make([]Outcome, 2)
		for w := range 2 {
			c := newCopier(t, s)
			wg.Go(func() {
				time.Sleep(gap * time.Duration(w))
				results[w], errs[w] = c.Start(t.Context(), src, "key", nil)
			})
		}
		wg.Wait()
		for w := range 2 {
			if errs[w] != nil {
				t.Fatalf("trial %d, gap %s: worker %d got %v", i, gap, w, errs[w])
			}
			wantObject(t, s, "key", data, *results[w].Result)
		}
	}
}

// A worker that fails doesn't take the other's upload with it.
func TestLoserLeavesTheWinnerAlone(t *testing.T) {
	s := newS3(t)
	data := origintest.Bytes(42, 20*small)
	h := origintest.New(data, `"v1"`)
	winner, loser := newCopier(t, s), newCopier(t, s)
	src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		h.ServeHTTP(w, r)
	}))
	broken := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
		if n > 4 {
			w.WriteHeader(404)
			return
		}
		h.ServeHTTP(w, r)
	}))
	broken.URL = src.URL // the same file, by another client whose origin is broken
	broken.Client.Base = src.URL
	var wg sync.WaitGroup
	wg.Go(func() {
		out, err := winner.Start(t.Context(), src, "key", nil)
		if err != nil {
			t.Errorf("the winner: %v", err)
			return
		}
		wantObject(t, s, "key", data, *out.Result)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	wg.Go(func() {
		time.Sleep(5 * time.Millisecond)
		cancel(failure.New(failure.Cancelled, "timed out"))
	})
	_, _ = loser.Start(ctx, src, "key", nil)
	wg.Wait()
}

// A cancel is what comes out, at once, and nothing is left after the abort, not
// even by a part that was under way when its upload was aborted.
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
						cancel(failure.New(failure.Cancelled, "stopped by the client"))
						<-r.Context().Done()
						return false
					}
					return true
				})
			}))
			cancelled := make(chan time.Time, 1)
			context.AfterFunc(ctx, func() { cancelled <- time.Now() })
			_, err := c.Start(ctx, src, "key", nil)
			if d := time.Since(<-cancelled); d > 2*time.Second {
				t.Errorf("got %s until it stopped, want at most 2 s", d)
			}
			if open := s.Open(); name == "stream" && len(open) > 0 {
				t.Errorf("got open uploads %v of a stream, which nobody can continue", open)
			}
			wantFailure(t, c, s, "key", err, failure.Cancelled)
		})
	}
}

func TestAbortOutlastsALatePart(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	release, stored := make(chan struct{}), make(chan struct{})
	late := sync.OnceFunc(func() {
		close(release)
		<-stored
	})
	s.Fault = func(op string, n int, r *http.Request) s3test.Fault {
		switch {
		case op == "UploadPart" && n == 5:
			// It has arrived at S3 and will be stored, whatever its sender does.
			return s3test.Fault{During: func() {
				cancel(failure.New(failure.Cancelled, "stopped"))
				<-release
				time.AfterFunc(20*time.Millisecond, func() { close(stored) })
			}}
		case op == "ListParts" && s.Calls("AbortMultipartUpload") == 1:
			late()
		}
		return s3test.Fault{}
	}
	_, err := c.Start(ctx, newSource(t, origintest.New(origintest.Bytes(44, 10*small), `"v1"`)), "key", nil)
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
}

// An upload that somebody aborts while it is copied to is begun again; a
// download that was ended for good ends by its own context or item.
func TestUploadAbortedMidCopy(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	data := origintest.Bytes(45, 20*small)
	s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
		if op == "UploadPart" && n == 10 {
			return s3test.Fault{Before: func() { _ = newCopier(t, s).Abort(context.Background(), "key") }}
		}
		return s3test.Fault{}
	}
	mustCopy(t, c, s, newSource(t, origintest.New(data, `"v1"`)), "key", data)
}

// Redirects: allowed ones are followed and pinned, others are named.
func TestRedirects(t *testing.T) {
	data := origintest.Bytes(46, 10*small)
	h := origintest.New(data, `"v1"`)
	hops := func(n int, last http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var at int
			if _, err := fmt.Sscanf(r.URL.Path, "/hop%d", &at); err != nil && r.URL.Path != "/dir/file.bin" {
				t.Errorf("asked for %s", r.URL)
			}
			if at < n {
				http.Redirect(w, r, fmt.Sprintf("/hop%d?signed=planted", at+1), []int{301, http.StatusFound, 303, 307, 308}[at%5])
				return
			}
			last.ServeHTTP(w, r)
		})
	}
	other := newSource(t, h)
	var canary atomic.Int64
	trap := newSource(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { canary.Add(1) }))
	tls := newTLSOrigin(t, http.RedirectHandler(trap.URL.String(), http.StatusFound))
	tls.Client.RedirectHosts, tls.Client.AnyAddress = []string{"*"}, true // so that only the scheme decides
	for name, tt := range map[string]struct {
		src  Source
		want failure.Code
	}{
		"one hop":          {newSource(t, hops(1, h)), ""},
		"five hops":        {newSource(t, hops(5, h)), ""},
		"six hops":         {newSource(t, hops(6, h)), failure.OriginStatus},
		"a loop":           {newSource(t, http.RedirectHandler("/dir/file.bin", http.StatusFound)), failure.OriginStatus},
		"no Location":      {newSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) })), failure.OriginStatus},
		"https to http":    {tls, failure.BlockedAddress},
		"another host":     {newSource(t, http.RedirectHandler("http://other.example/", http.StatusFound)), failure.BlockedAddress},
		"another port":     {newSource(t, http.RedirectHandler(trap.URL.String(), http.StatusFound)), failure.BlockedAddress},
		"user in it":       {newSource(t, http.RedirectHandler("http://u:p@127.0.0.1/", http.StatusFound)), failure.BlockedAddress},
		"another scheme":   {newSource(t, http.RedirectHandler("file:///etc/passwd", http.StatusFound)), failure.BlockedAddress},
		"metadata":         {newSource(t, http.RedirectHandler("http://169.254.169.254/", http.StatusFound)), failure.BlockedAddress},
		"loopback by name": {newSource(t, http.RedirectHandler("http://localhost/", http.StatusFound)), failure.BlockedAddress},
		"by scheme relative": {newSource(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "//other.example/x")
			w.WriteHeader(http.StatusFound)
		})), failure.BlockedAddress},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			out, err := c.Start(t.Context(), tt.src, "key", nil)
			if tt.want != "" {
				wantFailure(t, c, s, "key", err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantObject(t, s, "key", data, *out.Result)
		})
	}
	if canary.Load() != 0 {
		t.Errorf("the canary saw %d requests, want 0", canary.Load())
	}

	t.Run("another host that is allowed gets no secret header", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "planted" {
				t.Error("the origin got no secret header")
			}
			http.Redirect(w, r, other.URL.String(), http.StatusFound)
		}))
		src.Client.Header = http.Header{"authorization": {"planted"}}
		src.Client.RedirectHosts = []string{other.URL.Host}
		mustCopy(t, c, s, src, "key", data)
		for _, r := range h.Requests() {
			if r.Header.Get("Authorization") != "" {
				t.Fatal("the other host got the secret header")
			}
		}
	})
	t.Run("each request is sent elsewhere", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		a, b := origintest.New(data, `"v1"`), origintest.New(origintest.Bytes(47, len(data)), `"v2"`)
		var n atomic.Int64
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/a":
				a.ServeHTTP(w, r)
			case "/b":
				b.ServeHTTP(w, r)
			default:
				http.Redirect(w, r, []string{"/a", "/b"}[int(n.Add(1)-1)%2], http.StatusFound)
			}
		}))
		mustCopy(t, c, s, src, "key", data)
		if n.Load() != 1 {
			t.Errorf("got %d redirects, want all ranges from where the first led", n.Load())
		}
	})
	t.Run("each worker asks once", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		c.SegmentBytes, c.Concurrency = 5*small, 1
		var n atomic.Int64
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/target" {
				n.Add(1)
				http.Redirect(w, r, "/target", http.StatusFound)
				return
			}
			h.ServeHTTP(w, r)
		}))
		out, err := c.Start(t.Context(), src, "key", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, segment := range out.Work.Segments {
			if err := c.CopySegment(t.Context(), src, out.Work.Plan, segment); err != nil {
				t.Fatal(err)
			}
		}
		if n.Load() != 3 {
			t.Errorf("got %d redirects, want one for Start and one for each of 2 segments", n.Load())
		}
	})
	t.Run("a signed target runs out", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		var signed atomic.Int64
		var served atomic.Int64
		src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/target" {
				http.Redirect(w, r, "/target?"+url.Values{"n": {fmt.Sprint(signed.Add(1))}}.Encode(), http.StatusFound)
				return
			}
			if served.Add(1) > 3 && r.URL.Query().Get("n") == "1" {
				w.WriteHeader(403)
				return
			}
			h.ServeHTTP(w, r)
		}))
		mustCopy(t, c, s, src, "key", data)
	})
}
