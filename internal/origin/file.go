package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"async-download/internal/failure"
)

// File is one file at the origin, as its first reply described it.
type File struct {
	// Size in bytes, -1 if the origin didn't say.
	Size int64
	// ETag is the strong validator that pins ranges, "" if there is none.
	ETag string
	// Ranged says that File.Range may be called: the origin honours ranges and
	// has an ETag to pin them with.
	Ranged bool
	// Framed says that the end of the body shows: a length, or chunks. Without
	// it a body that was cut looks like one that ended.
	Framed bool
	// ContentType and ContentEncoding are the reply's, "" if it had none. The
	// bytes are as sent: never decoded, whatever ContentEncoding says.
	ContentType     string
	ContentEncoding string
	// Name is what the origin calls the file, unsafe as it came, or "".
	Name string
	// Digest is the digest of the whole file, if the origin offered one.
	Digest Digest

	c     *Client
	start place // as asked for
	mu    sync.Mutex
	// at is where the bytes came from, after redirects, its url nil until then: all
	// ranges are read there, so that an origin which redirects differently each time
	// can't mix.
	at place
	// first is the body that came with the first reply, bytes 0 to firstEnd
	// (exclusive; -1 is to the end), until somebody took it.
	first    io.ReadCloser
	firstEnd int64
	requests int
}

// Open asks for the first firstBytes bytes of u, or for all of it if that is 0,
// and describes the file. The reply's body stays open until it is read by Range
// or Stream, or Close.
func (c *Client) Open(ctx context.Context, u *url.URL, firstBytes int64) (*File, error) {
	t := &tries{c: c}
	f := &File{c: c, start: start(u)}
	whole := firstBytes == 0
	for {
		err := f.open(ctx, firstBytes, &whole)
		if err == nil {
			return f, nil
		}
		if errors.Is(err, errPlain) {
			continue
		}
		if err := t.wait(ctx, err); err != nil {
			return nil, err
		}
	}
}

// errPlain: the reply to a range can't be used, ask for the whole file.
var errPlain = errors.New("ask without a range")

func (f *File) open(ctx context.Context, firstBytes int64, whole *bool) error {
	header := http.Header{"Want-Repr-Digest": {"sha-256=10, sha-512=3"}}
	if !*whole {
		header.Set("Range", fmt.Sprintf("bytes=0-%d", firstBytes-1))
	}
	f.requests++
	resp, at, err := f.c.send(ctx, f.start, header, cmp.Or(f.c.FirstByteTimeout, FirstByteTimeout))
	if err != nil {
		return err
	}
	f.at = at
	switch {
	case resp.StatusCode == http.StatusOK:
		f.describe(resp, resp.ContentLength, true)
		f.Framed = resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0
		f.first, f.firstEnd = resp.Body, -1
		return nil
	case resp.StatusCode == http.StatusPartialContent && !*whole:
		start, end, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || start != 0 || end != min(firstBytes, total)-1 || resp.ContentLength >= 0 && resp.ContentLength != end+1 {
			// Another range than the asked one. Its bytes can't be trusted; a
			// reply without ranges may be.
			break
		}
		all := end+1 == total
		f.describe(resp, total, all)
		f.Ranged = f.ETag != ""
		if !f.Ranged && !all {
			// Nothing pins the next range to this one.
			break
		}
		f.Framed = true
		f.first, f.firstEnd = resp.Body, end+1
		return nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && !*whole:
		// An empty file has no first byte.
		drain(resp.Body)
		*whole = true
		return errPlain
	default:
		drain(resp.Body)
		return status(resp)
	}
	_ = resp.Body.Close()
	if *whole {
		return failure.New(failure.OriginStatus, "the origin answered with a range nobody asked for")
	}
	*whole = true
	return errPlain
}

func (f *File) describe(resp *http.Response, size int64, whole bool) {
	f.Size = size
	f.ETag = strongETag(resp.Header)
	f.ContentType = resp.Header.Get("Content-Type")
	f.ContentEncoding = resp.Header.Get("Content-Encoding")
	f.Name = fileName(resp.Header, f.start.url)
	f.Digest = digest(resp.Header, whole)
}

// Requests is how many requests were made for this file so far.
func (f *File) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// Close gives up the first reply's body if nobody has read it.
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
// called once. What breaks can't be mended: the error is a [failure.Error],
// ORIGIN_TRUNCATED or ORIGIN_UNREACHABLE, and the way on is another Open.
func (f *File) Stream() io.ReadCloser {
	body, _ := f.takeFirst()
	return &stream{f: f, body: body}
}

type stream struct {
	f    *File
	body io.ReadCloser
	n    int64
}

func (s *stream) Read(p []byte) (int, error) {
	if s.body == nil {
		return 0, failure.New(failure.Internal, "the file was read before")
	}
	n, err := s.body.Read(p)
	s.n += int64(n)
	switch {
	case err == nil:
	case err == io.EOF:
		if s.f.Size >= 0 && s.n != s.f.Size {
			err = failure.New(failure.OriginTruncated, "the origin sent %d of %d bytes", s.n, s.f.Size)
		}
	default:
		err = broken(err, s.n, s.f.Size)
	}
	return n, err
}

func (s *stream) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}

// broken turns the error of a body into a failure that another try may fix. n
// bytes of size were read, size is -1 where it isn't known.
func broken(err error, n, size int64) error {
	why := diagnose(err)
	at := fmt.Sprintf("%d bytes", n)
	if size >= 0 {
		at = fmt.Sprintf("%d of %d bytes", n, size)
	}
	switch {
	case errors.Is(err, errIdle), errors.Is(err, errFloor):
		return &transient{failure: failure.Wrap(why, failure.OriginUnreachable, "%s", err)}
	case !isNetwork(err):
		return err
	case why.kind == badReply:
		return &transient{failure: failure.Wrap(why, failure.OriginTruncated, "the origin's reply can't be read after %s: %s", at, why), most: unreadable}
	}
	return &transient{failure: failure.Wrap(why, failure.OriginTruncated, "the origin's connection broke after %s", at)}
}
