package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// display shows progress on a terminal, and nothing elsewhere. Its methods may
// be called by several goroutines.
type display struct {
	out      io.Writer
	progress *mpb.Progress

	mu  sync.Mutex
	bar *mpb.Bar
}

func newDisplay(out io.Writer, quiet bool) *display {
	d := &display{out: out}
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
	counters := decor.Counters(decor.SizeB1024(0), "% .1f of % .1f ")
	if n < 0 {
		counters = decor.Current(decor.SizeB1024(0), "% .1f ")
	}
	d.bar = d.progress.AddBar(max(n, 0), mpb.PrependDecorators(counters),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), " % .1f")))
}

func (d *display) add(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil {
		d.bar.IncrInt64(n)
	}
}

func (d *display) note(text string) {
	if d.progress != nil {
		_, _ = fmt.Fprintln(d.progress, text)
		return
	}
	fmt.Fprintln(d.out, text)
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
}
