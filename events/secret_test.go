package events_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A function whose origin's secret is unreadable or invalid reports that in one line
// that doesn't contain the secret, and exits before it asks for work: without its
// headers, an origin might answer with another file.
func TestOriginSecretAtStartUp(t *testing.T) {
	for _, function := range []string{"fetch", "finish"} {
		for name, test := range map[string]struct {
			status     int
			body, want string
		}{
			"not allowed": {400, `{"__type":"AccessDeniedException","Message":"no"}`, "read the origin's secret"},
			"not there":   {400, `{"__type":"ResourceNotFoundException","Message":"no"}`, "read the origin's secret"},
			"no JSON":     {200, `{"SecretString":"` + querySecret + `"}`, "must be a JSON object of headers"},
			"no header":   {200, `{"SecretString":"{\"a b\":\"` + querySecret + `\"}"}`, "can't be a header"},
		} {
			t.Run(function+" "+name, func(t *testing.T) {
				t.Parallel()
				program := executable(t, function)
				api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if got := r.Header.Get("X-Amz-Target"); got != "secretsmanager.GetSecretValue" {
						t.Errorf("got %s %s %s, want only a request for the secret", r.Method, r.URL.Path, got)
					}
					w.Header().Set("Content-Type", "application/x-amz-json-1.1")
					w.WriteHeader(test.status)
					_, _ = io.WriteString(w, test.body)
				}))
				t.Cleanup(api.Close)
				env := environment(t, function, api.URL)
				env["ORIGIN_SECRET_ARN"] = "arn:aws:secretsmanager:" + region + ":" + account + ":secret:origin-AbCdEf"
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, program)
				cmd.Env = lambdaEnvironment(function, api.Listener.Addr().String(), env)
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() < 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), test.want) {
					t.Errorf("got %v and %q, want an exit code greater than 0 and one line with %q", err, out, test.want)
				}
				noSecrets(t, "log", string(out))
			})
		}
	}
}
