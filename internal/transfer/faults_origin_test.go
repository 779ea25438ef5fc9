package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
)

// asked returns how many bytes the ranges so far asked for.
func asked(h *origintest.File) int {
	total := 0
	for _, r := range h.Requests() {
		if first, last, ok := rangeOf(r); ok {
			total += last - first + 1
		}
	}
	return total
}

// A body that ends early, by FIN or by RST, at any byte: only the rest is read again.
func TestCutBodies(t *testing.T) {
	const size = 5*small + 77
	data := origintest.Bytes(20, size)
	places := []int{0, 1, small - 1, small, small + 1, size - 1}
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		places = append(places, r.IntN(size))
	}
	for how, serve := range map[origintest.How]func(testing.TB, http.Handler) Source{origintest.FIN: newMemorySource, origintest.RST: newSource} {
		t.Run(map[origintest.How]string{origintest.FIN: "FIN", origintest.RST: "RST"}[how], func(t *testing.T) {
			t.Parallel()
			s := newMemoryS3(t)
			c := newCopier(t, s)
			for i, at := range places {
				h := origintest.New(data, `"v1"`)
				var once atomic.Bool
				src := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					start, end, _ := rangeOf(r)
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
		s := newMemoryS3(t)
		c := newCopier(t, s)
		data := origintest.Bytes(21, 6*mib)
		for i, at := range []int{0, 1, 5 * mib, 6*mib - 1} {
			h := origintest.New(data, "")
			h.NoRanges, h.Chunked = true, i%2 == 0
			src := newSource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
				if n <= 2 {
					origintest.Cut(h, w, r, at, origintest.How(n-1))
					return
				}
				h.ServeHTTP(w, r)
			}))
			j := job(c, src, fmt.Sprint("key", i))
			mustRun(t, j, s, data)
			if j.Copied() != int64(len(data)) {
				t.Errorf("got %d bytes copied, want %d", j.Copied(), len(data))
			}
		}
	})
}

// A range that stalls is dropped after the idle limit, and read on another connection.
func TestStalledBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryS3(t)
		c := newCopier(t, s)
		data := origintest.Bytes(22, 8*small)
		h := origintest.New(data, `"v1"`)
		src := newMemorySource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
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
		began := time.Now()
		mustCopy(t, c, s, src, "key", data)
		if d := time.Since(began); d < origin.IdleTimeout || d > origin.IdleTimeout*11/10 {
			t.Errorf("got %s, want the idle limit %s and at most a tenth more", d, origin.IdleTimeout)
		}
	})
}

