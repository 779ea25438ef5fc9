package download

import (
	"context"
	"errors"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/object"
)

// Delete cancels the download called name while its file is being copied, with the
// state CANCELLED, and later deletes the file, with the state DELETED: every link
// to it has stopped working by then. It needs Table (with Tokens), Objects,
// Discard, StateMachine and RequireTicket.
//
// The error is [failure.NotFound] as for Status, and [failure.Conflict] where
// nothing is left to delete. After any other error, call Delete again.
func (p *Protocol) Delete(ctx context.Context, name, secret string) (State, error) {
	item, known, err := p.find(ctx, name, secret)
	for {
		if err != nil {
			return State{}, err
		}
		if !known { // delivered, and the item is gone
			return p.discarded(ctx, name)
		}
		switch item.Status {
		case meeting.Copying:
			if err = p.Table.Cancel(ctx, item.ExecutionARN); err == nil {
				return cancelled(item), nil
			}
		case meeting.Ready:
			// The workflow that finds the mark discards the file too, but later.
			if err = p.Table.Cancel(ctx, item.ExecutionARN); err == nil {
				return p.discarded(ctx, name)
			}
		case meeting.Delivered, meeting.Expired:
			if err = p.Table.Revoke(ctx, item.ExecutionARN); err == nil {
				return p.discarded(ctx, name)
			}
		default:
			// An earlier call may have done no more than revoke the item.
			if _, err = p.Objects.Record(ctx, name); err == nil {
				return p.discarded(ctx, name)
			}
			if errors.Is(err, object.ErrGone) {
				err = errTooLate
			}
			return State{}, err
		}
		if errors.Is(err, meeting.ErrEnded) || errors.Is(err, meeting.ErrUnknown) { // its status has changed
			item, known, err = p.find(ctx, name, secret)
		}
	}
}

// discarded deletes the file of the download called name.
func (p *Protocol) discarded(ctx context.Context, name string) (State, error) {
	if err := p.Discard(ctx, object.Key(name)); err != nil {
		return State{}, err
	}
	return State{Status: meeting.Deleted}, nil
}

// errTooLate is the answer to a cancel after the end.
var errTooLate = failure.New(failure.Conflict, "the download has ended; there is nothing to cancel")
