package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"async-download/internal/execution"
)

// busEvent is an event as EventBridge hands it to a target.
type busEvent struct {
	Source     string
	DetailType string `json:"detail-type"`
	Detail     map[string]any
	text       string
}

// TestEvents consumes events from the bus and the queue of docs/events.yaml. After
// Download ready, the consumer sends GET /executions/{name}, which resumes the workflow.
func TestEvents(t *testing.T) {
	const cli = ".local/venv/bin/aws"
	command(t, nil, cli, "cloudformation", "deploy", "--stack-name", "download-events", "--template-file", "docs/events.yaml",
		"--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset")
	queue := strings.TrimSpace(command(t, nil, cli, "cloudformation", "describe-stacks", "--stack-name", "download-events",
		"--query", "Stacks[0].Outputs[?OutputKey=='QueueUrl'].OutputValue", "--output", "text"))
	sqs(t, "PurgeQueue", map[string]any{"QueueUrl": queue}, nil) // events of other tests

	events := map[string]busEvent{} // by execution
	await := func(arn string) {
		t.Helper()
		waitUntil(t, "an event", func() bool {
			for _, e := range receive(t, queue) {
				arn, _ := e.Detail["executionArn"].(string)
				events[arn] = e
			}
			return events[arn].Source != ""
		})
	}
	failed := ask(t, "/status/404?token=planted-query")
	cancelled := ask(t, "/file/1MiB/event.bin?token=planted-query&delay=60s")
	remove(t, cancelled, http.StatusAccepted)
	await(failed)
	await(cancelled)
	ready := ask(t, "/file/1MiB/event.bin?token=planted-query")
	await(ready)

	awaitToken(t, ready)
	resp, err := http.Get(stack.env["API_URL"] + "/executions/" + events[ready].Detail["name"].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct{ Status, URL string }
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil || status.Status != "READY" {
		t.Fatalf("the consumer got %+v, %v, want READY", status, err)
	}
	if _, got, _ := fetch(t, status.URL); got != sum(t, "/file/1MiB/event.bin?token=planted-query") {
		t.Error("the consumer got other bytes")
	}
	if got := ended(t, ready).Status; got != "SUCCEEDED" {
		t.Errorf("execution: got %s, want SUCCEEDED", got)
	}

	for arn, want := range map[string]struct {
		kind, members string
		detail        map[string]any
	}{
		ready: {"Download ready", "askedBy checksum contentType executionArn fileName name path size verified", map[string]any{
			"path": "file/1MiB/event.bin", "size": 1 << 20 * 1.0, "fileName": "event.bin", "contentType": "application/octet-stream", "verified": true}},
		failed:    {"Download failed", "askedBy code executionArn message name path", map[string]any{"path": "status/404", "code": "ORIGIN_STATUS"}},
		cancelled: {"Download cancelled", "askedBy code executionArn message name path", map[string]any{"path": "file/1MiB/event.bin", "code": "CANCELLED"}},
	} {
		e := events[arn]
		members := []string{}
		for name := range e.Detail {
			members = append(members, name)
		}
		slices.Sort(members)
		if e.Source != "async-download" || e.DetailType != want.kind || strings.Join(members, " ") != want.members || e.Detail["name"] != execution.NameFromARN(arn) {
			t.Errorf("got %s, want %s with %s", e.text, want.kind, want.members)
		}
		for name, value := range want.detail {
			if e.Detail[name] != value {
				t.Errorf("%s: got %s %v, want %v", want.kind, name, e.Detail[name], value)
			}
		}
		for _, secret := range plantedSecrets {
			if strings.Contains(e.text, secret) {
				t.Errorf("%s: a secret is in the event", want.kind)
			}
		}
		if strings.Contains(e.text, "planted-query") {
			t.Errorf("%s: the query is in the event", want.kind)
		}
	}
}

// remove sends DELETE for a download and fails unless the answer has this status.
func remove(t *testing.T, arn string, want int) {
	t.Helper()
	r, err := http.NewRequest(http.MethodDelete, stack.env["API_URL"]+"/executions/"+execution.NameFromARN(arn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != want {
		t.Fatalf("DELETE: got %s, want %d", resp.Status, want)
	}
}

// receive returns the events that are in a queue, at most ten, and removes them.
func receive(t *testing.T, queue string) (events []busEvent) {
	t.Helper()
	var got struct {
		Messages []struct{ Body, ReceiptHandle string }
	}
	sqs(t, "ReceiveMessage", map[string]any{"QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}, &got)
	for _, m := range got.Messages {
		e := busEvent{text: m.Body}
		if err := json.Unmarshal([]byte(m.Body), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
		sqs(t, "DeleteMessage", map[string]any{"QueueUrl": queue, "ReceiptHandle": m.ReceiptHandle}, nil)
	}
	return events
}

// sqs calls SQS without its client, which only this test would need.
func sqs(t *testing.T, operation string, request, answer any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, stack.env["AWS_ENDPOINT_URL"]+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "AmazonSQS."+operation)
	sum := sha256.Sum256(body)
	credentials := aws.Credentials{AccessKeyID: stack.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: stack.env["AWS_SECRET_ACCESS_KEY"]}
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, hex.EncodeToString(sum[:]), "sqs", stack.env["AWS_REGION"], time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && answer != nil {
		err = json.Unmarshal(got, answer)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %s, %v", operation, resp.Status, got, err)
	}
}
