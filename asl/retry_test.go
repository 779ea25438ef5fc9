package asl_test

import (
	"slices"
	"testing"

	"async-download/internal/meeting"
)

// The deliver machine must give up before its callers do, and within the five
// minutes of an Express execution.
// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
func TestDeliveryEndsBeforeItsCaller(t *testing.T) {
	deliver := load(t, "deliver.asl.json")
	if deliver.TimeoutSeconds >= 300 {
		t.Errorf("deliver.asl.json: got TimeoutSeconds %d, want less than 300", deliver.TimeoutSeconds)
	}
	callers := 0
	for _, s := range load(t, "download.asl.json").States {
		if s.delivers() {
			callers++
			if s.TimeoutSeconds <= deliver.TimeoutSeconds {
				t.Errorf("%s: got TimeoutSeconds %d, want more than the deliver machine's %d", s.Name, s.TimeoutSeconds, deliver.TimeoutSeconds)
			}
		}
	}
	if callers == 0 {
		t.Error("no state starts the deliver machine")
	}
}

// Lambda.TooManyRequestsException is throttling: the workers of one large file may
// hold every slot for minutes. With full jitter a wait is half of its limit on average.
func TestThrottlingIsWaitedFor(t *testing.T) {
	throttled := 0
	every(t, func(t *testing.T, m machine, s named) {
		if s.Resource != "arn:${Partition}:states:::lambda:invoke" {
			return
		}
		for _, r := range s.Retry {
			if !slices.Contains(r.ErrorEquals, "Lambda.TooManyRequestsException") {
				continue
			}
			throttled++
			if len(r.ErrorEquals) != 1 {
				t.Errorf("got %q, want a separate retrier, so that nothing else uses up its attempts", r.ErrorEquals)
			}
			var mean float64 // seconds
			wait := float64(r.IntervalSeconds)
			for range r.MaxAttempts {
				mean += min(wait, float64(r.MaxDelaySeconds)) / 2
				wait *= r.BackoffRate
			}
			if m.file == "deliver.asl.json" {
				if r.MaxAttempts != 8 || 2*mean > 60 {
					t.Errorf("got %d attempts in at most %.0f s, want 8 within a minute", r.MaxAttempts, 2*mean)
				}
			} else if mean < 45*60 || mean > 55*60 || r.IntervalSeconds != 5 || r.BackoffRate != 2 || r.MaxDelaySeconds != 60 {
				t.Errorf("got %+v, which waits for %.0f s, want some 50 minutes of waits from 5 s to 60 s", r, mean)
			}
		}
	})
	if throttled != 5 {
		t.Errorf("states that wait for Lambda: got %d, want the four of the copy and deliver's", throttled)
	}
}

// A worker that is killed reports under one of these names; which one is not documented.
func TestKilledWorkersAreTriedAgain(t *testing.T) {
	killed := []string{"Sandbox.Timedout", "Sandbox.Failure", "Runtime.ExitError", "Runtime.OutOfMemory", "Runtime.Unknown",
		"Function.Unknown", "Lambda.Unknown", "States.Timeout"}
	every(t, func(t *testing.T, m machine, s named) {
		if s.Resource != "arn:${Partition}:states:::lambda:invoke" || s.Name == "Copy the segment" { // finish judges by the parts
			return
		}
		for _, name := range killed {
			if !slices.ContainsFunc(s.Retry, func(r retrier) bool { return slices.Contains(r.ErrorEquals, name) }) {
				t.Errorf("%s isn't retried", name)
			}
		}
	})
}

// Guard 2: a client whose handshake is still open must not be regarded as gone. The
// tries without jitter must last longer than any handshake.
func TestTriesOutlastTheHandshake(t *testing.T) {
	for _, r := range load(t, "deliver.asl.json").States[0].Retry {
		if slices.Contains(r.ErrorEquals, "ConnectionOpening") {
			got, wait := 0.0, float64(r.IntervalSeconds)
			for range r.MaxAttempts {
				got += min(wait, float64(r.MaxDelaySeconds))
				wait *= float64(r.BackoffRate)
			}
			if want := meeting.Handshake.Seconds(); got <= want || r.JitterStrategy != "NONE" {
				t.Errorf("tries while the handshake is open: got %v s of them, jitter %s, want more than %v s without", got, r.JitterStrategy, want)
			}
			return
		}
	}
	t.Error("nothing retries ConnectionOpening")
}
