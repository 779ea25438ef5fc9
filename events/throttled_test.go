package events_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestThrottled throttles each service that the functions call: for two tries, which
// has no visible effect, and permanently. A call is tried three times; a fourth try
// would have no answer here. Then the function's caller tries again: the client,
// after a 429 or a handshake refused with 503, or a Retry of the state machine,
// after INTERNAL.
//
// on-connect has ten seconds; the SDK waits at most 2 s before the second try and
// 4 s before the third:
// https://docs.aws.amazon.com/sdk-for-go/v2/developer-guide/configure-retries-timeouts.html
func TestThrottled(t *testing.T) {
	t.Parallel()
	// Throttling errors of each service.
	busy := map[string][]answer{
		"DynamoDB":      {dynamoError("ProvisionedThroughputExceededException"), dynamoError("ThrottlingException"), dynamoError("RequestLimitExceeded")},
		"StepFunctions": {statesError("ThrottlingException")},
		"STS": {{status: http.StatusBadRequest, header: map[string]string{"Content-Type": "text/xml"},
			body: `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>`}},
		"Connections": {{status: http.StatusTooManyRequests, header: map[string]string{"X-Amzn-Errortype": "LimitExceededException"}, body: "{}"},
			{status: http.StatusInternalServerError, body: "{}"}},
		"S3": {{status: http.StatusServiceUnavailable, header: map[string]string{"Content-Type": "application/xml"}}},
	}
	item := func(kind string, more map[string]any) answer { return item(kind, stored(connected(more))) }
	ready := map[string]any{"status": "READY"}
	waiting := map[string]any{"status": "READY", "taskToken": taskToken}
	get := call{op: "DynamoDB.GetItem", answer: item("Item", ready)}
	update := call{op: "DynamoDB.UpdateItem", answer: item("Attributes", ready)}
	met := call{op: "DynamoDB.UpdateItem", answer: item("Attributes", waiting)}
	head := call{op: "S3.HeadObject", answer: object}
	assume := call{op: "STS.AssumeRole", answer: assumed()}
	post := call{op: "Connections.Post", answer: empty}
	put := call{op: "DynamoDB.PutItem", answer: empty}
	remove := call{op: "DynamoDB.DeleteItem", answer: empty}
	start := call{op: "StepFunctions.StartExecution", answer: started(execution)}
	resume := call{op: "StepFunctions.SendTaskSuccess", answer: empty}
	ok := status(http.StatusOK)

	for _, f := range []struct {
		function string
		calls    []call
		well     func(*testing.T, invocation)
		// bad checks the outcome when a call is throttled permanently, after the calls in
		// instead.
		bad     func(*testing.T, invocation)
		instead map[string][]call
	}{
		{"download", []call{put, start}, ok, refusal(http.StatusTooManyRequests, "THROTTLED"), map[string][]call{start.op: {remove}}},
		{"on-connect", []call{get, met, resume, update}, ok, status(http.StatusServiceUnavailable), map[string][]call{resume.op: {update}, update.op: {update}}},
		{"send-message", []call{get, head, assume, post, update}, taskResult("{}"), taskError("INTERNAL", ""), nil},
	} {
		for i, c := range f.calls {
			service, _, _ := strings.Cut(c.op, ".")
			throttled := func(times int) (calls []call) {
				for n := range times {
					calls = append(calls, call{op: c.op, answer: busy[service][n%len(busy[service])]})
				}
				return calls
			}
			// When the connection's write fails, there is nothing to undo.
			instead := f.instead[c.op]
			if f.function == "on-connect" && i == 1 {
				instead = nil
			}
			runAll(t, f.function, []run{
				{title: f.function + ", " + c.op + " twice", sample: f.function, calls: slices.Concat(f.calls[:i], throttled(2), f.calls[i:]), check: f.well},
				{title: f.function + ", " + c.op + " for good", sample: f.function, calls: slices.Concat(f.calls[:i], throttled(3), instead), check: f.bad},
			})
		}
	}
}
