package transfer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/failure"
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

// inFlight is how many parts are under way for each range that is read. A part
// whose bytes are all sent waits for S3's answer, some 100 ms, and the next
// range is read meanwhile.
const inFlight = 3

// copying copies parts of one plan.
type copying struct {
	c      *Copier
	f      *origin.File
	plan   Plan
	report func(int64)

	reading chan struct{} // holds a token for each range that is being read

	mu   sync.Mutex
	have map[int32]part
	took time.Duration // that the last range took to read
	late bool          // a part was left because the deadline is too near
}

// copyParts copies the named parts, in parallel, and returns at the first error.
// What is in c.have then is in S3.
func (c *copying) copyParts(ctx context.Context, numbers []int32) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.reading = make(chan struct{}, c.c.concurrency())
	slots := make(chan struct{}, inFlight*c.c.concurrency())
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

func (c *copying) copyPart(ctx context.Context, n int32) error {
	for try := 1; ; try++ {
		p, err := c.tryPart(ctx, n)
		if errors.Is(err, errLate) {
			return nil // the parts under way may still be done
		}
		if err == nil {
			c.mu.Lock()
			c.have[n] = p
			c.mu.Unlock()
			c.report(p.size)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !again(err) || try == storeTries {
			return storage(ctx, err, "storing a part")
		}
		if err := pause(ctx, try, c.c.storeBackoff); err != nil {
			return err
		}
	}
}

// tryPart reads one range and sends it to S3 while it comes.
func (c *copying) tryPart(ctx context.Context, n int32) (part, error) {
	start, end := c.plan.Span(n)
	b := newBody(end-start, c.plan)
	call, cancel := b.context(ctx)
	defer cancel(errEnded)
	src := c.f.Range(call, start, end)
	t := &turn{Reader: src, ctx: call, tokens: c.reading, worthwhile: func() error { return c.worthwhile(ctx) }}
	defer t.give()
	b.src, b.last = t, func() {
		c.mu.Lock()
		c.took = time.Since(t.began)
		c.mu.Unlock()
		t.give()
	}
	if !c.quick() {
		if err := t.take(); err != nil {
			return part{}, err
		}
	}
	out, err := c.c.S3.UploadPart(call, &s3.UploadPartInput{
		Bucket: &c.c.Bucket, Key: &c.plan.Key, UploadId: &c.plan.UploadID, PartNumber: &n,
		Body: b, ContentLength: aws.Int64(end - start),
	}, b.attach)
	cancel(errEnded)
	s, srcErr := b.end()
	_ = src.Close()
	if err != nil {
		if srcErr != nil {
			err = &fromOrigin{srcErr}
		}
		return part{}, err
	}
	return part{etag: aws.ToString(out.ETag), size: end - start, sums: s, has64: true, has32: c.plan.Composite}, nil
}

// turn is a range that is read when a token is free.
type turn struct {
	io.Reader
	ctx    context.Context
	tokens chan struct{}
	held   bool
	began  time.Time

	worthwhile func() error
}

func (t *turn) take() error {
	select {
	case t.tokens <- struct{}{}:
		t.held, t.began = true, time.Now()
		return t.worthwhile()
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

func (t *turn) give() {
	if t.held {
		<-t.tokens
		t.held = false
	}
}

// Read takes a token if none was taken yet.
func (t *turn) Read(p []byte) (int, error) {
	if t.began.IsZero() {
		if err := t.take(); err != nil {
			return 0, err
		}
	}
	return t.Reader.Read(p)
}

// quick reports whether parts go through so fast that a request to S3 may be
// begun before it is its range's turn: S3 drops one that is silent for some 20 s.
// It saves the wait for S3's "100 Continue".
func (c *copying) quick() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took > 0 && c.took < 2*time.Second
}

// worthwhile returns errLate if a part as slow as the last one wouldn't be done
// before the deadline: its bytes would be read for nothing.
func (c *copying) worthwhile(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok && c.took > 0 && time.Until(deadline) < c.took {
		c.late = true
		return errLate
	}
	return nil
}

var errLate = errors.New("too late for another part")

// fromOrigin marks an error of the origin that came out of an S3 call: it was
// retried where it arose, and is final.
type fromOrigin struct{ error }

func (e *fromOrigin) Unwrap() error { return e.error }

// again reports whether a part may be tried again after err, an error of S3 or
// of the way there. S3 refuses a request for good with a 4xx, but for those
// that say that the bytes didn't arrive as they were sent.
func again(err error) bool {
	var final *fromOrigin
	var f *failure.Error
	if errors.As(err, &final) || errors.As(err, &f) {
		return false
	}
	if isCode(err, damaged...) {
		return true
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) {
		status := answer.HTTPStatusCode()
		return status >= 500 || status == 408 || status == 429 || status < 400
	}
	return true
}

// damaged are S3's answers to a body that isn't what was sent.
var damaged = []string{"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentChecksumMismatch"}

// pause sleeps before try number try+1.
func pause(ctx context.Context, try int, first time.Duration) error {
	timer := time.NewTimer(backoff(try, first))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unsigned keeps the SDK from reading a body once more for its SHA-256, which it
// does over HTTP: the checksum header guards the body.
func unsigned(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
}

// patient tries a call as often and with the same waits as a part, not three
// times with the SDK's, and tries too what arrived otherwise than it was sent.
func (c *Copier) patient(o *s3.Options) {
	o.RetryMaxAttempts = storeTries
	o.Retryer = retry.AddWithErrorCodes(retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts = storeTries
		r.Backoff = retry.BackoffDelayerFunc(func(try int, _ error) (time.Duration, error) { return backoff(try, c.storeBackoff), nil })
	}), damaged...)
}

// backoff is how long to wait before try number try+1.
func backoff(try int, first time.Duration) time.Duration {
	return rand.N(min(cmp.Or(first, storeBackoff)<<min(max(try-1, 0), 20), storeMaxBackoff) + 1)
}
