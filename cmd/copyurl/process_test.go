package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
	"async-download/internal/programtest"
	"async-download/internal/progress/terminaltest"
	"async-download/internal/transfer/s3test"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// slow serves h in pieces until some bytes are sent, and the rest once goOn is closed.
type slow struct {
	h       http.Handler
	after   int64
	reached chan struct{} // closed when these bytes are sent
	goOn    chan struct{}

	sent  atomic.Int64
	whole atomic.Int64 // ranges of which the last piece is sent, or about to be
	held  atomic.Int64 // replies that wait for goOn
	once  sync.Once
}

func newSlow(h http.Handler, after int64) *slow {
	return &slow{h: h, after: after, reached: make(chan struct{}), goOn: make(chan struct{})}
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const piece = 256 << 10
	var start, end int
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end)
	origintest.Slow(s.h, w, r, piece, func(sent int) bool {
		wait := s.goOn
		if s.sent.Add(piece) > s.after {
			s.once.Do(func() { close(s.reached) })
			s.held.Add(1)
			defer s.held.Add(-1)
		} else {
			wait = make(chan struct{})
			time.AfterFunc(time.Millisecond, func() { close(wait) })
		}
		select {
		case <-wait:
		case <-r.Context().Done():
			return false
		}
		if sent+piece >= end+1-start {
			s.whole.Add(1)
		}
		return true
	})
}

// Interrupted, it ends at once and leaves nothing.
func TestInterrupted(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		for _, ranges := range []bool{true, false} {
			t.Run(fmt.Sprint(signal, " ranges=", ranges), func(t *testing.T) {
				s := newS3(t)
				f := origintest.New(origintest.Bytes(3, 64*mib), `"v1"`)
				f.NoRanges = !ranges
				h := newSlow(f, 28*mib)
				cmd := programtest.Command(t, "-part-size", "5MiB", serve(t, h), target("key"))
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				<-h.reached
				// Wait until each range that was read to its end is stored: S3 may keep a
				// part that arrives after the abort, and no client can see it.
				for {
					still := h.held.Load() == 8     // each connection's reply
					want := int(h.whole.Load()) + 1 // the marker
					if !ranges {
						still, want = h.held.Load() == 1, 1 // of 16 MiB
					}
					if still && len(s.Parts("upload-1")) == want {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
				_ = cmd.Process.Signal(signal)
				began := time.Now()
				err := cmd.Wait()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != 130 {
					t.Errorf("got %v, want exit code 130", err)
				}
				if d := time.Since(began); d > 20*time.Second {
					t.Errorf("it ended after %s", d)
				}
				if out := parseLine(t, stdout.String()); out.Error == nil || out.Error.Code != failure.Cancelled {
					t.Errorf("got %q, %q, want %s", &stdout, &stderr, failure.Cancelled)
				}
				wantNothing(t, s, "key")
			})
		}
	}
}

// After a kill, the next run continues with what is in S3.
func TestKilledAndRunAgain(t *testing.T) {
	const parts = 8
	data := origintest.Bytes(4, parts*5*mib-3)
	for _, killed := range []int64{1, parts, 2*parts - 1} { // after so many halves of a part
		s := newS3(t)
		f := origintest.New(data, `"v1"`)
		h := newSlow(f, killed*5*mib/2)
		url := serve(t, h)
		args := []string{"-part-size", "5MiB", "-concurrency", "2", url, target("key")}
		cmd := programtest.Command(t, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-h.reached
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		close(h.goOn)
		code, out, stderr := program(t, args...)
		if code != 0 || !bytes.Equal(s.Object("key").Data, data) {
			t.Fatalf("got code %d, %q", code, stderr)
		}
		// The file once, the parts that were under way, and a probe.
		if got := len(f.Requests()); got > parts+3*2+1 {
			t.Errorf("got %d ranges in all and %d in the second run, want at most %d", got, out.Ranges, parts+3*2+1)
		}
		if open := s.Open(); len(open) > 0 {
			t.Errorf("got open uploads %v, want none", open)
		}
	}
}

// drip sends a file of 20 MiB at 512 KiB/s until fast is called, so that even a slow
// machine shows a rate.
func drip(t *testing.T) (url string, fast func()) {
	hurry := make(chan struct{})
	fast = sync.OnceFunc(func() { close(hurry) })
	t.Cleanup(fast)
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(20*mib))
		chunk := make([]byte, mib/32)
		for range 20 * 32 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			select {
			case <-hurry:
			case <-time.After(time.Second / 16):
			}
		}
	})), fast
}

