// Package functions_test runs the functions' binaries, built as `sam build` does, with the
// samples of events/ and a strict fake of AWS. It tests what package main does: which
// variables a function reads, how it translates its event and its result, and that no
// secret reaches a log or an error. What the use cases decide is tested in internal/.
package functions_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"async-download/internal/runtimeapi"
	"async-download/internal/start/starttest"
)

// bin is the folder of the functions' binaries. It is kept, since `go build` links only
// what has changed.
const bin = "../.local/functions"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil { // these tests mostly wait
		panic(err)
	}
	os.Exit(m.Run())
}

// build builds all functions, once, when a test first runs one.
var build = sync.OnceValue(func() error {
	// `go test` uses its cache unless a file that the test itself opened has changed.
	// Files that the compiler opens don't count, so without this walk a changed
	// function would be reported as passed.
	for _, dir := range []string{".", "../internal"} {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = os.Stat(path)
			}
			return err
		}); err != nil {
			return err
		}
	}
	for _, file := range []string{"../go.mod", "../go.sum", "../template.yaml"} {
		if _, err := os.Stat(file); err != nil {
			return err
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-tags=lambda.norpc", "-ldflags=-s", "-o", bin+"/", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New(string(out))
	}
	return nil
})

var builtFor atomic.Pointer[string] // the test that reports the build's error

func executable(t *testing.T, function string) string {
	t.Helper()
	if err := build(); err != nil {
		if name := t.Name(); builtFor.CompareAndSwap(nil, &name) {
			t.Fatalf("build functions: %v", err)
		}
		t.Fatal("the functions were not built")
	}
	return filepath.Join(bin, function)
}

// functions returns the names of the functions' folders.
func functions(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("*/main.go")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("got %d functions (%v), want some", len(dirs), err)
	}
	for i, dir := range dirs {
		dirs[i] = filepath.Dir(dir)
	}
	return dirs
}

// invocation is the outcome of a function's binary for one event.
type invocation struct {
	runtimeapi.Answer
	logs string // Lambda keeps both stdout and stderr
}

// start runs a function's binary with env and without this machine's environment. The
// error is for one that exits without an answer.
func start(t *testing.T, function string, env map[string]string, event []byte) (invocation, error) {
	t.Helper()
	cmd := exec.Command(executable(t, function))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var logs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &logs, &logs
	cmd.Env = lambdaEnvironment(function, env)
	answer, err := runtimeapi.Invoke(ctx, cmd, event)
	return invocation{answer, logs.String()}, err
}

// invoke returns a function's answer.
func invoke(t *testing.T, function string, env map[string]string, event []byte) invocation {
	t.Helper()
	got, err := start(t, function, env, event)
	if err != nil {
		t.Fatalf("%s: %v; logs:\n%s", function, err, got.logs)
	}
	return got
}

// refuses returns the one line of a function that exits before it asks for an event.
func refuses(t *testing.T, function string, env map[string]string) string {
	t.Helper()
	got, err := start(t, function, env, []byte("{}"))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() < 1 || got.Body != nil || strings.Count(got.logs, "\n") != 1 {
		t.Fatalf("got %v, answer %q and logs\n%s\nwant an exit code above 0, no answer, and one line", err, got.Body, got.logs)
	}
	return got.logs
}

// lambdaEnvironment returns the variables that Lambda sets, and the function's.
func lambdaEnvironment(function string, env map[string]string) []string {
	all := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        function,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_LAMBDA_LOG_FORMAT":           "JSON",
		"AWS_REGION":                      region,
		"AWS_DEFAULT_REGION":              region,
		"AWS_ACCESS_KEY_ID":               functionKey,
		"AWS_SECRET_ACCESS_KEY":           "function-secret",
		"AWS_SESSION_TOKEN":               functionSession,
		"_HANDLER":                        "bootstrap",
		"TZ":                              ":UTC",
		"PATH":                            "/usr/local/bin:/usr/bin:/bin",
	}
	maps.Copy(all, env)
	list := make([]string, 0, len(all))
	for name, value := range all {
		list = append(list, name+"="+value)
	}
	return list
}

