package events_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestThrottled has AWS be too busy for each service that the functions call, as
// they are deployed: for the first two tries, which nobody notices, and for good.
// A call is tried three times, as a fourth would have no answer here, and then it
// is who called the function who tries again: the client, told so by 429 or by a
// handshake refused with 503, or a Retry of the state machine, told INTERNAL.
//
// on-connect has ten seconds; the SDK waits 2 s at most before the second try and
// 4 s before the third:
// https://docs.aws.amazon.com/sdk-for-go/v2/developer-guide/configure-retries-timeouts.html
func TestThrottled(t *testing.T) {
	t.Parallel()
	// The errors that stand for "come again", as each service words it.
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
		// bad is the answer when a call is throttled for good, after those in instead.
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
			// The connection's own write comes before there is anything to take back.
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
