package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/origin"
)

const (
	// storeTries bounds tries of one part in a row.
	storeTries = 10
	// storeBackoff is the first wait between them; it doubles up to
	// storeMaxBackoff, and a random part of it is slept.
	storeBackoff    = 100 * time.Millisecond
	storeMaxBackoff = 20 * time.Second
)

// inFlight is how many parts are in flight for each range that is read. A part
// whose bytes are all sent waits for S3's answer, some 100 ms, and the next
// range is read meanwhile.
const inFlight = 3

// rangeCopy copies parts of one plan.
type rangeCopy struct {
	job  *Job
	file *origin.File
	plan Plan

	gate    *gate
	isFirst bool // the next part to be read has the origin's first reply, which is open

	mu   sync.Mutex
	have map[int32]part
	took time.Duration // that the last range took to read
	late bool          // a part was left because the deadline is too near
}

// copyParts copies the named parts, in parallel, and returns at the first error.
// What is in c.have then is in S3.
func (c *rangeCopy) copyParts(ctx context.Context, numbers []int32) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.gate = newGate(c.job.concurrency())
	if len(numbers) > 0 && numbers[0] == 1 {
		// The origin's first reply is open. The part that owns it has the first place,
		// so that no other part takes that place and waits for this one.
		c.isFirst, c.gate.open = true, 1
	}
	slots := make(chan struct{}, inFlight*c.job.concurrency())
	var wg sync.WaitGroup
	for _, n := range numbers {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			if err := c.copyPart(ctx, n); err != nil {
				cancel(err) // the first one counts
			}
		}()
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.late {
		return errLate
	}
	return nil
}

func (c *rangeCopy) copyPart(ctx context.Context, n int32) error {
	var furthest int64
	for try := 1; ; {
		p, err := c.tryPart(ctx, n, &furthest)
		if errors.Is(err, errLate) {
			return nil // the parts in flight may still be done
		}
		if err == nil {
			c.mu.Lock()
			c.have[n] = p
			c.mu.Unlock()
			c.job.progress.store(p.size)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var busy *origin.Busy
		if errors.As(err, &busy) {
			continue // others are served
		}
		if !retryable(err) || try == storeTries {
			return storage(ctx, err, "storing a part")
		}
		if err := pause(ctx, try, c.job.storeBackoff); err != nil {
			return err
		}
		try++
	}
}

// tryPart reads one range and sends it to S3 while it comes. furthest is how far
// the tries of this part have come.
func (c *rangeCopy) tryPart(ctx context.Context, n int32, furthest *int64) (part, error) {
	start, end := c.plan.span(n)
	b := newBody(end-start, c.plan)
	call, cancel := b.context(ctx)
	defer cancel(errEnded)
	src := c.file.Range(call, start, end)
	t := &gatedReader{Reader: &passing{Reader: src, progress: &c.job.progress, furthest: furthest}, ctx: call, gate: c.gate, worthwhile: func() error { return c.worthwhile(ctx) }}
	defer t.leave(false)
	c.mu.Lock()
	if n == 1 && c.isFirst {
		c.isFirst, t.held, t.began = false, true, time.Now()
	}
	c.mu.Unlock()
	b.src, b.last = t, func() {
		c.mu.Lock()
		c.took = time.Since(t.began)
		c.mu.Unlock()
		t.leave(true)
	}
	if !t.held && (!c.isFast() || c.gate.limited()) {
		if err := t.enter(); err != nil {
			return part{}, err
		}
	}
	out, err := c.job.S3.UploadPart(call, &s3.UploadPartInput{
		Bucket: &c.job.Bucket, Key: &c.plan.Key, UploadId: &c.plan.UploadID, PartNumber: &n,
		Body: b, ContentLength: &b.size,
	}, b.attach)
	cancel(errEnded)
	s, srcErr := b.end()
	_ = src.Close()
	if err != nil {
		if srcErr != nil {
			err = &fromOrigin{srcErr}
		}
		var busy *origin.Busy
		if errors.As(err, &busy) {
			c.gate.refused(busy) // while this part has its place, so that no other takes it
		}
		return part{}, err
	}
	return part{etag: aws.ToString(out.ETag), size: b.size, sums: s, has64: true, has32: c.plan.Composite}, nil
}

// gatedReader is a range that is read when the gate lets it.
type gatedReader struct {
	io.Reader
	ctx   context.Context
	gate  *gate
	held  bool
	began time.Time

	worthwhile func() error
}

func (t *gatedReader) enter() error {
	if err := t.gate.enter(t.ctx); err != nil {
		return err
	}
	t.held, t.began = true, time.Now()
	return t.worthwhile()
}

func (t *gatedReader) leave(served bool) {
	if t.held {
		t.held = false
		t.gate.leave(served)
	}
}

// Read enters the gate if it hasn't yet.
func (t *gatedReader) Read(p []byte) (int, error) {
	if t.began.IsZero() {
		if err := t.enter(); err != nil {
			return 0, err
		}
	}
	return t.Reader.Read(p)
}

// isFast reports whether parts go through so fast that a request to S3 may be
// begun before it is its range's turn: S3 drops one that is silent for some 20 s.
// It saves the wait for S3's "100 Continue".
func (c *rangeCopy) isFast() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took > 0 && c.took < 2*time.Second
}

// worthwhile returns errLate if a part as slow as the last one wouldn't be done
// before the deadline: its bytes would be read for nothing.
func (c *rangeCopy) worthwhile(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok && time.Until(deadline) < c.took {
		c.late = true
		return errLate
	}
	return nil
}

var errLate = errors.New("too late for another part")

// unsigned keeps the SDK from reading a body a second time for its SHA-256, as it
// does over HTTP: the checksum header guards the body.
func unsigned(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
}

// withPartRetries retries a call as often and with the same waits as a part, instead of
// the SDK's three tries, and also if the store received other bytes than were sent.
func (c *Copier) withPartRetries(o *s3.Options) {
	o.RetryMaxAttempts = storeTries
	o.Retryer = retry.AddWithErrorCodes(retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts = storeTries
		r.Backoff = retry.BackoffDelayerFunc(func(try int, _ error) (time.Duration, error) { return backoff(try, c.storeBackoff), nil })
	}), damaged...)
}
