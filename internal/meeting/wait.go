package meeting

import (
	"context"
	"strconv"
	"time"
)

const (
	// maxWaits is how many clients may begin to wait in each period of waitPeriod,
	// the longest wait there is. Twice as many wait at the same time at most: a
	// quarter of the 1,000 Lambdas that an account may run at once by default.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxWaits   = 125
	waitPeriod = 20 * time.Second
)

// AdmitWait reports whether one more client may be kept waiting for its answer. It
// counts the waits of a period in a separate item, with one write per wait. If
// DynamoDB can't be asked, the client doesn't wait.
func (t *Table) AdmitWait(ctx context.Context) bool {
	period := t.now().Unix() / int64(waitPeriod/time.Second)
	_, err := t.update(ctx, "#waits/"+strconv.FormatInt(period, 10),
		"ADD waits :one SET expiresAt = :expiry", "attribute_not_exists(waits) OR waits < :max",
		values{":one": 1, ":max": maxWaits, ":expiry": t.now().Add(ItemLife).Unix()})
	return err == nil
}
