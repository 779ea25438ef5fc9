package events_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// counted expects exactly these metrics in the log, each in a valid embedded metric
// line. A nil value accepts any.
func counted(want map[string]any) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		values := map[string]any{}
		for _, line := range lines(got.logs, func(map[string]any) bool { return true }) {
			aws, _ := line["_aws"].(map[string]any)
			directives, _ := aws["CloudWatchMetrics"].([]any)
			for _, d := range directives {
				for _, m := range d.(map[string]any)["Metrics"].([]any) {
					metric := m.(map[string]any)["Name"].(string)
					if _, twice := values[metric]; twice {
						t.Errorf("got %s twice:\n%s", metric, got.logs)
					}
					values[metric] = line[metric]
				}
			}
			if aws != nil && (line["Stack"] != "download" || line["execution"] == "" || line["execution"] == nil) {
				t.Errorf("got %v, want the stack's name and the execution's", line)
			}
		}
		for metric, value := range want {
			if value == nil && values[metric] != nil {
				want[metric] = values[metric]
			}
		}
		if !maps.Equal(values, want) {
			t.Errorf("got metrics %v, want %v:\n%s", values, want, got.logs)
		}
	}
}

// audited expects one audit line with these members.
func audited(want map[string]any) func(*testing.T, invocation) {
	return func(t *testing.T, got invocation) {
		t.Helper()
		audits := lines(got.logs, func(line map[string]any) bool { return line["message"] == "audit" })
		if len(audits) != 1 {
			t.Fatalf("got %d audit lines, want one:\n%s", len(audits), got.logs)
		}
		for member, value := range want {
			if audits[0][member] != value {
				t.Errorf("got %s %v, want %v", member, audits[0][member], value)
			}
		}
	}
}

func lines(logs string, wanted func(map[string]any) bool) []map[string]any {
	var found []map[string]any
	for text := range strings.Lines(logs) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && wanted(line) {
			found = append(found, line)
		}
	}
	return found
}

const asker = "203.0.113.25 arn:aws:iam::123456789012:user/ana"

func TestStartIsCounted(t *testing.T) {
	t.Parallel()
	as := func(change func(c, identity map[string]any)) func(map[string]any) {
		return func(e map[string]any) {
			c := e["requestContext"].(map[string]any)
			change(c, c["identity"].(map[string]any))
		}
	}
	var runs []run
	for by, change := range map[string]func(c, identity map[string]any){
		"203.0.113.25":       func(_, _ map[string]any) {},
		asker:                func(_, identity map[string]any) { identity["userArn"] = "arn:aws:iam::123456789012:user/ana" },
		"203.0.113.25 ana":   func(c, _ map[string]any) { c["authorizer"] = map[string]any{"principalId": "ana"} },
		"203.0.113.25 k3y1d": func(_, identity map[string]any) { identity["apiKeyId"], identity["apiKey"] = "k3y1d", querySecret },
	} {
		runs = append(runs, run{title: by, sample: "download", change: as(change), calls: []call{
			{op: "DynamoDB.PutItem", with: map[string]string{"Item.askedBy.S": by}, answer: empty}, {op: "StepFunctions.StartExecution", answer: started(execution)},
		}, check: both(status(http.StatusOK), counted(map[string]any{"Started": 1.0}), func(t *testing.T, got invocation) {
			said := lines(got.logs, func(line map[string]any) bool { return line["message"] == "started" })
			if len(said) != 1 || said[0]["askedBy"] != by || said[0]["path"] != "reports/2025/Q3%20summary.pdf" {
				t.Errorf("got %v, want one line that says who asked for what", said)
			}
		})})
	}
	runs = append(runs, run{title: "not started", sample: "download", calls: []call{{op: "DynamoDB.PutItem", answer: dynamoError("ResourceNotFoundException")}}, check: counted(map[string]any{})})
	runAll(t, "download", runs)
}

