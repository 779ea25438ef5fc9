package copying

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/socket"
	"async-download/internal/transfer"
)

const (
	// tick is how often the bytes copied are written and a cancel is looked for: a
	// little more than the second between two posts, so that a worker that is alone
	// may post at each.
	tick = 1020 * time.Millisecond
	// postTimeout drops a message about progress before the next worker may send
	// one, so that none is overtaken.
	postTimeout = 900 * time.Millisecond
)

// reporter writes how much a worker has copied into the item, and posts the sum of all
// workers to the client.
type reporter struct {
	worker   *Worker
	arn      string
	segment  int32 // 0: the whole file
	segments int   // how many the file has, and so workers at most
	job      *transfer.Job
	stop     context.CancelCauseFunc

	total atomic.Pointer[int64] // nil: not known
}

func (r *reporter) setTotal(n int64) {
	if n >= 0 {
		r.total.Store(&n)
	}
}

// start reports every tick until ctx ends or the function it returns is called.
func (r *reporter) start(ctx context.Context) (finish func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		// DynamoDB takes 1,000 units per second for one item, which has a number for each
		// segment: 100 writes per second of an item of 400 take 700.
		ticker := time.NewTicker(tick * time.Duration(1+r.segments/100))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			// Where there are many workers, most see that another one has just posted, and don't
			// try: the item takes 1,000 writes per second.
			if item, ok := r.report(ctx); ok && item.Format == socket.JSON && r.worker.Table.Due(item) {
				r.post(ctx)
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// report writes the bytes copied and stops the copy if it was cancelled. A failed write is
// ignored, since the next one replaces it.
func (r *reporter) report(ctx context.Context) (meeting.Item, bool) {
	item, err := r.worker.Table.Progress(ctx, r.arn, r.segment, r.job.Copied(), r.total.Load())
	switch {
	case errors.Is(err, meeting.ErrUnknown) || err == nil && item.Stopped():
		r.stop(failure.ErrCancelled)
		return item, false
	case err != nil:
		return item, false
	}
	return item, true
}

func (r *reporter) post(ctx context.Context) {
	item, err := r.worker.Table.Announce(ctx, r.arn)
	if err != nil {
		return
	}
	c, _ := item.Connection()
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	// The delivery notices a client that is gone and handles it.
	_ = r.worker.Socket.Post(ctx, c, socket.Progress(item.Copied(), item.BytesTotal))
}
