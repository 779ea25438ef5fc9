package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"async-download/internal/failure"
)

// ErrRangeRefused is wrapped by the failure of an origin that no longer serves
// ranges which can be believed. One stream may still work.
var ErrRangeRefused = errors.New("ranges refused")

// Busy is the error of a range that the origin refuses while others are open: it may
// limit connections. Ask again when one of the others has ended, and not before
// After has passed.
type Busy struct {
	After time.Duration
	Err   *failure.Error
}

func (b *Busy) Error() string { return b.Err.Error() }

// Unwrap returns the failure.
func (b *Busy) Unwrap() error { return b.Err }

// refusals is how many replies without the right range are attributed to one bad server
// of a load balancer.
const refusals = 2

// progress is how many bytes a connection has to bring before tries are counted from 0
// again, so that a broken origin doesn't get a new try for every byte.
const progress = 64 << 10

// Reopen returns a ranged file that an earlier Open described, without a
// request. Every range is compared with size and pin.
func (c *Client) Reopen(r *Request, size int64, pin Pin) (*File, error) {
	start, err := c.begin(r)
	if err != nil {
		return nil, err
	}
	if start.post { // its answer is no file of ranges
		return nil, ErrSent
	}
	return &File{c: c, start: start, Size: size, Pin: pin, Ranged: true, Framed: true}, nil
}

// Reader reads one range of a file. A connection that breaks is replaced by
// another, from the byte it broke at; an error is final. It is not safe for concurrent use.
type Reader struct {
	f        *File
	ctx      context.Context
	off, end int64
	tries    tries
	refused  int

	body    io.ReadCloser
	bodyEnd int64 // where the open body ends
	brought int64 // by the open body
	isFirst bool  // the open body came with the first reply
}

// Range returns a reader of the bytes from start to end, exclusive. Requests
// are made with ctx when Read needs them. The reader must be closed.
func (f *File) Range(ctx context.Context, start, end int64) *Reader {
	return &Reader{f: f, ctx: ctx, off: start, end: end, tries: tries{c: f.c}}
}