// The file is replaced in the middle of a copy, at a random request. The object is one of
// the versions, never a mix, with every kind of pin and every way to copy. TRIALS is the
// number of copies for each kind; 1,000 take some minutes.
func TestFileReplacedMidCopy(t *testing.T) {
	const size = 4 * small
	trials := 60
	if testing.Short() { // with the race detector
		trials = 10
	}
	if n, err := strconv.Atoi(os.Getenv("TRIALS")); err == nil {
		trials = n
	}
	old, fresh := origintest.Bytes(23, size), origintest.Bytes(24, size)
	hoursAgo := func(n time.Duration) time.Time { return time.Now().Add(-n * time.Hour) }
	tags := func(prefix, suffix string) [2]string {
		return [2]string{prefix + "old" + suffix, prefix + "fresh" + suffix}
	}
	ignored := func(r *http.Request, _ int, _ http.ResponseWriter) { // the condition
		r.Header.Del("If-Match")
		r.Header.Del("If-Unmodified-Since")
	}
	for name, tt := range map[string]struct {
		tags  [2]string
		dated bool
		spoil func(r *http.Request, n int, w http.ResponseWriter)
	}{
		"tag":                        {tags: tags(`"`, `"`)},
		"tag, condition ignored":     {tags: tags(`"`, `"`), spoil: ignored},
		"date":                       {dated: true},
		"date, condition ignored":    {dated: true, spoil: ignored},
		"date and weak tag":          {tags: tags(`W/"`, `"`), dated: true},
		"tag without quotes":         {tags: tags("", "")},
		"tag, condition never holds": {tags: tags(`"`, `"`), spoil: func(r *http.Request, _ int, _ http.ResponseWriter) { neverMatches(r) }},
		"nothing":                    {},
		"every third range is refused": {tags: tags(`"`, `"`), spoil: func(r *http.Request, n int, _ http.ResponseWriter) {
			if n%3 == 0 {
				r.Header.Set("Range", "bytes=99999999-")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMemoryS3(t)
			c := newCopier(t, s)
			r := rand.New(rand.NewPCG(3, uint64(len(name))))
			whole := map[bool]int{} // by whether it is the new version
			var trial atomic.Pointer[http.Handler]
			src := newMemorySource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*trial.Load()).ServeHTTP(w, r) }))
			times := [2]time.Time{}
			if tt.dated {
				times = [2]time.Time{hoursAgo(2), hoursAgo(1)}
			}
			for i := range trials {
				h := origintest.New(nil, "")
				h.ReplaceAt(old, tt.tags[0], times[0])
				at := 1 + r.IntN(5)
				flips := 1 + r.IntN(9)
				if i < 2 { // one trial for each version whose outcome is certain
					at, flips = 1, i
				}
				next := origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
					if n%at == 0 && n/at <= flips {
						if n/at%2 == 1 {
							h.ReplaceAt(fresh, tt.tags[1], times[1])
						} else {
							h.ReplaceAt(old, tt.tags[0], times[0])
						}
					}
					if tt.spoil != nil {
						tt.spoil(r, n, w)
					}
					h.ServeHTTP(w, r)
				})
				trial.Store(&next)
				key := fmt.Sprint("key", i)
				_, err := job(c, src, key).Start(t.Context())
				if err != nil {
					t.Fatalf("trial %d: got %v, want one of the versions", i, err)
				}
				o := s.Object(key)
				if !isOneOf(o.Data, old, fresh) {
					t.Fatalf("trial %d: got %d bytes that are neither version", i, len(o.Data))
				}
				whole[bytes.Equal(o.Data, fresh)]++
			}
			wantNoUpload(t, s)
			if whole[true] == 0 || whole[false] == 0 {
				t.Errorf("got %v new versions, want some of both", whole)
			}
		})
	}
}

// neverMatches makes a condition of r fail.
func neverMatches(r *http.Request) {
	if r.Header.Get("If-Match") != "" {
		r.Header.Set("If-Match", `"never"`)
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
				s := newMemoryS3(t)
				c := newCopier(t, s)
				h := origintest.New(data, `"v1"`)
				src := newMemorySource(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
					if n >= from && r.Header.Get("Range") != "" {
						w = &mangled{w, mangle, name == "another version" && from == 1} // of which there is only one then
					}
					h.ServeHTTP(w, r)
				}))
				out, err := job(c, src, "key").Start(t.Context())
				if err != nil {
					wantFailure(t, c, s, "key", err, failure.OriginChanged)
					return
				}
				want := data
				if name == "another version" && !bytes.Equal(s.Object("key").Data, data) {
					want = flipAll(data) // a whole one, too
				}
				wantObject(t, s, "key", want, *out.Result)
			})
		}
	}
}

func flipAll(p []byte) []byte {
	p = bytes.Clone(p)
	for i := range p {
		p[i] ^= 0xff
	}
	return p
}

// mangled is a reply with wrong headers and wrong bytes: the object would show them.
type mangled struct {
	http.ResponseWriter
	f         func(http.Header)
	keepBytes bool
}

