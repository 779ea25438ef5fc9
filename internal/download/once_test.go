package download_test

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
)

// starter starts downloads on the fake table and a fake Step Functions, which knows each name
// for 90 days.
type starter struct {
	t *testing.T
	download.Starter
	table dynamodbtest.Table

	mu         sync.Mutex
	executions map[string]sfntypes.ExecutionStatus // by ARN
	started    int
	refuse     error // of the next StartExecution
	lose       bool  // the reply of the next StartExecution, which has its effect
	objects    map[string]object.Record
}

func newStarter(t *testing.T) *starter {
	s := &starter{t: t, executions: map[string]sfntypes.ExecutionStatus{}, objects: map[string]object.Record{}}
	s.table.Items = map[string]dynamodbtest.Item{}
	s.Table = &meeting.Table{Name: dynamodbtest.TableName, DynamoDB: s.table.Client()}
	s.Objects, s.Executions, s.Describer = s, s, s
	s.StateMachine, s.RequireTicket = machine, true
	s.Metrics = &metric.Recorder{Out: io.Discard}
	s.Origin = &url.URL{Scheme: "https", Host: "origin.example", Path: "/"}
	s.Input = download.Input{ClientTimeoutSeconds: 3600, MaxConcurrentSegments: 40}
	return s
}

func (s *starter) StartExecution(_ context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refuse; err != nil {
		s.refuse = nil
		return nil, err
	}
	arn := execution.ARN(*in.StateMachineArn, *in.Name)
	switch s.executions[arn] {
	case "":
		s.executions[arn] = sfntypes.ExecutionStatusRunning
		s.started++
	case sfntypes.ExecutionStatusRunning:
	default:
		return nil, &sfntypes.ExecutionAlreadyExists{}
	}
	if s.lose {
		s.lose = false
		return nil, syscall.ECONNRESET
	}
	return &sfn.StartExecutionOutput{ExecutionArn: &arn}, nil
}

func (s *starter) DescribeExecution(_ context.Context, in *sfn.DescribeExecutionInput, _ ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &sfn.DescribeExecutionOutput{ExecutionArn: in.ExecutionArn, Status: s.executions[*in.ExecutionArn]}, nil
}

func (s *starter) Record(_ context.Context, name string) (object.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.objects[name]
	if !ok {
		return object.Record{}, object.Gone(nil)
	}
	return r, nil
}

func (s *starter) Sign(context.Context, string) (link.Link, error) {
	return link.Link{URL: "https://link"}, nil
}

const key = "5f0c3b1e-9a7d-4c62-88e1-f2a3b4c5d6e7"

func (s *starter) ask(caller, key, path, query string) (download.Started, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.Start(s.t.Context(), download.Request{Path: path, Query: values, Caller: caller, Key: key, AskedBy: "192.0.2.1"})
}

// mustBe asks again and wants the answer that was had before.
func (s *starter) mustBe(want download.Started, starts int) {
	s.t.Helper()
	got, err := s.ask("ann", key, "a.bin", "x=1")
	if err != nil || got != want || s.started != starts {
		s.t.Errorf("got %+v, %v after %d starts, want %+v after %d", got, err, s.started, want, starts)
	}
}

func (s *starter) mustAsk() download.Started {
	s.t.Helper()
	started, err := s.ask("ann", key, "a.bin", "x=1")
	if err != nil {
		s.t.Fatal(err)
	}
	return started
}

// deliver ends the download as one whose link was delivered, and whose client has
// closed its socket: the object is the record.
func (s *starter) deliver(d download.Started) {
	i := s.table.Get(d.ExecutionARN)
	get := func(name string) string { v, _ := i[name]["S"].(string); return v }
	s.objects[d.Name] = object.Record{TicketHash: get("ticketHash"), RequestHash: get("requestHash")}
	s.executions[d.ExecutionARN] = sfntypes.ExecutionStatusSucceeded
	delete(s.table.Items, d.ExecutionARN)
}

func TestSameKeySameDownload(t *testing.T) {
	t.Run("answer lost", func(t *testing.T) {
		s := newStarter(t)
		s.mustBe(s.mustAsk(), 1)
	})
	t.Run("function killed before the execution was started", func(t *testing.T) {
		s := newStarter(t)
		s.refuse = errors.New("killed")
		if _, err := s.ask("ann", key, "a.bin", "x=1"); err == nil {
			t.Fatal("want an error")
		}
		s.mustBe(s.mustAsk(), 1)
	})
	t.Run("reply of StartExecution lost", func(t *testing.T) {
		s := newStarter(t)
		s.lose = true
		if _, err := s.ask("ann", key, "a.bin", "x=1"); err == nil {
			t.Fatal("want an error")
		}
		s.mustBe(s.mustAsk(), 1)
	})
	t.Run("throttled, while the same request is served", func(t *testing.T) {
		s := newStarter(t)
		d := s.mustAsk()
		s.refuse = &sfntypes.ExecutionLimitExceeded{}
		if _, err := s.ask("ann", key, "a.bin", "x=1"); failure.CodeOf(err) != failure.Throttled {
			t.Errorf("got %v, want THROTTLED", err)
		}
		s.mustBe(d, 1) // its item is still there
	})
	t.Run("many at once", func(t *testing.T) {
		s := newStarter(t)
		var all sync.WaitGroup
		answers := make([]download.Started, 20)
		for n := range answers {
			all.Go(func() { answers[n], _ = s.ask("ann", key, "a.bin", "x=1") })
		}
		all.Wait()
		for _, a := range answers {
			if a != answers[0] || a.Name == "" {
				t.Errorf("got %+v, want %+v", a, answers[0])
			}
		}
		s.mustBe(answers[0], 1)
	})
	t.Run("ended at once", func(t *testing.T) {
		s := newStarter(t)
		d := s.mustAsk()
		if _, err := s.Table.End(t.Context(), d.ExecutionARN, failure.New(failure.OriginStatus, "404")); err != nil {
			t.Fatal(err)
		}
		s.executions[d.ExecutionARN] = sfntypes.ExecutionStatusFailed
		s.mustBe(d, 1)
	})
	t.Run("stack updated meanwhile", func(t *testing.T) {
		s := newStarter(t)
		d := s.mustAsk()
		s.refuse = &sfntypes.ExecutionAlreadyExists{} // a running one with another input
		s.mustBe(d, 1)
	})
	t.Run("after delivery and close", func(t *testing.T) {
		s := newStarter(t)
		d := s.mustAsk()
		s.deliver(d)
		s.mustBe(d, 1)
		if len(s.table.Items) != 0 {
			t.Error("an item was written for a download that is over")
		}
	})
}

