package download

import (
	"context"
	"errors"
	"time"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/object"
)

// settle is how long a worker may take to notice, by its next write after a second, that
// the item has ended, and to store the part in progress. The second Discard finds what it
// opens in that time.
const settle = 15 * time.Second

// Broken is an execution of the download machine that didn't succeed, as the
// event Step Functions Execution Status Change describes it.
// https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
type Broken struct {
	ExecutionARN string `json:"executionArn"`
	Status       string `json:"status"` // FAILED, TIMED_OUT or ABORTED
	Error        string `json:"error"`
	Cause        string `json:"cause"`
}

// CleanUp removes what a broken execution left. Most have ended their download
// themselves; one that was stopped, timed out or broke runs no Catch, and stops no Lambda
// that still copies. It needs Table, Discard, Executions, DeliverMachine, Metrics and
// Events, and returns the item as it is then, empty if there is none. After an error, call
// CleanUp again.
func (p *Protocol) CleanUp(ctx context.Context, b Broken) (meeting.Item, error) {
	item, err := p.cleanUp(ctx, b)
	if err != nil {
		p.count(b.ExecutionARN, map[metric.Name]float64{metric.NotDiscarded: 1})
		return item, err
	}
	if outcome, code := b.outcome(item); outcome != "" {
		p.ended(outcome, item, code, time.Now())
	}
	return item, nil
}

func (p *Protocol) cleanUp(ctx context.Context, b Broken) (meeting.Item, error) {
	item, err := p.Table.Current(ctx, b.ExecutionARN)
	if err == nil {
		item, err = p.Table.End(ctx, b.ExecutionARN, b.reason(item))
	}
	if errors.Is(err, meeting.ErrUnknown) {
		return meeting.Item{}, nil // delivered, and the client has gone
	}
	ended := errors.Is(err, meeting.ErrEnded)
	if err != nil && !ended {
		return item, err
	}
	// A workflow that failed on its own has notified the client. One that was stopped or
	// timed out may have been between the note and the delivery, and an earlier try of this
	// call may have done no more than end the item. Two messages are better than none.
	own := item.Status == meeting.Expired && item.Failure != nil
	if _, here := item.Connection(); here && (!ended || b.Status != "FAILED" || own) {
		if err := p.startDelivery(ctx, meeting.Delivery{ExecutionARN: item.ExecutionARN}); err != nil {
			return item, err
		}
	}
	if !item.Status.NoFile() {
		return item, nil
	}
	if !ended || b.Status != "FAILED" { // else NoteFailure has put the event
		p.Events.Ended(ctx, item, item.Failure)
	}
	// Twice, since a worker may still be copying, even after FAILED: a Lambda whose state
	// timed out or whose reply was lost continues.
	key := object.Key(execution.NameFromARN(b.ExecutionARN))
	if err := p.Discard(ctx, key); err != nil {
		return item, err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return item, ctx.Err()
	}
	return item, p.Discard(ctx, key)
}

// reason is the failure that the client gets. A complete file outlives a workflow that
// broke or timed out: the item's status is then EXPIRED, for which a client still gets
// the link, now or when it connects.
func (b Broken) reason(item meeting.Item) *failure.Error {
	switch {
	case item.Cancelled: // by its client, which stops an execution that waits for the origin
		return failure.ErrCancelled
	case b.Status == "ABORTED":
		return failure.New(failure.Cancelled, "the download was stopped by an operator")
	case item.Status == meeting.Ready:
		return failure.New(failure.Expired, "the workflow ended before a client came")
	case b.Status == "TIMED_OUT":
		return failure.New(failure.OriginTooSlow, "the copy took longer than an execution may last")
	}
	return failure.FromStepFunctions(b.Error, b.Cause)
}

// outcome is how a download ended; "" for one that was delivered, which Deliver or
// Status has recorded.
func (b Broken) outcome(item meeting.Item) (metric.Name, failure.Code) {
	switch item.Status {
	case meeting.Failed:
		return metric.Failed, item.Failure.Code
	case meeting.Cancelled:
		return metric.Cancelled, ""
	case meeting.Expired:
		if b.Status == "FAILED" && b.Error != string(failure.Expired) {
			return metric.Failed, failure.Internal // the link could not be posted; the client may connect again for it
		}
		return metric.Expired, ""
	}
	return "", ""
}
