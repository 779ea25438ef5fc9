package socket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"

	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/object"
)

// TestIn compares each event with testdata/events.json, which scripts/asyncapi_test.py
// compares with docs/asyncapi.yaml.
func TestIn(t *testing.T) {
	total, modified := int64(9), time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	l := link.Link{URL: "https://s3/x?a=1&b=2", ExpiresAt: time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC), File: object.File{Size: 9,
		ContentType: "text/csv", FileName: "ä.csv", Checksum: map[string]string{"crc64nvme": "AA=="}, Verified: true}}
	whole := l
	whole.Pinned, whole.Digest, whole.ETag, whole.LastModified = true, map[string]string{"sha-256": "BB=="}, `"v1"`, &modified
	e := failure.New(failure.OriginStatus, "the origin answered 404 Not Found")
	events := map[string]Event{
		"progress": Progress(3, &total), "progress of no length": Progress(3, nil),
		"ready": Ready(l), "ready, all that is known": Ready(whole), "failed": Failed(e), "refused": Refused(e),
	}
	b, err := os.ReadFile("testdata/events.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []struct {
		Name, Text string
		JSON       json.RawMessage
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(events) {
		t.Errorf("got %d events, want %d", len(events), len(want))
	}
	for _, want := range want {
		if got := string(events[want.Name].In("")); got != want.Text {
			t.Errorf("%s: got %q, want %q", want.Name, got, want.Text)
		}
		if got := string(events[want.Name].In(JSON)); got != string(want.JSON) {
			t.Errorf("%s: got %s, want %s", want.Name, got, want.JSON)
		}
	}
}

func TestPost(t *testing.T) {
	status, path, body := 200, "", ""
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.RequestURI
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		if status != 200 {
			w.Header().Set("X-Amzn-ErrorType", map[int]string{410: "GoneException", 403: "ForbiddenException"}[status])
		}
		w.WriteHeader(status)
	}))
	socket := func(endpoint string) *Socket {
		return &Socket{API: apigatewaymanagementapi.New(apigatewaymanagementapi.Options{
			BaseEndpoint: aws.String(endpoint), Region: "us-east-1", RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		})}
	}
	// API Gateway's ids end in =, and may hold / and +.
	c := meeting.Connection{ID: "L0SM9cOFvHc/CIE+w="}
	s, event := socket(api.URL+"/dev"), Failed(failure.New(failure.Expired, "late"))
	if err := s.Post(context.Background(), c, event); err != nil || body != "error: EXPIRED late" || path != "/dev/@connections/L0SM9cOFvHc%2FCIE%2Bw%3D" && path != "/dev/%40connections/L0SM9cOFvHc%2FCIE%2Bw%3D" {
		t.Errorf("got %v, body %q at %s", err, body, path)
	}
	body = ""
	if err := s.Post(context.Background(), c, Progress(1, nil)); err != nil || body != "" {
		t.Errorf("progress in plain text: got %v, body %q, want nothing sent", err, body)
	}
	status = 410
	if err := s.Post(context.Background(), c, event); !errors.Is(err, meeting.ErrGone) {
		t.Errorf("410: got %v, want ErrGone", err)
	}
	status = 403
	if err := s.Post(context.Background(), c, event); err == nil || errors.Is(err, meeting.ErrGone) {
		t.Errorf("403: got %v, want an error that is not gone", err)
	}
	api.Close()
	if err := s.Post(context.Background(), c, event); err == nil || strings.Contains(err.Error(), "L0SM9") {
		t.Errorf("unreachable: got %v, want an error without the connection's id", err)
	}
}

func TestFormat(t *testing.T) {
	for asked, want := range map[string]string{"json": JSON, "": "", "JSON": "", "xml": ""} {
		if got := Format(asked); got != want {
			t.Errorf("%q: got %q, want %q", asked, got, want)
		}
	}
}
