package functions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"async-download/internal/origin/origintest"
)

// source is an origin on loopback. Requests must be for the item's path and query, below
// the base and with the base's query.
func source(t *testing.T, serve http.HandlerFunc) *httptest.Server {
	t.Helper()
	const want = "/files/reports/2025/Q3%20summary.pdf?" + baseQuery + "&" + originQuery
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RequestURI(); r.Method != http.MethodGet || got != want {
			t.Errorf("origin: got %s %s, want GET %s", r.Method, got, want)
		}
		serve(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// from makes it a function's origin, with the local stack's setting that allows loopback.
func from(s *httptest.Server, more ...string) map[string]string {
	env := map[string]string{"ORIGIN_URL": s.URL + "/files?" + baseQuery, "LOCAL_ENDPOINT": "http://127.0.0.1:4566"}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

// pdf serves data as a correct origin.
func pdf(data []byte) http.HandlerFunc {
	file := origintest.New(data, `"5f2a7c19e3b44d60"`)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/pdf")
		file.ServeHTTP(w, r)
	}
}

// copied expects only the file in S3.
func copied(data []byte) check {
	return func(t *testing.T, _ invocation, c *cloud) {
		t.Helper()
		o := c.s3.Object(key)
		if o == nil || !bytes.Equal(o.Data, data) || len(c.s3.Open()) > 0 {
			t.Fatalf("got object %v and %d open uploads, want the file of %d bytes", o != nil, len(c.s3.Open()), len(data))
		}
		if got, want := o.Header.Get("Content-Disposition"), `attachment; filename="Q3 summary.pdf"`; got != want || o.Header.Get("Content-Type") != "application/pdf" {
			t.Errorf("got %v, want a PDF called Q3 summary.pdf", o.Header)
		}
	}
}

// nothing expects an empty bucket.
func nothing(t *testing.T, _ invocation, c *cloud) {
	t.Helper()
	if c.s3.Object(key) != nil || len(c.s3.Open()) > 0 {
		t.Errorf("got an object or one of %d open uploads, want none", len(c.s3.Open()))
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	data := origintest.Bytes(1, 300_000)
	good := source(t, pdf(data))
	given := func(what ...func(*cloud)) []func(*cloud) { return what }
	failed := func(code, message string, more ...check) []check {
		return append(more, taskError(code, message), nothing)
	}
	var runs []run
	add := func(r run) {
		r.sample = "fetch"
		if r.given == nil {
			r.given = given(having(nil))
		}
		runs = append(runs, r)
	}
	add(run{title: "a file", env: from(good, "EVENT_BUS", "bus"), given: given(having(map[string]any{"ticketHash": ticketHash})),
		checks: []check{copied(data), keeps("status", "READY"), logged(name), logged("copied"), counted("Bytes", "CopySeconds", "MegabytesPerSecond"), calls("EventBridge.PutEvents", nil),
			func(t *testing.T, got invocation, c *cloud) {
				if got := c.s3.Object(key).Header.Get("X-Amz-Meta-Ticket-Hash"); got != ticketHash {
					t.Errorf("got ticket hash %q in the object, want the item's", got)
				}
				var out struct {
					Work        struct{ Segments []any }
					WaitSeconds *int64
				}
				if err := json.Unmarshal(got.Body, &out); err != nil || got.ErrorType != "" || len(out.Work.Segments) != 0 || out.WaitSeconds == nil || *out.WaitSeconds != 0 {
					t.Errorf("got %s (%v), want no segments and 0 waitSeconds", got.Body, err)
				}
			}}})
	add(run{title: "origin 404", env: from(source(t, http.NotFound)), checks: failed("ORIGIN_STATUS", "404", logged("ORIGIN_STATUS"))})
	for title, reply := range map[string]string{
		"header line": "HTTP/1.1 200 OK\r\n{echo}\r\n\r\n", "status line": "HTTP/1.1 {echo}\r\n\r\n",
		"length": "HTTP/1.1 200 OK\r\nContent-Length: {echo}\r\n\r\n",
	} {
		echo := source(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, strings.ReplaceAll(reply, "{echo}", r.URL.RequestURI()))
		})
		add(run{title: "origin sends the request back as a " + title, env: from(echo), checks: failed("ORIGIN_UNREACHABLE", "can't be read", logged("malformed"))})
	}
	busy := source(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "later", http.StatusServiceUnavailable)
	})
	add(run{title: "origin asks to retry later", env: from(busy),
		checks: []check{nothing, counted("Retries"), func(t *testing.T, got invocation, _ *cloud) {
			var out struct{ WaitSeconds int }
			if err := json.Unmarshal(got.Body, &out); err != nil || out.WaitSeconds < 120 || out.WaitSeconds > 150 || got.ErrorType != "" {
				t.Errorf("got %s, want a wait of 120 s and a little", got.Body)
			}
		}}})
	other := strings.Replace(good.URL, "127.0.0.1", "localhost", 1) // another host by name
	away := source(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other+r.URL.RequestURI(), http.StatusFound)
	})
	add(run{title: "redirect to another host", env: from(away), checks: failed("BLOCKED_ADDRESS", "OriginRedirectHosts")})
	add(run{title: "redirect to a host that is allowed", env: from(away, "ORIGIN_REDIRECT_HOSTS", "cdn.example,"+strings.TrimPrefix(other, "http://")),
		checks: []check{copied(data)}})
	inside := source(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/files/private?"+r.URL.RawQuery, http.StatusFound)
	})
	add(run{title: "redirect to a path that is not allowed", env: from(inside, "ALLOWED_PATHS", "reports/"),
		checks: failed("BLOCKED_ADDRESS", "AllowedPaths")})
	add(run{title: "too large", env: from(good, "MAX_FILE_BYTES", "299999"), checks: failed("TOO_LARGE", "299999")})
	add(run{title: "loopback on AWS", env: from(good, "LOCAL_ENDPOINT", ""), checks: failed("BLOCKED_ADDRESS", "")})
	add(run{title: "loopback on AWS, private origin", env: from(good, "LOCAL_ENDPOINT", "", "ORIGIN_IS_PRIVATE", "true"),
		checks: failed("BLOCKED_ADDRESS", "")})
	add(run{title: "cancelled before", given: given(having(map[string]any{"cancelled": true})), checks: failed("CANCELLED", "", counted())})
	add(run{title: "table not readable", given: given(failing("DynamoDB.GetItem", 9, refused("AccessDeniedException"))),
		checks: failed("INTERNAL", "unexpected", logged("AccessDeniedException"))})

	runs = append(runs, run{title: "segment, cancelled before", sample: "fetch-segment", given: given(having(map[string]any{"cancelled": true})), checks: failed("CANCELLED", "")})

	// The origin sends the second half of the file after the client got progress.
	notified := make(chan struct{})
	halting := source(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/pdf")
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:150_000])
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-notified:
			_, _ = w.Write(data[150_000:])
		}
	})
	listening := func(c *cloud) {
		connected(map[string]any{"format": "json"})(c)
		c.fault = func(op string, n int) *answer {
			if op == "Connections.Post" && n == 1 {
				close(notified)
			}
			return nil
		}
	}
	add(run{title: "progress", env: from(halting), given: given(listening), checks: []check{copied(data), func(t *testing.T, _ invocation, c *cloud) {
		if got, want := c.posts()[0], connection+` {"type":"progress","bytesCopied":`; !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s…", got, want)
		}
	}}})
	runAll(t, "fetch", runs)
}

