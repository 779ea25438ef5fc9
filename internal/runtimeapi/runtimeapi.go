// Package runtimeapi runs a function's binary outside of Lambda: it serves the Lambda
// Runtime API with one event and returns the function's answer.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// Answer is a function's answer to an event.
type Answer struct {
	Body []byte // the result, or the report of an error, as JSON
	// ErrorType and ErrorMessage are set if the function returned an error.
	ErrorType, ErrorMessage string
}

// TraceID is the X-Ray trace of the event.
const TraceID = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"

const requestID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

// Invoke starts cmd, passes event to it, and kills it when it asks for the next one: by
// then all its output is written. The event's deadline is that of ctx.
//
// The error is an [exec.ExitError] for a function that exits without an answer, and
// describes any call that is none of the Runtime API's.
func Invoke(ctx context.Context, cmd *exec.Cmd, event []byte) (Answer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Answer{}, err
	}
	api := &api{event: event, over: make(chan struct{})}
	if deadline, ok := ctx.Deadline(); ok {
		api.deadline = deadline
	} else {
		api.deadline = time.Now().Add(15 * time.Minute)
	}
	server := &http.Server{Handler: api, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	cmd.Env = append(cmd.Environ(), "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String())
	if err := cmd.Start(); err != nil {
		return Answer{}, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case <-api.over:
		_ = cmd.Process.Kill()
		<-exited
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-exited
		return Answer{}, ctx.Err()
	case err := <-exited:
		return Answer{}, errors.Join(err, api.result().err)
	}
	r := api.result()
	return r.Answer, r.err
}

type api struct {
	event    []byte
	deadline time.Time
	over     chan struct{} // closed when the second event is asked for, or at the first mistake

	mu       sync.Mutex
	asked    int
	answered int
	outcome
}

type outcome struct {
	Answer
	err error
}

func (a *api) result() outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil && a.answered != 1 {
		a.err = fmt.Errorf("got %d answers, want one", a.answered)
	}
	return a.outcome
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const invocation = "/2018-06-01/runtime/invocation/"
	switch r.Method + " " + r.URL.Path {
	case "GET " + invocation + "next":
		a.next(w, r)
	case "POST " + invocation + requestID + "/response":
		a.answer(w, r, false)
	case "POST " + invocation + requestID + "/error":
		a.answer(w, r, true)
	default: // the report of an error at the start is one of these
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.err = fmt.Errorf("got %s %s: %s", r.Method, r.URL.Path, body)
		a.mu.Unlock()
		w.WriteHeader(http.StatusNotFound)
	}
}

func (a *api) next(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked++
	n := a.asked
	a.mu.Unlock()
	if n > 1 {
		if n == 2 {
			close(a.over)
		}
		<-r.Context().Done()
		return
	}
	w.Header().Set("Lambda-Runtime-Aws-Request-Id", requestID)
	w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(a.deadline.UnixMilli(), 10))
	w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:function")
	w.Header().Set("Lambda-Runtime-Trace-Id", TraceID)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.event)
}

func (a *api) answer(w http.ResponseWriter, r *http.Request, isError bool) {
	body, err := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered++
	a.Body = body
	if isError {
		var report struct{ ErrorMessage, ErrorType string }
		if err == nil {
			err = json.Unmarshal(body, &report)
		}
		if err == nil && report.ErrorType == "" {
			err = fmt.Errorf("got the report %s, want one with errorType", body)
		}
		a.ErrorType, a.ErrorMessage = report.ErrorType, report.ErrorMessage
	}
	a.err = errors.Join(a.err, err)
	w.WriteHeader(http.StatusAccepted)
}
