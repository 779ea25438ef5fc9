package main

import (
	"encoding/json"
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

// At 300 KiB/s, the time left is right within a factor of 1.5 after 15 s, and isn't shown
// before 3 s.
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
