package download_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/download"
	"async-download/internal/event"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/socket"
)

const (
	machine = "arn:aws:states:us-east-1:123456789012:stateMachine:download"
	name    = "5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7"
	arn     = "arn:aws:states:us-east-1:123456789012:execution:download:" + name
	asker   = "203.0.113.25 arn:aws:iam::123456789012:user/ana"
)

// stack is one download with all that its use cases need.
type stack struct {
	download.Protocol
	table dynamodbtest.Table
	lines bytes.Buffer // of metrics
	file  bool
	gone  int   // how many posts are answered with 410
	fails error // of Discard
	signs error // of Sign
	// refused is an operation of the table that the caller has no permission for.
	refused string
}

func newStack() *stack {
	s := &stack{file: true}
	s.Protocol = download.Protocol{
		Table: &meeting.Table{Name: dynamodbtest.TableName, DynamoDB: dynamodbtest.Client(func(_ *http.Request, operation string, body []byte) (int, []byte, error) {
			if operation == s.refused {
				return http.StatusBadRequest, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException","message":"no"}`), nil
			}
			status, answer := s.table.Do(operation, body)
			return status, answer, nil
		})},
		Metrics: &metric.Recorder{Stack: "stack", Out: &s.lines}, StateMachine: machine,
		Objects: s, Socket: s, Executions: s, Discard: func(context.Context, string) error { s.file = false; return s.fails },
	}
	return s
}

// item stores the download's item, 90 s after its file was copied.
func (s *stack) item(status meeting.Status, more dynamodbtest.Item) {
	i := dynamodbtest.Item{
		"executionArn": {"S": arn}, "status": {"S": string(status)}, "path": {"S": "reports/Q3.pdf"}, "query": {"S": "key=planted"}, "askedBy": {"S": asker},
		"bytesCopied": {"N": "1048576"}, "copiedAt": {"N": fmt.Sprint(time.Now().Add(-90 * time.Second).UnixMilli())},
		"expiresAt": {"N": fmt.Sprint(time.Now().Add(47 * time.Hour).Unix())},
	}
	if status.NoFile() {
		i["failure"] = dynamodbtest.Value{"M": map[string]any{"code": map[string]any{"S": "TOO_LARGE"}, "message": map[string]any{"S": "why"}}}
	}
	maps.Copy(i, more)
	s.table.Items = map[string]dynamodbtest.Item{arn: i}
}

func connectedAt(at time.Time) dynamodbtest.Item {
	return dynamodbtest.Item{"connectionId": {"S": "c1"}, "connectedAt": {"N": fmt.Sprint(at.UnixMilli())}, "format": {"S": ""}}
}

func (s *stack) Record(context.Context, string) (object.Record, error) {
	if !s.file {
		return object.Record{}, object.Gone(nil)
	}
	return object.Record{}, nil
}

func (s *stack) Sign(ctx context.Context, name string) (link.Link, error) {
	if _, err := s.Record(ctx, name); err != nil {
		return link.Link{}, err
	}
	if s.signs != nil {
		return link.Link{}, s.signs
	}
	return link.Link{URL: "https://link"}, nil
}

func (s *stack) Post(context.Context, meeting.Connection, socket.Event) error {
	if s.gone > 0 {
		s.gone--
		return meeting.ErrGone
	}
	return nil
}

func (s *stack) StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	return &sfn.StartExecutionOutput{}, nil
}

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
				s.gone, s.fails = test.gone, test.fails
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
				s, l := newStack(), &listener{fails: test.fails}
				s.Executions, s.Events = l, &event.Bus{EventBridge: l}
				s.item(test.item, test.more)
				if !test.away {
					maps.Copy(s.table.Items[arn], connectedAt(time.Now()))
				}
				_, err := s.CleanUp(t.Context(), download.Broken{ExecutionARN: arn, Status: test.status})
				if !errors.Is(err, test.fails) || l.starts != test.starts || l.puts != test.puts {
					t.Errorf("got %v, %d deliveries and %d events, want %d and %d", err, l.starts, l.puts, test.starts, test.puts)
				}
			})
		})
	}
}

// listener counts deliveries and events.
type listener struct {
	starts, puts int
	fails        error
}

func (l *listener) StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	l.starts++
	return &sfn.StartExecutionOutput{}, l.fails
}

func (l *listener) PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	l.puts++
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
