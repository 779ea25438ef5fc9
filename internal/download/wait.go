package download

import (
	"context"
	"errors"
	"time"

	"async-download/internal/execution"
	"async-download/internal/meeting"
)

const (
	// A wait reads the item again after firstLook, then at growing intervals up to
	// lookEvery: some 25 reads in 20 s. The client of a small file gets its answer as soon
	// as the file is copied.
	firstLook = 200 * time.Millisecond
	lookEvery = time.Second
)

// Wait returns the status of the download called name as soon as the copy has
// ended, or as it is after at most limit. The waits of all clients of a stack are
// limited in number (see [meeting.Table.AdmitWait]): if there are too many, Wait returns
// at once, and waited is false.
//
// It needs what [Protocol.Status] needs, and returns its errors.
func (p *Protocol) Wait(ctx context.Context, name, secret string, limit time.Duration) (state State, waited bool, err error) {
	state, err = p.Status(ctx, name, secret)
	if err != nil || state.Status != meeting.Copying || limit <= 0 {
		return state, true, err
	}
	if !p.Table.AdmitWait(ctx) {
		return state, false, nil
	}
	end := time.After(limit)
	for pause := firstLook; ; pause = min(pause*3/2, lookEvery) {
		select {
		case <-end:
			state, err = p.Status(ctx, name, secret)
			return state, true, err
		case <-ctx.Done():
			return state, true, ctx.Err()
		case <-time.After(pause):
		}
		item, err := p.Table.Current(ctx, execution.ARN(p.StateMachine, name))
		if err != nil && !errors.Is(err, meeting.ErrUnknown) {
			return state, true, err
		}
		if err != nil || item.Cancelled || item.Status != meeting.Copying {
			state, err = p.Status(ctx, name, secret)
			return state, true, err
		}
	}
}
