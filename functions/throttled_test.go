package functions_test

import (
	"net/http"
	"testing"
	"time"
)

// TestThrottled throttles each call that three functions make: for two tries, which has
// no visible effect, and permanently. A call is tried three times. Then the function's
// caller tries again: the client, after a 429 or a handshake refused with 503, or a Retry
// of the state machine, after INTERNAL.
//
// on-connect has ten seconds; the SDK waits at most 2 s before the second try and
// 4 s before the third:
// https://docs.aws.amazon.com/sdk-for-go/v2/developer-guide/configure-retries-timeouts.html
func TestThrottled(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the SDK's retries")
	}
	t.Parallel()
	limited := answer{status: http.StatusTooManyRequests, header: map[string]string{"X-Amzn-Errortype": "LimitExceededException"}, body: "{}"}
	sts := answer{status: http.StatusBadRequest, header: map[string]string{"Content-Type": "text/xml"},
		body: `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>`}
	ok := status(http.StatusOK)
	tooMany := refusal(http.StatusTooManyRequests, "THROTTLED")
	busy := status(http.StatusServiceUnavailable)
	waiting := having(map[string]any{"status": "READY", "taskToken": taskToken})
	ready := connected(map[string]any{"status": "READY", "copiedAt": time.Now().UnixMilli()})
	for _, test := range []struct {
		function, op string
		throttling   answer
		given        []func(*cloud)
		well, bad    check
	}{
		{"download", "DynamoDB.PutItem", refused("ProvisionedThroughputExceededException"), nil, ok, tooMany},
		{"download", "StepFunctions.StartExecution", refused("ThrottlingException"), nil, ok, tooMany},
		{"on-connect", "DynamoDB.GetItem", refused("ThrottlingException"), []func(*cloud){waiting}, ok, busy},
		{"on-connect", "DynamoDB.UpdateItem", refused("RequestLimitExceeded"), []func(*cloud){waiting}, ok, busy},
		{"on-connect", "StepFunctions.SendTaskSuccess", refused("ThrottlingException"), []func(*cloud){waiting}, ok, busy},
		{"on-connect", "S3.HeadObject", answer{status: http.StatusServiceUnavailable}, []func(*cloud){stored()}, ok, busy},
		{"send-message", "S3.HeadObject", answer{status: http.StatusServiceUnavailable}, []func(*cloud){ready, stored()}, taskResult("{}"), taskError("INTERNAL", "")},
		{"send-message", "STS.AssumeRole", sts, []func(*cloud){ready, stored()}, taskResult("{}"), taskError("INTERNAL", "")},
		{"send-message", "Connections.Post", limited, []func(*cloud){ready, stored()}, taskResult("{}"), taskError("INTERNAL", "")},
	} {
		title := test.function + ", " + test.op
		tries := func(t *testing.T, _ invocation, c *cloud) {
			if got := len(c.made(test.op)); got < 3 || got > 5 { // on-connect has a second update
				t.Errorf("got %d calls, want 3 to 5", got)
			}
		}
		runAll(t, test.function, []run{
			{title: title + " twice", sample: test.function, given: append(test.given, failing(test.op, 2, test.throttling)), checks: []check{test.well, tries}},
			{title: title + " permanently", sample: test.function, given: append(test.given, failing(test.op, 99, test.throttling)), checks: []check{test.bad, tries}},
		})
	}
}