func TestCopyIsCounted(t *testing.T) {
	t.Parallel()
	const partSize = 100_000
	file := pattern(300_000)
	usual := []call{progress(nil), uploading}
	good, empty := newSource(t, ranged(file)), newSource(t, ranged(nil))
	busy := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "later", http.StatusServiceUnavailable)
	})
	failures := 0
	moody := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		if failures++; failures == 1 { // the first request is alone
			http.Error(w, "once", http.StatusBadGateway)
			return
		}
		ranged(file)(w, r)
	})
	before, listed := newStore().put(string(file)), time.Now()
	runAll(t, "fetch", []run{
		{title: "whole", sample: "fetch", env: good.env(), s3: newStore(), calls: []call{getItem(nil), copied(len(file), isReady)}, repeats: usual,
			check: counted(map[string]any{"Bytes": 300000.0, "CopySeconds": nil, "MegabytesPerSecond": nil})},
		{title: "0 bytes", sample: "fetch", env: empty.env(), s3: newStore(), calls: []call{getItem(nil), copied(0, isReady)}, repeats: usual,
			check: counted(map[string]any{"Bytes": 0.0, "CopySeconds": nil})},
		{title: "asked the origin twice", sample: "fetch", env: moody.env(), s3: newStore(), calls: []call{getItem(nil), copied(len(file), isReady)}, repeats: usual,
			check: counted(map[string]any{"Bytes": 300000.0, "CopySeconds": nil, "MegabytesPerSecond": nil, "Retries": 1.0})},
		{title: "copied by an earlier run, a minute ago", sample: "fetch", env: good.env(), s3: before,
			calls:   []call{getItem(map[string]any{"expiresAt": time.Now().Add(48*time.Hour - time.Minute).Unix()}), copied(len(file), isReady)},
			repeats: usual, check: func(t *testing.T, got invocation) {
				want := map[string]any{"Bytes": 300000.0, "CopySeconds": nil}
				counted(want)(t, got)
				if seconds, _ := want["CopySeconds"].(float64); seconds < 60 || seconds > 60+time.Since(listed).Seconds()+60 {
					t.Errorf("got %v seconds, want a minute and a little", seconds)
				}
			}},
		{title: "asked to wait", sample: "fetch", env: busy.env(), s3: newStore(), repeats: usual, check: counted(map[string]any{"Retries": 1.0}),
			calls: []call{getItem(nil), waiting}},
		{title: "a segment", sample: "fetch-segment", env: good.env(), s3: newStore().open("upload-of-before", map[int][]byte{1: file[:partSize]}), change: plan("upload-of-before", partSize, len(file)),
			calls: []call{getItem(nil)}, repeats: usual, check: counted(map[string]any{"MegabytesPerSecond": nil})},
		{title: "cancelled before", sample: "fetch", s3: newStore(), calls: []call{getItem(map[string]any{"cancelled": true})}, check: counted(map[string]any{})},
	})

	work := func(e map[string]any) {
		w := e["work"].(map[string]any)
		p := w["plan"].(map[string]any)
		p["uploadId"], p["partSize"], p["size"] = "upload-of-before", partSize, len(file)
		w["segments"], w["missing"] = []any{map[string]any{"first": 1, "last": 3}}, 3
	}
	parts := func(numbers ...int) *store {
		have := map[int][]byte{}
		for _, n := range numbers {
			have[n] = file[(n-1)*partSize : n*partSize]
		}
		return newStore().open("upload-of-before", have)
	}
	failed := item("Attributes", stored(map[string]any{"status": "FAILED"}))
	runAll(t, "finish", []run{
		{title: "all parts", sample: "finish", env: good.env(), s3: parts(1, 2, 3), change: work, calls: []call{getItem(nil), copied(len(file), isReady)},
			check: counted(map[string]any{"Bytes": 300000.0, "CopySeconds": nil})},
		{title: "a part missing", sample: "finish", env: good.env(), s3: parts(1, 3), change: work, calls: []call{getItem(nil)}, check: counted(map[string]any{"Retries": 1.0})},
		{title: "failure", sample: "finish-failure", s3: parts(1), calls: []call{{op: "DynamoDB.UpdateItem", answer: failed}}, check: counted(map[string]any{})},
		{title: "failure that leaves an upload", sample: "finish-failure", calls: []call{{op: "DynamoDB.UpdateItem", answer: failed}, {op: "S3.ListMultipartUploads", answer: s3Error(http.StatusForbidden, "AccessDenied")}},
			check: counted(map[string]any{"NotDiscarded": 1.0})},
	})
}

