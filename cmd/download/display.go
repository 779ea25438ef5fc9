package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"async-download/internal/escape"
	"async-download/internal/progress"
)

// display shows how a download goes. Its methods may be called by several
// goroutines. Whatever it writes has passed through [escape].
type display interface {
	note(text string)
	show(progress.Progress)
	// prompt writes a question and shows no progress until it is answered.
	prompt(question string)
	answered()
	saved(result)
	ended(*problem)
}

// ending is the last line of a download that has failed.
func ending(p *problem) string {
	if p == errInterrupted {
		return p.message
	}
	return "download: " + p.Error()
}

// silence prints nothing but the error.
type silence struct{ w io.Writer }

func (silence) note(string)            {}
func (silence) show(progress.Progress) {}
func (silence) saved(result)           {}
func (s silence) prompt(q string)      { fmt.Fprint(s.w, "\n", q) }
func (silence) answered()              {}
func (s silence) ended(p *problem)     { progress.WriteLine(s.w, ending(p)) }

// lines is for logs and pipes.
type lines struct {
	silence
	progress.Lines
}

func newLines(w io.Writer) *lines { return &lines{silence{w}, progress.Lines{W: w}} }

func (l *lines) note(text string)         { l.Note(text) }
func (l *lines) show(p progress.Progress) { l.Show(p) }
func (l *lines) saved(r result)           { l.Note(r.describe()) }

// bar is for people at a terminal.
type bar struct{ *progress.Bar }

func (b bar) note(text string)         { b.Note(text) }
func (b bar) show(p progress.Progress) { b.Show(p) }
func (b bar) prompt(question string)   { b.Prompt(question) }
func (b bar) answered()                { b.Answered() }
func (b bar) saved(r result)           { b.Last(r.describe()) }
func (b bar) ended(p *problem)         { b.Last(ending(p)) }

// events is for programs: one JSON object per line.
type events struct {
	mu  sync.Mutex
	w   io.Writer
	due progress.Due
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

func (e *events) show(p progress.Progress) {
	e.mu.Lock()
	show := e.due.At(p, time.Second)
	e.mu.Unlock()
	if !show {
		return
	}
	var total *int64
	if p.Total >= 0 {
		total = &p.Total
	}
	e.write(struct {
		Type   string `json:"type"`
		Phase  string `json:"phase"`
		Bytes  int64  `json:"bytes"`
		Total  *int64 `json:"total"`
		Second int64  `json:"bytesPerSecond"`
		Left   int64  `json:"secondsLeft,omitempty"`
	}{"progress", p.Phase, p.Done, total, int64(p.Rate), int64(p.Left.Seconds())})
}

func (e *events) prompt(string) {} // a program doesn't answer
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
