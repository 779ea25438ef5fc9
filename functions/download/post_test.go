package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/rest"
)

// stack is the function with the tables and the state machine that it uses.
type stack struct {
	function
	table  dynamodbtest.Table
	calls  []string // operations of the table
	starts []string // inputs of the executions
	refuse error    // of StartExecution
	log    *bytes.Buffer
}

func newStack(t *testing.T) *stack {
	s := &stack{log: &bytes.Buffer{}}
	standard := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(s.log, nil)))
	t.Cleanup(func() { slog.SetDefault(standard) })
	s.function = function{
		downloads: download.Starter{
			Protocol: download.Protocol{
				Table: &meeting.Table{Name: dynamodbtest.TableName, DynamoDB: dynamodbtest.Client(func(_ *http.Request, operation string, body []byte) (int, []byte, error) {
					s.calls = append(s.calls, operation)
					status, answer := s.table.Do(operation, body)
					return status, answer, nil
				})},
				Objects: s, Executions: s, StateMachine: "arn:aws:states:us-east-1:123456789012:stateMachine:download",
				Metrics: &metric.Recorder{Out: io.Discard},
			},
			Describer: s, Origin: &url.URL{Scheme: "https", Host: "origin.example", Path: "/"},
		},
		methods: []string{"GET", "POST", "HEAD", "OPTIONS"},
		rest:    rest.API{AllowedOrigins: "*"},
		auth:    "JWT",
	}
	return s
}

func (s *stack) StartExecution(_ context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	s.starts = append(s.starts, *in.Input)
	return &sfn.StartExecutionOutput{}, s.refuse
}

func (s *stack) DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	return &sfn.DescribeExecutionOutput{Status: sfntypes.ExecutionStatusRunning}, nil
}

func (s *stack) Record(context.Context, string) (object.Record, error) {
	return object.Record{}, object.Gone(nil)
}

func (s *stack) Sign(context.Context, string) (link.Link, error) { return link.Link{}, nil }

// ask sends the sample, changed, and returns the answer and its body.
func (s *stack) ask(t *testing.T, change func(*events.APIGatewayProxyRequest)) (events.APIGatewayProxyResponse, rest.Started) {
	t.Helper()
	text, err := os.ReadFile("../../events/event-download-post.json")
	if err != nil {
		t.Fatal(err)
	}
	var r events.APIGatewayProxyRequest
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	r.MultiValueHeaders["Authorization"] = []string{"Bearer planted-token"}
	r.Body = `{"query":"planted-body"}`
	if change != nil {
		change(&r)
	}
	a, err := s.handle(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var body rest.Started
	if a.Body != "" {
		if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
			t.Fatal(err)
		}
	}
	return a, body
}

// request returns what the download sends to its origin.
func (s *stack) request(t *testing.T, arn string) meeting.OriginRequest {
	t.Helper()
	r, err := s.downloads.Table.Request(t.Context(), arn)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// secretsStay checks that the body and the headers are in the request item only.
func (s *stack) secretsStay(t *testing.T, answer string) {
	t.Helper()
	places := map[string]string{"log": s.log.String(), "answer": answer, "input": strings.Join(s.starts, "\n")}
	for key, item := range s.table.Items {
		if !strings.HasSuffix(key, "#request") {
			text, err := json.Marshal(item)
			if err != nil {
				t.Fatal(err)
			}
			places["item"] = string(text)
		}
	}
	for place, text := range places {
		if strings.Contains(text, "planted") {
			t.Errorf("got a secret in the %s: %s", place, text)
		}
	}
}

func TestPost(t *testing.T) {
	s := newStack(t)
	s.forward = rest.Forwarding{Headers: []string{"Authorization", "accept-language", "X-Caller"}, Caller: "X-Caller"}
	s.downloads.CallerHeader = "X-Caller"
	a, body := s.ask(t, nil)
	if a.StatusCode != http.StatusAccepted || a.Headers["Location"] != body.StatusURL || body.StatusURL == "" || a.Headers["Retry-After"] != "2" || a.Headers["Preference-Applied"] != "" {
		t.Errorf("got %d %v, want 202 with the status URL", a.StatusCode, a.Headers)
	}
	r := s.request(t, body.ExecutionARN)
	if r.Method != "POST" || r.ContentType != "application/json" || string(r.Body) != `{"query":"planted-body"}` {
		t.Errorf("got %+v, want the body", r)
	}
	want := map[string]string{"Authorization": "Bearer planted-token", "Accept-Language": "de", "X-Caller": "user-0123"}
	for name, value := range want {
		if r.Header[name] != value {
			t.Errorf("%s: got %q, want %q", name, r.Header[name], value)
		}
	}
	if len(r.Header) != len(want) {
		t.Errorf("got headers %v, want %v", r.Header, want)
	}
	item, err := s.downloads.Table.Current(t.Context(), body.ExecutionARN)
	if err != nil || !item.HasRequest || item.Path != "reports/search" || item.Query != "format=csv" {
		t.Errorf("got %+v, %v", item, err)
	}
	s.secretsStay(t, a.Body)
}

func TestPostPreferences(t *testing.T) {
	for prefer, want := range map[string]int{"respond-async": http.StatusAccepted, "wait=0": http.StatusServiceUnavailable, "respond-async, wait=0": http.StatusAccepted} {
		s := newStack(t)
		a, _ := s.ask(t, func(r *events.APIGatewayProxyRequest) { r.MultiValueHeaders["Prefer"] = []string{prefer} })
		if a.StatusCode != want || a.Headers["Location"] == "" {
			t.Errorf("%s: got %d %v, want %d", prefer, a.StatusCode, a.Headers, want)
		}
	}
}

func TestPostRefused(t *testing.T) {
	tests := map[string]struct {
		change func(*stack, *events.APIGatewayProxyRequest)
		status int
		code   failure.Code
	}{
		"method not allowed": {func(s *stack, _ *events.APIGatewayProxyRequest) { s.methods = []string{"GET", "HEAD", "OPTIONS"} }, 405, failure.MethodNotAllowed},
		"path not allowed":   {func(s *stack, _ *events.APIGatewayProxyRequest) { s.downloads.AllowedPaths = []string{"public"} }, 400, failure.InvalidPath},
		"body too large":     {func(_ *stack, r *events.APIGatewayProxyRequest) { r.Body = strings.Repeat("x", rest.MaxBody+1) }, 413, failure.TooLarge},
		"body damaged":       {func(_ *stack, r *events.APIGatewayProxyRequest) { r.Body = "planted\ufffd" }, 400, failure.InvalidPath},
		"headers too large": {func(s *stack, r *events.APIGatewayProxyRequest) {
			s.forward.Headers = []string{"Accept"}
			r.MultiValueHeaders["Accept"] = []string{strings.Repeat("x", 8<<10+1)}
		}, 413, failure.TooLarge},
		"no principal": {func(s *stack, r *events.APIGatewayProxyRequest) {
			s.downloads.CallerHeader = "X-Caller"
			r.RequestContext.Authorizer = nil
		}, 500, failure.Internal},
		"page not allowed": {func(s *stack, r *events.APIGatewayProxyRequest) {
			s.rest.AllowedOrigins = "https://app.example"
			r.Headers["Origin"] = "https://other.example"
		}, 403, failure.AccessDenied},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			s := newStack(t)
			a, _ := s.ask(t, func(r *events.APIGatewayProxyRequest) { test.change(s, r) })
			if a.StatusCode != test.status || !strings.Contains(a.Body, string(test.code)) {
				t.Errorf("got %d %s, want %d %s", a.StatusCode, a.Body, test.status, test.code)
			}
			if test.status == 405 && a.Headers["Allow"] != "GET, HEAD, OPTIONS" {
				t.Errorf("got Allow %q", a.Headers["Allow"])
			}
			if len(s.table.Items) > 0 || len(s.starts) > 0 {
				t.Errorf("got %d items and %d executions, want none", len(s.table.Items), len(s.starts))
			}
			s.secretsStay(t, a.Body)
		})
	}
}

