package transfer

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// gate admits as many readers of ranges as the origin accepts at once. It begins
// with the number configured, steps down when the origin refuses one of several
// connections, and tries one more after a while.
type gate struct {
	mu     sync.Mutex
	most   int // configured
	limit  int // believed to be accepted
	open   int
	served int // in a row, since the limit changed

	notBefore time.Time // when the origin wants to be asked again
	refusal   *failure.Error
	wake      chan struct{} // closed, and replaced, when a reader may enter
}

func newGate(most int) *gate { return &gate{most: most, limit: most, wake: make(chan struct{})} }

// enter waits for a place. When nothing is open and the origin wants a longer wait
// than should be slept out here, the error is an [origin.Later].
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		wait := time.Until(g.notBefore)
		switch {
		case wait <= 0 && g.open < g.limit:
			g.open++
			g.mu.Unlock()
			return nil
		case wait > origin.MaxSleep && g.open == 0:
			defer g.mu.Unlock()
			return &origin.Later{After: wait + rand.N(wait/5), Err: g.refusal} // not all workers at that moment
		}
		wake := g.wake
		g.mu.Unlock()
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-wake:
		case <-timer:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave gives a place back. served: the origin sent all that was asked for.
func (g *gate) leave(served bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if served {
		g.served++
	}
	if g.limit < g.most && g.served >= 2*g.limit {
		g.limit, g.served = g.limit+1, 0
	}
	close(g.wake)
	g.wake = make(chan struct{})
}

// refused notes that the origin refused a reader, which hasn't left yet, beside
// the others.
func (g *gate) refused(b *origin.Busy) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, g.served = max(min(g.limit, g.open-1), 1), 0
	if at := time.Now().Add(b.After); at.After(g.notBefore) {
		g.notBefore, g.refusal = at, b.Err
	}
}

// limited reports whether the origin accepts fewer readers than configured: one
// may then have to wait for long.
func (g *gate) limited() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit < g.most || time.Now().Before(g.notBefore)
}
