// Package pace estimates how fast bytes pass and how long the rest will take.
package pace

import "time"

const (
	// Window is how far back a rate looks: long enough to be steady, short enough
	// to follow a line that gets slower. After as long without a byte there is no
	// rate any more.
	Window = 10 * time.Second
	// Enough is the time that a first estimate needs: one second's count is an
	// accident.
	Enough = 3 * time.Second
	// MaxLeft is the longest time left that is worth showing.
	MaxLeft = 1000 * time.Hour
)

// A Meter turns a growing count of bytes into a rate and a time left. The zero
// value is ready. It isn't safe for concurrent use.
type Meter struct {
	// changes are the times at which the count grew: one from before the window,
	// or the first count there was, then those within it.
	changes []change
}

type change struct {
	at   time.Time
	done int64
}

// step is the least time between two changes that are kept.
const step = 200 * time.Millisecond

// Observe records that done bytes have passed in all by now. Bytes of the first
// observation are of unknown age, so they don't count. The meter begins again
// with a count that is smaller than the last one, and after a [Window] without a
// byte.
func (m *Meter) Observe(now time.Time, done int64) {
	n := len(m.changes)
	switch {
	case n > 0 && done == m.changes[n-1].done:
		return
	case n == 0 || done < m.changes[n-1].done || now.Sub(m.changes[n-1].at) >= Window:
		m.changes = append(m.changes[:0], change{now, done})
		return
	case n > 1 && now.Sub(m.changes[n-2].at) < step:
		m.changes[n-1] = change{now, done}
	default:
		m.changes = append(m.changes, change{now, done})
	}
	for len(m.changes) > 2 && now.Sub(m.changes[1].at) >= Window {
		m.changes = m.changes[1:]
	}
}

// Rate returns the bytes per second that passed lately, or 0 where too little is
// known: before [Enough] time, and after a [Window] without a byte.
func (m *Meter) Rate(now time.Time) float64 {
	if len(m.changes) < 2 {
		return 0
	}
	first, last := m.changes[0], m.changes[len(m.changes)-1]
	passed := last.at.Sub(first.at)
	if passed < Enough || now.Sub(last.at) >= Window {
		return 0
	}
	return float64(last.done-first.done) / passed.Seconds()
}

// Left returns the time until total bytes have passed, or 0 where it is unknown
// or nothing is left.
func (m *Meter) Left(now time.Time, total int64) time.Duration {
	rate := m.Rate(now)
	if rate == 0 {
		return 0
	}
	last := m.changes[len(m.changes)-1]
	seconds := float64(total-last.done)/rate - now.Sub(last.at).Seconds()
	return time.Duration(max(0, min(seconds, MaxLeft.Seconds())) * float64(time.Second))
}
