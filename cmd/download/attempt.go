package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"async-download/internal/escape"
	"async-download/internal/progress"
)

// attempt requests the copy and downloads it. With an error, only Reused of the result
// is used.
func (j *job) attempt(ctx context.Context, resumed bool) (result, error) {
	e, err := j.ask(ctx, resumed)
	if err != nil {
		return result{}, err
	}
	w := &waiter{api: j.api, execution: e, timings: j.timings, socket: j.socket, copying: j.copied, heard: j.heard, note: j.note, closing: j.closing.Go}
	l, err := j.awaitCopy(ctx, w)
	if err != nil {
		return result{}, err
	}
	if err := j.trust(l); err != nil {
		return result{}, err
	}
	if err := j.room(l.Size); err != nil {
		return result{}, err
	}

	target := j.output
	if j.part != nil && isFolder(j.output) {
		target = filepath.Join(j.output, nameOf(l.FileName, j.api.request.target))
		if err := j.free(target); err != nil {
			return result{}, err
		}
	}
	r := result{
		File: target, Bytes: l.Size, OriginVerified: l.Verified,
		ContentType: l.ContentType, Pinned: l.Pinned, Digest: l.Digest, ETag: l.ETag, LastModified: l.LastModified,
	}
	refresh := func(ctx context.Context) (link, error) {
		j.note("the link has expired; asking for a new one")
		again, err := w.link(ctx, true)
		if err == nil {
			err = j.trust(again)
		}
		return again, err
	}
	sums := newSums(l)
	if j.part == nil {
		err = j.toStdout(ctx, l, refresh, sums)
	} else {
		r.Reused, err = j.toFile(ctx, l, e.ARN, refresh, sums)
	}
	if err != nil {
		return r, err
	}
	if r.checks, err = sums.verify(); err != nil {
		return r, err
	}
	if len(r.checks) > 0 && r.checks[0] == crc64nvme {
		r.Checksum = crc64nvme
	}
	if j.part != nil {
		return r, j.part.publish(target, j.overwrite)
	}
	return r, nil
}

// ask sends the question. Its key is made durable first, so that a second start
// asks for the same download, whether the answer arrives or not.
func (j *job) ask(ctx context.Context, resumed bool) (execution, error) {
	key := cmp.Or(j.key, newKey())
	switch {
	case resumed:
		j.note("continuing an earlier download")
		key = j.part.state.Key
	case j.part != nil:
		j.part.state.Key = key
		if !j.part.replacing {
			if err := j.part.save(); err != nil {
				return execution{}, err
			}
		}
	}
	e, err := j.api.start(ctx, key, func() { j.pending.Store(true) })
	if err != nil {
		var p *problem
		if errors.As(err, &p) && (p.code != "" || !isTransient(err)) { // the API's own words
			j.pending.Store(false)
		}
		return execution{}, err
	}
	if j.part != nil && j.part.replacing {
		err = j.part.save()
	}
	return e, err
}

// copyState is what is known of the copy from the origin into S3.
type copyState struct {
	done    int64
	total   int64     // -1 is unknown
	counted bool      // the API has reported done
	heard   time.Time // when the API last answered
	noted   bool      // the user was notified that it doesn't
}

// awaitCopy waits for the link, and shows that it does while nothing changes.
func (j *job) awaitCopy(ctx context.Context, w *waiter) (link, error) {
	j.mu.Lock()
	j.copy = copyState{total: -1, heard: time.Now()}
	j.mu.Unlock()
	j.showCopy()
	ticking, stop := context.WithCancel(ctx)
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		for sleep(ticking, j.timings.tick) == nil {
			j.watchCopy()
		}
	}()
	j.cancellable.Store(&w.execution)
	l, err := w.link(ctx, false)
	j.cancellable.Store(nil)
	stop()
	<-ticked
	var failed *problem
	if errors.As(err, &failed) && failed.exit == exitFailed {
		return link{}, &problem{failed.exit, failed.code, failed.message + " (execution " + escape.Text(w.execution.name()) + ")"}
	}
	if err != nil {
		return link{}, err
	}
	return l, j.copied(l.Size, &l.Size)
}

// copied is called with each report of how far the copy is.
func (j *job) copied(done int64, total *int64) error {
	j.mu.Lock()
	first := total != nil && j.copy.total != *total
	j.copy.done, j.copy.counted = done, true
	if total != nil {
		j.copy.total = *total
	}
	j.mu.Unlock()
	j.heard()
	j.showCopy()
	if first {
		return j.room(*total)
	}
	return nil
}

// heard is called with each sign of the API's life.
func (j *job) heard() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.copy.heard, j.copy.noted = time.Now(), false
}

func (j *job) showCopy() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.show(j.meter.Measure(progress.Copying, j.copy.done, j.copy.total, j.copy.counted))
}

// watchCopy shows the copy's state again, and notes when the API is silent.
func (j *job) watchCopy() {
	limit := j.timings.silence
	if j.socket == nil {
		limit += heldSeconds * time.Second // an answer is held back as long
	}
	j.mu.Lock()
	silent := time.Since(j.copy.heard)
	note := silent > limit && !j.copy.noted
	j.copy.noted = j.copy.noted || note
	j.mu.Unlock()
	if note {
		j.note(fmt.Sprintf("nothing heard from the API for %v; still trying", silent.Truncate(time.Second)))
	}
	j.showCopy()
}

// trust refuses a link that would carry the file in the clear where the API
// itself is asked over TLS.
func (j *job) trust(l link) error {
	u, err := url.Parse(l.URL)
	if err != nil || u.Host == "" || l.Size < 0 || j.api.request.ask.Scheme == "https" && u.Scheme != "https" {
		return exitError(exitRefused, "the API's link is malformed or unencrypted")
	}
	return nil
}
