package events_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"async-download/internal/start/starttest"
)

const (
	machine    = "arn:aws:states:us-east-1:123456789012:stateMachine:download-DownloadStateMachine-k3Vd7QxWmR2p"
	deliver    = "arn:aws:states:us-east-1:123456789012:stateMachine:download-DeliverStateMachine-b8Nf4TzYcL6s"
	name       = "5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7"
	execution  = "arn:aws:states:us-east-1:123456789012:execution:download-DownloadStateMachine-k3Vd7QxWmR2p:" + name
	connection = "Nx4cYfKXoAMCKiw="
	key        = "downloads/" + name

	// Secrets that must never be in a log. The query is in all items of the fakes, the
	// token in those of a wait, and the base's query in ORIGIN_URL.
	taskToken   = "AQCEAAAAKgAAAAMAAAAAAAAAAeplanted-task-token"
	querySecret = "planted-query-secret"
	originQuery = "key=" + querySecret
	baseSecret  = "planted-base-secret"
	baseQuery   = "base=" + baseSecret

	ticket     = "00112233445566778899aabbccddeeff"
	ticketHash = "5947d7c33d783f94b3b4c1a96ebc8991ed28f1b069b71e03376cba8caa98a720" // its SHA-256
)

// planted has the strings that no log and no error report may contain: a token, a
// query, the signature of a link, credentials.
var planted = []string{taskToken, querySecret, baseSecret, ticket, ticketHash, "X-Amz-Signature", "X-Amz-Security-Token", signerSession, "signer-secret", functionSession, "function-secret"}

// run is a run of a function's binary with a sample.
type run struct {
	title  string
	sample string               // events/event-<sample>.json
	change func(map[string]any) // changes the sample; may be nil
	env    map[string]string    // overrides the usual variables
	calls  []call               // all calls to AWS, in order
	// repeats are further calls that may be made any number of times.
	repeats []call
	s3      *store // nil if calls has the calls to S3
	check   func(*testing.T, invocation)
}

// environment returns the variables that the template sets for a function.
func environment(t *testing.T, function, endpoint string) map[string]string {
	t.Helper()
	values := map[string]string{
		"CONNECTIONS_TABLE":         table,
		"STATE_MACHINE_ARN":         machine,
		"DELIVER_STATE_MACHINE_ARN": deliver,
		"BUCKET":                    bucket,
		"SIGNER_ROLE_ARN":           signerRole,
		"WEBSOCKET_API":             endpoint + "/dev",
		"ORIGIN_URL":                "https://origin.example/files?" + baseQuery,
		"FETCH_CONCURRENCY":         "1000000",
		"ALLOWED_WEB_ORIGINS":       "*",
		"LINK_EXPIRY_SECONDS":       "600",  // in a call
		"CLIENT_TIMEOUT_SECONDS":    "3600", // in the input, as the next
		"MAX_CONCURRENT_SEGMENTS":   "40",
		"SEGMENT_BYTES":             "4294967296",
		"STACK_NAME":                "download",
		"JWT_ISSUER":                "https://issuer.example",
		"JWT_AUDIENCE":              "files",
	}
	env := map[string]string{"AWS_ENDPOINT_URL": endpoint}
	for name, byDefault := range starttest.Variables(t, function) {
		value, known := values[name]
		if !known && byDefault == nil {
			t.Errorf("no value for %s of %s", name, function)
		} else if !known {
			value = *byDefault
		}
		env[name] = value
	}
	return env
}

func sample(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("event-" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func runAll(t *testing.T, function string, runs []run) {
	for _, r := range runs {
		t.Run(r.title, func(t *testing.T) {
			t.Parallel()
			if function != functionOf(t, r.sample) {
				t.Errorf("got sample %s of %s", r.sample, function)
			}
			event := sample(t, r.sample)
			if r.change != nil {
				var e map[string]any
				if err := json.Unmarshal(event, &e); err != nil {
					t.Fatal(err)
				}
				r.change(e)
				event = []byte(asJSON(e))
			}
			var fake *aws
			var got invocation
			for try := 1; ; try++ {
				fake = newAWS(t, r.calls, r.repeats, r.s3)
				env := environment(t, function, fake.URL)
				maps.Copy(env, r.env)
				got = invoke(t, function, env, event, time.Minute)
				// A delivery gives up after 3 s, which is too soon on a slow machine.
				if got.errorType != "ConnectionOpening" || fake.left() == 0 || try == 3 {
					break
				}
			}
			fake.finish()
			noSecrets(t, "log", got.logs)
			if got.errorType != "" {
				noSecrets(t, "error", string(got.body))
			}
			r.check(t, got)
			if t.Failed() {
				t.Logf("answer: %s\nlogs:\n%s", got.body, got.logs)
			}
		})
	}
}

func noSecrets(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range planted {
		for _, form := range []string{secret, url.QueryEscape(secret)} {
			if strings.Contains(text, form) {
				t.Errorf("got %s in the %s:\n%s", secret, where, text)
			}
		}
	}
}

// functionOf returns the function whose name is a prefix of the sample's.
func functionOf(t *testing.T, sample string) string {
	t.Helper()
	for _, f := range functions(t) {
		if sample == f || strings.HasPrefix(sample, f+"-") {
			return f
		}
	}
	t.Fatalf("got sample %s, want the name of a function first", sample)
	return ""
}

// Checks of answers.

// status expects a proxy answer with this status, headers, and, if want is not "", a
// body that contains it.
func status(want int, contains ...string) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		a := proxyAnswer(t, got)
		if a.StatusCode != want {
			t.Errorf("got status %d, want %d", a.StatusCode, want)
		}
		for _, c := range contains {
			if !strings.Contains(a.Body, c) {
				t.Errorf("got body %s, want %s in it", a.Body, c)
			}
		}
	}
}

type proxy struct {
	StatusCode int
	Headers    map[string]string
	Body       string
}

func proxyAnswer(t *testing.T, got invocation) proxy {
	t.Helper()
	if got.errorType != "" {
		t.Fatalf("got error %s %s, want an answer", got.errorType, got.errorMessage)
	}
	var a proxy
	if err := json.Unmarshal(got.body, &a); err != nil {
		t.Fatalf("got %s, want a proxy answer: %v", got.body, err)
	}
	return a
}

// bodyOf decodes an answer's body and expects exactly these members.
func bodyOf(t *testing.T, a proxy, members ...string) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		t.Fatalf("got body %s, want JSON: %v", a.Body, err)
	}
	slices.Sort(members)
	if got := slices.Sorted(maps.Keys(body)); !slices.Equal(got, members) {
		t.Errorf("got members %v, want %v", got, members)
	}
	return body
}