// TestSegments copies a file in segments: what a function returns is what the state
// machine passes to the next.
func TestSegments(t *testing.T) {
	t.Parallel()
	data := origintest.Bytes(2, 20<<20)
	env := from(source(t, pdf(data)), "SEGMENT_BYTES", "8388608")
	c := newCloud(t)
	c.item(nil)
	call := func(function string, event map[string]any) map[string]any {
		t.Helper()
		all := environment(t, function, c.URL)
		for name, value := range env {
			all[name] = value
		}
		event["executionArn"] = execution
		got := invoke(t, function, all, []byte(asJSON(event)))
		noSecrets(t, "log", got.logs)
		var out struct {
			Work map[string]any
		}
		if err := json.Unmarshal(got.Body, &out); err != nil || got.ErrorType != "" {
			t.Fatalf("%s: got %s (%v)", function, got.Body, err)
		}
		return out.Work
	}
	work := call("fetch", map[string]any{})
	segments := work["segments"].([]any)
	if len(segments) != 3 {
		t.Fatalf("got segments %v, want three", segments)
	}
	for _, segment := range segments[:2] {
		call("fetch", map[string]any{"plan": work["plan"], "segment": segment})
	}
	missing := call("finish", map[string]any{"work": work})
	if got := missing["segments"].([]any); len(got) != 1 || missing["missing"] != 1.0 || c.attribute("status") != "COPYING" {
		t.Fatalf("got %v, want the work of the third segment", missing)
	}
	call("fetch", map[string]any{"plan": missing["plan"], "segment": missing["segments"].([]any)[0]})
	if left := call("finish", map[string]any{"work": missing}); left["missing"] != 0.0 {
		t.Fatalf("got %v, want nothing", left)
	}
	copied(data)(t, invocation{}, c)
	keeps("status", "READY")(t, invocation{}, c)
}

