package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/execution"
	"async-download/internal/meeting"
)

// originRequest is a request that the demo origin has received.
type originRequest struct {
	Time              time.Time
	Method, Host, URI string
	Header            http.Header
	Body              string
}

// originRequests returns the requests to the demo origin whose URLs contain text.
func originRequests(t *testing.T, text string) []originRequest {
	t.Helper()
	resp, err := http.Get(stack.originURL + "/_requests?contains=" + url.QueryEscape(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []originRequest
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// countMethod counts the requests with a method.
func countMethod(method string, all []originRequest) (n int) {
	for _, a := range all {
		if a.Method == method {
			n++
		}
	}
	return n
}

// request asks for a download with a method, a body and a bearer token, "" for none.
func request(t *testing.T, method, path, body, token string) answer {
	t.Helper()
	r, err := http.NewRequest(method, stack.env["API_URL"]+"/download"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	var a answer
	if err != nil || json.Unmarshal(b, &a) != nil || a.ExecutionARN == "" || method == "POST" && resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s /download%s: got %d %s, %v", method, path, resp.StatusCode, b, err)
	}
	return a
}

// text downloads a link's file.
func text(t *testing.T, link string) string {
	t.Helper()
	resp, err := http.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s, %v from %q", resp.StatusCode, b, err, link)
	}
	return string(b)
}

// noRequest fails unless the execution's request item is gone.
func noRequest(t *testing.T, arn string) {
	t.Helper()
	if _, err := stack.meeting.Request(t.Context(), arn); !errors.Is(err, meeting.ErrUnknown) {
		t.Errorf("got %v for the request item of %s, want none", err, arn)
	}
}

// TestBackends downloads from origins that need other settings of the functions than
// this stack's: with segments of one part, ten seconds for an answer, and another host
// that redirects may lead to.
func TestBackends(t *testing.T) {
	other := strings.Replace(stack.originURL, "127.0.0.1", "localhost", 1)
	host := strings.TrimPrefix(other, "http://")
	for _, id := range []string{"FetchFunction", "FinishFunction"} {
		for variable, value := range map[string]string{"SEGMENT_BYTES": fmt.Sprint(8 << 20), "ORIGIN_ANSWER_SECONDS": "10", "ORIGIN_REDIRECT_HOSTS": host} {
			before := setEnv(t, id, variable, value)
			t.Cleanup(func() { setEnv(t, id, variable, before) })
		}
	}
	t.Run("together", func(t *testing.T) { // so that the settings outlive the subtests
		t.Run("16 segments at once", segmentsAtOnce)
		t.Run("too slow", func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			a := request(t, "GET", "/report?delay=3m&id=too-slow", "", "planted-token-slow")
			m := dial(t, a.ExecutionARN, "").next()
			if took := time.Since(began); !strings.HasPrefix(m, "error: ORIGIN_TOO_SLOW ") || took > 3*time.Minute {
				t.Errorf("got %q after %s, want ORIGIN_TOO_SLOW before the origin's answer", m, took)
			}
			if n := len(originRequests(t, "id=too-slow")); n != 1 {
				t.Errorf("got %d requests, want 1", n)
			}
			ended(t, a.ExecutionARN)
			noRequest(t, a.ExecutionARN)
		})
		t.Run("202, then a large file in segments", func(t *testing.T) {
			t.Parallel()
			a := request(t, "POST", "/report/64MiB/big.bin?accepted=5&then=303&retryafter=1&token=planted-token-big&id=big", `{"planted-body":1}`, "planted-token-big")
			c := dial(t, a.ExecutionARN, "json")
			waitUntil(t, "a request item with a place", func() bool {
				r, err := stack.meeting.Request(t.Context(), a.ExecutionARN)
				return err == nil && strings.Contains(r.Place, "planted-place")
			})
			if i, _ := item(t, a.ExecutionARN); i.Status != meeting.Copying || i.BytesTotal != nil {
				t.Errorf("got %s with a size of %v, want COPYING without one", i.Status, i.BytesTotal)
			}
			var ready struct{ Type, URL string }
			for ready.Type != "ready" {
				if err := json.Unmarshal([]byte(c.next()), &ready); err != nil || ready.Type == "failed" {
					t.Fatalf("got %+v, %v, want the file", ready, err)
				}
			}
			if _, got, n := fetch(t, ready.URL); n != 64<<20 || got != sum(t, fmt.Sprintf("/file/%d/report.bin", 64<<20)) {
				t.Errorf("got %d other bytes", n)
			}
			if got := states(t, a.ExecutionARN); !strings.Contains(strings.Join(got, ","), "Copy the segments") {
				t.Errorf("got states %q, want segments", got)
			}
			noRequest(t, a.ExecutionARN)
			if posts := countMethod("POST", originRequests(t, "id=big")); posts != 1 {
				t.Errorf("got %d POSTs, want 1", posts)
			}
			for _, r := range originRequests(t, fmt.Sprintf("/file/%d/report.bin", 64<<20)) {
				if !strings.Contains(r.URI, "_sha256") && r.Header.Get("Authorization") != "Bearer planted-token-big" {
					t.Errorf("got Authorization %q for %s, want it in each worker", r.Header.Get("Authorization"), r.Header.Get("Range"))
				}
			}
		})
		t.Run("another host", func(t *testing.T) {
			t.Parallel()
			for _, status := range []string{"302", "307"} {
				id := "away-" + status
				to := url.QueryEscape(other + "/report?id=" + id)
				a := request(t, "POST", "/report?redirect="+status+"&id="+id+"&to="+to, "planted-body-away", "planted-token-away")
				_ = text(t, dial(t, a.ExecutionARN, "").next())
				all := originRequests(t, "id="+id)
				if len(all) != 2 || all[0].Header.Get("Authorization") != "Bearer planted-token-away" || all[1].Header.Get("Authorization") != "" || all[1].Host != host {
					t.Errorf("%s: got requests %+v, want one with the token, and one elsewhere without", status, all)
				}
			}
		})
	})
	t.Run("the caller", theCaller)
	t.Run("killed workers", killedWorkers)
}

// segmentsAtOnce copies a file of 16 segments, one part each, from an origin that sends
// 1 MiB per second on each connection: 128 seconds for one worker after the other. Here
// all ask before the first can have its part, and on a busy machine at least some do.
func segmentsAtOnce(t *testing.T) {
	t.Parallel()
	const path, segments, part, rate = "/file/128MiB/segments.bin?rate=1MiB", 16, 8 << 20, 1 << 20
	m := dial(t, ask(t, path), "").next()
	if _, got, n := fetch(t, m); got != sum(t, path) || n != segments*part {
		t.Errorf("got %d bytes with SHA-256 %s, want %d with %s", n, got, segments*part, sum(t, path))
	}
	asked := map[string]time.Time{} // for the first time, by range
	for _, r := range originRequests(t, path) {
		if part := r.Header.Get("Range"); part != "" && asked[part].IsZero() {
			asked[part] = r.Time
		}
	}
	most := 0 // that were asked for while one part is sent
	for _, from := range asked {
		n := 0
		for _, at := range asked {
			if passed := at.Sub(from); passed >= 0 && passed < part/rate*time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	t.Logf("%d of %d ranges were asked for within %s", most, len(asked), part/rate*time.Second)
	if len(asked) != segments || most < segments/4 { // a busy machine starts few workers in that time
		t.Errorf("%d of %d ranges were asked for within %s, want at least %d of %d", most, len(asked), part/rate*time.Second, segments/4, segments)
	}
}

// theCaller sends a request as API Gateway does for a caller that it knows: this stack
// has no ApiAuth.
func theCaller(t *testing.T) {
	for variable, value := range map[string]string{"CALLER_HEADER": "X-Caller", "API_AUTH": "IAM", "FORWARDED_HEADERS": "X-Caller"} {
		before := setEnv(t, "DownloadFunction", variable, value)
		t.Cleanup(func() { setEnv(t, "DownloadFunction", variable, before) })
	}
	b, err := os.ReadFile("events/event-download.json")
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(b, &event); err != nil {
		t.Fatal(err)
	}
	event["path"], event["resource"], event["pathParameters"] = "/download/report", "/download/{path+}", map[string]any{"path": "report"}
	event["requestContext"].(map[string]any)["path"] = "/dev/download/report"
	event["queryStringParameters"] = map[string]any{"caller": "X-Caller", "id": "caller"}
	event["multiValueQueryStringParameters"] = map[string]any{"caller": []string{"X-Caller"}, "id": []string{"caller"}}
	event["headers"] = map[string]any{"X-Caller": "mallory"}
	event["multiValueHeaders"] = map[string]any{"X-Caller": []string{"mallory"}}
	const alice = "arn:aws:iam::123456789012:user/alice"
	event["requestContext"].(map[string]any)["identity"] = map[string]any{"userArn": alice, "sourceIp": "192.0.2.1"}
	payload, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	name := function(t, "DownloadFunction")
	out, err := stack.lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	var reply struct{ Body string }
	var a answer
	if json.Unmarshal(out.Payload, &reply) != nil || json.Unmarshal([]byte(reply.Body), &a) != nil || a.ExecutionARN == "" {
		t.Fatalf("got %s", out.Payload)
	}
	if got := text(t, dial(t, a.ExecutionARN, "").next()); !strings.Contains(got, `"caller":"`+alice+`"`) {
		t.Errorf("got %s, want the caller's ARN", got)
	}
	ended(t, a.ExecutionARN)
}

// killedWorkers kills workers at random moments while 20 POSTs are made: the origin sees
// none twice.
func killedWorkers(t *testing.T) {
	const n = 20
	run := execution.NewName()
	var asking sync.WaitGroup
	arns := make([]string, n)
	for i := range n {
		path := fmt.Sprintf("/report?delay=%dms&id=%s-%d.", 1000+rand.IntN(4000), run, i)
		asking.Go(func() { arns[i] = request(t, "POST", path, "planted-body-killed", "").ExecutionARN })
	}
	stop := make(chan struct{})
	var killing sync.WaitGroup
	kills := 0
	killing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(400)) * time.Millisecond):
			}
			if countMethod("POST", originRequests(t, run)) < kills { // on a busy machine: none would live long enough to ask
				continue
			}
			if workers := processes("FetchFunction"); len(workers) > 0 && syscall.Kill(workers[rand.IntN(len(workers))], syscall.SIGKILL) == nil {
				kills++
			}
		}
	})
	asking.Wait()
	waitUntil(t, "most of the POSTs", func() bool { return countMethod("POST", originRequests(t, run)) >= n*3/4 })
	time.Sleep(3 * time.Second) // while the origin makes the reports
	close(stop)
	killing.Wait()
	executed := 0
	for i, arn := range arns {
		if arn == "" {
			t.Fatal("a download was not started")
		}
		out := ended(t, arn)
		it, _ := item(t, arn)
		posts := countMethod("POST", originRequests(t, fmt.Sprintf("id=%s-%d.", run, i)))
		switch {
		case posts > 1:
			t.Errorf("%d: got %d POSTs, want 1 at most", i, posts)
		case it.Failure != nil && it.Failure.Code == "ORIGIN_UNREACHABLE" && strings.Contains(it.Failure.Message, "may have executed it"):
			executed++
		case it.Failure != nil && posts == 1 && it.Failure.Code != "INTERNAL": // killed three times
			t.Errorf("%d: got %s %v after a POST, want the file, or that it may have been executed", i, out.Status, it.Failure)
		}
		noRequest(t, arn)
	}
	t.Logf("%d workers killed; %d of %d downloads ended because the request may have been executed", kills, executed, n)
	if executed == 0 {
		t.Error("no worker was killed while its POST was answered")
	}
}