// refusal expects {"error": {"code", "message"}}.
func refusal(wantStatus int, wantCode string) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		a := proxyAnswer(t, got)
		e, _ := bodyOf(t, a, "error")["error"].(map[string]any)
		if a.StatusCode != wantStatus || e["code"] != wantCode || e["message"] == "" || len(e) != 2 {
			t.Errorf("got %d %s, want %d and code %s with a message", a.StatusCode, a.Body, wantStatus, wantCode)
		}
		restHeaders(t, a)
	}
}

// restHeaders are the headers of every answer with a body.
func restHeaders(t *testing.T, a proxy) {
	t.Helper()
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"} {
		if got := a.Headers[name]; got != want {
			t.Errorf("got %s %q, want %q", name, got, want)
		}
	}
}

// taskError expects an error with this name, which Retry and Catch match.
func taskError(want string, message string) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		if got.errorType != want || !strings.Contains(got.errorMessage, message) {
			t.Errorf("got error %q %q, want %q with %q", got.errorType, got.errorMessage, want, message)
		}
	}
}

// taskResult expects this JSON.
func taskResult(want string) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		if got.errorType != "" || string(got.body) != want {
			t.Errorf("got %s, want %s", got.body, want)
		}
	}
}

func both(checks ...func(*testing.T, invocation)) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		for _, c := range checks {
			c(t, got)
		}
	}
}

// logged expects a text in the log. Without it, the search for secrets would also
// succeed for an empty log.
func logged(want string) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		if !strings.Contains(got.logs, want) {
			t.Errorf("got log\n%s\nwant %q in it", got.logs, want)
		}
	}
}

// Contents of the fakes.

// stored returns an item as the download function writes it, with further
// attributes.
func stored(more map[string]any) map[string]any {
	all := map[string]any{
		"executionArn": execution, "status": "COPYING", "path": "reports/2025/Q3%20summary.pdf", "query": originQuery,
		"bytesCopied": 0, "expiresAt": time.Now().Add(48 * time.Hour).Unix(),
	}
	maps.Copy(all, more)
	return all
}

// connected adds a client that has been connected for a while.
func connected(more map[string]any) map[string]any {
	all := map[string]any{"connectionId": connection, "connectedAt": time.Now().Add(-time.Minute).UnixMilli(), "format": ""}
	maps.Copy(all, more)
	return all
}

var theItem = map[string]string{"TableName": table, "Key.executionArn.S": execution}

func with(more map[string]string) map[string]string {
	all := maps.Clone(theItem)
	maps.Copy(all, more)
	return all
}

