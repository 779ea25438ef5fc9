package download_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"async-download/internal/download"
	"async-download/internal/event"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
)

// counted returns the metrics that were recorded, each once, and the audit line.
func (s *stack) counted(t *testing.T) (values map[string]float64, audit map[string]any) {
	t.Helper()
	values = map[string]float64{}
	for text := range strings.Lines(s.lines.String()) {
		var line struct {
			AWS struct {
				CloudWatchMetrics []struct{ Metrics []struct{ Name string } }
			} `json:"_aws"`
		}
		var members map[string]any
		if err := errors.Join(json.Unmarshal([]byte(text), &line), json.Unmarshal([]byte(text), &members)); err != nil {
			t.Fatal(err)
		}
		if members["Stack"] != "stack" || members["execution"] != name {
			t.Errorf("got %s, want the names of the stack and of the execution", text)
		}
		for _, d := range line.AWS.CloudWatchMetrics {
			for _, m := range d.Metrics {
				if _, twice := values[m.Name]; twice {
					t.Errorf("got %s twice", m.Name)
				}
				values[m.Name] = members[m.Name].(float64)
			}
		}
		if members["message"] == "audit" {
			audit = members
		}
	}
	return values, audit
}

// Each download is counted once when it ends, with one audit line.
func TestEndIsCounted(t *testing.T) {
	deliver := func(s *stack) error { return s.Deliver(context.Background(), meeting.Delivery{ExecutionARN: arn}) }
	again := func(s *stack) error {
		return s.Deliver(context.Background(), meeting.Delivery{ExecutionARN: arn, Connection: &meeting.Connection{ID: "c1"}})
	}
	request := func(s *stack) error { _, err := s.Status(context.Background(), name, ""); return err }
	cleanUp := func(code string) func(*stack) error {
		return func(s *stack) error {
			_, err := s.CleanUp(context.Background(), download.Broken{ExecutionARN: arn, Status: "FAILED", Error: code})
			return err
		}
	}
	note := func(s *stack) error {
		_, err := s.NoteFailure(context.Background(), arn, failure.New(failure.Storage, "x"))
		return err
	}
	broken := errors.New("the bucket is closed")
	for title, test := range map[string]struct {
		status  meeting.Status
		here    time.Duration // how long ago the client connected; 0: no client
		more    dynamodbtest.Item
		gone    int
		fails   error
		do      func(*stack) error
		want    error // nil for any other error, too, where the use case has one
		metrics map[string]float64
		outcome any
		code    any
	}{
		"delivered":                   {status: meeting.Ready, here: time.Minute, do: deliver, metrics: map[string]float64{"Delivered": 1, "WaitSeconds": 30}, outcome: "DELIVERED"},
		"delivered, client was first": {status: meeting.Ready, here: time.Hour, do: deliver, metrics: map[string]float64{"Delivered": 1, "WaitSeconds": 0}, outcome: "DELIVERED"},
		"delivered again":             {status: meeting.Delivered, here: time.Minute, do: again},
		"client gone":                 {status: meeting.Ready, here: time.Minute, gone: 1, do: deliver, want: meeting.ErrGone, metrics: map[string]float64{"Gone": 1}},
		"handshake open for a moment": {status: meeting.Ready, here: time.Millisecond, gone: 2, do: deliver, metrics: map[string]float64{"Delivered": 1, "WaitSeconds": 89.999, "Gone": 2}, outcome: "DELIVERED"},
		"nobody here":                 {status: meeting.Ready, do: deliver, want: meeting.ErrGone},
		"failure posted":              {status: meeting.Failed, here: time.Minute, do: deliver},
		"by request":                  {status: meeting.Ready, do: request, metrics: map[string]float64{"Delivered": 1, "WaitSeconds": 90}, outcome: "DELIVERED"},
		"requested again":             {status: meeting.Ready, more: dynamodbtest.Item{"connectionId": {"S": meeting.Request}}, do: request},
		"requested, and a socket":     {status: meeting.Ready, here: time.Minute, do: request},
		"failure noted":               {status: meeting.Copying, do: note},
		"failure noted, bucket":       {status: meeting.Copying, fails: broken, do: note, metrics: map[string]float64{"NotDiscarded": 1}},
		"failed":                      {status: meeting.Failed, do: cleanUp("TOO_LARGE"), metrics: map[string]float64{"Failed": 1}, outcome: "FAILED", code: "TOO_LARGE"},
		"cancelled":                   {status: meeting.Cancelled, do: cleanUp("CANCELLED"), metrics: map[string]float64{"Cancelled": 1}, outcome: "CANCELLED"},
		"expired":                     {status: meeting.Expired, do: cleanUp("EXPIRED"), metrics: map[string]float64{"Expired": 1, "WaitSeconds": 90}, outcome: "EXPIRED"},
		"link that was not sent":      {status: meeting.Expired, do: cleanUp("INTERNAL"), metrics: map[string]float64{"Failed": 1}, outcome: "FAILED", code: "INTERNAL"},
		"delivered after all":         {status: meeting.Delivered, do: cleanUp("INTERNAL")},
		"clean-up, bucket":            {status: meeting.Cancelled, fails: broken, do: cleanUp("CANCELLED"), want: broken, metrics: map[string]float64{"NotDiscarded": 1}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStack()
				s.gone, s.discardFails = test.gone, test.fails
				if test.here > 0 {
					s.item(test.status, connectedAt(time.Now().Add(-test.here)))
				} else {
					s.item(test.status, test.more)
				}
				if err := test.do(s); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				metrics, audit := s.counted(t)
				if !maps.Equal(metrics, test.metrics) {
					t.Errorf("got %v, want %v", metrics, test.metrics)
				}
				if audit["outcome"] != test.outcome || audit["code"] != test.code {
					t.Errorf("got %v, want outcome %v with code %v", audit, test.outcome, test.code)
				}
				if audit != nil && (audit["askedBy"] != asker || audit["path"] != "reports/Q3.pdf" || audit["bytes"] != 1048576.0) {
					t.Errorf("got %v, want the asker, the path and the bytes", audit)
				}
				if strings.Contains(s.lines.String(), "planted") {
					t.Errorf("got the query in %s", s.lines.String())
				}
			})
		})
	}
}

