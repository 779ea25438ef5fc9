package origin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"async-download/internal/failure"
)

// body is a reply's body that ends a request whose origin stalls. Only the time that Read
// waits for the origin counts, not that between two reads.
type body struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	rc     io.ReadCloser
	timer  *time.Timer

	floor   int64         // least bytes per FloorWindow, 0 for none
	waited  time.Duration // in this window
	arrived int64         // in this window

	left int64 // bytes that may still come, -1 for any number
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response) *body {
	rc := resp.Body
	if !resp.ProtoAtLeast(1, 1) && resp.ContentLength == -1 {
		rc = &unchunked{ReadCloser: rc}
	}
	b := &body{ctx: ctx, cancel: cancel, rc: rc, floor: FloorBytes, left: -1}
	b.timer = time.AfterFunc(IdleTimeout, func() { cancel(errIdle) })
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(IdleTimeout)
	began := time.Now()
	n, err := b.read(p)
	b.timer.Stop()
	b.arrived += int64(n)
	b.waited += time.Since(began)
	if b.waited >= FloorWindow {
		if b.arrived < b.floor && err == nil {
			b.cancel(errFloor)
			return n, errFloor
		}
		b.waited, b.arrived = 0, 0
	}
	if err != nil && err != io.EOF {
		if cause := ended(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *body) Close() error {
	b.timer.Stop()
	// The cancel comes first: Close of a body that wasn't read to its end would
	// else wait for the origin to send some more.
	b.cancel(errClosed)
	return b.rc.Close()
}

// read reads no more than is left. A reply without a length may have more bytes than
// the range that it describes; they are then of another one.
func (b *body) read(p []byte) (int, error) {
	if b.left == -1 {
		return b.rc.Read(p)
	}
	n, err := b.rc.Read(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 && err == nil {
		var one [1]byte
		var more int
		if more, err = io.ReadFull(b.rc, one[:]); more > 0 {
			return 0, failure.Wrap(ErrRangeRefused, failure.OriginStatus, "the origin sent more than the range that its reply describes")
		}
	}
	return n, err
}

// expect makes more than n further bytes of a reply without a length an error.
func expect(resp *http.Response, n int64) {
	if b, ok := resp.Body.(*body); ok && resp.ContentLength == -1 {
		b.left = n
	}
}

// maxChunk is the largest chunk that an unchunked body recognizes.
const maxChunk = 1 << 20

// unchunked is the body of a reply of HTTP/1.0, without chunks if it has some. There
// are none in that version, and net/http passes them on as bytes of the file, but some
// servers send them, and curl reads them.
type unchunked struct {
	io.ReadCloser
	from io.Reader
}

func (u *unchunked) Read(p []byte) (int, error) {
	if u.from == nil {
		in := bufio.NewReaderSize(u.ReadCloser, maxChunk+32)
		u.from = in
		if startsWithChunk(in) {
			u.from = httputil.NewChunkedReader(in)
		}
	}
	return u.from.Read(p)
}

// startsWithChunk reports whether in begins with a whole chunk, of at most maxChunk bytes.
func startsWithChunk(in *bufio.Reader) bool {
	for n := 1; n <= 16; n++ {
		head, err := in.Peek(n)
		if err != nil {
			return false
		}
		digits, found := strings.CutSuffix(string(head), "\r\n")
		if !found {
			continue
		}
		size, err := strconv.ParseUint(strings.TrimRight(digits, " "), 16, 32)
		if err != nil || size > maxChunk {
			return false
		}
		chunk, _ := in.Peek(n + int(size) + 2)
		return len(chunk) == n+int(size)+2 && string(chunk[n+int(size):]) == "\r\n"
	}
	return false
}

// isNetwork reports whether err is of a connection that broke, and neither of a
// context that ended nor a failure that was decided on.
func isNetwork(err error) bool {
	var f *failure.Error
	return !errors.As(err, &f) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
