package main

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"async-download/internal/progress"
)

// What takes time beside the copy itself.
const (
	checking = "waiting for S3"
	cleaning = "removing what was uploaded"
)

// brief is how long a user waits without wondering: a log has no line about a copy
// that took no longer, and a terminal no line about a check.
const brief = 5 * time.Second

// counter is a [transfer.Job], as far as it is shown.
type counter interface {
	Copied() int64
	Resumed() int64
}

// display shows progress: on a terminal in one line, elsewhere in lines at least
// every 10 seconds. It reports what is tried again. Its methods may be called by
// several goroutines.
type display struct {
	out   io.Writer
	quiet bool
	began time.Time
	bar   *progress.Bar   // nil: not a terminal
	lines *progress.Lines // nil: a terminal

	stop, stopped chan struct{} // end the goroutine that shows the progress

	mu       sync.Mutex
	meter    progress.Meter
	phase    string
	job      counter // the newest one; nil before the first
	total    int64
	reported time.Time // when a retry was last reported
}

func newDisplay(out io.Writer, quiet bool) *display {
	d := &display{out: out, quiet: quiet, began: time.Now(), phase: checking, total: -1, stop: make(chan struct{}), stopped: make(chan struct{})}
	interval := time.Second
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.bar = progress.NewBar(out)
		interval /= 5
	} else {
		d.lines = &progress.Lines{W: out}
	}
	go func() {
		defer close(d.stopped)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				d.show()
			case <-d.stop:
				return
			}
		}
	}()
	return d
}

// enter begins a phase.
func (d *display) enter(phase string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase = phase
}

// start shows the progress of job, which copies a file of total bytes, -1 if
// unknown.
func (d *display) start(job counter, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.job, d.total = job, total
}

func (d *display) show() {
	d.mu.Lock()
	defer d.mu.Unlock()
	done, total, counted := int64(0), int64(-1), false
	if d.phase == progress.Copying && d.job != nil {
		done, total = d.job.Copied(), d.total
		counted = done > d.job.Resumed() // bytes of an earlier run don't count for the rate
	}
	p := d.meter.Measure(d.phase, done, total, counted)
	switch {
	case d.quiet:
	case d.bar != nil && (d.phase == progress.Copying || p.Quiet >= brief):
		d.bar.Show(p)
	case d.lines != nil && time.Since(d.began) >= brief:
		d.lines.Show(p)
	}
}

func (d *display) note(text string) {
	if d.bar != nil {
		d.bar.Note(text)
		return
	}
	d.lines.Note(text)
}

// retry reports that a request is repeated, at most once in two seconds, since all
// ranges have the same problem.
func (d *display) retry(reason string, pause time.Duration) {
	d.mu.Lock()
	now := time.Now()
	silent := d.quiet || now.Sub(d.reported) < 2*time.Second
	if !silent {
		d.reported = now
	}
	d.mu.Unlock()
	if silent {
		return
	}
	text := "copyurl: " + reason + "; trying again"
	if pause = pause.Round(100 * time.Millisecond); pause > 0 {
		text += " in " + pause.String()
	}
	d.note(text)
}

// close ends the display, so that nothing is written over what follows.
func (d *display) close() {
	close(d.stop)
	<-d.stopped
	if d.phase == progress.Copying {
		d.show()
	}
	if d.bar != nil && !d.quiet {
		d.bar.Last("")
	}
}
