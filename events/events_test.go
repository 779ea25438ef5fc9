// Package events_test checks the samples of this folder against the shapes that the
// services send. The tests in functions/ run them against the functions' binaries.
//
// The shapes are those of:
//
//   - REST proxy, format 1.0:
//     https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
//   - WebSocket CONNECT, DISCONNECT and MESSAGE:
//     https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html,
//     https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-route-keys-connect-disconnect.html
//     and, for what the references leave out, the recorded events in aws-lambda-go's own tests:
//     https://github.com/aws/aws-lambda-go/tree/main/events/testdata
//   - Step Functions Execution Status Change, whose detail has the fields of DescribeExecution:
//     https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html,
//     https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html
//   - TOKEN authorizers: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-lambda-authorizer-input.html
//   - what states pass to functions: ../asl
package events_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/copying"
	"async-download/internal/download"
	"async-download/internal/meeting"
)

const (
	account    = "123456789012"
	region     = "us-east-1"
	execution  = "arn:aws:states:us-east-1:123456789012:execution:download-DownloadStateMachine-k3Vd7QxWmR2p:5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7"
	connection = "Nx4cYfKXoAMCKiw="
)

// shapes has the type of each sample. A sample that is decoded into it and encoded
// again must not lose anything; so nothing in it is misspelled or misplaced.
var shapes = map[string]any{
	"download":             events.APIGatewayProxyRequest{},
	"download-base":        events.APIGatewayProxyRequest{},
	"download-post":        events.APIGatewayProxyRequest{},
	"download-preflight":   events.APIGatewayProxyRequest{},
	"executions":           events.APIGatewayProxyRequest{},
	"executions-delete":    events.APIGatewayProxyRequest{},
	"executions-preflight": events.APIGatewayProxyRequest{},

	"authorizer": events.APIGatewayCustomAuthorizerRequest{},

	"on-connect":        events.APIGatewayWebsocketProxyRequest{},
	"on-connect-query":  events.APIGatewayWebsocketProxyRequest{},
	"on-disconnect":     events.APIGatewayWebsocketProxyRequest{},
	"message":           events.APIGatewayWebsocketProxyRequest{},
	"message-ping":      events.APIGatewayWebsocketProxyRequest{},
	"message-malformed": events.APIGatewayWebsocketProxyRequest{},

	"fetch":                   copying.Input{},
	"fetch-segment":           copying.Input{},
	"finish":                  copying.FinishInput{},
	"finish-failure":          download.FailureInput{},
	"send-message":            meeting.Delivery{},
	"send-message-connection": meeting.Delivery{},

	"clean-up":           statusChange{},
	"clean-up-timed-out": statusChange{},
	"clean-up-aborted":   statusChange{},
}

// statusChange is an event whose detail is checked as well.
type statusChange struct {
	events.EventBridgeEvent
	Detail detail `json:"detail"`
}

// detail is DescribeExecution's answer as EventBridge sends it, with times in
// milliseconds.
type detail struct {
	ExecutionArn           string    `json:"executionArn"`
	StateMachineArn        string    `json:"stateMachineArn"`
	Name                   string    `json:"name"`
	Status                 string    `json:"status"`
	StartDate              int64     `json:"startDate"`
	StopDate               int64     `json:"stopDate"`
	Input                  string    `json:"input"`
	InputDetails           *included `json:"inputDetails"`
	Output                 *string   `json:"output"`
	OutputDetails          *included `json:"outputDetails"`
	StateMachineVersionArn *string   `json:"stateMachineVersionArn"`
	StateMachineAliasArn   *string   `json:"stateMachineAliasArn"`
	RedriveCount           int       `json:"redriveCount"`
	RedriveDate            *int64    `json:"redriveDate"`
	RedriveStatus          string    `json:"redriveStatus"`
	RedriveStatusReason    *string   `json:"redriveStatusReason"`
	Error                  *string   `json:"error"`
	Cause                  *string   `json:"cause"`
}

type included struct {
	Included bool `json:"included"`
}

// unknown has members that the services send and aws-lambda-go doesn't decode.
var unknown = map[string]bool{
	"requestContext.deploymentId": true, // of REST APIs, undocumented
}

