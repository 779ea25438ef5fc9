package download

import (
	"context"
	"errors"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/socket"
)

// Deliver posts the answer to the client of a download: a freshly signed link, or
// the reason why there is none. It needs Table, Objects, Socket and Metrics, and
// returns what [meeting.Table.Deliver] does; see [ToStepFunctions].
func (p *Protocol) Deliver(ctx context.Context, d meeting.Delivery) error {
	var fallback meeting.Connection
	if d.Connection != nil {
		fallback = *d.Connection
	}
	var answered meeting.Item
	sign := p.signOnce(execution.NameFromARN(d.ExecutionARN))
	gone := 0
	err := p.Table.Deliver(ctx, d.ExecutionARN, fallback, func(ctx context.Context, item meeting.Item, c meeting.Connection) (err error) {
		answered = item
		var event socket.Event
		if item.Status.NoFile() {
			event = socket.Failed(item.Failure)
		} else if event, err = sign(ctx); err != nil {
			return err
		}
		if item.Status == meeting.Ready { // the last progress of a copy that was watched
			err = p.Socket.Post(ctx, c, socket.Progress(item.BytesCopied, item.BytesTotal))
		}
		if err == nil {
			err = p.Socket.Post(ctx, c, event)
		}
		if errors.Is(err, meeting.ErrGone) {
			gone++
		}
		return err
	})
	if gone > 0 {
		p.count(d.ExecutionARN, map[metric.Name]float64{metric.Gone: float64(gone)})
	}
	if err == nil && answered.Status == meeting.Ready { // for the first time
		c, _ := answered.Connection()
		p.ended(metric.Delivered, answered, "", c.At)
	}
	return err
}

// signOnce returns a function that signs a link when it is first called and returns
// the same event from then on: the tries of one delivery follow each other within a
// second.
func (p *Protocol) signOnce(name string) func(context.Context) (socket.Event, error) {
	var signed *socket.Event
	return func(ctx context.Context) (socket.Event, error) {
		if signed != nil {
			return *signed, nil
		}
		l, err := p.Objects.Sign(ctx, name)
		event := socket.Ready(l)
		if errors.Is(err, object.ErrGone) {
			event, err = socket.Failed(failure.As(err)), nil
		}
		if err != nil {
			return socket.Event{}, err
		}
		signed = &event
		return event, nil
	}
}

// The errors of a delivery that asl/deliver.asl.json and asl/download.asl.json name.
const (
	ConnectionOpening = "ConnectionOpening"
	ConnectionGone    = "ConnectionGone"
)

// ToStepFunctions returns err as the Lambda runtime reports it under the name that
// the state machines know: [ConnectionOpening], [ConnectionGone] or a failure's
// code. A handler that runs as a state calls it in its last line.
func ToStepFunctions(err error) error {
	switch {
	case errors.Is(err, meeting.ErrOpening):
		return messages.InvokeResponse_Error{Type: ConnectionOpening, Message: err.Error()}
	case errors.Is(err, meeting.ErrGone):
		return messages.InvokeResponse_Error{Type: ConnectionGone, Message: err.Error()}
	}
	return failure.ToStepFunctions(err)
}
