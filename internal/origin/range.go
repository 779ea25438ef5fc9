package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"async-download/internal/failure"
)

// ErrRangeRefused is wrapped by the failure of an origin that stopped to serve
// ranges which can be believed. One stream may still work.
var ErrRangeRefused = errors.New("ranges refused")

// refusals is how many replies without the right range are taken for one bad
// server behind a balancer.
const refusals = 2

// progress is how many bytes a connection has to bring to count as more than a
// lucky start, so that a broken origin can't have a new try for every byte.
const progress = 64 << 10

// Reopen returns a ranged file that an earlier Open described, without a
// request. Every range is held against size and etag.
func (c *Client) Reopen(u *url.URL, size int64, etag string) *File {
	return &File{c: c, start: start(u), Size: size, ETag: etag, Ranged: true, Framed: true}
}

// Reader reads one range of a file. What breaks is mended here, from the byte
// it broke at; an error is final. It is not safe for concurrent use.
type Reader struct {
	f        *File
	ctx      context.Context
	off, end int64
	tries    tries
	refused  int

	body    io.ReadCloser
	bodyEnd int64 // where the open body ends
	brought int64 // by the open body
}

// Range returns a reader of the bytes from start to end, exclusive. Requests
// are made with ctx when Read needs them. The reader must be closed.
func (f *File) Range(ctx context.Context, start, end int64) *Reader {
	return &Reader{f: f, ctx: ctx, off: start, end: end, tries: tries{c: f.c}}
}

// Read gives bytes of the range and io.EOF after its last one.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.off < r.end {
		if r.body == nil {
			if err := r.open(); err != nil {
				if err := r.tries.wait(r.ctx, err); err != nil {
					return 0, err
				}
				continue
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), min(r.end, r.bodyEnd)-r.off)])
		r.off += int64(n)
		r.brought += int64(n)
		if r.brought >= progress {
			r.tries.n, r.refused = 0, 0
		}
		switch {
		case r.off == r.end || r.off == r.bodyEnd:
			r.finish()
		case err != nil:
			r.drop()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			if err := r.tries.wait(r.ctx, broken(err, r.off, r.f.Size)); err != nil {
				return n, err
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

// finish ends a body whose bytes were all read. Only one that was read to its
// io.EOF gives its connection back.
func (r *Reader) finish() {
	var one [1]byte
	_, _ = r.body.Read(one[:])
	r.drop()
}

func (r *Reader) drop() {
	if r.body != nil {
		_ = r.body.Close()
		r.body = nil
	}
}

// Close gives up what is open. It must not run beside a Read.
func (r *Reader) Close() error {
	r.drop()
	r.off = r.end
	return nil
}

func (r *Reader) open() error {
	r.brought = 0
	if r.off == 0 {
		if body, end := r.f.takeFirst(); body != nil {
			if end < 0 {
				end = r.f.Size
			}
			r.body, r.bodyEnd = body, end
			return nil
		}
	}
	body, err := r.f.request(r.ctx, r.off, r.end)
	if errors.Is(err, ErrRangeRefused) {
		if r.refused++; r.refused > refusals {
			var f *failure.Error
			errors.As(err, &f)
			return f
		}
	}
	if err != nil {
		return err
	}
	r.body, r.bodyEnd = body, r.end
	return nil
}

// request asks for the bytes from start to end, exclusive, of the version of
// the file that was described, and returns them only if the reply says that
// they are these.
func (f *File) request(ctx context.Context, start, end int64) (io.ReadCloser, error) {
	f.mu.Lock()
	f.requests++
	from := f.at
	f.mu.Unlock()
	if from.url == nil {
		from = f.start
	}
	header := http.Header{
		"Range":    {fmt.Sprintf("bytes=%d-%d", start, end-1)},
		"If-Match": {f.ETag},
	}
	resp, at, err := f.c.send(ctx, from, header, min(cmp.Or(f.c.FirstByteTimeout, RangeTimeout), RangeTimeout))
	if err != nil {
		return nil, err
	}
	if err := f.check(resp, start, end, from != f.start); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	f.mu.Lock()
	if f.at.url == nil {
		f.at = at
	}
	f.mu.Unlock()
	return resp.Body, nil
}

// check returns nil for a reply that has the bytes from start to end of this
// version of the file. elsewhere says that it came from a redirect's target.
func (f *File) check(resp *http.Response, start, end int64, elsewhere bool) error {
	changed := failure.New(failure.OriginChanged, "the file changed at the origin while it was copied")
	refused := func(format string, args ...any) error {
		return &transient{failure: failure.Wrap(ErrRangeRefused, failure.OriginStatus, format, args...)}
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return changed
	case http.StatusOK:
		if resp.Header.Get("ETag") != f.ETag {
			return changed
		}
		// The same version and the whole of it: the range was refused. Some do
		// that for If-Range or If-Match only, or on one of several servers.
		return refused("the origin stopped serving ranges")
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		if elsewhere {
			// A redirect's target is often signed for a short time. The next
			// request starts from the file's own URL; If-Match still holds.
			f.mu.Lock()
			f.at = place{}
			f.mu.Unlock()
			return &transient{failure: failure.As(status(resp))}
		}
		return status(resp)
	default:
		return status(resp)
	}

	if tag := resp.Header.Get("ETag"); tag != f.ETag {
		if tag == "" {
			return refused("the origin answered a range without saying of which version")
		}
		return changed
	}
	gotStart, gotEnd, total, ok := contentRange(resp.Header.Get("Content-Range"))
	switch {
	case ok && total != f.Size:
		return changed
	case !ok || gotStart != start || gotEnd != end-1:
		return refused("the origin answered with another range than the one it was asked for")
	case resp.ContentLength >= 0 && resp.ContentLength != end-start:
		return refused("the origin answered a range with a length that isn't the range's")
	}
	return nil
}
