package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// timings are the durations that the program waits for, so that tests can be
// quick.
type timings struct {
	// patience is how long nothing at all may be reached before giving up.
	patience time.Duration
	// backoff is the mean of the first wait between tries; each next is twice
	// that, up to maxBackoff, with full jitter.
	backoff, maxBackoff time.Duration
	// call is how long one call of the REST API may take. API Gateway answers
	// within 29 s.
	call time.Duration
	// handshake covers a cold start behind the WebSocket.
	handshake time.Duration
	// wsPing is how often the socket is pinged. Nothing else finds out that a line
	// is dead: a laptop that slept or a network that changed sends nothing.
	wsPing time.Duration
	// keepAlive is how often a message is sent. API Gateway closes a socket that
	// was idle for 10 minutes, and no document promises that a ping frame counts.
	keepAlive time.Duration
	// poll is how often statusUrl is asked where the API names no Retry-After.
	poll time.Duration
	// silence is how long nothing may arrive before the user is notified.
	silence time.Duration
	// stall is how long a reply may stand still.
	stall time.Duration
	// outage is how long all replies must have stood still for the next byte to
	// end every wait: the network is back.
	outage time.Duration
	// checkpoint is how often progress is made durable.
	checkpoint time.Duration
	// tick is how often progress is shown while nothing changes.
	tick time.Duration
}

var realTimings = timings{
	patience:   5 * time.Minute,
	backoff:    500 * time.Millisecond,
	maxBackoff: 30 * time.Second,
	call:       40 * time.Second,
	handshake:  20 * time.Second,
	wsPing:     5 * time.Second,
	keepAlive:  4 * time.Minute,
	poll:       2 * time.Second,
	silence:    10 * time.Second,
	stall:      30 * time.Second,
	outage:     5 * time.Second,
	checkpoint: 5 * time.Second,
	tick:       time.Second,
}

// wait returns how long to wait before try+1. Full jitter keeps clients that were
// cut off together from coming back together.
func (t timings) wait(try int, atLeast time.Duration) time.Duration {
	ceiling := t.maxBackoff
	if try < 20 {
		ceiling = min(ceiling, t.backoff<<try)
	}
	return max(time.Duration(rand.Int64N(int64(ceiling))), atLeast)
}

// pause waits before try+1.
func (t timings) pause(ctx context.Context, try int, atLeast time.Duration) error {
	return sleep(ctx, t.wait(try, atLeast))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
