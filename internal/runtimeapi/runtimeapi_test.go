package runtimeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// TestMain is also the function that the tests invoke.
func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") == "" {
		os.Exit(m.Run())
	}
	if os.Getenv("EXIT") != "" {
		os.Exit(3)
	}
	lambda.Start(func(ctx context.Context, text string) (string, error) {
		deadline, _ := ctx.Deadline()
		c, _ := lambdacontext.FromContext(ctx)
		fmt.Println("a line of the log")
		if text == "bad" {
			return "", errors.New("the event was bad")
		}
		return fmt.Sprintf("%s, %t, %s", text, time.Until(deadline) > 50*time.Minute, c.AwsRequestID), nil
	})
}

func TestInvoke(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	run := func(event string, env ...string) (Answer, string, error) {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = env
		var out bytes.Buffer
		cmd.Stdout = &out
		a, err := Invoke(ctx, cmd, []byte(event))
		return a, out.String(), err
	}
	a, logs, err := run(`"good"`)
	if want := `"good, true, ` + requestID + `"`; err != nil || string(a.Body) != want || a.ErrorType != "" || logs != "a line of the log\n" {
		t.Errorf("got %s %q, log %q, %v, want %s", a.Body, a.ErrorType, logs, err, want)
	}
	a, _, err = run(`"bad"`)
	if err != nil || a.ErrorType != "errorString" || a.ErrorMessage != "the event was bad" {
		t.Errorf("got %q %q, %v, want the error of the function", a.ErrorType, a.ErrorMessage, err)
	}
	_, _, err = run(`"good"`, "EXIT=1")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v, want exit code 3", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, _, err = run(`"good"`); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline's error", err)
	}
}