// A download whose execution can't be started leaves nothing.
func TestPostNotStarted(t *testing.T) {
	s := newStack(t)
	s.refuse = &sfntypes.ExecutionLimitExceeded{}
	if a, _ := s.ask(t, nil); a.StatusCode != http.StatusTooManyRequests {
		t.Errorf("got %d, want 429", a.StatusCode)
	}
	if len(s.table.Items) != 0 {
		t.Errorf("got items %v, want none", s.table.Items)
	}
}

func TestPostPreflight(t *testing.T) {
	s := newStack(t)
	s.forward.Headers = []string{"X-Tenant"}
	a, _ := s.ask(t, func(r *events.APIGatewayProxyRequest) { r.HTTPMethod = http.MethodOptions })
	if a.StatusCode != http.StatusNoContent || a.Headers["Access-Control-Allow-Methods"] != "GET, POST, HEAD, OPTIONS" || !strings.HasSuffix(a.Headers["Access-Control-Allow-Headers"], "Content-Type, X-Tenant") {
		t.Errorf("got %d %v", a.StatusCode, a.Headers)
	}
}

// A plain GET costs one write, and has no request item; one whose headers are forwarded has, without a body.
func TestGet(t *testing.T) {
	get := func(r *events.APIGatewayProxyRequest) { r.HTTPMethod = http.MethodGet }
	s := newStack(t)
	a, body := s.ask(t, get)
	if a.StatusCode != http.StatusOK || len(s.table.Items) != 1 || !slices.Equal(s.calls, []string{"PutItem"}) || len(s.starts) != 1 {
		t.Errorf("got %d, items %v, calls %v, and %d executions, want 200 and one of each", a.StatusCode, s.table.Items, s.calls, len(s.starts))
	}
	if item, err := s.downloads.Table.Current(t.Context(), body.ExecutionARN); err != nil || item.HasRequest {
		t.Errorf("got %+v, %v, want no request", item, err)
	}
	s.forward.Headers = []string{"Authorization"}
	_, body = s.ask(t, get)
	if r := s.request(t, body.ExecutionARN); r.Method != "GET" || r.Body != nil || r.ContentType != "" || len(r.Header) != 1 {
		t.Errorf("got %+v, want one header and no body", r)
	}
	s.secretsStay(t, a.Body)
}

// The page and its client have GET and HEAD.
func TestPageMethods(t *testing.T) {
	for _, test := range []struct {
		method, resource string
		status           int
		body             bool
	}{
		{"GET", "/", 200, true}, {"HEAD", "/", 200, false}, {"POST", "/", 405, true}, {"DELETE", "/", 405, true},
		{"GET", "/client.js", 200, true}, {"HEAD", "/client.js", 200, false}, {"PUT", "/client.js", 405, true},
	} {
		s := newStack(t)
		a, err := s.handle(t.Context(), events.APIGatewayProxyRequest{HTTPMethod: test.method, Resource: test.resource, Path: test.resource})
		if err != nil || a.StatusCode != test.status || (a.Body != "") != test.body || (a.Headers["Allow"] == "GET, HEAD") != (test.status == 405) {
			t.Errorf("%s %s: got %d, %d bytes, Allow %q, %v, want %d", test.method, test.resource, a.StatusCode, len(a.Body), a.Headers["Allow"], err, test.status)
		}
	}
}
