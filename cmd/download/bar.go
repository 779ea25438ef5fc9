package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// bar is for people at a terminal: a line for each phase, of which the last one
// is written over with each change.
type bar struct {
	w     io.Writer
	width func() int // of the terminal, in columns

	mu     sync.Mutex
	now    progress
	drawn  bool // the cursor is in the line of now
	asking bool // a question is on the screen
}

// widthOf returns how many columns a terminal has.
func widthOf(stream any) func() int {
	return func() int {
		if f, ok := stream.(*os.File); ok {
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				return width
			}
		}
		return 80
	}
}

func (b *bar) show(p progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking {
		return
	}
	if b.drawn && p.phase != b.now.phase {
		b.finish()
	}
	b.now, b.drawn = p, true
	b.draw(layout(p, b.width()))
}

// draw writes over the current line, whatever the terminal has echoed there.
func (b *bar) draw(text string) { fmt.Fprintf(b.w, "\r%s\x1b[K", text) }

// finish leaves the current line on the screen.
func (b *bar) finish() {
	if b.drawn {
		b.draw(layout(b.now, b.width()))
		fmt.Fprintln(b.w)
	}
	b.drawn = false
}

const (
	// maxWidth keeps a wide terminal's line in one glance.
	maxWidth = 100
	minBar   = 6
	// What is beside the bar has these widths, so that it stays in its place.
	countsWidth = len("1023 MiB of 1023 GiB")
	speedWidth  = len("9.9 MiB/s, 59m59s left")
)

// layout returns the line for a terminal of so many columns. What a narrow one
// has no room for goes in this order: the bar, the counts, the phase's name.
func layout(p progress, width int) string {
	room := width - 3 // for a ^C
	share := ""
	if p.hasShare() {
		share = fmt.Sprintf("%2d %%", p.percent())
	}
	join := func(parts ...string) string {
		kept := parts[:0]
		for _, part := range parts {
			if part != "" {
				kept = append(kept, part)
			}
		}
		return strings.Join(kept, "  ")
	}
	full := fmt.Sprintf("%-*s %-*s", len(downloading), p.phase, countsWidth, p.counts())
	if share != "" {
		beside := fmt.Sprintf("%s %s  %-*s", full, share, speedWidth, p.speed())
		if columns := min(room, maxWidth) - len(beside) - len("[] "); columns >= minBar {
			filled := int(float64(columns) * float64(p.percent()) / 100)
			picture := strings.Repeat("=", filled)
			if filled < columns {
				picture += ">" + strings.Repeat(" ", columns-filled-1)
			}
			full += " [" + picture + "]"
		}
	}
	lines := []string{
		join(strings.TrimRight(full, " "), share, p.speed()),
		join(p.phase, p.counts(), share, p.speed()),
		join(p.phase, share, p.speed()),
		join(share, p.speed()),
		p.speed(),
	}
	for _, line := range lines {
		if len(line) <= room {
			return line
		}
	}
	return share
}

func (b *bar) note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn {
		b.draw("")
	}
	writeLine(b.w, text)
	if b.drawn {
		b.draw(layout(b.now, b.width()))
	}
}

func (b *bar) prompt(question string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking, b.drawn = true, false
	b.draw(question)
}

func (b *bar) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking = false
}

func (b *bar) saved(r result)   { b.last(r.describe()) }
func (b *bar) ended(p *problem) { b.last(ending(p)) }

// last writes the last line of a download.
func (b *bar) last(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking { // the question's line has no end
		fmt.Fprintln(b.w)
	}
	b.finish()
	b.draw("") // over a ^C
	writeLine(b.w, text)
	b.asking, b.now = false, progress{}
}
