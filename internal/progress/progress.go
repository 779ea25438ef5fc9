// Package progress shows how far a transfer is: in one line of a terminal that is
// written over, or in lines of a log.
package progress

import (
	"fmt"
	"time"

	"async-download/internal/bytesize"
	"async-download/internal/pace"
)

// The phases of a download, in their order.
const (
	Copying     = "copying"     // from the origin into S3
	Downloading = "downloading" // from S3 to this machine
	Verifying   = "verifying"   // bytes that weren't hashed as they arrived
)

// Progress is how far a phase is.
type Progress struct {
	Phase string
	Done  int64         // bytes
	Total int64         // bytes; -1 is unknown
	Rate  float64       // bytes per second; 0 is unknown
	Left  time.Duration // 0 is unknown
	// Quiet is how long nothing has changed, in whole seconds.
	Quiet time.Duration
}

// A Meter measures the phases one after the other. The zero value is ready. It
// isn't safe for concurrent use.
type Meter struct {
	pace    pace.Meter
	phase   string
	done    int64
	changed time.Time
}

// Measure returns the progress of a phase of which done of total bytes have
// passed; total is -1 if unknown. Until counted is true, done is not a count yet:
// the rate begins with the first count.
func (m *Meter) Measure(phase string, done, total int64, counted bool) Progress {
	now := time.Now()
	if phase != m.phase {
		*m = Meter{phase: phase, done: done, changed: now}
	}
	if done != m.done {
		m.done, m.changed = done, now
	}
	if counted {
		m.pace.Observe(now, done)
	}
	return Progress{
		Phase: phase, Done: done, Total: total,
		Rate: m.pace.Rate(now), Left: m.pace.Left(now, max(total, done)),
		Quiet: now.Sub(m.changed).Truncate(time.Second),
	}
}

const waiting = "waiting for the origin"

// counts is what has passed, or is waited for; "" in a phase that counts nothing.
func (p Progress) counts() string {
	switch {
	case p.Phase == Copying && p.Done == 0 && p.Total != 0:
		return waiting
	case p.Total < 0 && p.Done == 0:
		return ""
	case p.Total < 0:
		return bytesize.Format(p.Done)
	}
	return bytesize.Format(p.Done) + " of " + bytesize.Format(p.Total)
}

func (p Progress) percent() int {
	if p.Total <= 0 {
		return 100
	}
	return int(float64(p.Done) / float64(p.Total) * 100)
}

// hasShare reports whether there is a share of the total to show.
func (p Progress) hasShare() bool {
	return p.Total >= 0 && (p.Done > 0 || p.Total == 0 || p.Phase != Copying)
}

// speed is the rate and the time left, where known, and else how long nothing
// has changed, if that is long.
func (p Progress) speed() string {
	if p.Rate > 0 {
		text := bytesize.Format(int64(p.Rate)) + "/s"
		if p.Left > 0 {
			text += ", " + (p.Left + time.Second - 1).Truncate(time.Second).String() + " left"
		}
		return text
	}
	switch counts := p.counts(); {
	case p.Quiet < 5*time.Second || p.Done == p.Total:
		return ""
	case counts == waiting, counts == "":
		return p.Quiet.String()
	}
	return "nothing for " + p.Quiet.String()
}

// line is the progress for a log.
func (p Progress) line() string {
	text := p.Phase
	if counts := p.counts(); counts != "" {
		text += ": " + counts
	}
	if p.hasShare() {
		text += fmt.Sprintf(" (%d %%)", p.percent())
	}
	if speed := p.speed(); speed != "" {
		text += ", " + speed
	}
	return text
}
