package transfer

import (
	"io"
	"sync"
)

// progress counts the bytes of a job.
type progress struct {
	mu      sync.Mutex
	passed  int64 // since the copy began, or began again
	highest int64 // that passed has ever been
	stored  int64
	resumed int64
}

// restart begins to count again, with the bytes that S3 has already: stored bytes of what
// the job copies, and besides of the rest of its segment.
func (p *progress) restart(besides, stored int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed, p.resumed = besides+stored, stored
	p.highest = max(p.highest, p.passed)
}

func (p *progress) pass(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed += n
	p.highest = max(p.highest, p.passed)
}

func (p *progress) store(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored += n
}

// passing counts what is read through it. furthest is how far earlier readers of
// the same bytes have come: what they read isn't counted again.
type passing struct {
	io.Reader
	progress *progress
	at       int64
	furthest *int64
}

func (r *passing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.at += int64(n)
	further := max(r.at-*r.furthest, 0)
	r.progress.pass(further)
	*r.furthest += further
	return n, err
}
