package functions_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"async-download/internal/meeting/dynamodbtest"
)

// created returns the item of the download that a request has started.
func created(t *testing.T, c *cloud) dynamodbtest.Item {
	t.Helper()
	for key, item := range c.table.Items {
		if !strings.HasSuffix(key, "#request") {
			return item
		}
	}
	t.Fatal("got no item")
	return nil
}

func TestDownload(t *testing.T) {
	t.Parallel()
	resource := func(path string) func(map[string]any) {
		return func(e map[string]any) { e["httpMethod"], e["resource"], e["path"] = http.MethodGet, path, path }
	}
	secret := func(e map[string]any) {
		e["queryStringParameters"].(map[string]any)["key"] = querySecret
		e["multiValueQueryStringParameters"].(map[string]any)["key"] = []string{querySecret}
		e["requestContext"].(map[string]any)["authorizer"] = map[string]any{"principalId": "ana"}
	}
	// accepted expects the start of a download; api and webSocket are the base URLs in the answer.
	accepted := func(api, webSocket string) check {
		return func(t *testing.T, got invocation, c *cloud) {
			t.Helper()
			a := proxyAnswer(t, got)
			restHeaders(t, a)
			body := bodyOf(t, a, "executionArn", "webSocketEndpoint", "webSocketUrl", "statusUrl")
			arn, _ := body["executionArn"].(string)
			n, ours := strings.CutPrefix(arn, strings.TrimSuffix(execution, name))
			if a.StatusCode != http.StatusOK || !ours || len(n) != 32 {
				t.Errorf("got %d %s, want 200 and an ARN with 32 digits", a.StatusCode, arn)
			}
			for member, want := range map[string]string{
				"webSocketEndpoint": webSocket, "webSocketUrl": webSocket + "?executionArn=" + url.QueryEscape(arn), "statusUrl": api + "/executions/" + n,
			} {
				if body[member] != want {
					t.Errorf("got %s %q, want %q", member, body[member], want)
				}
			}
			for attribute, want := range map[string]string{
				"executionArn": arn, "status": "COPYING", "path": "reports/2025/Q3%20summary.pdf", "askedBy": "203.0.113.25 ana",
				"query": "columns=name&columns=sum%20%26%20tax&" + originQuery + "&lang=de",
			} {
				if got := created(t, c)[attribute]["S"]; got != want {
					t.Errorf("item: got %s %q, want %q", attribute, got, want)
				}
			}
			calls("StepFunctions.StartExecution", map[string]string{
				"stateMachineArn": machine, "name": n, "input": `{"clientTimeoutSeconds":3600,"maxConcurrentSegments":40}`,
			})(t, got, c)
			logged(n)(t, got, c)
			counted("Started")(t, got, c)
		}
	}
	posting := map[string]string{"ALLOWED_METHODS": "GET,POST", "API_AUTH": "JWT", "FORWARDED_HEADERS": "Authorization,accept-language,X-Caller", "CALLER_HEADER": "X-Caller"}
	withSecrets := func(e map[string]any) {
		e["multiValueHeaders"].(map[string]any)["Authorization"] = []string{querySecret}
		e["body"] = querySecret
	}
	// sentOn expects what the sample sends to the origin, and that only the request item has it.
	sentOn := func(t *testing.T, _ invocation, c *cloud) {
		item := created(t, c)
		arn, _ := item["executionArn"]["S"].(string)
		request := c.table.Get(arn + "#request")
		for name, want := range map[string]dynamodbtest.Value{
			"method": encode("POST"), "contentType": encode("application/json"), "body": {"B": base64.StdEncoding.EncodeToString([]byte(querySecret))},
			"header": encode(map[string]any{"Authorization": querySecret, "Accept-Language": "de", "X-Caller": "user-0123"}),
		} {
			if !dynamodbtest.Equal(request[name], want) {
				t.Errorf("request item: got %s %v, want %v", name, request[name], want)
			}
		}
		noSecrets(t, "item", asJSON(item))
		noSecrets(t, "input", asJSON(c.made("StepFunctions.StartExecution")[0].params))
	}
	const restAPI, webSocketAPI = "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/dev", "wss://f6g7h8i9j0.execute-api.us-east-1.amazonaws.com/dev"

	runs := []run{
		{title: "on AWS", sample: "download", change: secret, env: map[string]string{"WEBSOCKET_API": "https" + strings.TrimPrefix(webSocketAPI, "wss")},
			checks: []check{accepted(restAPI, webSocketAPI)}},
		{title: "on the local stack", sample: "download", change: secret, env: map[string]string{
			"LOCAL_ENDPOINT": "http://127.0.0.1:4566", "WEBSOCKET_API": "http://127.0.0.1:4566/_aws/execute-api/f6g7h8i9j0/dev",
		}, checks: []check{accepted("http://127.0.0.1:4566/_aws/execute-api/a1b2c3d4e5/dev", "ws://127.0.0.1:4566/_aws/execute-api/f6g7h8i9j0/dev")}},
		{title: "base", sample: "download-base",
			checks: []check{status(http.StatusOK), calls("DynamoDB.PutItem", nil), calls("DynamoDB.TransactWriteItems"), func(t *testing.T, _ invocation, c *cloud) {
				if i := created(t, c); i["path"]["S"] != "" || i["query"]["S"] != "" {
					t.Errorf("got item %v, want neither path nor query", i)
				}
			}}},
		{title: "with a ticket", sample: "download-base", env: map[string]string{"REQUIRE_TICKET": "true"},
			checks: []check{func(t *testing.T, got invocation, c *cloud) {
				secret, _ := bodyOf(t, proxyAnswer(t, got), "executionArn", "webSocketEndpoint", "webSocketUrl", "statusUrl", "ticket")["ticket"].(string)
				hash, _ := created(t, c)["ticketHash"]["S"].(string)
				if sum := sha256.Sum256([]byte(secret)); len(secret) != 32 || hex.EncodeToString(sum[:]) != hash {
					t.Errorf("got ticket %q and hash %q in the item, want the one of the other", secret, hash)
				}
				if strings.Contains(got.logs, secret) || strings.Contains(got.logs, hash) {
					t.Errorf("got the ticket in the log:\n%s", got.logs)
				}
			}}},
		{title: "with a key", sample: "download-base", change: show("headers", "idempotency-key", "5f0c3b1e-9a7d-4c62-88e1-f2a3b4c5d6e7"),
			checks: []check{status(http.StatusOK),
				func(t *testing.T, _ invocation, c *cloud) {
					if created(t, c)["requestHash"]["S"] == nil {
						t.Error("got no hash of the request in the item")
					}
				}}},
		{title: "respond-async", sample: "download-base", change: func(e map[string]any) { e["multiValueHeaders"].(map[string]any)["Prefer"] = []any{"respond-async"} },
			checks: []check{status(http.StatusAccepted, `"statusUrl"`), func(t *testing.T, got invocation, _ *cloud) {
				if h := proxyAnswer(t, got).Headers; !strings.HasPrefix(h["Location"], restAPI+"/executions/") || h["Retry-After"] == "" || h["Preference-Applied"] != "respond-async" {
					t.Errorf("got headers %v, want Location, Retry-After and the preference", h)
				}
			}}},
		{title: "wait=0", sample: "download-base", change: func(e map[string]any) { e["multiValueHeaders"].(map[string]any)["Prefer"] = []any{"wait=0"} },
			checks: []check{status(http.StatusServiceUnavailable, `"NOT_READY"`, `"statusUrl"`), replies("Preference-Applied", "wait=0")}},
		{title: "preflight", sample: "download-preflight", env: posting, checks: []check{empty(http.StatusNoContent),
			replies("Access-Control-Allow-Methods", "GET, POST, HEAD, OPTIONS"), replies("Access-Control-Allow-Headers", "*, X-Download-Ticket, Content-Type, Authorization, accept-language, X-Caller")}},
		{title: "from another site's page", sample: "download", env: unlisted, change: show("headers", "sec-fetch-site", "cross-site"),
			checks: []check{foreign, calls("DynamoDB.PutItem")}},
		{title: "page", sample: "download-preflight", change: resource("/"), env: map[string]string{"API_AUTH": "JWT"},
			checks: []check{status(http.StatusOK, "<!doctype html>", `data-auth="JWT"`)}},
		{title: "page, HEAD", sample: "download-preflight", change: func(e map[string]any) { resource("/")(e); e["httpMethod"] = "HEAD" },
			checks: []check{empty(http.StatusOK)}},
		{title: "page, POST", sample: "download-post", change: func(e map[string]any) { resource("/")(e); e["httpMethod"] = "POST" }, env: posting,
			checks: []check{refusal(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED"), replies("Allow", "GET, HEAD")}},
		{title: "client.js for a page that is allowed", sample: "download-preflight", change: resource("/client.js"), env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://app.example.com"},
			checks: []check{status(http.StatusOK, "export async function download("), replies("Access-Control-Allow-Origin", "https://app.example.com")}},
		{title: "HEAD starts nothing", sample: "download", change: func(e map[string]any) { e["httpMethod"] = "HEAD" },
			checks: []check{empty(http.StatusOK), calls("StepFunctions.StartExecution")}},
		{title: "a method that is not allowed", sample: "download", change: func(e map[string]any) { e["httpMethod"] = "PUT" },
			checks: []check{refusal(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED"), replies("Allow", "GET, HEAD, OPTIONS")}},
		{title: "a path outside of the base", sample: "download", change: func(e map[string]any) {
			secret(e)
			e["path"], e["requestContext"].(map[string]any)["path"] = "/download/%2e%2e/admin", "/dev/download/%2e%2e/admin"
		}, checks: []check{refusal(http.StatusBadRequest, "INVALID_PATH")}},
		{title: "a path that is not allowed", sample: "download", change: secret, env: map[string]string{"ALLOWED_PATHS": "public/,images/"},
			checks: []check{refusal(http.StatusBadRequest, "INVALID_PATH")}},
		{title: "a query with a name of OriginUrl's", sample: "download", change: func(e map[string]any) { e["multiValueQueryStringParameters"] = map[string][]string{"Base": {"1"}} },
			checks: []check{refusal(http.StatusBadRequest, "INVALID_PATH")}},
		{title: "POST", sample: "download-post", change: withSecrets, env: posting,
			checks: []check{status(http.StatusAccepted, `"statusUrl"`), hidden(querySecret), counted("Started"), sentOn}},
		{title: "item not written", sample: "download", change: secret, given: []func(*cloud){failing("DynamoDB.PutItem", 9, refused("ResourceNotFoundException"))},
			checks: []check{refusal(http.StatusInternalServerError, "INTERNAL"), hidden("reason why"), logged("ResourceNotFoundException"), counted()}},
	}
	runAll(t, "download", runs)
}

// foreign expects the refusal of a page of another site, which can't read it either.
func foreign(t *testing.T, got invocation, _ *cloud) {
	t.Helper()
	a := proxyAnswer(t, got)
	if _, allowed := a.Headers["Access-Control-Allow-Origin"]; a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, `"ACCESS_DENIED"`) || allowed {
		t.Errorf("got %d %v %s, want 403 ACCESS_DENIED that no page can read", a.StatusCode, a.Headers, a.Body)
	}
}

func TestExecutions(t *testing.T) {
	t.Parallel()
	ready := func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		a := proxyAnswer(t, got)
		restHeaders(t, a)
		body := bodyOf(t, a, "status", "bytesCopied", "bytesTotal", "url", "expiresAt", "size", "contentType", "fileName", "checksum", "verified", "pinned")
		if a.StatusCode != http.StatusOK || body["status"] != "READY" || body["size"] != 1048576.0 || body["fileName"] != "Q3 summary.pdf" ||
			body["contentType"] != "application/pdf" || body["verified"] != true {
			t.Errorf("got %d %s, want 200 and the file as it lies in S3", a.StatusCode, a.Body)
		}
		link(t, body["url"], body["expiresAt"])
	}
	exactly := func(want string, retry bool) check {
		return func(t *testing.T, got invocation, _ *cloud) {
			t.Helper()
			a := proxyAnswer(t, got)
			restHeaders(t, a)
			if a.StatusCode != http.StatusOK || a.Body != want || (a.Headers["Retry-After"] != "") != retry {
				t.Errorf("got %d %s %v, want 200 %s, with Retry-After %v", a.StatusCode, a.Body, a.Headers, want, retry)
			}
		}
	}
	locked := having(map[string]any{"ticketHash": ticketHash})
	assumed := calls("STS.AssumeRole", map[string]string{"RoleArn": signerRole, "RoleSessionName": "links", "DurationSeconds": "3600"})
	file := func(e map[string]any) { e["resource"] = "/executions/{name}/file" }
	runAll(t, "executions", []run{
		{title: "copying", sample: "executions", given: []func(*cloud){having(map[string]any{"bytesCopied": 4096, "bytesTotal": 8192, "taskToken": taskToken})},
			checks: []check{exactly(`{"status":"COPYING","bytesCopied":4096,"bytesTotal":8192}`, true), logged(name)}},
		{title: "failed", sample: "executions", given: []func(*cloud){having(map[string]any{"status": "FAILED", "failure": map[string]any{"code": "ORIGIN_STATUS", "message": "the origin answered 404 Not Found"}})},
			checks: []check{exactly(`{"status":"FAILED","bytesCopied":0,"bytesTotal":null,"error":{"code":"ORIGIN_STATUS","message":"the origin answered 404 Not Found"}}`, false)}},
		{title: "ready and waiting", sample: "executions", given: []func(*cloud){having(map[string]any{"status": "READY", "taskToken": taskToken, "copiedAt": time.Now().UnixMilli()}), stored()},
			checks: []check{ready, assumed, keeps("connectionId", "request"), keeps("taskToken", ""),
				calls("StepFunctions.SendTaskSuccess", map[string]string{"taskToken": taskToken, "output": "{}"}), counted("Delivered", "WaitSeconds")}},
		{title: "delivered and gone", sample: "executions", given: []func(*cloud){stored()}, checks: []check{ready, counted()}},
		{title: "file", sample: "executions", change: file, given: []func(*cloud){having(map[string]any{"status": "DELIVERED"}), stored()},
			checks: []check{status(http.StatusSeeOther),
				func(t *testing.T, got invocation, _ *cloud) { link(t, proxyAnswer(t, got).Headers["Location"], nil) }}},
		{title: "file, copying", sample: "executions", change: file, given: []func(*cloud){having(nil)},
			checks: []check{refusal(http.StatusServiceUnavailable, "NOT_READY")}},
		{title: "file, another method", sample: "executions-delete", change: file,
			checks: []check{refusal(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")}},
		{title: "ticket in the header", sample: "executions", change: show("headers", "x-download-ticket", ticket), given: []func(*cloud){locked},
			checks: []check{status(http.StatusOK, "COPYING")}},
		{title: "ticket in the query", sample: "executions", change: show("queryStringParameters", "ticket", ticket), given: []func(*cloud){locked},
			checks: []check{status(http.StatusOK, "COPYING")}},
		{title: "ticket for the object", sample: "executions", change: show("headers", "X-Download-Ticket", ticket), given: []func(*cloud){stored("X-Amz-Meta-Ticket-Hash: " + ticketHash)},
			checks: []check{ready}},
		{title: "no ticket for the object", sample: "executions", given: []func(*cloud){stored("X-Amz-Meta-Ticket-Hash: " + ticketHash)},
			checks: []check{refusal(http.StatusNotFound, "NOT_FOUND")}},
		{title: "no ticket given out, one required", sample: "executions", env: map[string]string{"REQUIRE_TICKET": "true"}, given: []func(*cloud){having(nil)},
			checks: []check{refusal(http.StatusNotFound, "NOT_FOUND")}},
		{title: "no name", sample: "executions", change: func(e map[string]any) { e["pathParameters"].(map[string]any)["name"] = "../" + name },
			checks: []check{refusal(http.StatusNotFound, "NOT_FOUND")}},
		{title: "ticket behind the name", sample: "executions", change: show("pathParameters", "name", name+"&ticket="+ticket), given: []func(*cloud){locked},
			checks: []check{refusal(http.StatusNotFound, "NOT_FOUND"), logged("32 hexadecimal digits")}},
		{title: "table not readable", sample: "executions", given: []func(*cloud){failing("DynamoDB.GetItem", 9, refused("AccessDeniedException"))},
			checks: []check{refusal(http.StatusInternalServerError, "INTERNAL"), hidden("reason why"), logged("AccessDeniedException")}},
		{title: "cancel", sample: "executions-delete", given: []func(*cloud){having(nil)},
			checks: []check{status(http.StatusAccepted, `"status":"CANCELLED"`), keeps("cancelled", "true")}},
		{title: "cancel from a page that is not allowed", sample: "executions-delete", env: unlisted, change: show("headers", "Origin", "https://app.example.com"), given: []func(*cloud){having(nil)},
			checks: []check{foreign, keeps("cancelled", "")}},
		{title: "delete", sample: "executions-delete", given: []func(*cloud){stored()},
			checks: []check{status(http.StatusOK, `{"status":"DELETED"}`), func(t *testing.T, _ invocation, c *cloud) {
				if c.s3.Object(key) != nil {
					t.Error("got the file, want it deleted")
				}
			}}},
		{title: "preflight", sample: "executions-preflight", env: map[string]string{"FORWARDED_HEADERS": "X-Tenant"},
			checks: []check{empty(http.StatusNoContent),
				replies("Access-Control-Allow-Methods", "GET, DELETE, OPTIONS"), replies("Access-Control-Allow-Headers", "*, X-Download-Ticket, X-Tenant")}},
	})
}
