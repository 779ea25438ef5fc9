// Package origintest has origins for tests: an honest one, and wrappers that
// make it misbehave in the ways that real ones do.
package origintest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bytes returns n random bytes, the same ones for each seed.
func Bytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

// File is an origin of one file that keeps to RFC 9110. Set its fields before
// the first request.
type File struct {
	// NoRanges answers every request with the whole file.
	NoRanges bool
	// Chunked sends no length; CloseDelimited neither length nor chunks.
	Chunked, CloseDelimited bool
	// Header is added to every reply.
	Header http.Header

	mu       sync.Mutex
	data     []byte
	etag     string
	modified time.Time // zero for no Last-Modified
	requests []*http.Request
}

// New returns an origin of data under etag, "" for none.
func New(data []byte, etag string) *File { return &File{data: data, etag: etag} }

// Replace replaces the file by another version, without a time of modification.
func (f *File) Replace(data []byte, etag string) { f.ReplaceAt(data, etag, time.Time{}) }

// ReplaceAt replaces the file by another version, modified at a time, which is kept in
// whole seconds.
func (f *File) ReplaceAt(data []byte, etag string, modified time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data, f.etag, f.modified = data, etag, modified.Truncate(time.Second)
}

// Requests returns the requests so far.
func (f *File) Requests() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[:len(f.requests):len(f.requests)]
}

// ServeHTTP answers with the file or the range of it that is asked for.
func (f *File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r)
	data, etag, modified := f.data, f.etag, f.modified
	f.mu.Unlock()

	for name, values := range f.Header {
		w.Header()[name] = values
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if !modified.IsZero() {
		w.Header().Set("Last-Modified", modified.UTC().Format(http.TimeFormat))
	}
	if since, err := http.ParseTime(r.Header.Get("If-Unmodified-Since")); err == nil && modified.After(since) {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && match != etag {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	status, body := http.StatusOK, data
	if span := r.Header.Get("Range"); span != "" && !f.NoRanges {
		start, end := 0, len(data)-1
		if _, err := fmt.Sscanf(span, "bytes=%d-%d", &start, &end); err != nil && !strings.HasSuffix(span, "-") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if start >= len(data) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(data)))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		end = min(end, len(data)-1)
		status, body = http.StatusPartialContent, data[start:end+1]
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end, len(data)))
	}
	if f.CloseDelimited {
		raw(w, status, body)
		return
	}
	if !f.Chunked {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if f.Chunked {
		w.(http.Flusher).Flush()
	}
	_, _ = w.Write(body)
}

// raw answers as HTTP/1.0 servers do: the end of the connection ends the body.
func raw(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: close\r\n", status, http.StatusText(status))
	_ = header.Write(conn)
	_, _ = conn.Write(append([]byte("\r\n"), body...))
}

// Count numbers the requests that h gets from 1.
func Count(h func(w http.ResponseWriter, r *http.Request, n int)) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(w, r, int(n.Add(1))) })
}

// How is how a connection ends in the middle of a body.
type How int

// The ways to end.
const (
	FIN How = iota
	RST
)

// Cut passes h's reply through until after bytes of body, and then ends the
// connection.
func Cut(h http.Handler, w http.ResponseWriter, r *http.Request, after int, how How) {
	h.ServeHTTP(&cutter{ResponseWriter: w, left: after, how: how}, r)
}

type cutter struct {
	http.ResponseWriter
	left int
	how  How
	over bool
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.over {
		return 0, net.ErrClosed
	}
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	c.over = true
	if c.how == FIN {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := c.ResponseWriter.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
	return 0, net.ErrClosed
}

func (c *cutter) Flush() { c.ResponseWriter.(http.Flusher).Flush() }

// Slow passes h's reply through in pieces, with pause called before each: it may
// wait, and ends the reply by returning false.
func Slow(h http.Handler, w http.ResponseWriter, r *http.Request, piece int, pause func(sent int) bool) {
	h.ServeHTTP(&slow{ResponseWriter: w, piece: piece, pause: pause}, r)
}

type slow struct {
	http.ResponseWriter
	piece, sent int
	pause       func(int) bool
}

func (s *slow) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		if !s.pause(s.sent) {
			return total, net.ErrClosed
		}
		n, err := s.ResponseWriter.Write(p[:min(len(p), s.piece)])
		total += n
		s.sent += n
		if err != nil {
			return total, err
		}
		s.ResponseWriter.(http.Flusher).Flush()
		p = p[n:]
	}
	return total, nil
}
