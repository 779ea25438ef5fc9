package download

import (
	"context"
	"encoding/json"
	"errors"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/socket"
)

var errNoAction = failure.New(failure.NotFound, `no such action; there are {"action":"cancel"} and {"action":"ping"}`)

// Message does what a client asks for on its socket: {"action":"cancel"} cancels
// the download, {"action":"ping"} keeps the socket from being idle. It needs Table
// (with Tokens) and Socket.
//
// It returns the ARN of the client's execution, "" if unknown, and the answer to an
// invalid message, nil for a valid one. It is not an error if the client has gone.
func (p *Protocol) Message(ctx context.Context, connectionID, body string) (arn string, refused *failure.Error, err error) {
	var message struct {
		Action string `json:"action"`
	}
	if json.Unmarshal([]byte(body), &message) == nil && message.Action == "ping" {
		return "", nil, nil
	}
	// No item has the client of an execution whose item was deleted.
	c := meeting.Connection{ID: connectionID}
	find := p.Table.Find
	if message.Action == "cancel" { // the one message that a lagging index must not lose
		find = p.Table.FindRecent
	}
	arn, err = find(ctx, connectionID)
	if err != nil && !errors.Is(err, meeting.ErrUnknown) {
		return "", nil, err
	}
	if arn != "" {
		if item, err := p.Table.Current(ctx, arn); err == nil && item.ConnectionID == connectionID {
			c.Format = item.Format
		}
	}
	refused = errNoAction
	if message.Action == "cancel" {
		err := meeting.ErrUnknown
		if arn != "" {
			err = p.Table.Cancel(ctx, arn)
		}
		if !errors.Is(err, meeting.ErrEnded) && !errors.Is(err, meeting.ErrUnknown) {
			return arn, nil, err // after a cancel, the workflow notifies the client when it has ended
		}
		refused = errTooLate
	}
	if err := p.Socket.Post(ctx, c, socket.Refused(refused)); err != nil && !errors.Is(err, meeting.ErrGone) {
		return arn, refused, err
	}
	return arn, refused, nil
}
