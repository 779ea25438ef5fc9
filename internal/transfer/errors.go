package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/failure"
)

// OutOfTime is the error of a run whose time ended while S3 was working, before
// the first part or after the last. Nothing is lost: call the same function
// again, with the same arguments.
type OutOfTime struct{ failure *failure.Error }

func (e *OutOfTime) Error() string { return fmt.Sprintf("%s; run it again", e.failure) }

// Unwrap returns the failure to report when it isn't run again.
func (e *OutOfTime) Unwrap() error { return e.failure }

// runAgain turns the end of ctx's time into an [OutOfTime].
func runAgain(ctx context.Context, err error) error {
	if !outOfTime(ctx, err) {
		return err
	}
	return &OutOfTime{failure.New(failure.Storage, "S3 wasn't done in the time that a copy has")}
}

// storage turns an error of S3 into a failure, and the end of a context into
// its cause.
func storage(ctx context.Context, err error, doing string) error {
	if err == nil {
		return nil
	}
	var f *failure.Error
	if errors.As(err, &f) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return failure.Wrap(err, failure.Storage, "%s failed", doing)
}

// outOfTime reports whether err is the end of ctx's time. The time-outs of net and
// net/http are context.DeadlineExceeded to errors.Is too.
func outOfTime(ctx context.Context, err error) bool {
	return errors.Is(err, errLate) || ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded)
}

// isCode reports whether S3 answered with one of these error codes.
func isCode(err error, codes ...string) bool {
	var e smithy.APIError
	return errors.As(err, &e) && slices.Contains(codes, e.ErrorCode())
}

// gone is the failure of an upload that S3 no longer has, when there is no object
// either.
func gone(cause error) error {
	return failure.Wrap(cause, failure.Storage, "the upload was aborted while it was copied to")
}

// fromOrigin marks an error of the origin that came out of an S3 call: it was
// retried by package origin and is final.
type fromOrigin struct{ error }

func (e *fromOrigin) Unwrap() error { return e.error }

// retryable reports whether a part may be tried again after err, an error of S3
// or of the connection to it. A 4xx of S3 is final, except those that report
// that the bytes didn't arrive as they were sent.
func retryable(err error) bool {
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

// backoff is how long to wait before try number try+1.
func backoff(try int, first time.Duration) time.Duration {
	return rand.N(min(cmp.Or(first, storeBackoff)<<min(max(try-1, 0), 20), storeMaxBackoff))
}

// detached returns a context for what has to be done after ctx ended.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
}
