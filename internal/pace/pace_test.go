package pace

import (
	"testing"
	"time"
)

const kib = 1 << 10

// run feeds a meter with what passes at a rate, counted every interval in whole
// grains, and calls check after each count.
func run(rate float64, interval, length time.Duration, grain int64, check func(passed time.Duration, m *Meter, now time.Time, done int64)) {
	began := time.Unix(0, 0)
	m := &Meter{}
	for passed := time.Duration(0); passed <= length; passed += interval {
		done := int64(rate*passed.Seconds()) / grain * grain
		now := began.Add(passed)
		m.Observe(now, done)
		check(passed, m, now, done)
	}
}

func TestEstimateHolds(t *testing.T) {
	const rate, length = 300 * kib, 80 * time.Second
	total := int64(rate * length.Seconds())
	for name, test := range map[string]struct {
		interval time.Duration
		grain    int64
	}{
		"each byte, five times a second": {200 * time.Millisecond, 1},
		"each byte, once a second":       {time.Second, 1},
		"64 KiB at once":                 {100 * time.Millisecond, 64 * kib},
		"1 MiB at once":                  {100 * time.Millisecond, 1024 * kib},
	} {
		t.Run(name, func(t *testing.T) {
			run(rate, test.interval, length, test.grain, func(passed time.Duration, m *Meter, now time.Time, done int64) {
				left, want := m.Left(now, total), length-passed
				if passed < Enough && left != 0 {
					t.Errorf("after %v: got %v left, want no estimate yet", passed, left)
				}
				if want < 5*time.Second { // of which a grain is too large a part
					return
				}
				if passed >= 15*time.Second && (left > want*3/2 || left < want*2/3) {
					t.Errorf("after %v: got %v left, want %v within a factor of 1.5", passed, left, want)
				}
			})
		})
	}
}

func TestChangeOfRate(t *testing.T) {
	m, now, done := &Meter{}, time.Unix(0, 0), int64(50*kib)
	pass := func(seconds int, rate int64) {
		for range seconds {
			now, done = now.Add(time.Second), done+rate
			m.Observe(now, done)
		}
	}
	m.Observe(now, done) // of unknown age
	pass(20, 1000*kib)
	if got := m.Rate(now); got != 1000*kib {
		t.Errorf("got %.0f B/s, want %d", got, 1000*kib)
	}
	pass(11, 10*kib)
	if got := m.Rate(now); got > 15*kib {
		t.Errorf("11 s after the line became slow: got %.0f B/s, want about %d", got, 10*kib)
	}
	pass(9, 0)
	if got := m.Rate(now); got == 0 {
		t.Error("9 s after the last byte: got no rate, want the last one")
	}
	pass(1, 0)
	if got, left := m.Rate(now), m.Left(now, 2*done); got != 0 || left != 0 {
		t.Errorf("10 s after the last byte: got %.0f B/s, %v left, want neither", got, left)
	}
	pass(4, 500*kib)
	if got := m.Rate(now); got != 500*kib {
		t.Errorf("4 s after an outage: got %.0f B/s, want %d", got, 500*kib)
	}
	done = 0
	m.Observe(now, done)
	pass(2, 5*kib)
	if got := m.Rate(now); got != 0 {
		t.Errorf("2 s after the count began again: got %.0f B/s, want none", got)
	}
	if left := (&Meter{}).Left(now, 100); left != 0 {
		t.Errorf("without a count: got %v left", left)
	}
	slow := &Meter{}
	slow.Observe(now, 0)
	slow.Observe(now.Add(5*time.Second), 1)
	if left := slow.Left(now.Add(5*time.Second), 1<<60); left != MaxLeft {
		t.Errorf("got %v left, want %v at most", left, MaxLeft)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := &Meter{}
	for i := range int64(100_000) {
		m.Observe(time.Unix(0, i*int64(time.Millisecond)), i)
	}
	if got, most := len(m.changes), int(Window/step)+2; got > most {
		t.Errorf("got %d changes kept, want at most %d", got, most)
	}
}