func (m *mangled) Write(p []byte) (int, error) {
	if !m.keepBytes {
		p = flipAll(p)
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

// The cut of a body without a length and without chunks can't be detected: it isn't
// verified, unless there is a digest.
func TestCloseDelimitedBody(t *testing.T) {
	data := origintest.Bytes(29, 6*mib)
	for name, tt := range map[string]struct {
		digestOf []byte // nil for no digest
		verified bool
		want     failure.Code
	}{
		"no digest":          {},
		"digest":             {digestOf: data, verified: true},
		"cut, with a digest": {digestOf: append(data[:len(data):len(data)], 'x'), want: failure.DigestMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			h := origintest.New(data, "")
			h.NoRanges, h.CloseDelimited = true, true
			if tt.digestOf != nil {
				h.Header = http.Header{"Repr-Digest": {sha256Header(tt.digestOf)}}
			}
			out, err := job(c, newSource(t, h), "key").Start(t.Context())
			if tt.want != "" {
				wantFailure(t, c, s, "key", err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantObject(t, s, "key", data, *out.Result)
			if out.Result.Verified != tt.verified || (out.Result.Digest != "") != tt.verified {
				t.Errorf("got verified %v by %q, want %v", out.Result.Verified, out.Result.Digest, tt.verified)
			}
		})
	}
}

// Every digest that an origin offers is checked, in every way to copy.
func TestDigests(t *testing.T) {
	flipped := func(data []byte) []byte {
		b := bytes.Clone(data)
		b[len(b)*2/3] ^= 4
		return b
	}
	for name, header := range digestHeaders {
		for _, way := range []struct {
			size   int
			stream bool
		}{{100, false}, {10 * small, false}, {10 * small, true}, {6 * mib, true}} {
			if way.size == 6*mib && name != "Repr-Digest" {
				continue // the parts of a stream differ in nothing else
			}
			t.Run(fmt.Sprintf("%s of %d bytes, stream=%v", name, way.size, way.stream), func(t *testing.T) {
				t.Parallel()
				s := newS3(t)
				c := newCopier(t, s)
				data := origintest.Bytes(30, way.size)
				h := origintest.New(data, `"v1"`)
				h.NoRanges = way.stream
				h.Header = header(data)
				r := mustCopy(t, c, s, newSource(t, h), "key", data)
				onlyWhole := strings.HasPrefix(name, "Content-") && way.size == 10*small && !way.stream // is of the range there
				if (r.Digest != "") == onlyWhole {
					t.Errorf("got digest %q", r.Digest)
				}
				bad := origintest.New(flipped(data), `"v1"`)
				bad.NoRanges, bad.Header = h.NoRanges, h.Header
				_, err := job(c, newSource(t, bad), "bad").Start(t.Context())
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
	// A digest is of bytes in their order: a file made of ranges is read back for
	// it, and from some size on that takes more than one run has.
	t.Run("too large to be read back", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		data := origintest.Bytes(32, 10*small)
		c.digestReadBack = int64(len(data)) - 1
		h := origintest.New(data, `"v1"`)
		h.Header = http.Header{"Repr-Digest": {sha256Header(flipped(data))}}
		if r := mustCopy(t, c, s, newSource(t, h), "key", data); r.Digest != "" {
			t.Errorf("got digest %q, want none claimed", r.Digest)
		}
		c.digestReadBack++
		_, err := job(c, newSource(t, h), "bad").Start(t.Context())
		wantFailure(t, c, s, "bad", err, failure.DigestMismatch)
	})
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
			out, err := job(c, src, "key").Start(t.Context())
			for err == nil && out.Work != nil {
				copySegments(t, c, src, out.Work)
				out, err = job(c, src, "key").Finish(t.Context(), *out.Work)
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

// 1,000 copies from an origin that fails 30 % of its requests: at most one fails.
func TestFlakyOrigin(t *testing.T) {
	const size = 2*small + 9
	jobs := 1000
	if testing.Short() { // with the race detector
		jobs = 100
	}
	data := origintest.Bytes(34, size)
	s := newMemoryS3(t)
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
			if _, err := job(c, Source{src.Client, &origin.Request{URL: &u}}, key).Start(t.Context()); err != nil {
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
	if n := failed.Load(); n > 1 {
		t.Errorf("%d of %d copies failed, want at most 1", n, jobs)
	}
	ideal := float64(jobs * 3)
	if ratio := float64(requests.Load()) / ideal; ratio > 1.6 || ratio < 1.2 {
		t.Errorf("got %.2f times the ideal number of requests, want at most 1.6 and more than 1.2", ratio)
	}
	wantNoUpload(t, s)
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
	_, err := job(c, src, "key").Start(t.Context())
	wantFailure(t, c, s, "key", err, failure.OriginTruncated)
}
