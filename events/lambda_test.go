package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"async-download/internal/start/starttest"
)

// bin is the folder of the functions' binaries, built as `sam build` does.
var bin string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "events-test-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(bin)
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // these tests mostly wait
		panic(err)
	}
	return m.Run()
}

// build builds all functions, once, when a test first runs one.
var build = sync.OnceValue(func() error {
	// `go test` uses its cache unless a file that the test itself opened has changed.
	// Files that the compiler opens don't count, so without this walk a changed
	// function would be reported as passed.
	for _, dir := range []string{"../functions", "../internal"} {
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
	cmd := exec.Command("go", "build", "-trimpath", "-tags=lambda.norpc", "-ldflags=-s", "-o", bin+"/", "../functions/...")
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

func TestBinarySizes(t *testing.T) {
	for _, function := range functions(t) {
		info, err := os.Stat(executable(t, function))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-14s %5.1f MiB", function, float64(info.Size())/(1<<20))
	}
}

// functions returns the names of the functions' folders.
func functions(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("../functions/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("got %d functions (%v), want some", len(dirs), err)
	}
	for i, dir := range dirs {
		dirs[i] = filepath.Base(dir)
	}
	return dirs
}

// invocation is the outcome of a function's binary for one event.
type invocation struct {
	body []byte // the function's result
	// errorType and errorMessage are set if it returned an error.
	errorType, errorMessage string
	logs                    string
}

// invoke runs a function's binary with env and without this machine's environment,
// passes event to it through a Lambda Runtime API, and returns the outcome:
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
func invoke(t *testing.T, function string, env map[string]string, event []byte, timeout time.Duration) invocation {
	t.Helper()
	const requestID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	path := executable(t, function)
	var got invocation
	var mu sync.Mutex
	asked, answered := 0, 0
	done := make(chan struct{})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked++
		first := asked == 1
		mu.Unlock()
		if !first {
			// Now the invocation is over, and all its logs are written.
			close(done)
			<-r.Context().Done()
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", requestID)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(timeout).UnixMilli(), 10))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+region+":"+account+":function:"+function)
		w.Header().Set("Lambda-Runtime-Trace-Id", traceID)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(event)
	})
	answer := func(isError bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			answered++
			if err != nil || answered > 1 || r.PathValue("id") != requestID {
				t.Errorf("%s: got answer %d to %q (%v), want one to %q", function, answered, r.PathValue("id"), err, requestID)
			}
			got.body = body
			if isError {
				var report struct{ ErrorMessage, ErrorType string }
				if err := json.Unmarshal(body, &report); err != nil || report.ErrorType == "" {
					t.Errorf("%s: got error report %s (%v), want errorType and errorMessage", function, body, err)
				}
				got.errorType, got.errorMessage = report.ErrorType, report.ErrorMessage
			}
			w.WriteHeader(http.StatusAccepted)
		}
	}
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", answer(false))
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", answer(true))
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		t.Errorf("%s: got init error %s, want a start", function, body)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s: got %s %s, which is not a call of the Runtime API", function, r.Method, r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	})
	api := httptest.NewServer(mux)
	defer api.Close()

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	var logs bytes.Buffer // Lambda keeps both stdout and stderr
	cmd.Stdout, cmd.Stderr = &logs, &logs
	cmd.Env = lambdaEnvironment(function, api.Listener.Addr().String(), env)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	select {
	case <-done:
		_ = cmd.Process.Kill()
		<-exited
	case <-exited:
		api.CloseClientConnections()
		t.Fatalf("%s: exited with %s, want an answer; logs:\n%s", function, cmd.ProcessState, logs.String())
	}
	api.CloseClientConnections() // the second call of next would block
	got.logs = logs.String()
	return got
}

const traceID = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"

// lambdaEnvironment returns the variables that Lambda sets, and the function's.
func lambdaEnvironment(function, runtimeAPI string, env map[string]string) []string {
	all := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          runtimeAPI,
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
	for _, function := range functions(t) {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			variables := starttest.Variables(t, function)
			var needed []string
			for name, value := range variables {
				required := value == nil || *value != ""
				if function == "authorizer" { // which exists only where the issuer is set, and has no use for the table
					required = strings.HasPrefix(name, "JWT_")
				}
				if required {
					needed = append(needed, name)
				}
			}
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				t.Errorf("got %s %s, want an exit", r.Method, r.URL.Path)
			}))
			defer api.Close()
			program := executable(t, function)
			start := func(env map[string]string) string {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				cmd := exec.CommandContext(ctx, program)
				cmd.Env = lambdaEnvironment(function, api.Listener.Addr().String(), env)
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() < 1 {
					t.Fatalf("got %v, want an exit code above 0; output:\n%s", err, out)
				}
				if lines := bytes.Count(out, []byte("\n")); lines != 1 {
					t.Errorf("got %d lines, want one:\n%s", lines, out)
				}
				return string(out)
			}

			out := start(nil)
			for name := range variables {
				if got, want := strings.Contains(out, name+" is not set"), slices.Contains(needed, name); got != want {
					t.Errorf("without %s: got named %v, want %v", name, got, want)
				}
			}
			if got, want := strings.Count(out, " is not set"), len(needed); got != want {
				t.Errorf("got %d variables named, want the template's %d: %s", got, want, out)
			}

			wrong := map[string]string{
				"ORIGIN_URL": "ftp://user:hunter2@origin.example", "LINK_EXPIRY_SECONDS": "0",
				"MAX_FILE_BYTES": "1 TiB", "SEGMENT_BYTES": "4 GiB", "ORIGIN_IS_PRIVATE": "yes", "REQUIRE_TICKET": "maybe", "CLIENT_TIMEOUT_SECONDS": "-1", "MAX_CONCURRENT_SEGMENTS": "1.5", "ORIGIN_CONNECTIONS": "none", "ORIGIN_ANSWER_SECONDS": "soon", "FORWARDED_HEADERS": "Accept,Host", "CALLER_HEADER": "Prefer", "FETCH_CONCURRENCY": "0",
			}
			env, bad := map[string]string{}, 0
			for name := range variables {
				env[name] = "x"
				if value, ok := wrong[name]; ok {
					env[name] = value
					bad++
				}
			}
			if bad == 0 {
				return
			}
			out = start(env)
			for name := range variables {
				if _, want := wrong[name]; strings.Contains(out, name) != want {
					t.Errorf("%s=%s: got named %v, want %v: %s", name, env[name], !want, want, out)
				}
			}
			if strings.Contains(out, "hunter2") {
				t.Errorf("got the origin's password in the log: %s", out)
			}
		})
	}
}