// half is what an earlier run left.
func half(c *cloud) { c.s3.Put(key, []byte("half")) }

func TestFinish(t *testing.T) {
	t.Parallel()
	const cause = "the origin answered 404 Not Found"
	noted := func(code, message string, connected bool) check {
		return func(t *testing.T, got invocation, _ *cloud) {
			t.Helper()
			var out struct {
				Code, Message string
				Connected     *bool
			}
			if err := json.Unmarshal(got.Body, &out); err != nil || got.ErrorType != "" || out.Code != code || !strings.Contains(out.Message, message) || out.Connected == nil || *out.Connected != connected {
				t.Errorf("got %s, want code %s with %q and connected %v", got.Body, code, message, connected)
			}
		}
	}
	caught := func(name, cause string) func(map[string]any) {
		return func(e map[string]any) { e["failure"] = map[string]any{"Error": name, "Cause": cause} }
	}
	runAll(t, "finish", []run{
		{title: "cancelled", sample: "finish", given: []func(*cloud){having(map[string]any{"cancelled": true})},
			checks: []check{taskError("CANCELLED", "")}},
		{title: "failure, client here", sample: "finish-failure", env: map[string]string{"EVENT_BUS": "bus"}, given: []func(*cloud){connected(nil), half},
			checks: []check{noted("ORIGIN_STATUS", cause, true), nothing, keeps("status", "FAILED"), logged("ORIGIN_STATUS"), counted(), calls("EventBridge.PutEvents", nil)}},
		{title: "failure, nobody here", sample: "finish-failure", given: []func(*cloud){having(nil)},
			checks: []check{noted("ORIGIN_STATUS", cause, false), keeps("status", "FAILED")}},
		{title: "failure of the engine", sample: "finish-failure", change: caught("States.Timeout", "arn:aws:lambda and more that is nobody's business"), given: []func(*cloud){having(nil)},
			checks: []check{noted("INTERNAL", "unexpected", false), hidden("nobody's business")}},
		{title: "failure, bucket closed", sample: "finish-failure", given: []func(*cloud){connected(nil), half, failing("S3.ListMultipartUploads", 9, answer{status: http.StatusForbidden})},
			checks: []check{noted("ORIGIN_STATUS", cause, true), logged("not discarded"), counted("NotDiscarded")}},
		{title: "failure that can't be noted", sample: "finish-failure", given: []func(*cloud){having(nil), failing("DynamoDB.UpdateItem", 9, refused("AccessDeniedException"))},
			checks: []check{taskError("INTERNAL", ""), logged("AccessDeniedException")}},
	})
}

func TestCleanUp(t *testing.T) {
	t.Parallel()
	again := func(t *testing.T, got invocation, c *cloud) {
		t.Helper()
		if got.ErrorType == "" {
			t.Errorf("got %s, want an error, for Lambda to try again", got.Body)
		}
		counted("NotDiscarded")(t, got, c)
	}
	delivery := calls("StepFunctions.StartExecution", map[string]string{"stateMachineArn": deliver, "input": `{"executionArn":"` + execution + `"}`})
	waiting := having(map[string]any{"status": "READY", "taskToken": taskToken, "copiedAt": time.Now().UnixMilli()})
	// A clean-up that discards waits 15 s and discards again, which internal/download tests;
	// these end at the first.
	discards := func(item string, more ...check) []check {
		return append(more, delivery, calls("S3.DeleteObject", nil), keeps("status", item), again)
	}
	closed := failing("S3.DeleteObject", 9, answer{status: http.StatusForbidden})
	runAll(t, "clean-up", []run{
		{title: "failed, file not deleted", sample: "clean-up", env: map[string]string{"EVENT_BUS": "bus"}, given: []func(*cloud){connected(nil), half, closed},
			checks: discards("FAILED", calls("EventBridge.PutEvents", nil))},
		{title: "stopped, file not deleted", sample: "clean-up-aborted", given: []func(*cloud){connected(nil), half, closed},
			checks: discards("CANCELLED")},
		{title: "timed out while it waited", sample: "clean-up-timed-out", given: []func(*cloud){waiting, stored()},
			checks: []check{taskResult("null"), logged(name), logged("cleaned up"), keeps("status", "EXPIRED"), counted("Expired", "WaitSeconds"), func(t *testing.T, _ invocation, c *cloud) {
				if c.s3.Object(key) == nil {
					t.Error("got no file, want it kept")
				}
			}}},
		{title: "table not readable", sample: "clean-up", given: []func(*cloud){failing("DynamoDB.GetItem", 9, refused("AccessDeniedException"))},
			checks: []check{logged("AccessDeniedException"), again}},
	})
}
