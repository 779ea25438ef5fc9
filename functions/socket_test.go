package functions_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestOnConnect(t *testing.T) {
	t.Parallel()
	header := func(e map[string]any, spelling string, value any) {
		for _, h := range []string{"headers", "multiValueHeaders"} {
			delete(e[h].(map[string]any), "X-StateMachine-ExecutionArn")
		}
		if value != nil {
			e["headers"].(map[string]any)[spelling] = value
			e["multiValueHeaders"].(map[string]any)[spelling] = []any{value}
		}
	}
	here := func(format string) []check {
		return []check{status(http.StatusOK), logged(name), keeps("connectionId", connection), keeps("format", format), func(t *testing.T, _ invocation, c *cloud) {
			if c.attribute("connectedAt") == "" {
				t.Error("got no time in the item")
			}
		}}
	}
	refused403 := []check{status(http.StatusForbidden), keeps("connectionId", ""), calls("DynamoDB.UpdateItem")}
	given := func(what ...func(*cloud)) []func(*cloud) { return what }
	locked := having(map[string]any{"ticketHash": ticketHash})
	ended := having(map[string]any{"status": "DELIVERED"})
	waiting := having(map[string]any{"status": "READY", "taskToken": taskToken})
	delivery := func(input string) check {
		return calls("StepFunctions.StartExecution", map[string]string{"stateMachineArn": deliver, "input": `{"executionArn":"` + execution + `","connection":{"ID":"` + connection + `",` + input + "*"})
	}
	runAll(t, "on-connect", []run{
		{title: "header", sample: "on-connect", given: given(having(nil)), checks: here("")},
		{title: "header in lower case", sample: "on-connect", change: func(e map[string]any) { header(e, "x-statemachine-executionarn", execution) }, given: given(having(nil)),
			checks: here("")},
		{title: "query", sample: "on-connect-query", given: given(having(nil)), checks: here("json")},
		{title: "query from a page that is allowed", sample: "on-connect-query", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://app.example.com"}, given: given(having(nil)),
			checks: here("json")},
		{title: "query from a page that is not", sample: "on-connect-query", env: unlisted, given: given(having(nil)), checks: refused403},
		{title: "format in the header", sample: "on-connect", change: show("headers", "x-download-FORMAT", "json"), given: given(having(nil)),
			checks: here("json")},
		{title: "waiting", sample: "on-connect", given: given(waiting),
			checks: append(here(""), keeps("taskToken", ""), calls("StepFunctions.SendTaskSuccess", map[string]string{"taskToken": taskToken, "output": "{}"}))},
		{title: "delivered", sample: "on-connect", given: given(ended), checks: append(here(""), delivery(`"Format":""`))},
		{title: "item gone, object kept", sample: "on-connect-query", given: given(stored()),
			checks: []check{status(http.StatusOK), delivery(`"Format":"json","At":"`)}},
		{title: "ticket in the header", sample: "on-connect", change: show("headers", "x-Download-TICKET", ticket), given: given(locked), checks: here("")},
		{title: "ticket in the query", sample: "on-connect-query", change: show("queryStringParameters", "ticket", ticket), given: given(locked),
			checks: here("json")},
		{title: "no ticket", sample: "on-connect", given: given(locked), checks: refused403},
		{title: "no ticket given out, one required", sample: "on-connect", env: map[string]string{"REQUIRE_TICKET": "true"}, given: given(having(nil)),
			checks: refused403},
		{title: "no ARN", sample: "on-connect", change: func(e map[string]any) { header(e, "", nil) }, given: given(having(nil)), checks: refused403},
		{title: "ticket behind the ARN", sample: "on-connect", change: func(e map[string]any) {
			header(e, "X-StateMachine-ExecutionArn", execution+"&ticket="+ticket)
		}, given: given(locked), checks: append(refused403, logged("no such execution"))},
		{title: "table not readable", sample: "on-connect", given: given(failing("DynamoDB.GetItem", 9, refused("AccessDeniedException"))),
			checks: []check{status(http.StatusServiceUnavailable), logged("AccessDeniedException")}},
	})
}

func TestOnDisconnect(t *testing.T) {
	t.Parallel()
	runAll(t, "on-disconnect", []run{
		{title: "before the end", sample: "on-disconnect", given: []func(*cloud){connected(map[string]any{"taskToken": taskToken})},
			checks: []check{status(http.StatusOK), logged("disconnected"), keeps("connectionId", ""), keeps("taskToken", taskToken)}},
		{title: "after delivery", sample: "on-disconnect", given: []func(*cloud){connected(map[string]any{"status": "DELIVERED"})},
			checks: []check{status(http.StatusOK), keeps("executionArn", "")}},
		{title: "table not readable", sample: "on-disconnect", given: []func(*cloud){failing("DynamoDB.Query", 9, refused("AccessDeniedException"))},
			checks: []check{status(http.StatusInternalServerError), logged("AccessDeniedException")}},
	})
}

