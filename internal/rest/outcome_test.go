package rest

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
)

// The answers to a request that waits, and to one for the file itself.
func TestOutcome(t *testing.T) {
	waits := Preference{Waits: true, Wait: 7 * time.Second}
	both := Preference{Waits: true, Wait: 7 * time.Second, RespondAsync: true}
	ready := download.State{Status: meeting.Ready, Link: &link.Link{URL: "https://link"}}
	copying := download.State{Status: meeting.Copying}
	failed := func(code failure.Code) download.State {
		return download.State{Status: meeting.Failed, Error: failure.New(code, "why")}
	}
	for title, test := range map[string]struct {
		state   download.State
		waited  bool
		prefer  Preference
		status  int
		code    string
		headers map[string]string // Location, Retry-After, Preference-Applied
	}{
		"ready":                     {ready, true, waits, 303, "", map[string]string{"Location": "https://link", "Preference-Applied": "wait=7"}},
		"ready, async":              {ready, true, both, 303, "", map[string]string{"Location": "https://link", "Preference-Applied": "respond-async, wait=7"}},
		"copying":                   {copying, true, waits, 503, "NOT_READY", map[string]string{"Location": "status", "Retry-After": "1", "Preference-Applied": "wait=7"}},
		"copying, no wait was free": {copying, false, waits, 503, "NOT_READY", map[string]string{"Location": "status", "Retry-After": "1"}},
		"copying, async":            {copying, true, both, 202, "", map[string]string{"Location": "status", "Retry-After": "2", "Preference-Applied": "respond-async, wait=7"}},
		"the origin's fault":        {failed(failure.OriginStatus), true, waits, 502, "ORIGIN_STATUS", nil},
		"the address":               {failed(failure.BlockedAddress), true, waits, 502, "BLOCKED_ADDRESS", nil},
		"the digest":                {failed(failure.DigestMismatch), true, waits, 502, "DIGEST_MISMATCH", nil},
		"the storage":               {failed(failure.Storage), true, waits, 502, "STORAGE", nil},
		"the size":                  {failed(failure.TooLarge), true, waits, 413, "TOO_LARGE", nil},
		"a cancel":                  {failed(failure.Cancelled), true, waits, 410, "CANCELLED", nil},
		"the age":                   {failed(failure.Expired), true, waits, 410, "EXPIRED", nil},
		"this app":                  {failed(failure.Internal), true, waits, 500, "INTERNAL", nil},
	} {
		a := API{"*"}.Outcome("", test.state, test.waited, test.prefer, Started{ExecutionARN: "arn"}, map[string]string{"Location": "status"})
		var body struct {
			ExecutionARN string
			Error        struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(a.Body), &body); a.Body != "" && err != nil {
			t.Errorf("%s: %v", title, err)
		}
		if a.Status != test.status || body.Error.Code != test.code {
			t.Errorf("%s: got %d %s, want %d %s", title, a.Status, a.Body, test.status, test.code)
		}
		if test.state.Link == nil && body.ExecutionARN != "arn" {
			t.Errorf("%s: got %s, want the usual members", title, a.Body)
		}
		got := map[string]string{}
		for _, name := range []string{"Location", "Retry-After", "Preference-Applied"} {
			if v := a.Headers[name]; v != "" {
				got[name] = v
			}
		}
		if test.headers != nil && !maps.Equal(got, test.headers) {
			t.Errorf("%s: got %v, want %v", title, got, test.headers)
		}
		if test.code != "" && test.code != "NOT_READY" && a.Headers["Retry-After"] != "" {
			t.Errorf("%s: got Retry-After %s at the end", title, a.Headers["Retry-After"])
		}
	}
}

func TestState(t *testing.T) {
	a := API{"*"}.State("", download.State{Status: meeting.Copying, BytesCopied: 5}, Preference{Waits: true, RespondAsync: true, Wait: time.Second}, true)
	if want := `{"status":"COPYING","bytesCopied":5,"bytesTotal":null}`; a.Status != 200 || a.Body != want || a.Headers["Retry-After"] != "2" || a.Headers["Preference-Applied"] != "wait=1" {
		t.Errorf("got %d %s %v, want 200 %s", a.Status, a.Body, a.Headers, want)
	}
	a = API{"*"}.State("", download.State{Status: meeting.Failed}, Preference{}, true)
	if a.Headers["Retry-After"] != "" || a.Headers["Preference-Applied"] != "" {
		t.Errorf("got %v, want neither Retry-After nor a preference", a.Headers)
	}
}
