package socket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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

func TestIn(t *testing.T) {
	total := int64(9)
	l := link.Link{URL: "https://s3/x?a=1&b=2", ExpiresAt: time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC), File: object.File{Size: 9,
		ContentType: "text/csv", FileName: "ä.csv", Checksum: map[string]string{"crc64nvme": "AA=="}, Verified: true}}
	e := failure.New(failure.OriginStatus, "the origin answered 404 Not Found")
	tests := []struct {
		name       string
		event      Event
		text, json string
	}{
		{"progress", Progress(3, &total), "", `{"type":"progress","bytesCopied":3,"bytesTotal":9}`},
		{"progress of no length", Progress(3, nil), "", `{"type":"progress","bytesCopied":3,"bytesTotal":null}`},
		{"ready", Ready(l), "https://s3/x?a=1&b=2", `{"type":"ready","url":"https://s3/x?a=1&b=2","expiresAt":"2026-11-24T11:00:00Z","size":9,"contentType":"text/csv","fileName":"ä.csv","checksum":{"crc64nvme":"AA=="},"verified":true,"pinned":false}`},
		{"failed", Failed(e), "error: ORIGIN_STATUS the origin answered 404 Not Found", `{"type":"failed","code":"ORIGIN_STATUS","message":"the origin answered 404 Not Found"}`},
		{"refused", Refused(e), "error: ORIGIN_STATUS the origin answered 404 Not Found", `{"type":"error","code":"ORIGIN_STATUS","message":"the origin answered 404 Not Found"}`},
	}
	for _, test := range tests {
		if got := string(test.event.In("")); got != test.text {
			t.Errorf("%s: got %q, want %q", test.name, got, test.text)
		}
		if got := string(test.event.In(JSON)); got != test.json {
			t.Errorf("%s: got %s, want %s", test.name, got, test.json)
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
		t.Errorf("progress in plain text: got %v, body %q, want nothing said", err, body)
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