func TestSamplesKeepTheirShape(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range samples(t) {
		shape, ok := shapes[name]
		if !ok {
			t.Errorf("got no shape for event-%s.json", name)
			continue
		}
		text := sample(t, name)
		typed := reflect.New(reflect.TypeOf(shape))
		if err := json.Unmarshal(text, typed.Interface()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want, got any
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(asJSON(typed.Interface())), &got); err != nil {
			t.Fatal(err)
		}
		for _, d := range lost("", want, got) {
			path, _, _ := strings.Cut(d, ": ")
			if seen[path] = true; !unknown[path] {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
	for name := range shapes {
		if !slices.Contains(samples(t), name) {
			t.Errorf("got no event-%s.json", name)
		}
	}
	for path := range unknown {
		if !seen[path] {
			t.Errorf("got %s known, or in no sample", path)
		}
	}
}

// lost compares a sample with its decoded and encoded form. It ignores null, and
// zeros that the encoder adds or omits.
func lost(path string, want, got any) []string {
	m, ok := want.(map[string]any)
	if !ok {
		omitted := got == nil && want == false
		if !omitted && want != nil && !reflect.DeepEqual(want, got) {
			return []string{fmt.Sprintf("%s: got %s, want %s", path, asJSON(got), asJSON(want))}
		}
		return nil
	}
	g, _ := got.(map[string]any)
	var d []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		d = append(d, lost(strings.TrimPrefix(path+"."+name, "."), m[name], g[name])...)
	}
	for name, v := range g {
		if _, there := m[name]; !there && v != nil && !reflect.ValueOf(v).IsZero() {
			d = append(d, fmt.Sprintf("%s.%s: got %s, want nothing", path, name, asJSON(v)))
		}
	}
	return d
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func sample(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("event-" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// samples are the names between event- and .json.
func samples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		name, is := strings.CutPrefix(strings.TrimSuffix(file, ".json"), "event-")
		if is {
			names = append(names, name)
		} else if !strings.HasSuffix(file, "_test.go") {
			t.Errorf("got %s, want samples and tests only", file)
		}
	}
	return names
}

// Every function has a sample with its name, which the documentation uses with `sam
// local invoke`, and every sample begins with the name of its function.
func TestEveryFunctionHasASample(t *testing.T) {
	names := samples(t)
	mains, err := filepath.Glob("../functions/*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("got %d functions (%v), want some", len(mains), err)
	}
	for _, main := range mains {
		function := filepath.Base(filepath.Dir(main))
		if !slices.Contains(names, function) {
			t.Errorf("got no event-%s.json", function)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name == function || strings.HasPrefix(name, function+"-") })
	}
	if len(names) > 0 {
		t.Errorf("got samples %q of no function", names)
	}
}

// The detail of a status change is DescribeExecution's answer, without two members
// that a download's execution doesn't have.
func TestStatusChangeIsDescribeExecution(t *testing.T) {
	var want []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[sfn.DescribeExecutionOutput]()) {
		if field.IsExported() && !slices.Contains([]string{"ResultMetadata", "MapRunArn", "TraceHeader"}, field.Name) {
			want = append(want, strings.ToLower(field.Name[:1])+field.Name[1:])
		}
	}
	slices.Sort(want)
	statuses := map[string]bool{}
	for _, name := range samples(t) {
		if !strings.HasPrefix(name, "clean-up") {
			continue
		}
		var e struct {
			DetailType string `json:"detail-type"`
			Source     string
			Resources  []string
			Detail     map[string]any
		}
		if err := json.Unmarshal(sample(t, name), &e); err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(e.Detail)); !slices.Equal(got, want) {
			t.Errorf("%s: got detail of\n%v, want\n%v", name, got, want)
		}
		if e.DetailType != "Step Functions Execution Status Change" || e.Source != "aws.states" || !slices.Equal(e.Resources, []string{execution}) {
			t.Errorf("%s: got %q from %q about %v", name, e.DetailType, e.Source, e.Resources)
		}
		statuses[e.Detail["status"].(string)] = true
	}
	if got, want := slices.Sorted(maps.Keys(statuses)), []string{"ABORTED", "FAILED", "TIMED_OUT"}; !slices.Equal(got, want) {
		t.Errorf("got samples for %v, want the rule's %v", got, want)
	}
}

// The input that a state passes to a function has the members of the sample.
func TestTaskInputsAreTheStates(t *testing.T) {
	var download struct {
		States map[string]struct {
			Parameters    struct{ Payload any }
			ItemSelector  map[string]any
			ItemProcessor struct {
				States map[string]struct {
					Parameters map[string]any
				}
			}
		}
	}
	b, err := os.ReadFile("../asl/download.asl.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &download); err != nil {
		t.Fatal(err)
	}
	segments := download.States["Copy the segments"]
	if got := segments.ItemProcessor.States["Copy the segment"].Parameters["Payload.$"]; got != "$" {
		t.Errorf("got payload %v of a segment, want its input as it is", got)
	}
	for name, state := range map[string]any{
		"fetch":          download.States["Copy the file"].Parameters.Payload,
		"fetch-segment":  segments.ItemSelector,
		"finish":         download.States["Finish the copy"].Parameters.Payload,
		"finish-failure": download.States["Note the failure"].Parameters.Payload,
	} {
		members, _ := state.(map[string]any)
		var want []string
		for member := range members {
			want = append(want, strings.TrimSuffix(member, ".$"))
		}
		slices.Sort(want)
		var event map[string]any
		if err := json.Unmarshal(sample(t, name), &event); err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(event)); !slices.Equal(got, want) {
			t.Errorf("%s: got members %v, want the state's %v", name, got, want)
		}
	}
}

