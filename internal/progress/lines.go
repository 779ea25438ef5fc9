package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"async-download/internal/escape"
)

// maxLine is the longest line that is written, in bytes: one message with a path
// in it.
const maxLine = 6 << 10

// WriteLine writes text, which may have come from the network, in one line.
func WriteLine(w io.Writer, text string) { fmt.Fprintln(w, escape.Cut(text, maxLine)) }

const (
	// lineEvery keeps a log of a long transfer readable.
	lineEvery = 5 * time.Second
	// heartbeat is the longest time without a line: a log shows that the program
	// is alive.
	heartbeat = 9 * time.Second
)

// Lines is for logs and pipes: a line per change, and at least one every 10
// seconds. Its methods may be called by several goroutines.
type Lines struct {
	W io.Writer

	mu  sync.Mutex
	due Due
}

// Note writes a line.
func (l *Lines) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	WriteLine(l.W, text)
}

// Show writes a line if one is due. It has to be called about once a second.
func (l *Lines) Show(p Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due.At(p, lineEvery) {
		WriteLine(l.W, p.line())
	}
}

// Due decides what of the progress is written. It isn't safe for concurrent use.
type Due struct {
	at   time.Time // of the last progress that was due
	last Progress
}

// At reports whether p has to be shown now: the beginning and the end of a phase
// at once, the first bytes too, changes at most once in every, and no change as
// a heartbeat.
func (d *Due) At(p Progress, every time.Duration) bool {
	passed, due := time.Since(d.at), false
	switch {
	case p.Phase != d.last.Phase, passed >= heartbeat:
		due = true
	case p.Done != d.last.Done || p.Total != d.last.Total:
		due = p.Done == p.Total || d.last.Done == 0 || passed >= every
	}
	if due {
		d.at, d.last = time.Now(), p
	}
	return due
}
