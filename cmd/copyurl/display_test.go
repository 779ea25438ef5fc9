package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/bytesize"
	"async-download/internal/progress"
)

// slowJob is a job whose origin sends rate bytes a second, in parts of grain bytes.
// It finds what an earlier run has copied after half a second, and then begins.
type slowJob struct {
	began          time.Time
	rate, grain    int64
	resumed, total int64
}

func (j slowJob) Copied() int64 {
	passed := int64(float64(j.rate) * max(0, time.Since(j.began).Seconds()-.5))
	return min(j.Resumed()+passed/j.grain*j.grain, j.total)
}

func (j slowJob) Resumed() int64 {
	if time.Since(j.began) < time.Second/2 {
		return 0
	}
	return j.resumed
}

var estimate = regexp.MustCompile(`, ([0-9.]+ [A-Za-z]+)/s, ([0-9hms]+) left$`)

// At 300 KiB/s the time left is right within a factor of 1.5 after 15 s, whatever
// an earlier run has copied, and nothing is claimed at once.
func TestTimeLeftOfASlowCopy(t *testing.T) {
	const rate, length = 300 << 10, 80 * time.Second
	for name, test := range map[string]struct {
		grain, resumed int64
	}{
		"byte by byte":    {1, 0},
		"1 MiB at a time": {1 << 20, 0},
		"resumed":         {1, 500 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, checked := time.Now().Add(time.Second), 0
				d := newDisplay(writerFunc(func(p []byte) (int, error) {
					passed, line := time.Since(began), strings.TrimSpace(string(p))
					match := estimate.FindStringSubmatch(line)
					if match == nil {
						if passed >= 15*time.Second && passed < length-5*time.Second {
							t.Errorf("after %v: got %q, want an estimate", passed, line)
						}
						return len(p), nil
					}
					left, err := time.ParseDuration(match[2])
					want := length - passed
					switch {
					case err != nil:
						t.Error(err)
					case passed < 3*time.Second:
						t.Errorf("after %v: got %q, want no estimate yet", passed, line)
					case test.grain == 1 && match[1] != bytesize.Format(rate):
						t.Errorf("after %v: got %s/s, want %s/s", passed, match[1], bytesize.Format(rate))
					case passed >= 15*time.Second && want > 5*time.Second:
						checked++
						if left > want*3/2 || left < want*2/3 {
							t.Errorf("after %v: got %q, want %v", passed, line, want)
						}
					}
					return len(p), nil
				}), false)
				d.enter(progress.Copying)
				total := test.resumed + rate*int64(length/time.Second)
				time.Sleep(9 * time.Second / 10)
				d.start(slowJob{time.Now(), rate, test.grain, test.resumed, total}, total)
				time.Sleep(length)
				d.close()
				if checked < 10 {
					t.Errorf("got %d estimates, want one every 5 s", checked)
				}
			})
		})
	}
}

// What is over within a second isn't mentioned.
func TestBriefPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := newDisplay(&out, false)
		d.enter(progress.Copying)
		d.start(slowJob{time.Now(), 1 << 20, 1, 0, 20 << 20}, 20<<20)
		time.Sleep(9500 * time.Millisecond)
		d.enter(cleaning)
		d.close()
		if got := out.String(); strings.Contains(got, cleaning) || strings.Contains(got, checking) || !strings.Contains(got, "copying: ") {
			t.Errorf("got %q, want the copy alone", got)
		}
	})
}

// Without a terminal there is a line at least every 10 s, whatever is waited for;
// with -q there is none.
func TestNoSilence(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			last := time.Now()
			d := newDisplay(writerFunc(func(p []byte) (int, error) {
				if passed := time.Since(last); passed > 10*time.Second {
					t.Errorf("silence for %v before %q", passed, p)
				}
				last = time.Now()
				return out.Write(p)
			}), quiet)
			time.Sleep(30*time.Second + time.Millisecond) // for credentials, for S3
			d.enter(progress.Copying)
			time.Sleep(30 * time.Second)
			d.start(slowJob{time.Now(), 1 << 20, 1, 0, 20 << 20}, 20<<20) // is all there after 20 s
			time.Sleep(60 * time.Second)
			d.enter(cleaning)
			time.Sleep(30 * time.Second)
			d.close()
			if quiet {
				if out.Len() > 0 {
					t.Errorf("-q: got %q, want nothing", &out)
				}
				return
			}
			if passed := time.Since(last); passed > 10*time.Second {
				t.Errorf("silence for %v at the end", passed)
			}
			for _, want := range []string{
				checking + ", 22s\n", "copying: waiting for the origin, 2", "copying: 10 MiB of 20 MiB (52 %), 1.0 MiB/s, 10s left\n",
				"copying: 20 MiB of 20 MiB (100 %)\n", cleaning + ", 1",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %s, want %q in it", &out, want)
				}
			}
		})
	}
}