func TestDownload(t *testing.T) {
	t.Parallel()
	get := func(resource string) func(map[string]any) {
		return func(e map[string]any) { e["httpMethod"], e["resource"], e["path"] = http.MethodGet, resource, resource }
	}
	secret := func(e map[string]any) {
		e["queryStringParameters"].(map[string]any)["key"] = querySecret
		e["multiValueQueryStringParameters"].(map[string]any)["key"] = []string{querySecret}
	}
	put := call{op: "DynamoDB.PutItem", with: map[string]string{
		"TableName": table, "ConditionExpression": "attribute_not_exists(executionArn)",
		"Item.executionArn.S": "~" + strings.TrimSuffix(execution, name), "Item.status.S": "COPYING",
		"Item.path.S":    "reports/2025/Q3%20summary.pdf",
		"Item.query.S":   "columns=name&columns=sum%20%26%20tax&" + originQuery + "&lang=de",
		"Item.expiresAt": "*", "Item.bytesCopied.N": "0",
	}, answer: empty}
	start := call{op: "StepFunctions.StartExecution", with: map[string]string{
		"stateMachineArn": machine, "name": "*", "input": `{"clientTimeoutSeconds":3600,"maxConcurrentSegments":40}`,
	}, answer: started(execution)}
	withAnswer := func(c call, a answer) call { c.answer = a; return c }

	// accepted checks the answer to a start; api and webSocket are the base URLs in it.
	accepted := func(api, webSocket string) func(*testing.T, invocation) {
		return func(t *testing.T, got invocation) {
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
			logged(n)(t, got)
		}
	}
	const restAPI, webSocketAPI = "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/dev", "wss://f6g7h8i9j0.execute-api.us-east-1.amazonaws.com/dev"
	onAWS := map[string]string{"WEBSOCKET_API": "https" + strings.TrimPrefix(webSocketAPI, "wss")}

	var hash string // of the ticket in the answer
	runs := []run{
		{title: "path and query", sample: "download", change: secret, env: onAWS, calls: []call{put, start}, check: accepted(restAPI, webSocketAPI)},
		{title: "base", sample: "download-base", env: onAWS, calls: []call{
			{op: "DynamoDB.PutItem", with: map[string]string{"Item.path.S": "", "Item.query.S": ""}, answer: empty}, start,
		}, check: accepted(restAPI, webSocketAPI)},
		{title: "custom domain", sample: "download-base", env: onAWS, change: func(e map[string]any) {
			c := e["requestContext"].(map[string]any)
			c["domainName"], c["path"], e["path"] = "files.example.com", "/v1/download", "/v1/download"
		}, calls: []call{
			{op: "DynamoDB.PutItem", with: map[string]string{"Item.path.S": ""}, answer: empty}, start,
		}, check: accepted("https://files.example.com/v1", webSocketAPI)},
		{title: "custom domain with a base path that begins alike", sample: "download-base", env: onAWS, change: func(e map[string]any) {
			c := e["requestContext"].(map[string]any)
			c["domainName"], c["path"], e["path"] = "files.example.com", "/downloads/download/a/download/b", "/downloads/download/a/download/b"
		}, calls: []call{
			{op: "DynamoDB.PutItem", with: map[string]string{"Item.path.S": "a/download/b"}, answer: empty}, start,
		}, check: accepted("https://files.example.com/downloads", webSocketAPI)},
		{title: "custom domain with the base path download", sample: "download-base", env: onAWS, change: func(e map[string]any) {
			c := e["requestContext"].(map[string]any)
			c["domainName"], c["path"], e["path"] = "files.example.com", "/download/download/a%20b", "/download/download/a%20b"
			e["pathParameters"] = map[string]any{"path": "a b"}
		}, calls: []call{
			{op: "DynamoDB.PutItem", with: map[string]string{"Item.path.S": "a%20b"}, answer: empty}, start,
		}, check: accepted("https://files.example.com/download", webSocketAPI)},
		{title: "a stage called download", sample: "download-base", env: onAWS, change: func(e map[string]any) {
			c := e["requestContext"].(map[string]any)
			c["stage"], c["path"], e["path"] = "download", "/download/download/a", "/download/a"
		}, calls: []call{
			{op: "DynamoDB.PutItem", with: map[string]string{"Item.path.S": "a"}, answer: empty}, start,
		}, check: accepted(strings.TrimSuffix(restAPI, "dev")+"download", webSocketAPI)},
		{title: "local stack", sample: "download", change: secret, env: map[string]string{
			"LOCAL_ENDPOINT": "http://127.0.0.1:4566", "WEBSOCKET_API": "http://127.0.0.1:4566/_aws/execute-api/f6g7h8i9j0/dev",
		}, calls: []call{put, start}, check: accepted("http://127.0.0.1:4566/_aws/execute-api/a1b2c3d4e5/dev", "ws://127.0.0.1:4566/_aws/execute-api/f6g7h8i9j0/dev")},
		{title: "with a ticket", sample: "download-base", env: map[string]string{"REQUIRE_TICKET": "true"}, calls: []call{
			{op: "DynamoDB.PutItem", with: map[string]string{"Item.ticketHash.S": "*"}, answer: empty, then: func(params map[string]any) { hash, _ = at(params, "Item.ticketHash.S") }}, start,
		}, check: func(t *testing.T, got invocation) {
			secret, _ := bodyOf(t, proxyAnswer(t, got), "executionArn", "webSocketEndpoint", "webSocketUrl", "statusUrl", "ticket")["ticket"].(string)
			if sum := sha256.Sum256([]byte(secret)); len(secret) != 32 || hex.EncodeToString(sum[:]) != hash {
				t.Errorf("got ticket %q and hash %q in the item, want the one of the other", secret, hash)
			}
			if strings.Contains(got.logs, secret) || strings.Contains(got.logs, hash) {
				t.Errorf("got the ticket in the log:\n%s", got.logs)
			}
		}},
		{title: "preflight", sample: "download-preflight", check: func(t *testing.T, got invocation) {
			a := proxyAnswer(t, got)
			if a.StatusCode != http.StatusNoContent || a.Body != "" || !strings.Contains(a.Headers["Access-Control-Allow-Methods"], "GET") {
				t.Errorf("got %d %q %v, want 204 that allows GET", a.StatusCode, a.Body, a.Headers)
			}
			if got := a.Headers["Access-Control-Allow-Origin"]; got != "*" {
				t.Errorf("got allowed origin %q, want *", got)
			}
		}},
		{title: "from a page that is not allowed", sample: "download", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://other.example.com"},
			change: show("headers", "Origin", "https://app.example.com"), check: foreign},
		{title: "from an image in another site's page", sample: "download", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://other.example.com"},
			change: show("headers", "sec-fetch-site", "cross-site"), check: foreign},
		{title: "preflight from a page that is not allowed", sample: "download-preflight", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://other.example.com"},
			check: func(t *testing.T, got invocation) {
				if o, there := proxyAnswer(t, got).Headers["Access-Control-Allow-Origin"]; there {
					t.Errorf("got allowed origin %q, want none", o)
				}
			}},
		{title: "preflight from a page that is allowed", sample: "download-preflight", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://other.example.com,https://app.example.com"},
			check: func(t *testing.T, got invocation) {
				if got, want := proxyAnswer(t, got).Headers["Access-Control-Allow-Origin"], "https://app.example.com"; got != want {
					t.Errorf("got allowed origin %q, want %q", got, want)
				}
			}},
		{title: "page", sample: "download-preflight", change: get("/"), env: map[string]string{"API_AUTH": "JWT"}, check: func(t *testing.T, got invocation) {
			a := proxyAnswer(t, got)
			if a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Body, "<!doctype html>") || !strings.Contains(a.Body, `data-auth="JWT"`) {
				t.Errorf("got %d %.200q, want the page for JWT", a.StatusCode, a.Body)
			}
		}},
		{title: "client.js for a page that is allowed", sample: "download-preflight", change: get("/client.js"), env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://app.example.com"}, check: func(t *testing.T, got invocation) {
			a := proxyAnswer(t, got)
			if a.StatusCode != http.StatusOK || !strings.Contains(a.Body, "export async function download(") || a.Headers["Access-Control-Allow-Origin"] != "https://app.example.com" {
				t.Errorf("got %d %.200q %v, want the module", a.StatusCode, a.Body, a.Headers)
			}
		}},
		{title: "item not written", sample: "download", change: secret, calls: []call{withAnswer(put, dynamoError("ResourceNotFoundException"))},
			check: both(refusal(http.StatusInternalServerError, "INTERNAL"), func(t *testing.T, got invocation) {
				if strings.Contains(string(got.body), "reason why") {
					t.Errorf("got the cause in the answer: %s", got.body)
				}
			}, logged("ResourceNotFoundException"))},
		{title: "started by a call whose reply was lost, and ended", sample: "download", change: secret, env: onAWS,
			calls: []call{put, withAnswer(start, statesError("ExecutionAlreadyExists"))}, check: accepted(restAPI, webSocketAPI)},
		{title: "throttled", sample: "download", change: secret, env: map[string]string{"AWS_MAX_ATTEMPTS": "1"},
			calls: []call{put, withAnswer(start, statesError("ThrottlingException")), {op: "DynamoDB.DeleteItem", with: map[string]string{
				"TableName": table, "Key.executionArn.S": "~" + strings.TrimSuffix(execution, name),
			}, answer: empty}},
			check: both(refusal(http.StatusTooManyRequests, "THROTTLED"), func(t *testing.T, got invocation) {
				if a := proxyAnswer(t, got); a.Headers["Retry-After"] == "" {
					t.Errorf("got headers %v, want Retry-After", a.Headers)
				}
			})},
	}
	for _, path := range []string{
		"../admin", "%2e%2e/admin", "a/%2E%2E/%2e%2e/b", "a%2Fb", "a%5Cb", `a\b`, "a%0d%0aHost:%20x", "a%00b", "http://other.example/", "//other.example/x", "%252e%252e/admin",
	} {
		runs = append(runs, run{title: "invalid path " + path, sample: "download", change: func(e map[string]any) {
			secret(e)
			e["path"] = "/download/" + path
			e["requestContext"].(map[string]any)["path"] = "/dev/download/" + path
		}, check: refusal(http.StatusBadRequest, "INVALID_PATH")})
	}
	for title, query := range map[string]map[string][]string{
		"a byte in the query that isn't UTF-8": {"name": {"caf\ufffd"}},          // API Gateway's reading of caf%E9
		"a query with a name of OriginUrl's":   {"Base": {"1"}, "a": {"b", "c"}}, // it has base=…
	} {
		runs = append(runs, run{title: title, sample: "download", change: func(e map[string]any) { e["multiValueQueryStringParameters"] = query },
			check: refusal(http.StatusBadRequest, "INVALID_PATH")})
	}
	runAll(t, "download", runs)
}

