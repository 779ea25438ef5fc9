package download

import (
	"context"
	"errors"
	"time"

	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
)

// State is the status of a download. It has a link exactly when Status is READY.
type State struct {
	Status      meeting.Status `json:"status"` // COPYING, READY, FAILED or CANCELLED
	BytesCopied int64          `json:"bytesCopied"`
	BytesTotal  *int64         `json:"bytesTotal"`      // null: not known
	Error       *failure.Error `json:"error,omitempty"` // why there is no file
	*link.Link
}

// Status returns the status of the download called name, with a fresh link if the
// file is ready. It needs Table (with Tokens), Objects, StateMachine, RequireTicket
// and Metrics.
//
// The error is [failure.NotFound] for a name or a ticket that is wrong, and
// [failure.Expired] where the item remains and its file is gone.
func (p *Protocol) Status(ctx context.Context, name, secret string) (State, error) {
	item, _, err := p.find(ctx, name, secret)
	if err != nil {
		return State{}, err
	}
	if s, ok := withoutLink(item); ok {
		return s, nil
	}
	l, err := p.Objects.Sign(ctx, name)
	if err != nil {
		return State{}, err
	}
	if item.Status == meeting.Ready {
		// A caller that gets the link here counts as the client: the execution need not wait
		// for another.
		now, err := p.Table.Connect(ctx, item.ExecutionARN, meeting.Connection{ID: meeting.Request, At: time.Now()})
		if err != nil && !errors.Is(err, meeting.ErrTaken) && !errors.Is(err, meeting.ErrUnknown) {
			return State{}, err
		}
		if s, ok := withoutLink(now); ok {
			return s, nil // it ended while the link was signed
		}
		if err == nil && item.ConnectionID != meeting.Request { // the first link, and not to a socket
			p.ended(metric.Delivered, item, "", time.Now())
		}
	}
	return State{Status: meeting.Ready, BytesCopied: l.Size, BytesTotal: &l.Size, Link: &l}, nil
}

// withoutLink returns the state of a download that has no link to hand out, if item
// is of one.
func withoutLink(item meeting.Item) (State, bool) {
	switch {
	case item.Status.NoFile():
		return state(item, item.Status, item.Failure), true
	case item.Cancelling():
		return cancelled(item), true
	case item.Status == meeting.Copying:
		return state(item, item.Status, nil), true
	}
	return State{}, false
}

// cancelled is the state of a download whose cancel was accepted: the workflow
// has yet to end it, and its file, if there is one, goes.
func cancelled(item meeting.Item) State {
	return state(item, meeting.Cancelled, failure.ErrCancelled)
}

func state(item meeting.Item, status meeting.Status, why *failure.Error) State {
	return State{Status: status, BytesCopied: item.Copied(), BytesTotal: item.BytesTotal, Error: why}
}
