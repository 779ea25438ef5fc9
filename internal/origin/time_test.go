package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
)

// These tests run on a clock of their own, over connections that are in memory:
// what takes minutes takes no time, and a limit is met to the second.

// inMemory returns a client of an origin that h answers for.
func inMemory(t *testing.T, h http.HandlerFunc) (*Client, *url.URL) {
	dial, stop := origintest.InMemory(context.Background(), h)
	u, _ := url.Parse("http://files.example/file")
	c := &Client{Base: u, Dial: dial}
	t.Cleanup(func() {
		c.CloseIdleConnections()
		stop()
	})
	return c, u
}

const size = 1000

// ranged answers a range of size bytes, written by write.
func ranged(w http.ResponseWriter, r *http.Request, write func(b []byte)) {
	var start, end int
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end)
	w.Header().Set("ETag", `"v1"`)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end, size))
	w.Header().Set("Content-Length", fmt.Sprint(end-start+1))
	w.WriteHeader(http.StatusPartialContent)
	w.(http.Flusher).Flush()
	b := make([]byte, end-start+1)
	for i := range b {
		b[i] = byte(start + i)
	}
	write(b)
}

// readAll reads the file by one Range and returns how long it took.
func readAll(t *testing.T, c *Client, u *url.URL) time.Duration {
	t.Helper()
	began := time.Now()
	f := reopen(t, c, u, size)
	r := f.Range(t.Context(), 0, size)
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("got %v (%v)", err, errors.Unwrap(failure.As(err)))
	}
	for i := range b {
		if b[i] != byte(i) {
			t.Fatalf("byte %d is another", i)
		}
	}
	if len(b) != size {
		t.Fatalf("got %d bytes, want %d", len(b), size)
	}
	return time.Since(began)
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			n++
			ranged(w, r, func(b []byte) {
				if n == 1 {
					_, _ = w.Write(b[:10])
					w.(http.Flusher).Flush()
					<-r.Context().Done()
					return
				}
				_, _ = w.Write(b)
			})
		})
		if took := readAll(t, c, u); took < IdleTimeout || took > IdleTimeout*11/10 {
			t.Errorf("got %s, want the idle limit %s and at most a tenth more", took, IdleTimeout)
		}
	})
}

func TestDribble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var got atomic.Int64
		c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			n++
			ranged(w, r, func(b []byte) {
				if n > 1 {
					_, _ = w.Write(b)
					return
				}
				for i := range b {
					time.Sleep(IdleTimeout - time.Second)
					if _, err := w.Write(b[i : i+1]); err != nil {
						return
					}
					w.(http.Flusher).Flush()
					got.Add(1)
				}
			})
		})
		if took := readAll(t, c, u); took < FloorWindow || took > FloorWindow+IdleTimeout {
			t.Errorf("got %s, want it dropped within a window of %s", took, FloorWindow)
		}
		if got.Load() > 4 {
			t.Errorf("got %d bytes of the dribble, want it dropped before", got.Load())
		}
	})
}

// The limits of a body that is read slowly, to the byte and the second; the reason of a
// cancel comes out of a read that fails, and of no other.
func TestBody(t *testing.T) {
	stopped := errors.New("stopped")
	for _, tt := range []struct {
		name      string
		cancelled bool
		takes     time.Duration
		n         int
		err, want error
	}{
		{"the least speed", false, FloorWindow, FloorBytes, nil, nil},
		{"a byte less", false, FloorWindow, FloorBytes - 1, nil, errFloor},
		{"a byte less so far", false, FloorWindow - time.Second, FloorBytes - 1, nil, nil},
		{"a byte less, and the end", false, FloorWindow, FloorBytes - 1, io.EOF, io.EOF},
		{"broken", false, 0, 1, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		{"cancelled, bytes", true, 0, 1, nil, nil},
		{"cancelled, the end", true, 0, 1, io.EOF, io.EOF},
		{"cancelled, broken", true, 0, 1, io.ErrUnexpectedEOF, stopped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				if tt.cancelled {
					cancel(stopped)
				}
				b := newBody(ctx, cancel, &http.Response{ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(readerFunc(func([]byte) (int, error) {
					time.Sleep(tt.takes)
					return tt.n, tt.err
				}))})
				defer b.Close()
				if n, err := b.Read(make([]byte, FloorBytes)); n != tt.n || err != tt.want {
					t.Errorf("got %d bytes, %v, want %d, %v", n, err, tt.n, tt.want)
				}
			})
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A stream may pause for as long as proxies allow, and drip: a database is
// exported row by row.
func TestSlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			for i := range 20 {
				time.Sleep(35 * time.Second)
				if i == 10 {
					time.Sleep(25 * time.Second)
				}
				_, _ = w.Write([]byte("r"))
				w.(http.Flusher).Flush()
			}
		})
		f, err := c.Open(t.Context(), &Request{URL: u}, 100)
		if err != nil {
			t.Fatal(err)
		}
		stream := f.Stream()
		defer stream.Close()
		if b, err := io.ReadAll(stream); len(b) != 20 || err != nil {
			t.Errorf("got %d rows, %v, want 20", len(b), err)
		}
	})
}

