package download

import (
	"context"
	"errors"

	"async-download/internal/execution"
	"async-download/internal/meeting"
)

// Connect admits a client whose socket opens: to the execution with this ARN, if
// there is such a download and secret opens it. It needs Table (with Tokens),
// Objects, StateMachine, RequireTicket, Executions and DeliverMachine.
//
// The item returned is the download as the client found it, empty where only the
// object is left. Nothing is written for a client that is refused, with
// [failure.NotFound]; any other error means that AWS could not be asked, and the
// client should try again.
func (p *Protocol) Connect(ctx context.Context, arn, secret string, c meeting.Connection) (meeting.Item, error) {
	name, ours := execution.ParseARN(p.StateMachine, arn)
	if !ours {
		return meeting.Item{}, errNotFound
	}
	if _, _, err := p.find(ctx, name, secret); err != nil {
		return meeting.Item{}, err
	}
	item, err := p.Table.Connect(ctx, arn, c)
	known := !errors.Is(err, meeting.ErrUnknown)
	if known && err != nil {
		return meeting.Item{}, err
	}
	if known && !item.Status.Ended() {
		return item, nil
	}
	// No workflow will look for this client, and nothing can be posted before on-connect
	// has returned.
	if err := p.startDelivery(ctx, meeting.Delivery{ExecutionARN: arn, Connection: &c}); err != nil {
		// The client is refused and tries again; until then it isn't connected.
		return meeting.Item{}, errors.Join(err, p.Table.Leave(ctx, arn, c.ID))
	}
	return item, nil
}
