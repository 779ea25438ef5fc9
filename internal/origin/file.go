package origin

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"async-download/internal/failure"
)

// File is one file at the origin, as its first reply described it.
type File struct {
	// Size in bytes, -1 if the origin didn't say.
	Size int64
	// Pin is what proves that ranges are of one version, zero if nothing does.
	Pin Pin
	// ETag and LastModified are the reply's, "" if it had none; for information.
	ETag, LastModified string
	// Ranged reports that File.Range may be called: the origin honours ranges and
	// has something to pin them with.
	Ranged bool
	// Framed reports that the end of the body is marked, by a length or by chunks.
	// Without it a body that was cut looks like one that ended.
	Framed bool
	// ContentType and ContentEncoding are the reply's, "" if it had none. The
	// bytes are as sent: no ContentEncoding is decoded.
	ContentType     string
	ContentEncoding string
	// Name is the origin's name for the file, as it came and unsafe to use, or "".
	Name string
	// Digest is the digest of the whole file, if the origin offered one.
	Digest Digest

	c     *Client
	start place // as asked for
	once  bool  // the answer to a POST
	mu    sync.Mutex
	// at is where the bytes came from, after redirects, its url nil until then: all
	// ranges are read there, so that an origin which redirects differently each time
	// can't mix.
	at place
	// first is the body that came with the first reply, bytes 0 to firstEnd
	// (exclusive; -1 is to the end), until it is taken.
	first    io.ReadCloser
	firstEnd int64
	requests int

	opened bool         // by this run, so that the first bytes have come
	open   atomic.Int64 // requests that wait for a reply, and bodies that are open
	served atomic.Bool  // a range has come, beside the first
}

// Requests is how many requests were made for this file so far.
func (f *File) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// countedBody is a body that the file counts while it is open.
type countedBody struct {
	io.ReadCloser
	close func() error
}

// counted returns rc, which is counted as open already, until it is closed.
func (f *File) counted(rc io.ReadCloser) io.ReadCloser {
	return &countedBody{rc, sync.OnceValue(func() error {
		f.open.Add(-1)
		return rc.Close()
	})}
}

func (c *countedBody) Close() error { return c.close() }

// Close closes the first reply's body if it wasn't taken.
func (f *File) Close() error {
	if body, _ := f.takeFirst(); body != nil {
		return body.Close()
	}
	return nil
}

func (f *File) takeFirst() (io.ReadCloser, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body := f.first
	f.first = nil
	return body, f.firstEnd
}

// Stream returns the whole file as it comes with the first reply. It can be
// called once. A stream that breaks can't be continued: the error is a [failure.Error],
// ORIGIN_TRUNCATED or ORIGIN_UNREACHABLE; open the file again, unless it is the
// answer to a POST. There is no least speed: the caller decides how long a stream may
// take.
func (f *File) Stream() io.ReadCloser {
	first, _ := f.takeFirst()
	if c, ok := first.(*countedBody); ok {
		if b, ok := c.ReadCloser.(*body); ok {
			b.floor = 0
		}
	}
	return &stream{f: f, body: first}
}

type stream struct {
	f    *File
	body io.ReadCloser
	n    int64
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	s.n += int64(n)
	switch {
	case err == nil:
	case err == io.EOF:
		if s.f.Size != -1 && s.n != s.f.Size {
			err = failure.New(failure.OriginTruncated, "the origin sent %d of %d bytes", s.n, s.f.Size)
		}
	default:
		if err = broken(err, s.n, s.f.Size); s.f.once {
			err = final(err)
		}
	}
	return n, err
}

func (s *stream) Close() error { return s.body.Close() }

// broken turns the error of a body into a failure that another try may fix. n
// bytes of size were read, size is -1 where it isn't known.
func broken(err error, n, size int64) error {
	reason := diagnose(err)
	at := fmt.Sprintf("%d bytes", n)
	if size != -1 {
		at = fmt.Sprintf("%d of %d bytes", n, size)
	}
	switch {
	case errors.Is(err, errIdle), errors.Is(err, errFloor):
		return &transient{failure: failure.Wrap(reason, failure.OriginUnreachable, "%s", err)}
	case !isNetwork(err):
		return err
	case reason.kind == badReply:
		return &transient{failure: failure.Wrap(reason, failure.OriginTruncated, "the origin's reply can't be read after %s: %s", at, reason), most: unreadable}
	}
	return &transient{failure: failure.Wrap(reason, failure.OriginTruncated, "the origin's connection broke after %s", at)}
}
