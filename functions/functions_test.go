package functions_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/start/starttest"
	"async-download/internal/transfer/s3test"
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
	given  []func(*cloud)       // what there is before the run
	checks []check
}

type check func(t *testing.T, got invocation, c *cloud)

// environment returns the variables that the template sets for a function.
func environment(t *testing.T, function, endpoint string) map[string]string {
	t.Helper()
	values := map[string]string{
		"CONNECTIONS_TABLE":         dynamodbtest.TableName,
		"STATE_MACHINE_ARN":         machine,
		"DELIVER_STATE_MACHINE_ARN": deliver,
		"BUCKET":                    s3test.Bucket,
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

func runAll(t *testing.T, function string, runs []run) {
	for _, r := range runs {
		t.Run(r.title, func(t *testing.T) {
			t.Parallel()
			if r.sample != function && !strings.HasPrefix(r.sample, function+"-") {
				t.Errorf("got sample %s of %s", r.sample, function)
			}
			event, err := os.ReadFile("../events/event-" + r.sample + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if r.change != nil {
				var e map[string]any
				if err := json.Unmarshal(event, &e); err != nil {
					t.Fatal(err)
				}
				r.change(e)
				event = []byte(asJSON(e))
			}
			c := newCloud(t)
			for _, given := range r.given {
				given(c)
			}
			env := environment(t, function, c.URL)
			maps.Copy(env, r.env)
			got := invoke(t, function, env, event)
			noSecrets(t, "log", got.logs)
			if got.ErrorType != "" {
				noSecrets(t, "error", string(got.Body))
			}
			for _, check := range r.checks {
				check(t, got, c)
			}
			if t.Failed() {
				t.Logf("answer: %s\nlogs:\n%s", got.Body, got.logs)
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

// What there is before a run.

func having(more map[string]any) func(*cloud) { return func(c *cloud) { c.item(more) } }

// connected is an item whose client has been connected for a while.
func connected(more map[string]any) func(*cloud) {
	all := map[string]any{"connectionId": connection, "connectedAt": time.Now().Add(-time.Minute).UnixMilli(), "format": ""}
	maps.Copy(all, more)
	return having(all)
}

func stored(header ...string) func(*cloud) { return func(c *cloud) { c.file(header...) } }

func gone(c *cloud) { c.gone[connection] = true }

// status expects a proxy answer with this status and a body that has these texts.
func status(want int, contains ...string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
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

// empty expects a proxy answer with this status and without a body.
func empty(want int) check {
	return func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		if a := proxyAnswer(t, got); a.StatusCode != want || a.Body != "" {
			t.Errorf("got status %d and %d bytes, want %d and no body", a.StatusCode, len(a.Body), want)
		}
	}
}

// replies expects a header of a proxy answer; a value that begins with * is a suffix.
func replies(name, want string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		value := proxyAnswer(t, got).Headers[name]
		suffix, ends := strings.CutPrefix(want, "*")
		if value != want && !(ends && strings.HasSuffix(value, suffix)) {
			t.Errorf("got %s %q, want %q", name, value, want)
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
	if got.ErrorType != "" {
		t.Fatalf("got error %s %s, want an answer", got.ErrorType, got.ErrorMessage)
	}
	var a proxy
	if err := json.Unmarshal(got.Body, &a); err != nil {
		t.Fatalf("got %s, want a proxy answer: %v", got.Body, err)
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
func refusal(wantStatus int, wantCode string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
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
func taskError(want string, message string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		if got.ErrorType != want || !strings.Contains(got.ErrorMessage, message) {
			t.Errorf("got error %q %q, want %q with %q", got.ErrorType, got.ErrorMessage, want, message)
		}
	}
}

// taskResult expects this JSON.
func taskResult(want string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		if got.ErrorType != "" || string(got.Body) != want {
			t.Errorf("got %s, want %s", got.Body, want)
		}
	}
}

// logged expects a text in the log. Without it, the search for secrets would also
// succeed for an empty log.
func logged(want string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		if !strings.Contains(got.logs, want) {
			t.Errorf("got log\n%s\nwant %q in it", got.logs, want)
		}
	}
}

// hidden expects a text neither in the answer nor in the report of an error.
func hidden(text string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		if strings.Contains(string(got.Body), text) {
			t.Errorf("got %q in %s", text, got.Body)
		}
	}
}

// calls expects these calls of an operation; each is a list of parameters and their
// values, and a value that ends in * is a prefix.
func calls(op string, want ...map[string]string) check {
	return func(t *testing.T, _ invocation, c *cloud) {
		t.Helper()
		made := c.made(op)
		if len(made) != len(want) {
			t.Fatalf("got %d calls of %s, want %d", len(made), op, len(want))
		}
		for i, parameters := range want {
			for name, value := range parameters {
				got, _ := made[i].params[name].(string)
				prefix, begins := strings.CutSuffix(value, "*")
				if got != value && !(begins && strings.HasPrefix(got, prefix)) {
					t.Errorf("%s: got %s %q, want %q", op, name, got, value)
				}
			}
		}
	}
}

// posted expects these messages to the sockets; each begins with the connection.
func posted(want ...string) check {
	return func(t *testing.T, _ invocation, c *cloud) {
		t.Helper()
		got := c.posts()
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
				t.Fatalf("got posts %q, want %q", got, want)
			}
		}
	}
}

// keeps expects an attribute of the item; "" for none.
func keeps(name, want string) check {
	return func(t *testing.T, _ invocation, c *cloud) {
		t.Helper()
		if got := c.attribute(name); got != want {
			t.Errorf("item: got %s %q, want %q", name, got, want)
		}
	}
}

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
	if u.Path != "/"+s3test.Bucket+"/"+key || !strings.HasPrefix(q.Get("X-Amz-Credential"), signerKey+"/") || q.Get("X-Amz-Security-Token") != signerSession || q.Get("X-Amz-Signature") == "" {
		t.Errorf("got link %s, want one to %s signed by the assumed role", s, key)
	}
	if got, want := q.Get("X-Amz-Expires"), "600"; got != want {
		t.Errorf("got a link of %s s, want %s", got, want)
	}
	if expiresAt == nil {
		return // plain text has no expiry
	}
	e, _ := expiresAt.(string)
	expiry, err := time.Parse(time.RFC3339, e)
	if left := time.Until(expiry); err != nil || left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("got expiresAt %q, want it in 10 minutes", e)
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

// unlisted is a web page that may not use the API.
var unlisted = map[string]string{"ALLOWED_WEB_ORIGINS": "https://other.example.com"}

// counted expects metrics of this stack in the log, in valid embedded metric lines.
func counted(want ...string) check {
	return func(t *testing.T, got invocation, _ *cloud) {
		t.Helper()
		var names []string
		for text := range strings.Lines(got.logs) {
			var line struct {
				Stack, Execution string
				AWS              struct {
					CloudWatchMetrics []struct{ Metrics []struct{ Name string } }
				} `json:"_aws"`
			}
			if json.Unmarshal([]byte(text), &line) != nil {
				continue
			}
			for _, d := range line.AWS.CloudWatchMetrics {
				for _, m := range d.Metrics {
					if names = append(names, m.Name); line.Stack != "download" || line.Execution == "" {
						t.Errorf("got %s, want the names of the stack and of the execution", text)
					}
				}
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("got metrics %q, want %q:\n%s", names, want, got.logs)
		}
	}
}