// A function with missing or invalid variables reports all their names at once, and
// exits before it asks for work. Its variables are exactly those that the template
// sets.
func TestStartUp(t *testing.T) {
	t.Parallel()
	// An invalid value of each variable that can have one. Any other is set to x.
	wrong := map[string]string{
		"ORIGIN_URL": "ftp://user:hunter2@origin.example", "LINK_EXPIRY_SECONDS": "0", "MAX_FILE_BYTES": "1 TiB", "SEGMENT_BYTES": "4 GiB",
		"ORIGIN_IS_PRIVATE": "yes", "REQUIRE_TICKET": "maybe", "CLIENT_TIMEOUT_SECONDS": "-1", "MAX_CONCURRENT_SEGMENTS": "1.5",
		"ORIGIN_CONNECTIONS": "none", "ORIGIN_ANSWER_SECONDS": "soon", "FETCH_CONCURRENCY": "0",
		"FORWARDED_HEADERS": "Accept,Host", "CALLER_HEADER": "Prefer",
	}
	for _, function := range functions(t) {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			out, needed, variables := refuses(t, function, nil), 0, starttest.Variables(t, function)
			for name, byDefault := range variables {
				want := byDefault == nil || *byDefault != ""
				if function == "authorizer" { // which exists only where the issuer is set, and has no use for the table
					want = strings.HasPrefix(name, "JWT_")
				}
				if want {
					needed++
				}
				if got := strings.Contains(out, name+" is not set"); got != want {
					t.Errorf("without %s: got named %v, want %v", name, got, want)
				}
			}
			if got := strings.Count(out, " is not set"); got != needed {
				t.Errorf("got %d variables named, want the template's %d: %s", got, needed, out)
			}

			env, bad := map[string]string{}, 0
			for name := range variables {
				env[name] = cmp.Or(wrong[name], "x")
				if wrong[name] != "" {
					bad++
				}
			}
			if bad == 0 {
				return
			}
			out = refuses(t, function, env)
			for name := range variables {
				switch reported := strings.Contains(out, name); {
				case wrong[name] != "" && !reported:
					t.Errorf("%s=%s isn't reported: %s", name, env[name], out)
				case wrong[name] == "" && reported:
					t.Errorf("%s=x is reported; add it to wrong: %s", name, out)
				}
			}
			if strings.Contains(out, "hunter2") {
				t.Errorf("got the origin's password in the log: %s", out)
			}
		})
	}
}

// A function whose origin's secret is unreadable or invalid reports that without the
// secret, and exits: without its headers, an origin might answer with another file.
func TestOriginSecretAtStartUp(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		answer answer
		want   string
	}{
		"not allowed": {answer{status: 400, body: `{"__type":"AccessDeniedException","Message":"no"}`}, "read the origin's secret"},
		"no header":   {answer{body: `{"SecretString":"{\"a b\":\"` + querySecret + `\"}"}`}, "can't be a header"},
	} {
		for _, function := range []string{"fetch", "finish"} {
			t.Run(function+" "+title, func(t *testing.T) {
				t.Parallel()
				c := newCloud(t)
				c.trace = "" // it is no event's
				c.fault = func(op string, _ int) *answer {
					if op != "SecretsManager.GetSecretValue" {
						t.Errorf("got %s, want only a request for the secret", op)
					}
					return &test.answer
				}
				env := environment(t, function, c.URL)
				env["ORIGIN_SECRET_ARN"] = "arn:aws:secretsmanager:" + region + ":" + account + ":secret:origin-AbCdEf"
				out := refuses(t, function, env)
				if !strings.Contains(out, test.want) {
					t.Errorf("got %q, want a line with %q", out, test.want)
				}
				noSecrets(t, "log", out)
			})
		}
	}
}