func TestExecutions(t *testing.T) {
	t.Parallel()
	get := func(a answer) call {
		return call{op: "DynamoDB.GetItem", with: with(map[string]string{"ConsistentRead": "true"}), answer: a}
	}
	head := func(a answer) call {
		return call{op: "S3.HeadObject", with: map[string]string{"Bucket": bucket, "Key": key}, answer: a}
	}
	assume := call{op: "STS.AssumeRole", with: map[string]string{"RoleArn": signerRole, "DurationSeconds": "3600"}, answer: assumed()}
	connect := call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
		"ConditionExpression": "~attribute_not_exists(connectionId)", "UpdateExpression": "~SET connectionId", "ExpressionAttributeValues.:id.S": "request",
	}), answer: item("Attributes", stored(map[string]any{"status": "READY", "connectionId": "request"}))}
	cancel := func(a answer) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"UpdateExpression": "SET cancelled = :true", "ConditionExpression": "#status IN (:copying, :ready)", "ExpressionAttributeValues.:true.BOOL": "true",
		}), answer: a}
	}
	copying, delivered := get(item("Item", stored(nil))), item("Item", stored(map[string]any{"status": "DELIVERED"}))
	locked := item("Item", stored(map[string]any{"ticketHash": ticketHash}))
	ready := func(t *testing.T, got invocation) {
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
	runAll(t, "executions", []run{
		{title: "copying", sample: "executions", calls: []call{get(item("Item", stored(map[string]any{"bytesCopied": 4096, "bytesTotal": 8192, "taskToken": taskToken})))},
			check: func(t *testing.T, got invocation) {
				a := proxyAnswer(t, got)
				restHeaders(t, a)
				if want := `{"status":"COPYING","bytesCopied":4096,"bytesTotal":8192}`; a.StatusCode != http.StatusOK || a.Body != want {
					t.Errorf("got %d %s, want 200 %s", a.StatusCode, a.Body, want)
				}
				if a.Headers["Retry-After"] == "" {
					t.Errorf("got headers %v, want Retry-After", a.Headers)
				}
				logged(name)(t, got)
			}},
		{title: "copying, some parts twice", sample: "executions", calls: []call{get(item("Item", stored(map[string]any{"bytesCopied": 9000, "bytesTotal": 8192})))},
			check: status(http.StatusOK, `"bytesCopied":8192,"bytesTotal":8192`)},
		{title: "cancelled, and not ended yet", sample: "executions", calls: []call{get(item("Item", stored(map[string]any{"status": "READY", "cancelled": true})))},
			check: status(http.StatusOK, `"status":"CANCELLED"`, `"code":"CANCELLED"`)},
		{title: "cancelled while the link is signed", sample: "executions", calls: []call{get(item("Item", stored(map[string]any{"status": "READY"}))), head(object), assume,
			{op: connect.op, with: connect.with, answer: item("Attributes", stored(map[string]any{"status": "READY", "cancelled": true, "connectionId": "request"}))}},
			check: status(http.StatusOK, `"status":"CANCELLED"`)},
		{title: "ready", sample: "executions", calls: []call{get(item("Item", stored(map[string]any{"status": "READY"}))), head(object), assume, connect}, check: ready},
		{title: "ready and waiting", sample: "executions", calls: []call{
			get(item("Item", stored(map[string]any{"status": "READY", "taskToken": taskToken}))), head(object), assume,
			{op: connect.op, with: connect.with, answer: item("Attributes", stored(map[string]any{"status": "READY", "connectionId": "request", "taskToken": taskToken}))},
			{op: "StepFunctions.SendTaskSuccess", with: map[string]string{"taskToken": taskToken, "output": "{}"}, answer: empty},
			{op: "DynamoDB.UpdateItem", with: with(map[string]string{"UpdateExpression": "REMOVE taskToken", "ConditionExpression": "taskToken = :token", "ExpressionAttributeValues.:token.S": taskToken}),
				answer: item("Attributes", stored(nil))},
		}, check: ready},
		{title: "ready, and a socket is here", sample: "executions", calls: []call{
			get(item("Item", stored(map[string]any{"status": "READY"}))), head(object), assume, {op: connect.op, with: connect.with, answer: conditionFails(stored(connected(map[string]any{"status": "READY"})))},
		}, check: ready},
		{title: "delivered and gone", sample: "executions", calls: []call{get(empty), head(object), head(object), assume}, check: ready},
		{title: "delivered, object gone", sample: "executions", calls: []call{get(delivered), head(notFound)}, check: refusal(http.StatusGone, "EXPIRED")},
		{title: "ticket in the header", sample: "executions", change: show("headers", "x-download-ticket", ticket), calls: []call{get(locked)}, check: status(http.StatusOK, "COPYING")},
		{title: "ticket in the query", sample: "executions", change: show("queryStringParameters", "ticket", ticket), calls: []call{get(locked)}, check: status(http.StatusOK, "COPYING")},
		{title: "ticket of another", sample: "executions", change: show("headers", "X-Download-Ticket", strings.ToUpper(ticket)), calls: []call{get(locked)}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "hash for a ticket", sample: "executions", change: show("headers", "X-Download-Ticket", ticketHash), calls: []call{get(locked)}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "no ticket", sample: "executions", calls: []call{get(locked)}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "no ticket for the object", sample: "executions", calls: []call{get(empty), head(lockedObject)}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "ticket for the object", sample: "executions", change: show("headers", "X-Download-Ticket", ticket), calls: []call{get(empty), head(lockedObject), head(lockedObject), assume}, check: ready},
		{title: "no ticket given out, one required", sample: "executions", env: map[string]string{"REQUIRE_TICKET": "true"}, calls: []call{copying}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "cancel from a page that is not allowed", sample: "executions-delete", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://other.example.com"},
			change: show("headers", "Origin", "https://app.example.com"), check: foreign},
		{title: "cancel without the ticket", sample: "executions-delete", calls: []call{get(locked)}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "failed", sample: "executions", calls: []call{get(item("Item", stored(map[string]any{
			"status": "FAILED", "failure": map[string]any{"code": "ORIGIN_STATUS", "message": "the origin answered 404 Not Found"}})))},
			check: both(status(http.StatusOK, `"status":"FAILED"`, `"error":{"code":"ORIGIN_STATUS","message":"the origin answered 404 Not Found"}`), func(t *testing.T, got invocation) {
				if a := proxyAnswer(t, got); a.Headers["Retry-After"] != "" {
					t.Errorf("got Retry-After %s, want none at the end", a.Headers["Retry-After"])
				}
			})},
		{title: "unknown", sample: "executions", calls: []call{get(empty), head(notFound)}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "no name", sample: "executions", change: func(e map[string]any) {
			e["pathParameters"].(map[string]any)["name"] = "../" + name
		}, check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "table out of order", sample: "executions", calls: []call{get(dynamoError("AccessDeniedException"))},
			check: both(refusal(http.StatusInternalServerError, "INTERNAL"), logged("AccessDeniedException"))},
		{title: "cancel", sample: "executions-delete", calls: []call{copying, cancel(item("Attributes", stored(map[string]any{"cancelled": true})))},
			check: status(http.StatusAccepted, `"status":"CANCELLED"`)},
		{title: "cancel nothing", sample: "executions-delete", calls: []call{get(empty), head(notFound)},
			check: refusal(http.StatusNotFound, "NOT_FOUND")},
		{title: "preflight", sample: "executions-preflight", check: func(t *testing.T, got invocation) {
			if a := proxyAnswer(t, got); a.StatusCode != http.StatusNoContent || !strings.Contains(a.Headers["Access-Control-Allow-Methods"], "DELETE") {
				t.Errorf("got %d %v, want 204 that allows DELETE", a.StatusCode, a.Headers)
			}
		}},
	})
}

