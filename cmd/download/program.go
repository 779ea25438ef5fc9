package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/term"

	"async-download/internal/progress"
)

// Run runs the program and returns its exit code.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	p := program{
		stdin:     os.Stdin,
		stdout:    stdout,
		stderr:    stderr,
		signals:   signals,
		terminal:  isTerminal(stderr),
		timings:   realTimings,
		env:       os.Getenv,
		freeSpace: freeSpace,
	}
	p.person = p.terminal && isTerminal(os.Stdin)
	return p.run(ctx, args)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// program is what surrounds the downloads.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	signals        <-chan os.Signal
	terminal       bool // stderr is one
	person         bool // there is a person to ask
	timings        timings
	env            func(name string) string
	freeSpace      func(folder string) (int64, error)
}

func (p *program) run(ctx context.Context, args []string) int {
	o, err := p.parseOptions(args)
	if errors.Is(err, errHelp) {
		return exitOK
	}
	if err != nil { // flags behind the mistake weren't read
		o.json = o.json || slices.ContainsFunc(args, func(arg string) bool { return arg == "-json" || arg == "--json" })
	}
	d := p.display(o)
	if err == nil && o.output == "-" && isTerminal(p.stdout) {
		err = exitError(exitUsage, "-o - would fill the terminal; redirect stdout, or give -o FILE")
	}
	if err != nil {
		d.ended(endOf(err))
		return endOf(err).exit
	}
	code := exitOK
	for i, t := range o.targets {
		if len(o.targets) > 1 {
			d.note(fmt.Sprintf("%d of %d: %s", i+1, len(o.targets), t.path))
		}
		exit, stopped := p.fetch(ctx, o, t, d)
		if code == exitOK {
			code = exit
		}
		if stopped {
			return exit
		}
	}
	return code
}

// fetch downloads one file and shows how it ended; stopped is true if the user ended
// it.
func (p *program) fetch(ctx context.Context, o *options, t target, d display) (exit int, stopped bool) {
	j := newJob(p, o, t, d)
	defer close(j.over)
	ended := make(chan *problem, 1) // nil: saved
	go func() {
		r, err := j.run(ctx)
		if err == nil {
			d.saved(r)
			ended <- nil
			return
		}
		d.ended(endOf(err))
		ended <- endOf(err)
	}()
	select {
	case p := <-ended:
		if p == nil {
			return exitOK, false
		}
		return p.exit, p.exit == exitInterrupted || p == errCancelled
	case <-j.abandoned:
		return exitInterrupted, true // and nothing is shown: it may hang in the display
	}
}

func (p *program) display(o *options) display {
	switch {
	case o.quiet && !o.json:
		return silence{p.stderr}
	case o.json && o.output == "-":
		return &events{w: p.stderr}
	case o.json:
		return &events{w: p.stdout}
	case p.terminal:
		return bar{progress.NewBar(p.stderr)}
	default:
		return newLines(p.stderr)
	}
}