func TestKeyOfAnotherRequest(t *testing.T) {
	s := newStarter(t)
	d := s.mustAsk()
	tests := []struct{ caller, key, path, query string }{
		{"ann", key, "b.bin", "x=1"},
		{"ann", key, "a.bin", "x=2"},
		{"ann", key, "a.bin", ""},
	}
	for _, round := range []string{"while it is copied", "after delivery"} {
		for _, test := range tests {
			if _, err := s.ask(test.caller, test.key, test.path, test.query); failure.CodeOf(err) != failure.KeyReused {
				t.Errorf("%s, %+v: got %v, want KEY_REUSED", round, test, err)
			}
		}
		s.deliver(d)
	}
	for _, caller := range []string{"bob", "", "an", "ann\x00"} {
		other, err := s.ask(caller, key, "a.bin", "x=1")
		if err != nil || other.Name == d.Name || other.Ticket == d.Ticket {
			t.Errorf("caller %q: got %+v, %v, want another download", caller, other, err)
		}
	}
}

// A POST is the same request if method, content type, body, and the names of the forwarded
// headers are the same; the headers' values may be renewed.
func TestKeyOfAPost(t *testing.T) {
	s := newStarter(t)
	ask := func(change func(*download.Request)) (download.Started, error) {
		r := download.Request{
			Method: "POST", Path: "a.bin", Caller: "ann", Key: key, ContentType: "application/json", Body: []byte("{}"),
			Header: map[string]string{"Authorization": "Bearer 1"},
		}
		change(&r)
		return s.Start(s.t.Context(), r)
	}
	first, err := ask(func(*download.Request) {})
	if err != nil {
		t.Fatal(err)
	}
	sent, err := s.Table.Request(t.Context(), first.ExecutionARN)
	if err != nil || string(sent.Body) != "{}" || sent.Header["Authorization"] != "Bearer 1" {
		t.Errorf("got %+v, %v, want what was sent", sent, err)
	}
	again, err := ask(func(r *download.Request) { r.Header = map[string]string{"Authorization": "Bearer 2"} })
	if err != nil || again != first || s.started != 1 {
		t.Errorf("with a renewed token: got %+v, %v after %d starts, want %+v after one", again, err, s.started, first)
	}
	for round, after := range []func(){func() {}, func() { s.deliver(first) }} {
		after()
		for title, change := range map[string]func(*download.Request){
			"GET":                 func(r *download.Request) { r.Method = "GET" },
			"another body":        func(r *download.Request) { r.Body = []byte("{ }") },
			"no body":             func(r *download.Request) { r.Body = nil },
			"another type":        func(r *download.Request) { r.ContentType = "text/plain" },
			"another path":        func(r *download.Request) { r.Path = "b.bin" },
			"without credentials": func(r *download.Request) { r.Header = nil },
			"another header":      func(r *download.Request) { r.Header = map[string]string{"Accept-Language": "de"} },
		} {
			if _, err := ask(change); failure.CodeOf(err) != failure.KeyReused {
				t.Errorf("round %d, %s: got %v, want KEY_REUSED", round, title, err)
			}
		}
	}
}

func TestKeyWhoseFileIsGone(t *testing.T) {
	s := newStarter(t)
	d := s.mustAsk()
	s.deliver(d)
	delete(s.objects, d.Name)
	for range 2 {
		if _, err := s.ask("ann", key, "a.bin", "x=1"); failure.CodeOf(err) != failure.Expired {
			t.Errorf("got %v, want EXPIRED", err)
		}
	}
	if s.started != 1 || len(s.table.Items) != 0 {
		t.Errorf("got %d starts and %d items, want 1 and none", s.started, len(s.table.Items))
	}
}

func TestMalformedKey(t *testing.T) {
	s := newStarter(t)
	for _, key := range []string{"short", strings.Repeat("x", 15), strings.Repeat("x", 256), key + " ", key + "é", key + "\x7f", key + "\n"} {
		if _, err := s.ask("ann", key, "a.bin", ""); failure.CodeOf(err) != failure.InvalidPath {
			t.Errorf("%q: got %v, want a refusal", key, err)
		}
	}
	for _, key := range []string{strings.Repeat("x", 16), strings.Repeat("~", 255)} {
		if _, err := s.ask("ann", key, "a.bin", ""); err != nil {
			t.Errorf("%d characters: got %v", len(key), err)
		}
	}
}