// foreign expects the refusal of a page of another site, which can't read it either.
func foreign(t *testing.T, got invocation) {
	t.Helper()
	a := proxyAnswer(t, got)
	if _, allowed := a.Headers["Access-Control-Allow-Origin"]; a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, `"ACCESS_DENIED"`) || allowed {
		t.Errorf("got %d %v %s, want 403 ACCESS_DENIED that no page can read", a.StatusCode, a.Headers, a.Body)
	}
}

// show adds a header or a parameter to the event.
func show(where, name, value string) func(map[string]any) {
	return func(e map[string]any) {
		m, ok := e[where].(map[string]any)
		if !ok {
			m = map[string]any{}
			e[where] = m
		}
		m[name] = value
	}
}

// lockedObject is an object with a ticket.
var lockedObject = func() answer {
	a := object
	a.header = maps.Clone(object.header)
	a.header["X-Amz-Meta-Ticket-Hash"] = ticketHash
	return a
}()

// link expects a URL of the object that the assumed role signed, with a correct
// expiry.
func link(t *testing.T, text, expiresAt any) {
	t.Helper()
	s, _ := text.(string)
	u, err := url.Parse(s)
	if err != nil {
		t.Fatalf("got link %q: %v", s, err)
	}
	q := u.Query()
	if u.Path != "/"+bucket+"/"+key || !strings.HasPrefix(q.Get("X-Amz-Credential"), signerKey+"/") || q.Get("X-Amz-Security-Token") != signerSession || q.Get("X-Amz-Signature") == "" {
		t.Errorf("got link %s, want one to %s signed by the assumed role", s, key)
	}
	if got, want := q.Get("X-Amz-Expires"), "600"; got != want {
		t.Errorf("got a link of %s s, want %s", got, want)
	}
	if expiresAt == nil {
		return // plain text has no expiry
	}
	e, _ := expiresAt.(string)
	said, err := time.Parse(time.RFC3339, e)
	if left := time.Until(said); err != nil || left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("got expiresAt %q, want it in 10 minutes", e)
	}
}