// Read returns bytes of the range, and io.EOF after its last one.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.off < r.end {
		if r.body == nil {
			if err := r.open(); err != nil {
				if err := r.tries.wait(r.ctx, r.judge(err)); err != nil {
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
			r.served()
		}
		switch {
		case r.off == r.end || r.off == r.bodyEnd:
			r.finish()
		case err != nil:
			r.drop()
			if err := r.tries.wait(r.ctx, r.judge(broken(err, r.off, r.f.Size))); err != nil {
				return n, err
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

// served notes that a range was served that isn't the first reply.
func (r *Reader) served() {
	if !r.isFirst {
		r.f.served.Store(true)
	}
}

// finish ends a body whose bytes were all read. Only one that was read to its
// io.EOF gives its connection back.
func (r *Reader) finish() {
	r.served()
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

// Close closes what is open. It must not be called during a Read.
func (r *Reader) Close() error {
	r.drop()
	r.off = r.end
	return nil
}

func (r *Reader) open() error {
	r.brought = 0
	if r.off == 0 {
		if body, end := r.f.takeFirst(); body != nil {
			r.body, r.bodyEnd, r.isFirst = body, end, true
			return nil
		}
	}
	r.isFirst = false
	body, end, err := r.f.request(r.ctx, r.off, r.end)
	if err != nil {
		return err
	}
	r.body, r.bodyEnd = body, end
	return nil
}

// judge decides what the failure of a request or its body is for this range.
func (r *Reader) judge(err error) error {
	var f *failure.Error
	if !errors.As(err, &f) {
		return err
	}
	passing := &transient{}
	isPassing := errors.As(err, &passing)
	refused := errors.Is(err, ErrRangeRefused)
	repeated := isPassing && passing.after == 0 && r.tries.n+1 >= cmp.Or(passing.most, refusals+1)
	limited := passing.status == http.StatusServiceUnavailable || passing.status == http.StatusTooManyRequests || errors.Is(err, errHeaders)
	switch {
	case r.f.open.Load() > 0 && (refused || repeated || limited):
		return &Busy{passing.after, f}
	case refused && isPassing:
		if r.refused++; r.refused > refusals {
			return f
		}
	case repeated && !r.f.served.Load() && (r.f.opened || passing.status == http.StatusInternalServerError):
		// It may be the range that it fails at, or its condition: none has been served.
		return failure.Wrap(ErrRangeRefused, f.Code, "%s", f.Message)
	}
	return err
}

// request asks for the bytes from start to end, exclusive, of the version of
// the file that was described. It returns them, or as many of the first of them
// as the origin chose to send, only if the reply describes them as that.
func (f *File) request(ctx context.Context, start, end int64) (body io.ReadCloser, got int64, err error) {
	f.open.Add(1) // a request that waits for its reply counts as one that is open
	defer func() {
		if err != nil {
			f.open.Add(-1)
		}
	}()
	f.mu.Lock()
	from := f.at
	f.mu.Unlock()
	if from.url == nil {
		from = f.start
	}
	for {
		f.mu.Lock()
		f.requests++
		f.mu.Unlock()
		header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", start, end-1)}}
		f.Pin.condition(header)
		resp, at, err := f.c.send(ctx, from, header, min(cmp.Or(f.c.FirstByteTimeout, RangeTimeout), RangeTimeout), errHeaders)
		if err != nil {
			return nil, 0, err
		}
		if from != f.start && expired(resp.StatusCode) {
			// A redirect's target is often signed for a short time. Ask at the file's own
			// URL; the pin still holds.
			drain(resp.Body)
			f.mu.Lock()
			if f.at == from {
				f.at = place{}
			}
			f.mu.Unlock()
			from = f.start // not where others were sent since: that may be for one request
			continue
		}
		got, err := f.check(resp, start, end)
		if err != nil {
			_ = resp.Body.Close()
			return nil, 0, err
		}
		f.mu.Lock()
		if f.at.url == nil {
			f.at = at
		}
		f.mu.Unlock()
		return f.counted(resp.Body), got, nil
	}
}

// expired reports whether a redirect's target may answer like this when its
// signature is no longer valid.
func expired(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

// check returns the end of the bytes that a reply has, which begin at start, if
// they are of this version of the file.
func (f *File) check(resp *http.Response, start, end int64) (int64, error) {
	changed := failure.New(failure.OriginChanged, "the file changed at the origin while it was copied")
	refused := func(format string, args ...any) error {
		return &transient{failure: failure.Wrap(ErrRangeRefused, failure.OriginStatus, format, args...)}
	}
	same, other := f.Pin.compare(resp.Header)
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusPreconditionFailed:
		return 0, changed
	case http.StatusRequestedRangeNotSatisfiable:
		if total, ok := unsatisfied(resp.Header.Get("Content-Range")); ok && total == f.Size {
			return 0, failure.Wrap(ErrRangeRefused, failure.OriginStatus, "the origin answered 416 to a range that its file has")
		}
		return 0, changed
	case http.StatusOK:
		if other {
			return 0, changed
		}
		// The whole file: the range was refused. Some do that for If-Range or If-Match
		// only, or on one of several servers.
		return 0, refused("the origin stopped serving ranges")
	default:
		err := status(resp)
		var failed *transient
		if errors.As(err, &failed) {
			return 0, err
		}
		if resp.StatusCode == http.StatusForbidden {
			// Some limit connections with it. The one that ended last may still count.
			after, _ := RetryAfter(resp.Header.Get("Retry-After"), time.Now())
			return 0, &transient{failure: failure.Wrap(ErrRangeRefused, failure.OriginStatus, "%s", failure.As(err).Message), status: resp.StatusCode,
				after: after}
		}
		return 0, failure.Wrap(ErrRangeRefused, failure.OriginStatus, "%s", failure.As(err).Message)
	}

	switch {
	case other:
		return 0, changed
	case !same:
		return 0, refused("the origin answered a range without saying of which version")
	}
	gotStart, last, total, ok := contentRange(single(resp.Header, "Content-Range"))
	switch n := resp.ContentLength; {
	case ok && total != f.Size:
		return 0, changed
	case !ok || gotStart != start:
		return 0, refused("the origin answered with another range than the one it was asked for")
	case !hasLength(resp, last-gotStart+1), n == -1 && last != end-1:
		return 0, refused("the origin answered a range with a length that isn't the range's")
	}
	expect(resp, last-gotStart+1)
	return min(last+1, end), nil
}
