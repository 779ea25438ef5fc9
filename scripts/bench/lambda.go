package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"

	"async-download/internal/runtimeapi"
)

// runLambda runs the fetch function's binary once, as Lambda would, and serves the table
// with one item.
func runLambda(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: bench lambda BINARY URL s3://BUCKET/downloads/NAME")
	}
	source, err := url.Parse(args[1])
	if err != nil {
		return err
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(args[2], "s3://"), "/")
	arn := "arn:aws:states:us-east-1:123456789012:execution:bench:" + path.Base(key)
	text := func(s string) map[string]string { return map[string]string{"S": s} }
	item := map[string]any{"executionArn": text(arn), "status": text("COPYING"), "path": text(strings.TrimPrefix(source.Path, "/")), "query": text(source.RawQuery)}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_ = json.NewEncoder(w).Encode(map[string]any{"Item": item, "Attributes": item})
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()

	cmd := exec.CommandContext(ctx, args[0])
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), environment(l.Addr().String(), bucket, source)...)
	event, err := json.Marshal(map[string]string{"executionArn": arn})
	if err != nil {
		return err
	}
	answer, err := runtimeapi.Invoke(ctx, cmd, event)
	if err == nil && answer.ErrorType != "" {
		err = fmt.Errorf("fetch: %s %s", answer.ErrorType, answer.ErrorMessage)
	}
	return err
}

// environment returns the variables of the fetch function whose services are at
// address, for a copy of source into bucket.
func environment(address, bucket string, source *url.URL) []string {
	origin := url.URL{Scheme: source.Scheme, Host: source.Host}
	return []string{
		"_HANDLER=bootstrap", "AWS_LAMBDA_FUNCTION_NAME=fetch", "AWS_ENDPOINT_URL_DYNAMODB=http://" + address,
		"CONNECTIONS_TABLE=table", "BUCKET=" + bucket, "ORIGIN_URL=" + origin.String(), "ORIGIN_IS_PRIVATE=false", "LOCAL_ENDPOINT=" + os.Getenv("AWS_ENDPOINT_URL_S3"),
		"ORIGIN_CONNECTIONS=8", "ORIGIN_ANSWER_SECONDS=300", "MAX_FILE_BYTES=1099511627776", "SEGMENT_BYTES=1099511627776", "WEBSOCKET_API=http://" + address, "STACK_NAME=bench",
	}
}
