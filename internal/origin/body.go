package origin

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"async-download/internal/failure"
)

// body is a reply's body that ends a request whose origin stalls. Only time
// spent waiting for the origin counts: a reader that is slow to ask for more
// is no fault of the origin's.
type body struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	rc     io.ReadCloser
	idle   time.Duration
	timer  *time.Timer

	floor   int64 // least bytes per window, 0 for none
	window  time.Duration
	waited  time.Duration // in this window
	arrived int64         // in this window
}

func newBody(c *Client, ctx context.Context, cancel context.CancelCauseFunc, rc io.ReadCloser) *body {
	b := &body{ctx: ctx, cancel: cancel, rc: rc, idle: cmp.Or(c.IdleTimeout, IdleTimeout), floor: FloorBytes, window: cmp.Or(c.FloorWindow, FloorWindow)}
	b.timer = time.AfterFunc(b.idle, func() { cancel(errIdle) })
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle)
	began := time.Now()
	n, err := b.rc.Read(p)
	b.timer.Stop()
	b.arrived += int64(n)
	b.waited += time.Since(began)
	if b.waited >= b.window {
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

// isNetwork reports whether err is of a connection that broke, and neither of a
// context that ended nor a failure that was decided on.
func isNetwork(err error) bool {
	var f *failure.Error
	return !errors.As(err, &f) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