// processes returns the processes of a function of this stack.
func processes(logicalID string) (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte("AWS_LAMBDA_FUNCTION_NAME=e2e-"+logicalID)) || !bytes.Contains(env, []byte(":"+port)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestSlowAnswer waits for an origin that takes longer than API Gateway does.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	arn := ask(t, "/report?delay=40s&id=slow-answer")
	if got := text(t, dial(t, arn, "").next()); !strings.Contains(got, "id=slow-answer") {
		t.Errorf("got %s, want the report", got)
	}
	if n := len(originRequests(t, "id=slow-answer")); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// TestCallersTokens downloads for two callers at once: each file is made for its own.
func TestCallersTokens(t *testing.T) {
	t.Parallel()
	clients := map[string]*client{}
	for _, who := range []string{"alice", "bob"} {
		a := request(t, "GET", "/report?accepted=2&retryafter=1&token=planted-token-"+who+"&id="+who, "", "planted-token-"+who)
		clients[who] = dial(t, a.ExecutionARN, "")
	}
	stranger := request(t, "GET", "/report?token=planted-token-alice&id=stranger", "", "")
	for who, c := range clients {
		if got := text(t, c.next()); !strings.Contains(got, "id="+who) {
			t.Errorf("got %s, want %s's report", got, who)
		}
		for _, r := range originRequests(t, "id="+who) {
			if got := r.Header.Get("Authorization"); got != "Bearer planted-token-"+who {
				t.Errorf("%s: got Authorization %q, want the caller's", who, got)
			}
		}
	}
	if m := dial(t, stranger.ExecutionARN, "").next(); !strings.HasPrefix(m, "error: ORIGIN_STATUS the origin answered 401") {
		t.Errorf("got %q without a token, want 401", m)
	}
}

// TestAcceptedWithoutPlace asks the same URL again, and fails at once where a place is
// gone.
func TestAcceptedWithoutPlace(t *testing.T) {
	t.Parallel()
	same := ask(t, "/report/1MiB/same.bin?accepted=2&nolocation&retryafter=1&id=same")
	gone := ask(t, "/report?accepted=1&then=404&retryafter=1&id=gone")
	if _, got, _ := fetch(t, dial(t, same, "").next()); got != sum(t, "/file/1MiB/x.bin") {
		t.Error("got other bytes")
	}
	if n := len(originRequests(t, "id=same")); n < 3 {
		t.Errorf("got %d requests, want 3", n)
	}
	if m := dial(t, gone, "").next(); !strings.HasPrefix(m, "error: ORIGIN_STATUS the origin answered 404") {
		t.Errorf("got %q from a place that is gone, want 404", m)
	}
	ended(t, gone)
	noRequest(t, gone)
}

// TestAcceptedForEver ends downloads whose origin answers 202 without end: cancelled in
// a short wait and in a long one, stopped, and timed out.
func TestAcceptedForEver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, wait string
		end        func(t *testing.T, a answer)
		want       string
	}{
		{"cancelled", "1", cancel, "error: CANCELLED "},
		{"cancelled in a long wait", "3600", cancel, "error: CANCELLED "},
		{"stopped", "3600", func(t *testing.T, a answer) {
			if _, err := stack.stepFuncs.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: &a.ExecutionARN}); err != nil {
				t.Fatal(err)
			}
		}, "error: CANCELLED "},
		{"timed out", "3600", timeOut, "error: ORIGIN_TOO_SLOW "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := request(t, "POST", "/report?accepted=1000000&retryafter="+tt.wait+"&id=ever-"+tt.wait, "planted-body-ever", "planted-token-ever")
			c := dial(t, a.ExecutionARN, "")
			waitUntil(t, "a place", func() bool {
				r, err := stack.meeting.Request(t.Context(), a.ExecutionARN)
				return err == nil && r.Place != ""
			})
			waitUntil(t, "the wait", func() bool {
				return strings.Contains(strings.Join(states(t, a.ExecutionARN), ","), "Wait for the origin")
			})
			began := time.Now()
			tt.end(t, a)
			if m := c.next(); !strings.HasPrefix(m, tt.want) {
				t.Errorf("got %q, want %q", m, tt.want)
			}
			t.Logf("the client was notified after %s", time.Since(began).Round(time.Millisecond))
			waitUntil(t, "the request item to go", func() bool {
				_, err := stack.meeting.Request(t.Context(), a.ExecutionARN)
				return errors.Is(err, meeting.ErrUnknown)
			})
			nothingStored(t, a.ExecutionARN)
		})
	}
}

// cancel cancels a download by its status URL.
func cancel(t *testing.T, a answer) {
	r, _ := http.NewRequest("DELETE", a.StatusURL, nil)
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("DELETE: got %v, %v, want 202", resp, err)
	}
	resp.Body.Close()
}

// timeOut reports the execution's end as EventBridge would after a day, and ends it.
func timeOut(t *testing.T, a answer) {
	b, err := os.ReadFile("events/event-clean-up-timed-out.json")
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(b, &event); err != nil {
		t.Fatal(err)
	}
	detail := event["detail"].(map[string]any)
	detail["executionArn"], detail["stateMachineArn"], detail["name"] = a.ExecutionARN, stack.stateMachine, execution.NameFromARN(a.ExecutionARN)
	event["resources"] = []string{a.ExecutionARN}
	payload, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	name := function(t, "CleanUpFunction")
	out, err := stack.lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: payload})
	if err != nil || out.FunctionError != nil {
		t.Fatalf("clean-up: got %s, %v", out.Payload, err)
	}
	t.Cleanup(func() {
		_, _ = stack.stepFuncs.StopExecution(context.Background(), &sfn.StopExecutionInput{ExecutionArn: &a.ExecutionARN})
	})
}
