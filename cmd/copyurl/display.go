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
)

// display shows progress on a terminal, and says everywhere what is waited for.
// Its methods may be called by several goroutines.
type display struct {
	out      io.Writer
	quiet    bool
	progress *mpb.Progress

	resumed atomic.Int64 // bytes that were there before

	mu   sync.Mutex
	bar  *mpb.Bar
	said time.Time // when it was last told that something is tried again
}

func newDisplay(out io.Writer, quiet bool) *display {
	d := &display{out: out, quiet: quiet}
	if f, ok := out.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		d.progress = mpb.New(mpb.WithOutput(f), mpb.WithWidth(40))
	}
	return d
}

// size is told before the copy begins, once more when it begins again; -1 is
// unknown.
func (d *display) size(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
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
			return fmt.Sprintf(" %-30s", pace(s.Current, n, s.Current-d.resumed.Load(), time.Since(began)))
		})))
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

// before is told of bytes that an earlier run copied.
func (d *display) before(n int64) {
	d.resumed.Add(n)
	d.add(n)
}

func (d *display) add(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		d.bar.IncrInt64(n)
	}
}

func (d *display) note(text string) {
	text = escape.Text(text)
	if d.progress != nil {
		_, _ = fmt.Fprintln(d.progress, text)
		return
	}
	fmt.Fprintln(d.out, text)
}

// again tells that something is tried again, at most once in two seconds: all
// ranges meet the same trouble.
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
		d.bar.Abort(false)
	}
	d.progress.Wait()
	fmt.Fprint(d.out, "\r\x1b[K") // over the terminal's ^C
}