func TestOnConnect(t *testing.T) {
	t.Parallel()
	connect := func(format string, a answer) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"ConditionExpression": "attribute_exists(executionArn)", "UpdateExpression": "~SET connectionId = :id", "ReturnValues": "ALL_NEW",
			"ExpressionAttributeValues.:id.S": connection, "ExpressionAttributeValues.:format.S": format, "ExpressionAttributeValues.:at.N": "*",
		}), answer: a}
	}
	look := call{op: "DynamoDB.GetItem", with: with(map[string]string{"ConsistentRead": "true"}), answer: item("Item", stored(nil))}
	none := call{op: look.op, with: look.with, answer: empty}
	locked := call{op: look.op, with: look.with, answer: item("Item", stored(map[string]any{"ticketHash": ticketHash}))}
	here := func(more map[string]any) answer { return item("Attributes", stored(connected(more))) }
	head := func(a answer) call {
		return call{op: "S3.HeadObject", with: map[string]string{"Bucket": bucket, "Key": key}, answer: a}
	}
	resume := func(a answer) call {
		return call{op: "StepFunctions.SendTaskSuccess", with: map[string]string{"taskToken": taskToken, "output": "{}"}, answer: a}
	}
	forget := call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
		"UpdateExpression": "REMOVE taskToken", "ConditionExpression": "taskToken = :token", "ExpressionAttributeValues.:token.S": taskToken,
	}), answer: here(nil)}
	start := call{op: "StepFunctions.StartExecution", with: map[string]string{"stateMachineArn": deliver, "input": `~"executionArn":"` + execution + `"`}, answer: started(deliver)}
	waiting := here(map[string]any{"status": "READY", "taskToken": taskToken})
	ok := both(status(http.StatusOK), logged(name))
	refused := status(http.StatusForbidden)
	header := func(e map[string]any, spelling string, value any) {
		for _, h := range []string{"headers", "multiValueHeaders"} {
			delete(e[h].(map[string]any), "X-StateMachine-ExecutionArn")
		}
		if value != nil {
			e["headers"].(map[string]any)[spelling] = value
			e["multiValueHeaders"].(map[string]any)[spelling] = []any{value}
		}
	}

	runs := []run{
		{title: "copying", sample: "on-connect", calls: []call{look, connect("", here(nil))}, check: ok},
		{title: "waiting", sample: "on-connect", calls: []call{look, connect("", waiting), resume(empty), forget}, check: ok},
		{title: "waiting no more", sample: "on-connect", calls: []call{look, connect("", waiting), resume(statesError("TaskTimedOut")), forget}, check: ok},
		{title: "waiting again", sample: "on-connect", calls: []call{look, connect("", waiting), resume(empty), {op: forget.op, with: forget.with, answer: conditionFailed}}, check: ok},
		{title: "token not taken", sample: "on-connect", env: map[string]string{"AWS_MAX_ATTEMPTS": "1"}, calls: []call{
			look, connect("", waiting), resume(statesError("ThrottlingException")),
			{op: "DynamoDB.UpdateItem", with: with(map[string]string{"UpdateExpression": "~REMOVE connectionId", "ConditionExpression": "~connectionId = :id", "ExpressionAttributeValues.:id.S": connection}), answer: here(nil)},
		}, check: status(http.StatusServiceUnavailable)},
		{title: "by query", sample: "on-connect-query", calls: []call{look, connect("json", here(nil))}, check: ok},
		{title: "by query from a page that is allowed", sample: "on-connect-query", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://app.example.com"},
			calls: []call{look, connect("json", here(nil))}, check: ok},
		{title: "by query from a page that is not", sample: "on-connect-query", env: map[string]string{"ALLOWED_WEB_ORIGINS": "https://other.example.com"}, check: refused},
		{title: "format by header", sample: "on-connect", change: func(e map[string]any) {
			e["headers"].(map[string]any)["x-download-FORMAT"] = "json"
		}, calls: []call{look, connect("json", here(nil))}, check: ok},
		{title: "format unheard of", sample: "on-connect-query", change: func(e map[string]any) {
			e["queryStringParameters"].(map[string]any)["format"] = "xml"
		}, calls: []call{look, connect("", here(nil))}, check: ok},
		{title: "delivered", sample: "on-connect", calls: []call{look, connect("", here(map[string]any{"status": "DELIVERED"})), start}, check: ok},
		{title: "failed", sample: "on-connect", calls: []call{look, connect("", here(map[string]any{"status": "FAILED"})), start}, check: ok},
		{title: "item gone, object kept", sample: "on-connect-query", calls: []call{none, head(object), connect("json", conditionFailed), {op: start.op, with: map[string]string{
			"stateMachineArn": deliver, "input": `~"connection":{"ID":"` + connection + `","Format":"json","At":"`,
		}, answer: started(deliver)}}, check: ok},
		{title: "item gone in between", sample: "on-connect", calls: []call{look, connect("", conditionFailed), start}, check: ok},
		{title: "ticket in the header", sample: "on-connect", change: show("headers", "x-Download-TICKET", ticket), calls: []call{locked, connect("", here(nil))}, check: ok},
		{title: "ticket in the query", sample: "on-connect-query", change: show("queryStringParameters", "ticket", ticket), calls: []call{locked, connect("json", here(nil))}, check: ok},
		{title: "ticket of another", sample: "on-connect", change: show("headers", "X-Download-Ticket", strings.ToUpper(ticket)), calls: []call{locked}, check: refused},
		{title: "hash for a ticket", sample: "on-connect", change: show("headers", "X-Download-Ticket", ticketHash), calls: []call{locked}, check: refused},
		{title: "no ticket", sample: "on-connect", calls: []call{locked}, check: refused},
		{title: "no ticket for the object", sample: "on-connect", calls: []call{none, head(lockedObject)}, check: refused},
		{title: "ticket for the object", sample: "on-connect", change: show("headers", "X-Download-Ticket", ticket), calls: []call{none, head(lockedObject), connect("", conditionFailed), start}, check: ok},
		{title: "no ticket given out, one required", sample: "on-connect", env: map[string]string{"REQUIRE_TICKET": "true"}, calls: []call{look}, check: refused},
		{title: "unknown", sample: "on-connect", calls: []call{none, head(notFound)}, check: refused},
		{title: "table throttled", sample: "on-connect", env: map[string]string{"AWS_MAX_ATTEMPTS": "1"},
			calls: []call{look, connect("", dynamoError("ProvisionedThroughputExceededException"))}, check: status(http.StatusServiceUnavailable)},
		{title: "bucket throttled", sample: "on-connect", env: map[string]string{"AWS_MAX_ATTEMPTS": "1"},
			calls: []call{none, head(answer{status: http.StatusServiceUnavailable})}, check: status(http.StatusServiceUnavailable)},
		{title: "delivery throttled", sample: "on-connect", env: map[string]string{"AWS_MAX_ATTEMPTS": "1"},
			calls: []call{look, connect("", here(map[string]any{"status": "DELIVERED"})), {op: start.op, answer: statesError("ThrottlingException")},
				{op: "DynamoDB.UpdateItem", with: with(map[string]string{"UpdateExpression": "~REMOVE connectionId"}), answer: conditionFails(stored(connected(map[string]any{"status": "DELIVERED"})))},
				{op: "DynamoDB.DeleteItem", with: with(map[string]string{"ConditionExpression": "connectionId = :id AND #status = :delivered"}), answer: empty}},
			check: status(http.StatusServiceUnavailable)},
	}
	for _, spelling := range []string{"x-statemachine-executionarn", "X-STATEMACHINE-EXECUTIONARN", "X-Statemachine-Executionarn", "x-StateMachine-executionArn"} {
		runs = append(runs, run{title: "header " + spelling, sample: "on-connect", change: func(e map[string]any) { header(e, spelling, execution) },
			calls: []call{look, connect("", here(nil))}, check: ok})
	}
	for title, arn := range map[string]any{
		"none":                  nil,
		"empty":                 "",
		"no ARN":                "hello",
		"another machine":       strings.Replace(execution, "DownloadStateMachine", "OtherStateMachine", 1),
		"another account":       strings.Replace(execution, account, "999999999999", 1),
		"another region":        strings.Replace(execution, region, "eu-west-1", 1),
		"the machine itself":    machine,
		"the deliver machine":   strings.Replace(deliver, "stateMachine", "execution", 1) + ":" + name,
		"an express execution":  strings.Replace(execution, ":execution:", ":express:", 1),
		"a name too short":      strings.TrimSuffix(execution, "7"),
		"a name in capitals":    strings.TrimSuffix(execution, name) + strings.ToUpper(name),
		"more behind it":        execution + ":1",
		"a path behind it":      execution + "/../x",
		"a space in front":      " " + execution,
		"a line break behind":   execution + "\n",
		"two of them in a list": execution + ", " + execution,
	} {
		runs = append(runs, run{title: "refused: " + title, sample: "on-connect", change: func(e map[string]any) { header(e, "X-StateMachine-ExecutionArn", arn) }, check: refused})
	}
	runAll(t, "on-connect", runs)
}

