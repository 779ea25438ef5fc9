package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// copyFor shows, in virtual time, the copy of a file from an origin that sends so
// many bytes a second, reported once a second, after so many bytes that were
// copied before.
func copyFor(t *testing.T, d display, before, rate int64, length time.Duration) {
	t.Helper()
	o, err := parse(nil, "https://a.example")
	if err != nil {
		t.Fatal(err)
	}
	j := newJob(&program{timings: realTimings, freeSpace: freeSpace}, o, o.targets[0], d)
	j.output = "-"
	total := before + rate*int64(length/time.Second)
	j.copy = copyState{total: -1, heard: time.Now()}
	j.showCopy()
	for done := before + rate; done <= total; done += rate {
		time.Sleep(time.Second)
		j.watchCopy()
		if err := j.copied(done, &total); err != nil {
			t.Fatal(err)
		}
	}
}

// At 300 KiB/s the time left is right within a factor of 1.5 after 15 s, and
// nothing is claimed at once.
func TestTimeLeftOfASlowCopy(t *testing.T) {
	const length = 80 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		began := time.Now()
		at := make(map[int]float64) // by line, the seconds that have passed
		lines := 0
		watched := writerFunc(func(p []byte) (int, error) {
			at[lines] = time.Since(began).Seconds()
			lines++
			return out.Write(p)
		})
		copyFor(t, &events{w: watched}, 100<<20, 300<<10, length)
		checked := 0
		for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
			var e struct {
				BytesPerSecond, SecondsLeft int64
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			want := length.Seconds() - at[i]
			if at[i] < 3 && e.SecondsLeft != 0 {
				t.Errorf("after %.0f s: got %d s left, want no estimate yet", at[i], e.SecondsLeft)
			}
			if at[i] >= 6 && (e.BytesPerSecond < 250<<10 || e.BytesPerSecond > 350<<10) {
				t.Errorf("after %.0f s: got %d B/s, want about %d", at[i], e.BytesPerSecond, 300<<10)
			}
			if at[i] < 15 || want < 3 {
				continue
			}
			checked++
			if left := float64(e.SecondsLeft); left > 1.5*want || left < want/1.5 {
				t.Errorf("after %.0f s: got %.0f s left, want %.0f", at[i], left, want)
			}
		}
		if checked < 50 {
			t.Errorf("got %d estimates, want one per second", checked)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Without a terminal there is a line at least every 10 s, whatever doesn't
// happen, and rate and time left go when bytes no longer come.
func TestNoSilence(t *testing.T) {
	for name, show := range map[string]func(w writerFunc) display{
		"lines":  func(w writerFunc) display { return &lines{silence: silence{w}} },
		"events": func(w writerFunc) display { return &events{w: w} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				last, text := time.Now(), ""
				d := show(func(p []byte) (int, error) {
					if passed := time.Since(last); passed > 10*time.Second {
						t.Errorf("silence for %v before %q", passed, p)
					}
					last, text = time.Now(), string(p)
					return len(p), nil
				})
				m := &meter{}
				phase := func(name string, seconds int, done func(i int) int64, unknown bool) {
					for i := range seconds {
						time.Sleep(time.Second)
						d.show(m.measure(name, done(i), 100<<20, unknown))
					}
				}
				phase(copying, 60, func(int) int64 { return 0 }, true)
				if name == "lines" && !strings.HasPrefix(text, "copying: waiting for the origin, 5") {
					t.Errorf("got %q, want what is waited for, and since when", text)
				}
				phase(copying, 30, func(i int) int64 { return int64(i+1) << 20 }, false)
				if name == "lines" && !strings.Contains(text, "1.0 MiB/s, ") {
					t.Errorf("got %q, want a rate", text)
				}
				phase(copying, 60, func(int) int64 { return 30 << 20 }, false)
				if name == "lines" && (strings.Contains(text, "/s") || !strings.Contains(text, "nothing for 5")) {
					t.Errorf("got %q, want no rate", text)
				}
				if passed := time.Since(last); passed > 10*time.Second {
					t.Errorf("silence for %v at the end", passed)
				}
			})
		})
	}
}

func TestLayout(t *testing.T) {
	half := progress{phase: downloading, done: 15 << 20, total: 20 << 20, rate: 1 << 20, left: 5 * time.Second}
	long := progress{phase: downloading, done: 1 << 29, total: 1 << 34, rate: 1000 << 10, left: 4*time.Hour + 34*time.Minute + 59*time.Second}
	waits := progress{phase: copying, total: -1, quiet: 12 * time.Second}
	tests := []struct {
		p     progress
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
		for _, p := range []progress{half, long, waits, {phase: verifying, done: 5, total: 5}} {
			if got := layout(p, width); len(got) > max(width-3, 6) {
				t.Errorf("%d columns: got %d in %q", width, len(got), got)
			}
		}
	}
	if got, want := fmt.Sprint(progress{phase: copying, done: 3, total: 6, rate: 1, left: 3 * time.Second}.line()), "copying: 3 B of 6 B (50 %), 1 B/s, 3s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
