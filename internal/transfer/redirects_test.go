package transfer

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
)

// Redirects that are allowed are followed, and all ranges are read where the first one led.
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
	var canary atomic.Int64
	trap := newSource(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { canary.Add(1) }))
	tls := newTLSOrigin(t, http.RedirectHandler(trap.URL.String(), http.StatusFound))
	tls.Client.RedirectHosts, tls.Client.AnyAddress = []string{"*"}, true // so that only the scheme decides
	for name, tt := range map[string]struct {
		src  Source
		want failure.Code
	}{
		"one hop":       {newSource(t, hops(1, h)), ""},
		"five hops":     {newSource(t, hops(5, h)), ""},
		"six hops":      {newSource(t, hops(6, h)), failure.OriginStatus},
		"https to http": {tls, failure.BlockedAddress},
		"another port":  {newSource(t, http.RedirectHandler(trap.URL.String(), http.StatusFound)), failure.BlockedAddress},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			c := newCopier(t, s)
			out, err := job(c, tt.src, "key").Start(t.Context())
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
		out, err := job(c, src, "key").Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		copySegments(t, c, src, out.Work)
		if n.Load() != 3 {
			t.Errorf("got %d redirects, want one for Start and one for each of 2 segments", n.Load())
		}
	})
	for _, status := range []int{400, 401, 403, 404, 410} {
		for _, life := range []int64{1, 3} {
			t.Run(fmt.Sprintf("a target signed for %d requests answers %d", life, status), func(t *testing.T) {
				s := newS3(t)
				c := newCopier(t, s)
				var signed, repeated atomic.Int64
				var used sync.Map
				src := newSource(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/target" {
						http.Redirect(w, r, fmt.Sprint("/target?n=", signed.Add(1)), http.StatusFound)
						return
					}
					n, _ := used.LoadOrStore(r.URL.RawQuery, new(atomic.Int64))
					if n.(*atomic.Int64).Add(1) > life {
						repeated.Add(1)
						w.WriteHeader(status)
						return
					}
					h.ServeHTTP(w, r)
				}))
				if r := mustCopy(t, c, s, src, "key", data); !r.Pinned || r.Ranges < len(data)/small {
					t.Errorf("got %+v, want it copied by ranges", r)
				}
				// Each range may find one target that another has used up, no more.
				if n, most := repeated.Load(), int64(len(data)/small); n == 0 || n > most {
					t.Errorf("got %d refused requests, want 1 to %d", n, most)
				}
			})
		}
	}
}