func TestOnDisconnect(t *testing.T) {
	t.Parallel()
	find := call{op: "DynamoDB.Query", with: map[string]string{
		"TableName": table, "IndexName": "connectionId", "KeyConditionExpression": "connectionId = :id", "ExpressionAttributeValues.:id.S": connection,
	}, answer: answer{body: `{"Count":1,"ScannedCount":1,"Items":[{"executionArn":{"S":"` + execution + `"},"connectionId":{"S":"` + connection + `"}}]}`}}
	none := call{op: find.op, with: find.with, answer: answer{body: `{"Count":0,"ScannedCount":0,"Items":[]}`}}
	leave := func(a answer) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"UpdateExpression": "~REMOVE connectionId", "ConditionExpression": "connectionId = :id AND #status <> :delivered",
			"ExpressionAttributeValues.:id.S": connection, "ExpressionAttributeValues.:delivered.S": "DELIVERED",
		}), answer: a}
	}
	remove := func(a answer) call {
		return call{op: "DynamoDB.DeleteItem", with: with(map[string]string{
			"ConditionExpression": "connectionId = :id AND #status = :delivered", "ExpressionAttributeValues.:id.S": connection,
		}), answer: a}
	}
	ok := both(status(http.StatusOK), logged("disconnected"))
	runAll(t, "on-disconnect", []run{
		{title: "before the end", sample: "on-disconnect", calls: []call{find, leave(item("Attributes", stored(map[string]any{"taskToken": taskToken})))}, check: ok},
		{title: "after delivery", sample: "on-disconnect", calls: []call{find, leave(conditionFails(stored(connected(map[string]any{"status": "DELIVERED"})))), remove(empty)}, check: ok},
		{title: "another came", sample: "on-disconnect", calls: []call{find,
			leave(conditionFails(stored(connected(map[string]any{"connectionId": "Nx5aBcDeFoAMCKiw="}))))}, check: ok},
		{title: "index behind", sample: "on-disconnect", calls: []call{none, find, leave(item("Attributes", stored(nil)))}, check: ok},
		{title: "nobody's", sample: "on-disconnect", calls: []call{none, none}, check: ok},
		{title: "table out of order", sample: "on-disconnect", calls: []call{{op: find.op, answer: dynamoError("AccessDeniedException")}},
			check: both(status(http.StatusInternalServerError), logged("AccessDeniedException"))},
	})
}

func TestMessage(t *testing.T) {
	t.Parallel()
	find := call{op: "DynamoDB.Query", with: map[string]string{"TableName": table, "IndexName": "connectionId", "ExpressionAttributeValues.:id.S": connection},
		answer: answer{body: `{"Count":1,"ScannedCount":1,"Items":[{"executionArn":{"S":"` + execution + `"},"connectionId":{"S":"` + connection + `"}}]}`}}
	none := call{op: find.op, with: find.with, answer: answer{body: `{"Count":0,"ScannedCount":0,"Items":[]}`}}
	get := func(more map[string]any) call {
		return call{op: "DynamoDB.GetItem", with: with(nil), answer: item("Item", stored(connected(more)))}
	}
	cancel := func(a answer) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"UpdateExpression": "SET cancelled = :true", "ConditionExpression": "#status IN (:copying, :ready)",
		}), answer: a}
	}
	post := func(data string, a answer) call {
		return call{op: "Connections.Post", with: map[string]string{"Stage": "/dev", "ConnectionId": connection, "Data": data}, answer: a}
	}
	ok := status(http.StatusOK)
	runAll(t, "message", []run{
		{title: "ping", sample: "message-ping", check: ok},
		{title: "cancel", sample: "message", calls: []call{find, get(nil), cancel(item("Attributes", stored(connected(nil))))}, check: both(ok, logged(name))},
		{title: "cancel a wait", sample: "message", calls: []call{find, get(nil),
			cancel(item("Attributes", stored(connected(map[string]any{"taskToken": taskToken})))),
			{op: "StepFunctions.SendTaskFailure", with: map[string]string{"taskToken": taskToken, "error": "CANCELLED"}, answer: empty},
			{op: "DynamoDB.UpdateItem", with: with(map[string]string{"UpdateExpression": "REMOVE taskToken", "ExpressionAttributeValues.:token.S": taskToken}), answer: item("Attributes", stored(nil))},
		}, check: ok},
		{title: "cancel after the end", sample: "message", calls: []call{find, get(nil), cancel(conditionFails(stored(connected(map[string]any{"status": "DELIVERED"})))), post("~error: CONFLICT ", empty)}, check: ok},
		{title: "cancel after the item has gone", sample: "message", calls: []call{none, none, post("~error: CONFLICT ", empty)}, check: ok},
		{title: "cancel, table throttled", sample: "message", env: map[string]string{"AWS_MAX_ATTEMPTS": "1"},
			calls: []call{find, get(nil), cancel(dynamoError("ThrottlingException"))}, check: both(status(http.StatusInternalServerError), logged("ThrottlingException"))},
		{title: "malformed", sample: "message-malformed", calls: []call{find, get(nil), post("~error: NOT_FOUND ", empty)}, check: ok},
		{title: "malformed, client hears JSON", sample: "message-malformed", calls: []call{find, get(map[string]any{"format": "json"}), post(`~{"type":"error","code":"NOT_FOUND","message":"`, empty)}, check: ok},
		{title: "malformed, client gone", sample: "message-malformed", calls: []call{find, get(nil), post("*", gone)}, check: ok},
		{title: "no such action", sample: "message", change: func(e map[string]any) { e["body"] = `{"action":"reboot"}` },
			calls: []call{find, get(nil), post("~error: NOT_FOUND ", empty)}, check: ok},
	})
}