func TestEndIsCounted(t *testing.T) {
	t.Parallel()
	now := time.Now()
	done := map[string]any{"askedBy": asker, "bytesCopied": 1048576, "copiedAt": now.Add(-90 * time.Second).UnixMilli()}
	with := func(more map[string]any) map[string]any {
		all := maps.Clone(done)
		maps.Copy(all, more)
		return all
	}
	delivered := map[string]any{"outcome": "DELIVERED", "execution": name, "askedBy": asker, "path": "reports/2025/Q3%20summary.pdf", "bytes": 1048576.0}
	here := func(more map[string]any) call {
		return call{op: "DynamoDB.GetItem", answer: item("Item", stored(connected(with(more))))} // a minute ago
	}
	head := call{op: "S3.HeadObject", answer: object}
	assume := call{op: "STS.AssumeRole", answer: assumed()}
	post := func(a answer) call { return call{op: "Connections.Post", answer: a} }
	left := call{op: "DynamoDB.UpdateItem", answer: item("Attributes", stored(map[string]any{"status": "READY"}))}
	opening := here(map[string]any{"status": "READY", "connectedAt": now.Add(time.Hour).UnixMilli()})
	marked := call{op: "DynamoDB.UpdateItem", answer: item("Attributes", stored(connected(nil)))}
	runAll(t, "send-message", []run{
		{title: "delivered", sample: "send-message", calls: []call{here(map[string]any{"status": "READY"}), head, assume, post(empty), marked},
			check: both(audited(delivered), func(t *testing.T, got invocation) {
				want := map[string]any{"Delivered": 1.0, "WaitSeconds": nil}
				counted(want)(t, got)
				if seconds, _ := want["WaitSeconds"].(float64); seconds < 29 || seconds > 90 {
					t.Errorf("got a wait of %v s, want 30", seconds)
				}
			})},
		{title: "delivered again", sample: "send-message-connection", calls: []call{here(map[string]any{"status": "DELIVERED"}), head, assume, post(empty), marked}, check: counted(map[string]any{})},
		{title: "client gone", sample: "send-message", calls: []call{here(map[string]any{"status": "READY"}), head, assume, post(gone), left}, check: counted(map[string]any{"Gone": 1.0})},
		{title: "handshake open for a moment", sample: "send-message", calls: []call{
			opening, head, assume, post(gone), opening, post(gone), opening, post(empty), marked}, check: counted(map[string]any{"Delivered": 1.0, "WaitSeconds": nil, "Gone": 2.0})},
		{title: "nobody here", sample: "send-message", calls: []call{{op: "DynamoDB.GetItem", answer: item("Item", stored(map[string]any{"status": "READY"}))}}, check: counted(map[string]any{})},
		{title: "failure posted", sample: "send-message", calls: []call{here(map[string]any{"status": "FAILED", "failure": map[string]any{"code": "STORAGE", "message": "x"}}), post(empty)}, check: counted(map[string]any{})},
	})
	request := item("Attributes", stored(map[string]any{"status": "READY", "connectionId": "request"}))
	ready := func(more map[string]any) call {
		all := with(more)
		all["status"] = "READY"
		return call{op: "DynamoDB.GetItem", answer: item("Item", stored(all))}
	}
	runAll(t, "executions", []run{
		{title: "delivered by request", sample: "executions", calls: []call{ready(nil), head, assume, {op: "DynamoDB.UpdateItem", answer: request}},
			check: both(audited(delivered), counted(map[string]any{"Delivered": 1.0, "WaitSeconds": nil}))},
		{title: "asked again before the workflow saw it", sample: "executions", calls: []call{ready(map[string]any{"connectionId": "request"}), head, assume, {op: "DynamoDB.UpdateItem", answer: request}},
			check: counted(map[string]any{})},
		{title: "a socket hears it", sample: "executions", calls: []call{ready(nil), head, assume, {op: "DynamoDB.UpdateItem", answer: conditionFails(stored(connected(map[string]any{"status": "READY"})))}}, check: counted(map[string]any{})},
	})

	ended := func(status string, more map[string]any) []call {
		all := with(more)
		all["status"] = status
		return []call{{op: "DynamoDB.GetItem", answer: item("Item", stored(all))}, {op: "DynamoDB.UpdateItem", answer: conditionFails(stored(all))}}
	}
	detail := func(code any) func(map[string]any) {
		return func(e map[string]any) { e["detail"].(map[string]any)["error"] = code }
	}
	why := map[string]any{"failure": map[string]any{"code": "ORIGIN_STATUS", "message": "the origin answered 404 Not Found"}}
	says := func(outcome string, code any) func(*testing.T, invocation) {
		return audited(map[string]any{"outcome": outcome, "code": code, "Code": code, "execution": name, "askedBy": asker, "bytes": 1048576.0})
	}
	runAll(t, "clean-up", []run{
		{title: "failed", sample: "clean-up", s3: newStore(), calls: ended("FAILED", why), check: both(says("FAILED", "ORIGIN_STATUS"), counted(map[string]any{"Failed": 1.0}))},
		{title: "cancelled by the client", sample: "clean-up", change: detail("CANCELLED"), s3: newStore(), calls: ended("CANCELLED", nil), check: both(says("CANCELLED", nil), counted(map[string]any{"Cancelled": 1.0}))},
		{title: "expired", sample: "clean-up", change: detail("EXPIRED"), s3: newStore(), calls: ended("EXPIRED", nil),
			check: both(says("EXPIRED", nil), func(t *testing.T, got invocation) {
				want := map[string]any{"Expired": 1.0, "WaitSeconds": nil}
				counted(want)(t, got)
				if seconds, _ := want["WaitSeconds"].(float64); seconds < 90 {
					t.Errorf("got a wait of %v s, want 90 and a little", seconds)
				}
			})},
		{title: "a link that nobody could send", sample: "clean-up", change: detail("INTERNAL"), s3: newStore(), calls: ended("EXPIRED", nil), check: both(says("FAILED", "INTERNAL"), counted(map[string]any{"Failed": 1.0}))},
		{title: "delivered all the same", sample: "clean-up", change: detail("INTERNAL"), s3: newStore(), calls: ended("DELIVERED", nil), check: counted(map[string]any{})},
		{title: "nobody's any more", sample: "clean-up", s3: newStore(), calls: []call{{op: "DynamoDB.GetItem", answer: empty}}, check: counted(map[string]any{})},
		{title: "bucket closed", sample: "clean-up", calls: slices.Concat(ended("FAILED", why), []call{{op: "S3.ListMultipartUploads", answer: s3Error(http.StatusForbidden, "AccessDenied")}}),
			check: counted(map[string]any{"NotDiscarded": 1.0})},
	})
}
