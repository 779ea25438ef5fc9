package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"async-download/internal/progress"
)

// toFile fetches what is missing and sums the whole. It reuses bytes of an earlier start.
func (j *job) toFile(ctx context.Context, l link, execution string, refresh func(context.Context) (link, error), sums *sums) (reused int64, err error) {
	s := &j.part.state
	missing, etag := []span{{0, l.Size}}, ""
	if s.fits(l, execution) {
		missing = s.Missing
		if s.Of == execution || len(missing) == 0 {
			etag = s.ETag // else of another copy, whose ETag the first reply has
		}
		reused = l.Size - s.missing(l.Size)
	} else if err := j.part.forget(); err != nil {
		return 0, err
	}
	s.Size, s.Checksum = l.Size, l.Checksum
	if err := j.part.file.Truncate(l.Size); err != nil {
		return reused, exitError(exitLocal, "make the partial file: %v", pathless(err))
	}
	if l.Size == 0 {
		return 0, nil // a range of nothing can't be asked for
	}

	f := j.newFetcher(l, refresh, j.part.file, j.concurrency, missing, etag)
	finished := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(finished)
		pair, ctx := errgroup.WithContext(ctx)
		pair.Go(func() error { return f.run(ctx) })
		pair.Go(func() error { return f.follow(ctx, j.part.file, sums) })
		return pair.Wait()
	})
	group.Go(func() error { return j.attend(f, execution, finished) })
	return reused, group.Wait()
}

// showInterval is how often the display is given the state of a download.
const showInterval = 200 * time.Millisecond

// attend shows the progress and makes it durable until the fetch has finished,
// however it ended.
func (j *job) attend(f *fetcher, execution string, finished <-chan struct{}) error {
	look := time.NewTicker(showInterval)
	defer look.Stop()
	durable := time.NewTicker(j.timings.checkpoint)
	defer durable.Stop()
	var fetched time.Time
	for {
		select {
		case <-finished:
			j.showFetch(f)
			return j.checkpoint(f, execution)
		case <-durable.C:
			if err := j.checkpoint(f, execution); err != nil {
				return err
			}
		case <-look.C:
			left, _ := f.left()
			switch {
			case left > 0:
				j.showFetch(f)
			case fetched.IsZero():
				fetched = time.Now()
				j.showFetch(f)
			case time.Since(fetched) > time.Second:
				j.mu.Lock()
				j.show(j.meter.Measure(progress.Verifying, f.summed.Load(), f.size, true))
				j.mu.Unlock()
			}
		}
	}
}

// showFetch shows how far the fetch is, and notes when the storage is silent.
func (j *job) showFetch(f *fetcher) {
	left, _ := f.left()
	j.mu.Lock()
	p := j.meter.Measure(progress.Downloading, f.size-left, f.size, true)
	silent := left > 0 && p.Quiet >= j.timings.silence
	note := silent && !j.copy.noted
	j.copy.noted = silent
	j.mu.Unlock()
	if note {
		j.note(fmt.Sprintf("nothing has come from the storage for %v; still trying", p.Quiet))
	}
	j.show(p)
}

// checkpoint makes the bytes durable, then the state that claims them: so the state is
// true after a power cut, too.
func (j *job) checkpoint(f *fetcher, execution string) error {
	if !f.isPinned() {
		return nil // no byte yet
	}
	missing := f.missing()
	if err := j.part.sync(); err != nil {
		return err
	}
	s := &j.part.state
	s.Of, s.ETag, s.Missing = execution, f.etag, missing
	return j.part.save()
}

// toStdout fetches in order, so by one connection, and sums what it writes.
func (j *job) toStdout(ctx context.Context, l link, refresh func(context.Context) (link, error), sums *sums) error {
	if l.Size == 0 {
		return nil
	}
	f := j.newFetcher(l, refresh, &pipe{w: j.stdout, sums: sums}, 1, []span{{0, l.Size}}, "")
	f.ranges = l.Size
	finished := make(chan error, 1)
	go func() { finished <- f.run(ctx) }()
	look := time.NewTicker(showInterval)
	defer look.Stop()
	for {
		select {
		case err := <-finished:
			j.showFetch(f)
			return err
		case <-look.C:
			j.showFetch(f)
		case <-ctx.Done(): // f.run may hang in a write
			return ctx.Err()
		}
	}
}

// pipe writes to w, which takes bytes in order only.
type pipe struct {
	w    io.Writer
	at   int64
	sums *sums
}

func (p *pipe) WriteAt(b []byte, at int64) (int, error) {
	if at != p.at {
		return 0, fmt.Errorf("byte %d came when %d was due", at, p.at)
	}
	n, err := p.w.Write(b)
	p.at += int64(n)
	p.sums.Write(b[:n])
	return n, err
}