func TestMessage(t *testing.T) {
	t.Parallel()
	ok := status(http.StatusOK)
	runAll(t, "message", []run{
		{title: "ping", sample: "message-ping", given: []func(*cloud){connected(nil)}, checks: []check{ok, posted(), calls("DynamoDB.Query")}},
		{title: "cancel", sample: "message", given: []func(*cloud){connected(nil)},
			checks: []check{ok, logged(name), keeps("cancelled", "true"), posted()}},
		{title: "malformed, client with JSON", sample: "message-malformed", given: []func(*cloud){connected(map[string]any{"format": "json"})},
			checks: []check{ok, posted(connection + ` {"type":"error","code":"NOT_FOUND","message":"`)}},
		{title: "table not readable", sample: "message", given: []func(*cloud){connected(nil), failing("DynamoDB.UpdateItem", 9, refused("AccessDeniedException"))},
			checks: []check{status(http.StatusInternalServerError), logged("AccessDeniedException")}},
	})
}

func TestSendMessage(t *testing.T) {
	t.Parallel()
	given := func(what ...func(*cloud)) []func(*cloud) { return what }
	ready := func(more ...any) func(*cloud) {
		attributes := map[string]any{"status": "READY", "copiedAt": time.Now().UnixMilli()}
		for i := 0; i < len(more); i += 2 {
			attributes[more[i].(string)] = more[i+1]
		}
		return connected(attributes)
	}
	ok := []check{taskResult("{}"), logged(name)}
	delivered := func(more ...check) []check { return append(append(more, ok...), keeps("status", "DELIVERED")) }
	notFound := map[string]any{"code": "ORIGIN_STATUS", "message": "the origin answered 404 Not Found"}
	forbidden := answer{status: http.StatusForbidden, header: map[string]string{"X-Amzn-Errortype": "ForbiddenException"}, body: "{}"}
	runAll(t, "send-message", []run{
		{title: "ready", sample: "send-message", given: given(ready(), stored()),
			checks: delivered(counted("Delivered", "WaitSeconds"), func(t *testing.T, _ invocation, c *cloud) {
				text, _ := strings.CutPrefix(strings.Join(c.posts(), "\n"), connection+" ")
				link(t, text, nil)
			})},
		{title: "ready, client with JSON", sample: "send-message", given: given(ready("format", "json", "bytesCopied", 1048576, "bytesTotal", 1048576), stored()),
			checks: delivered(posted(connection+` {"type":"progress","bytesCopied":1048576,"bytesTotal":1048576}`, connection+` {"type":"ready","url":"http`))},
		{title: "ready, client gone", sample: "send-message", given: given(ready(), stored(), gone),
			checks: []check{taskError("ConnectionGone", ""), keeps("connectionId", ""), keeps("status", "READY"), counted("Gone")}},
		{title: "ready, handshake open", sample: "send-message", given: given(ready("connectedAt", time.Now().Add(time.Hour).UnixMilli()), stored(), gone),
			checks: []check{taskError("ConnectionOpening", "")}},
		{title: "failed", sample: "send-message", given: given(connected(map[string]any{"status": "FAILED", "failure": notFound})),
			checks: append(ok, posted(connection+" error: ORIGIN_STATUS the origin answered 404 Not Found"), counted())},
		{title: "cancelled, not yet ended", sample: "send-message", given: given(ready("cancelled", true)),
			checks: []check{taskError("CANCELLED", "the download was cancelled"), posted()}},
		{title: "item gone, client known", sample: "send-message-connection", given: given(stored()),
			checks: append(ok, posted(connection+` {"type":"ready","url":"`), counted())},
		{title: "table not readable", sample: "send-message", given: given(failing("DynamoDB.GetItem", 9, refused("AccessDeniedException"))),
			checks: []check{taskError("INTERNAL", "unexpected"), logged("AccessDeniedException"), hidden("AccessDenied")}},
		{title: "bucket closed", sample: "send-message", given: given(ready(), stored(), failing("S3.HeadObject", 9, answer{status: http.StatusForbidden})),
			checks: delivered(posted(connection + " error: EXPIRED "))}, // S3 answers 403 for a missing object, too
		{title: "signer's role closed", sample: "send-message", given: given(ready(), stored(), failing("STS.AssumeRole", 9, answer{
			status: http.StatusForbidden, header: map[string]string{"Content-Type": "text/xml"},
			body: `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`,
		})), checks: []check{taskError("INTERNAL", ""), logged("assume signing role"), posted()}},
		{title: "post refused", sample: "send-message", given: given(ready(), stored(), failing("Connections.Post", 9, forbidden)),
			checks: []check{taskError("INTERNAL", ""), logged("ForbiddenException")}},
	})
}