// A terminal, however narrow, shows a line with rate and time left, which is still there
// at the end and after Ctrl-C. Stdout has its one line.
func TestProgressOnATerminal(t *testing.T) {
	var tests sync.WaitGroup
	defer tests.Wait()
	for _, test := range []struct {
		columns    int
		interrupt  bool
		rate, last string
	}{
		{80, false, `copying     \S+ [KM]iB of 20 MiB +\[=*> *\]  ?\d+ %  [0-9.]+ [KM]iB/s, (\d+m)?\d+s left`, `^copying     20 MiB of 20 MiB     \[=+\]  100 %.*$`},
		{40, false, `copying  ?\d+ %  [0-9.]+ [KM]iB/s, (\d+m)?\d+s left`, `^copying  .*100 %.*$`},
		{80, true, `copying     \S+ [KM]iB of 20 MiB .* left`, `^copying     [^\^]*\ncopyurl: CANCELLED: interrupted$`},
		{40, true, `copying .* left`, `^copying [^\^]*\ncopyurl: CANCELLED: interrupted$`},
	} {
		// All at once, whatever -parallel allows: each waits some seconds for its rate.
		tests.Go(func() {
			t.Run(fmt.Sprint(test.columns, " ", test.interrupt), func(t *testing.T) {
				s := s3test.New(t)
				url, fast := drip(t)
				cmd := programtest.Command(t, url, target("key"))
				var stdout bytes.Buffer
				cmd.Stdout = &stdout
				for name, value := range environment(s) {
					cmd.Env = append(cmd.Env, name+"="+value)
				}
				term := terminaltest.Start(t, cmd, test.columns)
				term.WaitForMatch(test.rate)
				want := 0
				if test.interrupt {
					want = 130
					term.Type("\x03")
				} else {
					fast()
				}
				if got := term.End(want).String(); !regexp.MustCompile(test.last).MatchString(got) {
					t.Errorf("got screen:\n%s\nwant it to match:\n%s", got, test.last)
				}
				if out := parseLine(t, stdout.String()); !test.interrupt && out.Bytes != 20*mib {
					t.Errorf("got %+v", out)
				}
				if strings.Contains(term.String(), "planted") {
					t.Errorf("got %q, want no query in it", term)
				}
				if test.interrupt {
					wantNothing(t, s, "key")
				}
			})
		})
	}
}

// Parts are not held in memory, however large.
func TestMemory(t *testing.T) {
	programtest.SkipMemory(t)
	for name, tt := range map[string]struct {
		args     []string
		noRanges bool
		most     int64
	}{
		"ranges":      {[]string{"-part-size", "8MiB"}, false, 96 * mib},
		"large parts": {[]string{"-part-size", "64MiB"}, false, 96 * mib},
		"stream":      {nil, true, 128 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			newS3(t)
			f := origintest.New(origintest.Bytes(6, 192*mib), `"v1"`)
			f.NoRanges = tt.noRanges
			cmd := programtest.Command(t, append(tt.args, serve(t, f), target("key"))...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			peak, err := programtest.PeakMemory(cmd)
			if err != nil {
				t.Fatalf("got %v: %s", err, &stderr)
			}
			t.Logf("%d MiB", peak/mib)
			if peak == 0 || peak > tt.most {
				t.Errorf("got a peak of %d MiB, want at most %d", peak/mib, tt.most/mib)
			}
		})
	}
}
