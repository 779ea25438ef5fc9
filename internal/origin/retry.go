package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"async-download/internal/failure"
)

// Later asks for another try after After, which is longer than a running Lambda should
// sleep: the origin sent it as Retry-After. It wraps the [failure.Error] to report if
// there is no other try.
type Later struct {
	After time.Duration
	Err   *failure.Error
}

func (l *Later) Error() string { return fmt.Sprintf("%s; try again in %s", l.Err, l.After) }

// Unwrap returns the failure.
func (l *Later) Unwrap() error { return l.Err }

// transient is a failure that another try may fix.
type transient struct {
	failure *failure.Error
	status  int           // of the reply, 0 if there was none
	after   time.Duration // what the origin asked for, else 0
	most    int           // tries in a row that are worth making, 0 for the client's number
	over    bool          // all tries were made
}

func (t *transient) Error() string { return t.failure.Error() }
func (t *transient) Unwrap() error { return t.failure }

// tries counts the tries of one request or range since it last made progress.
type tries struct {
	c *Client
	n int
}

// wait sleeps before the next try. It returns nil when that may begin, else
// the error to end with.
func (t *tries) wait(ctx context.Context, cause error) error {
	var failed *transient
	if !errors.As(cause, &failed) || failed.over {
		return cause
	}
	if err := ended(ctx); err != nil {
		return err
	}
	t.n++
	if failed.most > 0 && t.n >= failed.most {
		return failed.failure
	}
	if t.n >= cmp.Or(t.c.Attempts, Attempts) {
		return &transient{failure: failed.failure, over: true}
	}
	ceiling := min(cmp.Or(t.c.Backoff, Backoff)<<min(t.n-1, 20), MaxBackoff)
	pause := rand.N(ceiling)
	if failed.after > 0 {
		// Not before the origin asked for, and not all workers at that moment.
		pause = failed.after + rand.N(max(failed.after/5, 1))
		if failed.after > cmp.Or(t.c.MaxSleep, MaxSleep) {
			return &Later{After: pause, Err: failed.failure}
		}
	}
	if t.c.Waiting != nil {
		t.c.Waiting(failed.failure, pause)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended returns why ctx is done, nil while it isn't: its cause, so that a
// cancel that carries a failure is that failure.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// Temporary reports whether err is a failure that another try may fix: the
// error of a [File.Stream] that broke is.
func Temporary(err error) bool {
	var t *transient
	return errors.As(err, &t) && !t.over
}

// GivenUp reports whether err is such a failure after all tries were made: the
// origin may answer again in minutes.
func GivenUp(err error) bool {
	var t *transient
	return errors.As(err, &t) && t.over
}