// A reader that is slow to ask for more is no stall of the origin's.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			requests++
			ranged(w, r, func(b []byte) { _, _ = w.Write(b) })
		})
		r := reopen(t, c, u, size).Range(t.Context(), 0, size)
		defer r.Close()
		for range size / 100 {
			if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		if requests != 1 {
			t.Errorf("got %d requests, want 1", requests)
		}
	})
}

func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) { requests.Add(1); <-r.Context().Done() })
		began := time.Now()
		_, err := c.Open(t.Context(), &Request{URL: u}, 100)
		if failure.CodeOf(err) != failure.OriginTooSlow || time.Since(began) != FirstByteTimeout || requests.Load() != 1 {
			t.Errorf("got %v after %s and %d requests, want %s after %s and one", err, time.Since(began), requests.Load(), failure.OriginTooSlow, FirstByteTimeout)
		}
		c.Attempts = 1
		r := reopen(t, c, u, size).Range(t.Context(), 0, size)
		defer r.Close()
		began = time.Now()
		_, err = r.Read(make([]byte, 1))
		if failure.CodeOf(err) != failure.OriginUnreachable || time.Since(began) != RangeTimeout {
			t.Errorf("got %v after %s, want %s after %s", err, time.Since(began), failure.OriginUnreachable, RangeTimeout)
		}
	})
}

// A report that takes minutes to make is what this is for.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(4 * time.Minute)
			_, _ = w.Write([]byte("report"))
		})
		f, err := c.Open(t.Context(), &Request{URL: u}, 100)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if b, err := io.ReadAll(f.Stream()); string(b) != "report" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	})
}

func TestRetryAfterIsKept(t *testing.T) {
	for _, tt := range []struct {
		name  string
		value func() string
		least time.Duration
		later bool
	}{
		{"seconds", func() string { return "7" }, 7 * time.Second, false},
		{"the longest sleep", func() string { return "25" }, 25 * time.Second, false},
		{"longer", func() string { return "26" }, 26 * time.Second, true},
		{"a day", func() string { return "86400" }, MaxRetryAfter, true},
		{"more than a number holds", func() string { return "99999999999999999999" }, MaxRetryAfter, true},
		{"date", func() string { return time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat) }, 20 * time.Second, false},
		{"date far off", func() string { return time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat) }, 10 * time.Minute, true},
		{"past", func() string { return time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat) }, 0, false},
		{"garbage", func() string { return "in a while" }, 0, false},
		{"negative", func() string { return "-5" }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
					if n++; n == 1 {
						w.Header().Set("Retry-After", tt.value())
						w.WriteHeader(http.StatusServiceUnavailable)
						return
					}
					_, _ = w.Write([]byte("x"))
				})
				began := time.Now()
				f, err := c.Open(t.Context(), &Request{URL: u}, 100)
				waited := time.Since(began)
				var later *Later
				if errors.As(err, &later) {
					if waited != 0 {
						t.Errorf("%s were slept here, want none", waited)
					}
					waited = later.After
				} else if err != nil {
					t.Fatal(err)
				} else {
					_ = f.Close()
				}
				if (later != nil) != tt.later {
					t.Errorf("got %v, want a later one %v", err, tt.later)
				}
				if most := tt.least + tt.least/5 + Backoff; waited < tt.least || waited > most {
					t.Errorf("got %s, want %s to %s", waited, tt.least, most)
				}
			})
		})
	}
}

// An origin that fails is asked for its first bytes, with pauses; the last time without a
// range, since that may be what it fails at.
func TestBackoff(t *testing.T) {
	for status, last := range map[int]string{500: "", 503: ""} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Time
			var ranges []string
			c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
				at, ranges = append(at, time.Now()), append(ranges, r.Header.Get("Range"))
				w.WriteHeader(status)
			})
			_, err := c.Open(t.Context(), &Request{URL: u}, 100)
			if want := append(slices.Repeat([]string{"bytes=0-99"}, Attempts-1), last); failure.CodeOf(err) != failure.OriginStatus || !slices.Equal(ranges, want) {
				t.Fatalf("%d: got %v after requests for %q, want %s after %q", status, err, ranges, failure.OriginStatus, want)
			}
			if !at[Attempts-1].After(at[0]) {
				t.Errorf("%d: got all requests at once", status)
			}
			for i := 1; i < len(at); i++ {
				if gap, most := at[i].Sub(at[i-1]), min(Backoff<<(i-1), MaxBackoff); gap > most {
					t.Errorf("got %s before try %d, want at most %s", gap, i+1, most)
				}
			}
		})
	}
}

// A cancel that carries a failure is what comes out of a sleep.
func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(failure.New(failure.Cancelled, "stopped")) })
		began := time.Now()
		_, err := c.Open(ctx, &Request{URL: u}, 100)
		if failure.CodeOf(err) != failure.Cancelled || time.Since(began) != time.Second {
			t.Errorf("got %v after %s, want %s after 1s", err, time.Since(began), failure.Cancelled)
		}
	})
}
