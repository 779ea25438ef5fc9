package main

import (
	"fmt"
	"strings"
	"time"

	"async-download/internal/bytesize"
	"async-download/internal/escape"
	"async-download/internal/pace"
)

// The phases of a download, in their order.
const (
	copying     = "copying"     // from the origin into S3
	downloading = "downloading" // from S3 to here
	verifying   = "verifying"   // what wasn't summed while it came
)

// progress is how far a phase is.
type progress struct {
	phase string
	done  int64
	total int64         // -1 is unknown
	rate  float64       // bytes per second; 0 is unknown
	left  time.Duration // 0 is unknown
	// quiet is how long nothing has changed, in whole seconds.
	quiet time.Duration
}

// meter measures the phases one after the other.
type meter struct {
	pace    pace.Meter
	phase   string
	done    int64
	changed time.Time
}

// measure returns the progress of a phase of which done bytes have passed.
// unknown says that done is not a count yet: the rate begins with the first
// count.
func (m *meter) measure(phase string, done, total int64, unknown bool) progress {
	now := time.Now()
	if phase != m.phase {
		*m = meter{phase: phase, done: done, changed: now}
	}
	if done != m.done {
		m.done, m.changed = done, now
	}
	if !unknown {
		m.pace.Observe(now, done)
	}
	return progress{
		phase: phase, done: done, total: total,
		rate: m.pace.Rate(now), left: m.pace.Left(now, max(total, done)),
		quiet: now.Sub(m.changed).Truncate(time.Second),
	}
}

const waiting = "waiting for the origin"

// counts is what has passed.
func (p progress) counts() string {
	switch {
	case p.phase == copying && p.done == 0 && p.total != 0:
		return waiting
	case p.total < 0:
		return bytesize.Format(p.done)
	}
	return bytesize.Format(p.done) + " of " + bytesize.Format(p.total)
}

func (p progress) percent() int {
	if p.total <= 0 {
		return 100
	}
	return int(float64(p.done) / float64(p.total) * 100)
}

// hasShare reports whether there is a share of the total to show.
func (p progress) hasShare() bool {
	return p.total >= 0 && (p.done > 0 || p.total == 0 || p.phase != copying)
}

// speed is the rate and the time left, where known, and else how long nothing
// has changed, if that is long.
func (p progress) speed() string {
	if p.rate > 0 {
		text := bytesize.Format(int64(p.rate)) + "/s"
		if p.left > 0 {
			text += ", " + (p.left + time.Second - 1).Truncate(time.Second).String() + " left"
		}
		return text
	}
	switch {
	case p.quiet < 5*time.Second || p.done == p.total:
		return ""
	case p.counts() == waiting:
		return p.quiet.String()
	}
	return "nothing for " + p.quiet.String()
}

// line is the progress for a log.
func (p progress) line() string {
	text := p.phase + ": " + p.counts()
	if p.hasShare() {
		text += fmt.Sprintf(" (%d %%)", p.percent())
	}
	if speed := p.speed(); speed != "" {
		text += ", " + speed
	}
	return text
}

// result is a finished download.
type result struct {
	File           string            `json:"file"` // "-" is stdout
	Bytes          int64             `json:"bytes"`
	Seconds        float64           `json:"seconds"`
	Checksum       string            `json:"checksum,omitempty"` // the algorithm that was checked
	OriginVerified bool              `json:"originVerified"`
	Reused         int64             `json:"reused,omitempty"` // bytes of an earlier start
	ContentType    string            `json:"contentType,omitempty"`
	Pinned         bool              `json:"pinned"`
	Digest         map[string]string `json:"digest,omitempty"`
	ETag           string            `json:"etag,omitempty"`
	LastModified   string            `json:"lastModified,omitempty"`

	checks []string // the names of all checks that passed
}

// describe is the last line for people.
func (r result) describe() string {
	var text strings.Builder
	name := escape.Text(r.File)
	if r.File == "-" {
		name = "to stdout"
	}
	fmt.Fprintf(&text, "saved %s: %s in %.1f s, ", name, bytesize.Format(r.Bytes), r.Seconds)
	if len(r.checks) > 0 {
		text.WriteString("its " + strings.ReplaceAll(strings.ToUpper(strings.Join(r.checks, " ")), " ", " and "))
		if len(r.checks) == 1 {
			text.WriteString(" is right")
		} else {
			text.WriteString(" are right")
		}
	} else {
		text.WriteString("unverified: no checksum came with the link")
	}
	if r.Reused > 0 {
		fmt.Fprintf(&text, "; %s were here before", bytesize.Format(r.Reused))
	}
	if !r.OriginVerified {
		text.WriteString("; the origin gave no length or digest, so a cut on its side would not have been seen")
	}
	return text.String()
}
