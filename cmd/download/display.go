package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// The phases of a download, in their order.
const (
	copying     = "copying"     // from the origin into S3
	downloading = "downloading" // from S3 to here
	verifying   = "verifying"   // what wasn't summed while it came
)

// progress is how far a phase is.
type progress struct {
	phase string
	done  int64
	total int64 // -1 is unknown
	rate  float64
	left  time.Duration // 0 is unknown
}

// display tells how the download goes. Its methods may be called by several
// goroutines.
type display interface {
	note(text string)
	show(progress)
	// prompt writes a question and shows no progress until it is answered.
	prompt(question string)
	answered()
	saved(result)
	ended(*problem)
}

// result is a finished download.
type result struct {
	File           string  `json:"file"` // "-" is stdout
	Bytes          int64   `json:"bytes"`
	Seconds        float64 `json:"seconds"`
	Checksum       string  `json:"checksum,omitempty"` // the algorithm that was checked
	OriginVerified bool    `json:"originVerified"`
	Reused         int64   `json:"reused,omitempty"` // bytes of an earlier start
}

// meter turns a growing count into a rate that neither jumps with every packet
// nor remembers the first minute in the tenth.
type meter struct {
	phase string
	rate  float64
	last  int64
	at    time.Time
}

const (
	meterStep   = 500 * time.Millisecond // between samples, at least
	meterMemory = 5 * time.Second        // after which a sample counts for 1/e
)

func (m *meter) measure(phase string, done, total int64) progress {
	now := time.Now()
	if phase != m.phase {
		*m = meter{phase: phase, rate: -1, last: done, at: now}
	}
	if passed := now.Sub(m.at); passed >= meterStep {
		sample := float64(done-m.last) / passed.Seconds()
		if m.rate < 0 {
			m.rate = sample
		}
		m.rate += (sample - m.rate) * (1 - math.Exp(-passed.Seconds()/meterMemory.Seconds()))
		m.last, m.at = done, now
	}
	p := progress{phase: phase, done: done, total: total, rate: max(0, m.rate)}
	if p.rate > 0 && total > done {
		p.left = time.Duration(min(float64(total-done)/p.rate, maxLeft.Seconds()) * float64(time.Second))
	}
	return p
}

// maxLeft is the longest time left that is worth telling.
const maxLeft = 1000 * time.Hour

// spins says whether there is no share to show: of an unknown total, or before
// the first part of a copy is whole, which takes a slow origin its time.
func (p progress) spins() bool { return p.total < 0 || p.phase == copying && p.done < min(1, p.total) }

func (p progress) counts() string {
	if p.total < 0 {
		return size(p.done)
	}
	return size(p.done) + " of " + size(p.total)
}

func (p progress) percent() int {
	if p.total <= 0 {
		return 100
	}
	return int(float64(p.done) / float64(p.total) * 100)
}

// speed is the rate and the time left, where known.
func (p progress) speed() string {
	if p.rate <= 0 {
		return ""
	}
	text := size(int64(p.rate)) + "/s"
	if p.left > 0 {
		text += ", " + (p.left + time.Second - 1).Truncate(time.Second).String() + " left"
	}
	return text
}

func size(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// describe is the last line for people.
func (r result) describe() string {
	var text strings.Builder
	name := printable(r.File)
	if r.File == "-" {
		name = "to stdout"
	}
	fmt.Fprintf(&text, "saved %s: %s in %.1f s, ", name, size(r.Bytes), r.Seconds)
	if r.Checksum != "" {
		text.WriteString("its CRC64NVME is right")
	} else {
		text.WriteString("unverified: no checksum came with the link")
	}
	if r.Reused > 0 {
		fmt.Fprintf(&text, "; %s were here from before", size(r.Reused))
	}
	if !r.OriginVerified {
		text.WriteString("; the origin gave no length or digest, so a cut on its side would not have been seen")
	}
	return text.String()
}

// silence says nothing but how it failed.
type silence struct{ w io.Writer }

func (silence) note(string)       {}
func (silence) show(progress)     {}
func (silence) saved(result)      {}
func (s silence) prompt(q string) { fmt.Fprint(s.w, "\n", q) }
func (silence) answered()         {}
func (s silence) ended(p *problem) {
	fmt.Fprintf(s.w, "download: %v\n", p)
}

// lines is for logs and pipes.
type lines struct {
	silence
	mu    sync.Mutex
	phase string
	next  time.Time
	last  progress
}

// lineEvery keeps a log of a long download readable.
const lineEvery = 5 * time.Second

func (l *lines) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, text)
}

