package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Bar is for people at a terminal: a line for each phase, of which the last one
// is written over with each change. Its methods may be called by several
// goroutines.
type Bar struct {
	w     io.Writer
	width func() int // of the terminal, in columns

	mu     sync.Mutex
	now    Progress
	drawn  bool // the cursor is in the line of now
	asking bool // a question is on the screen
}

// NewBar returns the bar of a terminal.
func NewBar(w io.Writer) *Bar { return &Bar{w: w, width: widthOf(w)} }

// widthOf returns how many columns a terminal has, 80 if it isn't one.
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

// Show writes over the line.
func (b *Bar) Show(p Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking {
		return
	}
	if b.drawn && p.Phase != b.now.Phase {
		b.finish()
	}
	b.now, b.drawn = p, true
	b.draw(layout(p, b.width()))
}

// draw writes over the current line, whatever the terminal has echoed there.
func (b *Bar) draw(text string) { fmt.Fprintf(b.w, "\r%s\x1b[K", text) }

// finish leaves the current line on the screen.
func (b *Bar) finish() {
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
func layout(p Progress, width int) string {
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
	full := fmt.Sprintf("%-*s %-*s", len(Downloading), p.Phase, countsWidth, p.counts())
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
		join(p.Phase, p.counts(), share, p.speed()),
		join(p.Phase, share, p.speed()),
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

// Note writes a line above the progress.
func (b *Bar) Note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn {
		b.draw("")
	}
	WriteLine(b.w, text)
	if b.drawn {
		b.draw(layout(b.now, b.width()))
	}
}

// Prompt asks a question. No progress is shown until it is answered.
func (b *Bar) Prompt(question string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking, b.drawn = true, false
	b.draw(question)
}

// Answered ends a question.
func (b *Bar) Answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking = false
}

// Last leaves the progress on the screen and writes the last line, unless it is
// empty.
func (b *Bar) Last(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking { // the question's line has no end
		fmt.Fprintln(b.w)
	}
	b.finish()
	b.draw("") // over a ^C
	if text != "" {
		WriteLine(b.w, text)
	}
	b.asking, b.now = false, Progress{}
}