func TestSendMessage(t *testing.T) {
	t.Parallel()
	get := func(more map[string]any) call {
		return call{op: "DynamoDB.GetItem", with: with(map[string]string{"ConsistentRead": "true"}),
			answer: item("Item", stored(connected(more)))}
	}
	ready := map[string]any{"status": "READY"}
	none := call{op: "DynamoDB.GetItem", with: theItem, answer: empty}
	head := func(a answer) call {
		return call{op: "S3.HeadObject", with: map[string]string{"Bucket": bucket, "Key": key, "X-Amz-Checksum-Mode": "ENABLED"}, answer: a}
	}
	assume := call{op: "STS.AssumeRole", with: map[string]string{"RoleArn": signerRole, "RoleSessionName": "links", "DurationSeconds": "3600"}, answer: assumed()}
	post := func(data string, a answer) call {
		return call{op: "Connections.Post", with: map[string]string{"Stage": "/dev", "ConnectionId": connection, "Data": data}, answer: a}
	}
	link := "~/" + bucket + "/" + key + "?X-Amz-Algorithm="
	const fileKept = " AND attribute_not_exists(cancelled) AND #status IN (:ready, :delivered, :expired)"
	delivered := call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
		"UpdateExpression": "~SET #status = :delivered", "ConditionExpression": "connectionId = :id" + fileKept,
		"ExpressionAttributeValues.:id.S": connection, "ExpressionAttributeValues.:delivered.S": "DELIVERED",
	}), answer: item("Attributes", stored(connected(map[string]any{"status": "DELIVERED"})))}
	forget := call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
		"UpdateExpression": "~REMOVE connectionId", "ConditionExpression": "connectionId = :id AND #status <> :delivered", "ExpressionAttributeValues.:id.S": connection,
	}), answer: item("Attributes", stored(ready))}
	ok := both(taskResult("{}"), logged(name))
	opening := get(map[string]any{"status": "READY", "connectedAt": time.Now().Add(time.Hour).UnixMilli()}) // as long as these tests may take
	another := get(map[string]any{"status": "READY", "connectionId": "Nx5aBcDeFoAMCKiw="})
	runAll(t, "send-message", []run{
		{title: "ready", sample: "send-message", calls: []call{get(ready), head(object), assume, post(link, empty), delivered}, check: ok},
		{title: "ready, client hears JSON", sample: "send-message", calls: []call{
			get(map[string]any{"status": "READY", "format": "json", "bytesCopied": 1048576, "bytesTotal": 1048576}), head(object), assume,
			post(`{"type":"progress","bytesCopied":1048576,"bytesTotal":1048576}`, empty), post(`~{"type":"ready","url":"`, empty), delivered}, check: ok},
		{title: "ready, client hears JSON and is gone", sample: "send-message", calls: []call{
			get(map[string]any{"status": "READY", "format": "json", "bytesCopied": 5}), head(object), assume,
			post(`{"type":"progress","bytesCopied":5,"bytesTotal":null}`, gone), forget}, check: taskError("ConnectionGone", "")},
		{title: "delivered before", sample: "send-message", calls: []call{get(map[string]any{"status": "DELIVERED"})}, check: ok},
		{title: "delivered before, and here again, to hear JSON", sample: "send-message-connection", calls: []call{
			get(map[string]any{"status": "DELIVERED", "format": "json"}), head(object), assume, post(`~{"type":"ready","url":"`, empty), delivered}, check: ok},
		{title: "ready, handshake open for a moment", sample: "send-message", calls: []call{
			opening, head(object), assume, post(link, gone), opening, post(link, empty), delivered}, check: ok},
		{title: "ready, handshake open", sample: "send-message", calls: []call{opening, head(object), assume, post(link, gone), opening, post(link, gone)},
			repeats: []call{opening, post(link, gone)}, check: taskError("ConnectionOpening", "")},
		{title: "ready, client gone", sample: "send-message", calls: []call{get(ready), head(object), assume, post(link, gone), forget}, check: taskError("ConnectionGone", "")},
		{title: "ready, client gone and another came", sample: "send-message", calls: []call{get(ready), head(object), assume, post(link, gone),
			{op: forget.op, with: forget.with, answer: conditionFails(stored(connected(map[string]any{"status": "READY", "connectionId": "Nx5aBcDeFoAMCKiw="})))},
			another, {op: "Connections.Post", with: map[string]string{"ConnectionId": "Nx5aBcDeFoAMCKiw=", "Data": link}, answer: empty},
			{op: delivered.op, with: with(map[string]string{"UpdateExpression": "~SET #status = :delivered", "ExpressionAttributeValues.:id.S": "Nx5aBcDeFoAMCKiw="}), answer: delivered.answer}}, check: ok},
		{title: "ready, nobody here", sample: "send-message", calls: []call{{op: "DynamoDB.GetItem", with: theItem, answer: item("Item", stored(ready))}}, check: taskError("ConnectionGone", "")},
		{title: "ready, and closed at once", sample: "send-message", calls: []call{get(ready), head(object), assume, post(link, empty),
			{op: delivered.op, with: delivered.with, answer: conditionFails(stored(ready))},
			{op: "DynamoDB.DeleteItem", with: with(map[string]string{"ConditionExpression": "attribute_not_exists(connectionId)" + fileKept}), answer: empty}}, check: ok},
		{title: "ready, taken by a request", sample: "send-message", calls: []call{get(map[string]any{"status": "READY", "connectionId": "request"}),
			{op: "DynamoDB.DeleteItem", with: with(map[string]string{"ConditionExpression": "connectionId = :id" + fileKept, "ExpressionAttributeValues.:id.S": "request"}), answer: empty}}, check: ok},
		{title: "failed", sample: "send-message", calls: []call{get(map[string]any{"status": "FAILED", "failure": map[string]any{"code": "ORIGIN_STATUS", "message": "the origin answered 404 Not Found"}}),
			post("error: ORIGIN_STATUS the origin answered 404 Not Found", empty)}, check: ok},
		{title: "failed, client hears JSON", sample: "send-message", calls: []call{get(map[string]any{"status": "FAILED", "format": "json", "failure": map[string]any{"code": "TOO_LARGE", "message": "the file is larger than 5 bytes"}}),
			post(`{"type":"failed","code":"TOO_LARGE","message":"the file is larger than 5 bytes"}`, empty)}, check: ok},
		{title: "cancelled, not yet ended", sample: "send-message", calls: []call{get(map[string]any{"status": "READY", "cancelled": true})}, check: taskError("CANCELLED", "the download was cancelled")},
		{title: "object gone", sample: "send-message", calls: []call{get(map[string]any{"status": "EXPIRED"}), head(notFound), post("~error: EXPIRED ", empty), delivered}, check: ok},
		{title: "table out of order", sample: "send-message", calls: []call{{op: "DynamoDB.GetItem", with: theItem, answer: dynamoError("AccessDeniedException")}},
			check: both(taskError("INTERNAL", "unexpected"), logged("AccessDeniedException"), func(t *testing.T, got invocation) {
				if strings.Contains(got.errorMessage, "AccessDenied") {
					t.Errorf("got the cause in the report: %s", got.errorMessage)
				}
			})},
		{title: "bucket closed", sample: "send-message", calls: []call{get(ready), head(answer{status: http.StatusForbidden}), post("~error: EXPIRED ", empty), delivered}, check: ok}, // S3 answers 403 for a missing object, too
		{title: "signer's role closed", sample: "send-message", calls: []call{get(ready), head(object), {op: assume.op, answer: answer{
			status: http.StatusForbidden, header: map[string]string{"Content-Type": "text/xml"},
			body: `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`,
		}}}, check: taskError("INTERNAL", "")},
		{title: "post refused", sample: "send-message", calls: []call{get(ready), head(object), assume, post(link, answer{
			status: http.StatusForbidden, header: map[string]string{"X-Amzn-Errortype": "ForbiddenException"}, body: "{}"})}, check: both(taskError("INTERNAL", ""), logged("ForbiddenException"))},
		{title: "item gone, client known", sample: "send-message-connection", calls: []call{none, head(object), assume, post(`~{"type":"ready","url":"`, empty)}, check: ok},
		{title: "item gone, client gone", sample: "send-message-connection", calls: []call{none, head(object), assume, post("*", gone)}, check: taskError("ConnectionGone", "")},
		{title: "another took the client's place", sample: "send-message-connection", calls: []call{another}, check: ok},
		{title: "item gone, as after a delivery", sample: "send-message", calls: []call{none}, check: ok},
	})
}
