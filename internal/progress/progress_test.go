package progress

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/progress/terminaltest"
)

func TestLayout(t *testing.T) {
	half := Progress{Phase: Downloading, Done: 15 << 20, Total: 20 << 20, Rate: 1 << 20, Left: 5 * time.Second}
	long := Progress{Phase: Downloading, Done: 1 << 29, Total: 1 << 34, Rate: 1000 << 10, Left: 4*time.Hour + 34*time.Minute + 59*time.Second}
	waits := Progress{Phase: Copying, Total: -1, Quiet: 12 * time.Second}
	tests := []struct {
		p     Progress
		width int
		want  string
	}{
		{half, 80, "downloading 15 MiB of 20 MiB     [=========>   ]  75 %  1.0 MiB/s, 5s left"},
		{half, 60, "downloading 15 MiB of 20 MiB  75 %  1.0 MiB/s, 5s left"},
		{half, 40, "downloading  75 %  1.0 MiB/s, 5s left"},
		{long, 40, " 3 %  1000 KiB/s, 4h34m59s left"},
		{long, 30, "1000 KiB/s, 4h34m59s left"},
		{long, 20, "3 %"},
		{waits, 80, "copying     waiting for the origin  12s"},
		{waits, 40, "copying  waiting for the origin  12s"},
	}
	for _, test := range tests {
		if got := strings.TrimSpace(layout(test.p, test.width)); got != strings.TrimSpace(test.want) {
			t.Errorf("%d columns: got %q, want %q", test.width, got, test.want)
		}
	}
	for width := 10; width < 200; width++ {
		for _, p := range []Progress{half, long, waits, {Phase: Verifying, Done: 5, Total: 5}} {
			if got := layout(p, width); len(got) > max(width-3, 6) {
				t.Errorf("%d columns: got %d in %q", width, len(got), got)
			}
		}
	}
	if got, want := (Progress{Phase: Copying, Done: 3, Total: 6, Rate: 1, Left: 3 * time.Second}).line(), "copying: 3 B of 6 B (50 %), 1 B/s, 3s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What a terminal echoes for Ctrl-C isn't left beside the last lines.
func TestBarAfterCtrlC(t *testing.T) {
	half := Progress{Phase: Downloading, Done: 1 << 20, Total: 2 << 20}
	line := strings.TrimSpace(layout(half, 80))
	for _, test := range []struct {
		before func(*Bar)
		want   string
	}{
		{func(b *Bar) {}, "Stopped."},
		{func(b *Bar) { b.Show(half) }, line + "\nStopped."},
		{func(b *Bar) { b.Show(half); b.Prompt("Cancel? ") }, "Cancel? ^C\nStopped."}, // there it is the answer
	} {
		screen := &terminaltest.Screen{}
		b := &Bar{w: screen, width: func() int { return 80 }}
		test.before(b)
		io.WriteString(screen, "^C")
		b.Last("Stopped.")
		if got := screen.String(); got != test.want {
			t.Errorf("got screen:\n%s\nwant:\n%s", got, test.want)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// There is a line at least every 10 s, even if nothing happens, and no rate once no bytes
// arrive.
func TestNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last, text := time.Now(), ""
		lines := &Lines{W: writerFunc(func(p []byte) (int, error) {
			if passed := time.Since(last); passed > 10*time.Second {
				t.Errorf("silence for %v before %q", passed, p)
			}
			last, text = time.Now(), string(p)
			return len(p), nil
		})}
		m := &Meter{}
		phase := func(seconds int, done func(i int) int64, counted bool) {
			for i := range seconds {
				time.Sleep(time.Second)
				lines.Show(m.Measure(Copying, done(i), 100<<20, counted))
			}
		}
		phase(60, func(int) int64 { return 0 }, false)
		if !strings.HasPrefix(text, "copying: waiting for the origin, 5") {
			t.Errorf("got %q, want what is waited for, and since when", text)
		}
		phase(30, func(i int) int64 { return int64(i+1) << 20 }, true)
		if !strings.Contains(text, "1.0 MiB/s, ") {
			t.Errorf("got %q, want a rate", text)
		}
		phase(60, func(int) int64 { return 30 << 20 }, true)
		if strings.Contains(text, "/s") || !strings.Contains(text, "nothing for 5") {
			t.Errorf("got %q, want no rate", text)
		}
		if passed := time.Since(last); passed > 10*time.Second {
			t.Errorf("silence for %v at the end", passed)
		}
	})
}
