package download

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/object"
)

// discardTimeout is how long NoteFailure may take to remove what the copy stored, well
// within the 120 s of its state; clean-up has more time.
const discardTimeout = time.Minute

// FailureInput is what a Catch of the download machine has caught.
type FailureInput struct {
	ExecutionARN string `json:"executionArn"`
	Failure      *struct {
		Error string
		Cause string
	} `json:"failure,omitempty"`
}

// Noted is a failure as the item has it.
type Noted struct {
	Code      failure.Code `json:"code"`
	Message   string       `json:"message"`
	Connected bool         `json:"connected"` // whether a client is here to be notified
}

// NoteFailure ends the download with this ARN because of why, and removes what the copy
// stored. It needs Table, Discard, Metrics and Events. If the download has ended before, the
// reason is the one noted then, and the file of one that was delivered stays.
//
// The reason is noted first: workers that still copy see it in the item and stop,
// and a client that connects now finds it.
func (p *Protocol) NoteFailure(ctx context.Context, arn string, why *failure.Error) (Noted, error) {
	item, err := p.Table.End(ctx, arn, why)
	if errors.Is(err, meeting.ErrEnded) && item.Failure != nil { // by an earlier try of this call
		why = item.Failure
	}
	if err != nil && !errors.Is(err, meeting.ErrUnknown) && !errors.Is(err, meeting.ErrEnded) {
		return Noted{}, err
	}
	_, connected := item.Connection()
	noted := Noted{why.Code, why.Message, connected}
	if !item.Status.NoFile() {
		return noted, nil // delivered or expired: a client has a link, or may still ask for one
	}
	p.Events.Ended(ctx, item, why)
	ctx, cancel := context.WithTimeout(ctx, discardTimeout)
	defer cancel()
	if err := p.Discard(ctx, object.Key(execution.NameFromARN(arn))); err != nil {
		// The client is still notified; clean-up tries again when the execution has ended.
		slog.ErrorContext(ctx, "not discarded", "execution", execution.NameFromARN(arn), "error", failure.As(err))
		p.count(arn, map[metric.Name]float64{metric.NotDiscarded: 1})
	}
	return noted, nil
}
