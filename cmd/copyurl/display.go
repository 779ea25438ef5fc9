package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"async-download/internal/escape"
	"async-download/internal/transfer"
)

// display shows progress on a terminal, and says everywhere what is waited for.
// Its methods may be called by several goroutines.
type display struct {
	out      io.Writer
	quiet    bool
	progress *mpb.Progress

	job atomic.Pointer[transfer.Job] // the newest one

	mu   sync.Mutex
	bar  *mpb.Bar
	stop chan struct{} // closed to end the goroutine that moves the bar
	said time.Time     // when it was last written that something is tried again
}

func newDisplay(out io.Writer, quiet bool) *display {
	d := &display{out: out, quiet: quiet}
	if f, ok := out.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		d.progress = mpb.New(mpb.WithOutput(f), mpb.WithWidth(40))
	}
	return d
}

// start shows the progress of job, which copies a file of n bytes, -1 if unknown.
// A copy that begins again, or continues in another job, keeps its bar.
func (d *display) start(job *transfer.Job, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.job.Store(job)
	if d.progress == nil || d.bar != nil {
		return
	}
	var filler mpb.BarFillerBuilder = mpb.BarStyle().Padding(" ")
	if n < 0 {
		filler = mpb.SpinnerStyle("|", "/", "-", `\`).PositionLeft()
	}
	began := time.Now()
	d.bar = d.progress.New(max(n, 0), filler,
		mpb.PrependDecorators(decor.Any(func(s decor.Statistics) string {
			return fmt.Sprintf("%-20s ", counts(s.Current, n)) // so wide that the bar stays where it is
		})),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			return fmt.Sprintf(" %-30s", pace(s.Current, n, s.Current-d.job.Load().Resumed(), time.Since(began)))
		})))
	d.stop = make(chan struct{})
	go func(bar *mpb.Bar, stop chan struct{}) {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			bar.SetCurrent(d.job.Load().Copied())
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	}(d.bar, d.stop)
}

// counts is how far a copy is; of a total below 0, nobody knows.
func counts(done, total int64) string {
	if total < 0 {
		return humanize.IBytes(uint64(done))
	}
	return humanize.IBytes(uint64(done)) + " of " + humanize.IBytes(uint64(total))
}

// pace is the share that is done, and the speed and the time left by what came
// since the start: parts end together, and a speed between two ends would jump.
func pace(done, total, came int64, passed time.Duration) string {
	text := ""
	if total > 0 {
		text = fmt.Sprintf("%3d %%  ", 100*done/total)
	}
	if came <= 0 || passed <= 0 {
		return text
	}
	speed := float64(came) / passed.Seconds()
	text += humanize.IBytes(uint64(speed)) + "/s"
	if done < total {
		text += fmt.Sprintf(", %s left", time.Duration(float64(total-done)/speed+1)*time.Second)
	}
	return text
}

func (d *display) note(text string) {
	text = escape.Text(text)
	if d.progress != nil {
		_, _ = fmt.Fprintln(d.progress, text)
		return
	}
	fmt.Fprintln(d.out, text)
}

// again reports that a request is repeated, at most once in two seconds, since all
// ranges have the same problem.
func (d *display) again(why string, pause time.Duration) {
	d.mu.Lock()
	now := time.Now()
	silent := d.quiet || now.Sub(d.said) < 2*time.Second
	if !silent {
		d.said = now
	}
	d.mu.Unlock()
	if silent {
		return
	}
	text := "copyurl: " + why + "; trying again"
	if pause = pause.Round(100 * time.Millisecond); pause > 0 {
		text += " in " + pause.String()
	}
	d.note(text)
}

// close ends the display, so that nothing is written over what follows.
func (d *display) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.progress == nil {
		return
	}
	if d.bar != nil {
		close(d.stop)
		d.bar.SetCurrent(d.job.Load().Copied())
		d.bar.Abort(false)
	}
	d.progress.Wait()
	fmt.Fprint(d.out, "\r\x1b[K") // over the terminal's ^C
}
