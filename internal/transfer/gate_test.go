package transfer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

var errBusy = failure.New(failure.OriginStatus, "busy")

// enterNow enters g if that takes no time, and reports whether it did.
func enterNow(t *testing.T, g *gate) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	return g.enter(ctx) == nil
}

// The number of readers steps down when one is refused, and up to the configured one
// after twice as many ranges as there are readers.
func TestGateSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(3)
		// readers is how many readers g lets in.
		readers := func() int {
			n := 0
			for enterNow(t, g) {
				n++
			}
			for range n {
				g.leave(false)
			}
			return n
		}
		if n := readers(); n != 3 || g.limited() {
			t.Fatalf("got %d readers, limited %t, want 3, as configured", n, g.limited())
		}
		for range 3 {
			enterNow(t, g)
		}
		g.refused(&origin.Busy{Err: errBusy})
		g.refused(&origin.Busy{Err: errBusy}) // the same moment
		for range 3 {
			g.leave(false)
		}
		for served, want := range []int{2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3} {
			if n := readers(); n != want || g.limited() != (want < 3) {
				t.Errorf("got %d readers, limited %t, after %d ranges, want %d", n, g.limited(), served, want)
			}
			enterNow(t, g)
			g.leave(true)
		}
		for range 5 {
			enterNow(t, g)
			g.refused(&origin.Busy{Err: errBusy})
			g.leave(false)
		}
		if n := readers(); n != 1 {
			t.Errorf("got %d readers after refusals of a single one, want 1", n)
		}
	})
}

// A pause that the origin asked for is waited out, or reported if it is long and nothing
// is open.
func TestGateWaits(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		open  int // other readers
		later bool
	}{
		{origin.MaxSleep, 0, false},
		{origin.MaxSleep + 1, 0, true},
		{2 * origin.MaxSleep, 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(3)
			for range tt.open + 1 {
				enterNow(t, g)
			}
			g.refused(&origin.Busy{After: tt.after / 2, Err: errBusy})
			g.refused(&origin.Busy{After: tt.after, Err: errBusy})
			g.refused(&origin.Busy{After: tt.after / 2, Err: errBusy})
			g.leave(false)
			g.mu.Lock()
			g.limit = g.most
			g.mu.Unlock()
			if !g.limited() {
				t.Errorf("%+v: got no limit while the origin wants a pause", tt)
			}
			began := time.Now()
			err := g.enter(t.Context())
			waited := time.Since(began)
			var later *origin.Later
			if errors.As(err, &later) {
				if waited != 0 || later.Err != errBusy {
					t.Errorf("%+v: got %v after %s, want it at once", tt, err, waited)
				}
				waited = later.After
			}
			if (later != nil) != tt.later || later == nil && err != nil {
				t.Errorf("%+v: got %v", tt, err)
			}
			if most := tt.after * 6 / 5; waited < tt.after || waited > most || later == nil && waited != tt.after {
				t.Errorf("%+v: got a pause of %s", tt, waited)
			}
		})
	}
}

// A reader waits for the place of another one, and no longer than its context.
func TestGateIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		enterNow(t, g)
		time.AfterFunc(time.Hour, func() { g.leave(true) })
		began := time.Now()
		if err := g.enter(t.Context()); err != nil || time.Since(began) != time.Hour {
			t.Errorf("got %v after %s, want a place after 1h", err, time.Since(began))
		}
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Hour, func() { cancel(stopped) })
		if err := g.enter(ctx); err != stopped {
			t.Errorf("got %v, want the cause of the cancel", err)
		}
	})
}
