package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/origin/origintest"
)

// command runs a command with additional environment variables and returns its output.
func command(t *testing.T, env []string, words ...string) string {
	t.Helper()
	c := exec.Command(words[0], words[1:]...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	t.Logf("%s\n%s", strings.Join(words, " "), out)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(words, " "), err)
	}
	return string(out)
}

// TestExamples runs the bash blocks of the documentation against the stack, as one
// script per document.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"README.md", "docs/api.md", "docs/backends.md", "docs/operations.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var script strings.Builder
		for _, block := range regexp.MustCompile("(?s)```bash\n(.*?)```").FindAllSubmatch(text, -1) {
			script.Write(block[1])
		}
		command(t, []string{"PATH=.local/venv/bin:" + os.Getenv("PATH")}, "bash", "-euo", "pipefail", "-c", script.String())
	}
}

// TestDemo runs the README's first command, which must leave nothing running.
func TestDemo(t *testing.T) {
	t.Parallel()
	const port, state = "4577", ".local/e2e-demo"
	out := command(t, []string{"STATE=" + state, "PORT=" + port, "STACK_NAME=demo"}, "make", "--no-print-directory", "demo")
	for _, want := range []string{"Copy the file\n", "Delivered\n", "demo: the file arrived whole; nothing is left running\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("got no %q", want)
		}
	}
	if conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second); err == nil {
		conn.Close()
		t.Errorf("a process still listens on %s", port)
	}
	if locks, _ := filepath.Glob(state + "/*.lock"); len(locks) > 0 {
		t.Errorf("left behind: %q", locks)
	}
}

// TestSmoke runs scripts/smoke.sh, which throttles the stack's workers for some seconds.
// The emulator may have no traces to check.
func TestSmoke(t *testing.T) {
	env := []string{"STACK_NAME=e2e", "DEMO_ORIGIN=" + stack.originURL, "LARGE_PATH=file/20MB/large.bin", "SLOW_PATH=file/6MB/slow.bin?delay=15s"}
	out := command(t, env, "bash", "scripts/smoke.sh", stack.env["API_URL"])
	if !regexp.MustCompile(`smoke: 1[34] ok, 0 FAILED, [01] left out\n`).MatchString(out) {
		t.Error("a check failed, or was left out")
	}
}

// TestDeployAndDestroy deploys the unchanged template as a second stack, with make
// deploy and a samconfig.toml, and destroys it with its contents. Its origin
// requires the headers of OriginSecretArn, which must not be found in any history
// or log afterwards.
func TestDeployAndDestroy(t *testing.T) {
	t.Parallel()
	const credential = "Bearer planted-credential"
	data := origintest.Bytes(7, 20<<20)
	file := origintest.New(data, `"v1"`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != credential {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/endless" {
			file.ServeHTTP(w, r)
			return
		}
		for ticks := time.NewTicker(50 * time.Millisecond); r.Context().Err() == nil; <-ticks.C {
			w.Write(data[:1024])
		}
	}))
	defer server.Close()
	secret := strings.TrimSpace(command(t, nil, ".local/venv/bin/aws", "secretsmanager", "create-secret", "--name", "origin",
		"--secret-string", `{"Authorization":"`+credential+`"}`, "--query", "ARN", "--output", "text"))
	config := filepath.Join(t.TempDir(), "samconfig.toml")
	architecture := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
	err := os.WriteFile(config, fmt.Appendf(nil, `version = 0.1
[default.global.parameters]
parameter_overrides = ["OriginUrl=%s", "LocalEndpoint=%s", "Architecture=%s", "OriginSecretArn=%s", "OpenToAnyone=true", "SegmentBytes=8388608"]
[default.deploy.parameters]
stack_name = "deployed"
region = "us-east-1"
resolve_s3 = true
capabilities = "CAPABILITY_IAM"
`, server.URL, stack.env["AWS_ENDPOINT_URL"], architecture, secret), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	out := command(t, []string{"CONFIG=" + config, "SAM_CLI_POLL_DELAY=0.2"}, "make", "--no-print-directory", "deploy")
	_, api, found := strings.Cut(out, "Ask for a file at DownloadApiUrl/download.")
	api = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(api), "Value"))
	if api, _, _ = strings.Cut(api, "\n"); !found || !strings.HasPrefix(api, "http") {
		t.Fatalf("got %q as DownloadApiUrl", api)
	}
	resp, err := http.Get(strings.TrimSpace(api) + "/download/file/1MiB/deployed.bin")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET /download: got %s, want 200", resp.Status)
	}
	bucket := regexp.MustCompile(`deployed-bucket-\w+`).FindString(out)
	var key *string
	waitUntil(t, "the file", func() bool {
		objects, err := stack.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
		if err != nil || len(objects.Contents) != 1 {
			return false
		}
		key = objects.Contents[0].Key
		return true
	})
	object, err := stack.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	if got, err := io.ReadAll(object.Body); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v, want the file", len(got), err)
	}
	texts, err := histories("deployed-")
	if err != nil || len(texts) == 0 {
		t.Fatalf("got %d histories, %v", len(texts), err)
	}
	lines, err := functionLogs("deployed")
	if err != nil || len(lines) == 0 {
		t.Fatalf("got %d lines of logs, %v", len(lines), err)
	}
	texts["the functions' logs"] = strings.Join(lines, "\n")
	for _, leak := range findSecrets(texts, []string{credential}) {
		t.Error("the credential is in", leak)
	}

	// One execution waits for its client by now, another one still copies.
	resp, err = http.Get(strings.TrimSpace(api) + "/download/endless")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	out = command(t, []string{"YES=1"}, "make", "--no-print-directory", "destroy", "STACK_NAME=deployed")
	for _, want := range []string{"destroy: 2 executions stopped\n", "destroy: deployed is deleted\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("got no %q", want)
		}
	}
	if _, err := stack.s3.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket}); err == nil {
		t.Error("the stack's bucket is still there")
	}
}