func (l *lines) show(p progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	finished := p.total >= 0 && p.done == p.total
	if p == l.last || p.phase == l.phase && time.Now().Before(l.next) && !(finished && l.last.done != p.done) {
		return
	}
	l.phase, l.last = p.phase, p
	if p.done > 0 { // nothing is no news
		l.next = time.Now().Add(lineEvery)
	}
	text := fmt.Sprintf("%s: %s", p.phase, p.counts())
	if p.total >= 0 {
		text += fmt.Sprintf(" (%d %%)", p.percent())
	}
	if speed := p.speed(); speed != "" {
		text += ", " + speed
	}
	fmt.Fprintln(l.w, text)
}

func (l *lines) saved(r result) { l.note(r.describe()) }

// events is for programs: one JSON object a line.
type events struct {
	mu   sync.Mutex
	w    io.Writer
	next time.Time
	last progress
}

func (e *events) write(event any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	json.NewEncoder(e.w).Encode(event) // nobody is left to tell an error to
}

func (e *events) note(text string) {
	e.write(struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}{"note", text})
}

func (e *events) show(p progress) {
	e.mu.Lock()
	// At most one a second, but always the last.
	due := p.phase != e.last.phase || time.Now().After(e.next) || p.done == p.total && e.last.done != p.done
	if due {
		e.last, e.next = p, time.Now().Add(time.Second)
	}
	e.mu.Unlock()
	if !due {
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

// bars is for people at a terminal: a bar for each phase, the finished ones
// above the running one.
type bars struct {
	w io.Writer
	// now is what the bar shows. The bar's own goroutine reads it, which must
	// not wait for mu: show holds it while it waits for that goroutine.
	now atomic.Pointer[progress]

	mu        sync.Mutex
	container *mpb.Progress // nil: no bar on the screen
	bar       *mpb.Bar
	asking    bool // a question is on the screen
}

func newBars(w io.Writer) *bars {
	b := &bars{w: w}
	b.now.Store(&progress{})
	return b
}

func (b *bars) show(p progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking {
		return
	}
	last := b.now.Load()
	// A spinner can't become a bar.
	if samePhase := p.phase == last.phase; !samePhase || p.spins() != last.spins() {
		b.remove(samePhase)
	}
	b.now.Store(&p)
	if b.container == nil {
		b.start(p)
	}
	b.bar.SetCurrent(p.done)
}

func (b *bars) start(p progress) {
	var filler mpb.BarFillerBuilder = mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]")
	if p.spins() {
		filler = mpb.SpinnerStyle("|", "/", "-", `\`).PositionLeft()
	}
	b.container = mpb.New(mpb.WithOutput(b.w), mpb.WithWidth(maxWidth), mpb.WithRefreshRate(100*time.Millisecond))
	b.bar = b.container.New(max(0, p.total), filler,
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			p := b.now.Load()
			// mpb moves the cursor up but not to the left, where it isn't after the
			// terminal has echoed ^C.
			return fmt.Sprintf("\r%-*s %-*s", len(downloading), p.phase, countsWidth, p.counts())
		})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			p := b.now.Load()
			if p.spins() {
				return p.speed()
			}
			return fmt.Sprintf("%3d %%  %-*s", p.percent(), speedWidth, p.speed())
		})),
	)
}

const (
	// maxWidth keeps a wide terminal's bar in one glance.
	maxWidth = 100
	// The bar between them doesn't jump while these have room.
	countsWidth = len("1023 MiB of 1023 GiB")
	speedWidth  = len("9.9 MiB/s, 59m59s left")
)

// remove ends the bar; its last picture stays unless drop is true.
func (b *bars) remove(drop bool) {
	if b.container == nil {
		return
	}
	b.bar.Abort(drop)
	b.container.Wait()
	b.container = nil
}

func (b *bars) note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.container != nil {
		fmt.Fprintln(b.container, text)
		return
	}
	fmt.Fprintln(b.w, text)
}

func (b *bars) prompt(question string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(true)
	b.asking = true
	fmt.Fprint(b.w, "\r\x1b[J", question) // over what is left of ^C
}

func (b *bars) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking = false
}

func (b *bars) saved(r result) {
	b.last()
	fmt.Fprintln(b.w, r.describe())
}

func (b *bars) ended(p *problem) {
	b.last()
	fmt.Fprintf(b.w, "download: %v\n", p)
}

// last makes room for the last line.
func (b *bars) last() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(false)
	if b.asking { // the question's line has no end
		fmt.Fprintln(b.w)
	}
}
