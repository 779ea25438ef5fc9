package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
)

// runLambda runs the fetch function's binary once, as Lambda would: it serves the
// runtime API, and the table with one item.
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

	ended := make(chan error, 1)
	given := false
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const runtime = "/2018-06-01/runtime/invocation/"
		switch {
		case r.URL.Path == runtime+"next" && given:
			<-r.Context().Done() // no second event
		case r.URL.Path == runtime+"next":
			given = true
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "bench")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(15*time.Minute).UnixMilli()))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:fetch")
			_ = json.NewEncoder(w).Encode(map[string]string{"executionArn": arn})
		case r.URL.Path == runtime+"bench/response":
			w.WriteHeader(http.StatusAccepted)
			ended <- nil
		case strings.HasSuffix(r.URL.Path, "/error"):
			said, _ := io.ReadAll(r.Body)
			w.WriteHeader(http.StatusAccepted)
			ended <- fmt.Errorf("fetch: %s", said)
		default: // the table
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			_ = json.NewEncoder(w).Encode(map[string]any{"Item": item, "Attributes": item})
		}
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()

	cmd := exec.CommandContext(ctx, args[0])
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), environment(l.Addr().String(), bucket, source)...)
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	select {
	case err = <-ended:
		_ = cmd.Process.Kill()
		<-gone
		return err
	case err := <-gone:
		return fmt.Errorf("fetch exited unexpectedly: %v", err)
	}
}

// environment returns the variables of the fetch function whose services are at
// address, for a copy of source into bucket.
func environment(address, bucket string, source *url.URL) []string {
	origin := url.URL{Scheme: source.Scheme, Host: source.Host}
	return []string{
		"AWS_LAMBDA_RUNTIME_API=" + address, "_HANDLER=bootstrap", "AWS_LAMBDA_FUNCTION_NAME=fetch", "AWS_ENDPOINT_URL_DYNAMODB=http://" + address,
		"CONNECTIONS_TABLE=table", "BUCKET=" + bucket, "ORIGIN_URL=" + origin.String(), "ORIGIN_IS_PRIVATE=false", "LOCAL_ENDPOINT=" + os.Getenv("AWS_ENDPOINT_URL_S3"),
		"ORIGIN_CONNECTIONS=8", "ORIGIN_ANSWER_SECONDS=300", "MAX_FILE_BYTES=1099511627776", "SEGMENT_BYTES=1099511627776", "WEBSOCKET_API=http://" + address, "STACK_NAME=bench",
	}
}