// REST and WebSocket events contain most values twice.
func TestProxyEventsAgreeWithThemselves(t *testing.T) {
	last := func(many map[string][]string) map[string]string {
		one := map[string]string{}
		for name, values := range many {
			one[name] = values[len(values)-1]
		}
		return one
	}
	same := func(name, what string, one map[string]string, many map[string][]string) {
		if want := last(many); len(one) != len(want) || len(one) > 0 && !maps.Equal(one, want) {
			t.Errorf("%s: got %s %v, want the last of each of %v", name, what, one, many)
		}
	}
	for name, shape := range shapes {
		switch shape.(type) {
		case events.APIGatewayProxyRequest:
			var e events.APIGatewayProxyRequest
			if err := json.Unmarshal(sample(t, name), &e); err != nil {
				t.Fatal(err)
			}
			c := e.RequestContext
			same(name, "headers", e.Headers, e.MultiValueHeaders)
			same(name, "query", e.QueryStringParameters, e.MultiValueQueryStringParameters)
			if c.Path != "/"+c.Stage+e.Path || c.ResourcePath != e.Resource || c.HTTPMethod != e.HTTPMethod {
				t.Errorf("%s: got a context of %s %s, want the request's", name, c.HTTPMethod, c.Path)
			}
			if want := c.APIID + ".execute-api." + region + ".amazonaws.com"; c.DomainName != want || e.Headers["Host"] != want || c.DomainPrefix != c.APIID {
				t.Errorf("%s: got domain %s, want %s", name, c.DomainName, want)
			}
			spellings := map[bool]int{}
			for header := range e.Headers {
				spellings[header == strings.ToLower(header)]++
			}
			if len(spellings) != 2 {
				t.Errorf("%s: got headers in one spelling, want mixed ones", name)
			}
		case events.APIGatewayWebsocketProxyRequest:
			var e events.APIGatewayWebsocketProxyRequest
			if err := json.Unmarshal(sample(t, name), &e); err != nil {
				t.Fatal(err)
			}
			c := e.RequestContext
			same(name, "headers", e.Headers, e.MultiValueHeaders)
			same(name, "query", e.QueryStringParameters, e.MultiValueQueryStringParameters)
			if c.ConnectionID != connection || !strings.HasSuffix(c.ConnectionID, "=") || c.ConnectedAt == 0 || c.ConnectedAt > c.RequestTimeEpoch {
				t.Errorf("%s: got connection %s at %d", name, c.ConnectionID, c.ConnectedAt)
			}
			if want := map[string]string{"CONNECT": "$connect", "DISCONNECT": "$disconnect", "MESSAGE": "$default"}[c.EventType]; c.RouteKey != want {
				t.Errorf("%s: got route %s of %s, want %s", name, c.RouteKey, c.EventType, want)
			}
			if closed := c.DisconnectStatusCode != 0 && c.DisconnectReason != nil; closed != (c.EventType == "DISCONNECT") {
				t.Errorf("%s: got close code %d, want one of a DISCONNECT only", name, c.DisconnectStatusCode)
			}
		}
	}
}

// Samples use the account of AWS's documentation and addresses reserved for documentation.
func TestSamplesIdentifyNobody(t *testing.T) {
	accounts := regexp.MustCompile(`\b\d{12}\b`)
	addresses := regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b`)
	keys := regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{16}\b|X-Amz-Signature|(?i)authorization"|set-cookie|"cookie"`)
	for _, name := range samples(t) {
		text := string(sample(t, name))
		for _, got := range accounts.FindAllString(text, -1) {
			if got != account {
				t.Errorf("%s: got account %s, want %s", name, got, account)
			}
		}
		for _, got := range addresses.FindAllString(text, -1) {
			if !strings.HasPrefix(got, "203.0.113.") && got != "131.0.0.0" { // a browser's version
				t.Errorf("%s: got address %s, want one of 203.0.113.0/24", name, got)
			}
		}
		if got := keys.FindString(text); got != "" {
			t.Errorf("%s: got %s, want no secret", name, got)
		}
	}
}