// Clean-up notifies a client that is here, and the bus, unless the workflow has done that.
func TestCleanUpNotifies(t *testing.T) {
	refused := errors.New("no execution")
	noted := dynamodbtest.Item{"failure": {"M": map[string]any{"code": map[string]any{"S": "EXPIRED"}, "message": map[string]any{"S": "why"}}}}
	for title, test := range map[string]struct {
		status       string
		item         meeting.Status
		more         dynamodbtest.Item
		away         bool
		fails        error // of StartExecution
		starts, puts int
	}{
		"stopped":                          {status: "ABORTED", item: meeting.Copying, starts: 1, puts: 1},
		"stopped, nobody here":             {status: "ABORTED", item: meeting.Copying, away: true, puts: 1},
		"stopped, not startable":           {status: "ABORTED", item: meeting.Copying, fails: refused, starts: 1},
		"stopped, and ended before":        {status: "ABORTED", item: meeting.Failed, starts: 1, puts: 1},
		"broken":                           {status: "FAILED", item: meeting.Copying, starts: 1, puts: 1},
		"failed, and noted":                {status: "FAILED", item: meeting.Failed},
		"broken with a file, tried before": {status: "FAILED", item: meeting.Expired, more: noted, starts: 1},
		"no client in time":                {status: "FAILED", item: meeting.Expired},
		"delivered, and noted":             {status: "FAILED", item: meeting.Delivered, more: noted},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, puts := newStack(), bus(0)
				s.startFails, s.Events = test.fails, &event.Bus{EventBridge: &puts}
				s.item(test.item, test.more)
				if !test.away {
					maps.Copy(s.table.Items[arn], connectedAt(time.Now()))
				}
				_, err := s.CleanUp(t.Context(), download.Broken{ExecutionARN: arn, Status: test.status})
				if !errors.Is(err, test.fails) || len(s.starts) != test.starts || int(puts) != test.puts {
					t.Errorf("got %v, %d deliveries and %d events, want %d and %d", err, len(s.starts), puts, test.starts, test.puts)
				}
			})
		})
	}
}

// bus counts events.
type bus int

func (b *bus) PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	*b++
	return &eventbridge.PutEventsOutput{}, nil
}

// Nothing is counted for a download whose item has gone.
func TestNothingIsCounted(t *testing.T) {
	s := newStack()
	for title, do := range map[string]func() error{
		"clean-up": func() error {
			_, err := s.CleanUp(t.Context(), download.Broken{ExecutionARN: arn, Status: "FAILED"})
			return err
		},
		"delivery": func() error { return s.Deliver(t.Context(), meeting.Delivery{ExecutionARN: arn}) },
		"status":   func() error { _, err := s.Status(t.Context(), name, ""); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: got %v", title, err)
		}
		if metrics, _ := s.counted(t); len(metrics) > 0 {
			t.Errorf("%s: got %v, want none", title, slices.Sorted(maps.Keys(metrics)))
		}
	}
}
