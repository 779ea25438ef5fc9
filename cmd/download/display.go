package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"async-download/internal/escape"
)

// display shows how a download goes. Its methods may be called by several
// goroutines. Whatever it writes has passed through [escape].
type display interface {
	note(text string)
	show(progress)
	// prompt writes a question and shows no progress until it is answered.
	prompt(question string)
	answered()
	saved(result)
	ended(*problem)
}

// maxLine is the longest line that is written: one message with a path in it.
const maxLine = 6 << 10

func writeLine(w io.Writer, text string) { fmt.Fprintln(w, escape.Cut(text, maxLine)) }

// ending is the last line of a download that has failed.
func ending(p *problem) string {
	if p == errInterrupted {
		return p.message
	}
	return "download: " + p.Error()
}

// silence prints nothing but the error.
type silence struct{ w io.Writer }

func (silence) note(string)        {}
func (silence) show(progress)      {}
func (silence) saved(result)       {}
func (s silence) prompt(q string)  { fmt.Fprint(s.w, "\n", q) }
func (silence) answered()          {}
func (s silence) ended(p *problem) { writeLine(s.w, ending(p)) }

const (
	// lineEvery keeps a log of a long download readable.
	lineEvery = 5 * time.Second
	// heartbeat is the longest time without a line: a log shows that the program
	// is alive.
	heartbeat = 9 * time.Second
)

// lines is for logs and pipes.
type lines struct {
	silence
	mu   sync.Mutex
	at   time.Time // of the last line of progress
	last progress
}

func (l *lines) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	writeLine(l.w, text)
}

func (l *lines) show(p progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !due(p, l.last, l.at, lineEvery) {
		return
	}
	l.last, l.at = p, time.Now()
	writeLine(l.w, p.line())
}

// due reports whether p has to be shown after last, which was shown at a time:
// the beginning and the end of a phase at once, the first bytes too, what
// changes at most so often, and what doesn't as a heartbeat.
func due(p, last progress, at time.Time, every time.Duration) bool {
	passed := time.Since(at)
	switch {
	case p.phase != last.phase, passed >= heartbeat:
		return true
	case p.done == last.done && p.total == last.total:
		return false
	}
	return p.done == p.total || last.done == 0 || passed >= every
}

func (l *lines) saved(r result) { l.note(r.describe()) }

// events is for programs: one JSON object per line.
type events struct {
	mu   sync.Mutex
	w    io.Writer
	at   time.Time // of the last progress
	last progress
}

func (e *events) write(event any) {
	var text bytes.Buffer
	json.NewEncoder(&text).Encode(event)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.w.Write(escape.JSON(text.Bytes())) // there is no other place to report an error
}

func (e *events) note(text string) {
	e.write(struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}{"note", text})
}

func (e *events) show(p progress) {
	e.mu.Lock()
	show := due(p, e.last, e.at, time.Second)
	if show {
		e.last, e.at = p, time.Now()
	}
	e.mu.Unlock()
	if !show {
		return
	}
	var total *int64
	if p.total >= 0 {
		total = &p.total
	}
	e.write(struct {
		Type   string `json:"type"`
		Phase  string `json:"phase"`
		Bytes  int64  `json:"bytes"`
		Total  *int64 `json:"total"`
		Second int64  `json:"bytesPerSecond"`
		Left   int64  `json:"secondsLeft,omitempty"`
	}{"progress", p.phase, p.done, total, int64(p.rate), int64(p.left.Seconds())})
}

func (e *events) prompt(string) {} // nobody is there to answer
func (e *events) answered()     {}

func (e *events) saved(r result) {
	e.write(struct {
		Type string `json:"type"`
		result
	}{"saved", r})
}

func (e *events) ended(p *problem) {
	e.write(struct {
		Type    string `json:"type"`
		Exit    int    `json:"exit"`
		Code    string `json:"code,omitempty"`
		Message string `json:"message"`
	}{"error", p.exit, p.code, p.message})
}
