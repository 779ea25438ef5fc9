package main

import (
	"bufio"
	"context"
	"os"
	"strings"
)

// watch turns signals into the end of the download, or into a question first.
func (j *job) watch(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-j.signals:
			e := j.cancellable.Load()
			if s != os.Interrupt || e == nil {
				stop(errInterrupted)
				return
			}
			if end := j.interrupted(ctx, *e); end != nil {
				stop(end)
				return
			}
		}
	}
}

const cancelQuestion = "Cancel the copy? y: cancel it, n: stop here but let it run, Enter: continue: "

// interrupted is the first Ctrl-C while there is a copy to cancel; nil continues.
func (j *job) interrupted(ctx context.Context, e execution) error {
	if j.person && !j.json {
		j.prompt(cancelQuestion)
		select {
		case <-ctx.Done():
			return nil
		case <-j.signals:
			return errInterrupted
		case answer, open := <-j.answer():
			if !open {
				return errInterrupted
			}
			j.answered()
			switch strings.ToLower(strings.TrimSpace(answer)) {
			case "y", "yes":
			case "":
				return nil
			default:
				return errInterrupted
			}
		}
	}
	cancelled := make(chan error, 1)
	go func() {
		stopped, err := j.cancel(ctx, e)
		switch {
		case err != nil:
			err = exitError(exitNetwork, "the copy couldn't be cancelled: %v; run the same command again to continue", err)
		case stopped:
			err = errCancelled
		default: // it is done, and what came of it need not be lost
			err = errInterrupted
		}
		cancelled <- err
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-j.signals:
		return errInterrupted
	case err := <-cancelled:
		return err
	}
}

// answer reads a line that the person types. One reader serves all questions: a read
// of a terminal can't be taken back.
func (j *job) answer() <-chan string {
	if j.answers == nil {
		j.answers = make(chan string)
		go func() {
			defer close(j.answers)
			for in := bufio.NewScanner(j.stdin); in.Scan(); {
				j.answers <- in.Text()
			}
		}()
	}
	return j.answers
}

// cancelTries are made before the copy is left running.
const cancelTries = 3

func (j *job) cancel(ctx context.Context, e execution) (stopped bool, err error) {
	for try := 1; ; try++ {
		stopped, err = j.api.cancel(ctx, e)
		if err == nil || !isTransient(err) || try == cancelTries {
			return stopped, err
		}
		if err := j.timings.pause(ctx, try, askedWait(err)); err != nil {
			return false, err
		}
	}
}
