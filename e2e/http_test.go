package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"async-download/internal/execution"
)

// curl runs curl as docs/api.md has it: with a key, waiting, and again until the
// file is ready.
func curl(t *testing.T, path, key string, more ...string) (file string, exit int, output string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "file")
	c := exec.Command("curl", append([]string{"-sSfL", "--retry", "999", "-H", "Idempotency-Key: " + key, "-H", "Prefer: wait=20", "-o", file}, append(more, stack.env["API_URL"]+"/download"+path)...)...)
	out, err := c.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return file, c.ProcessState.ExitCode(), string(out)
}

func fileSum(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// TestCurl downloads by plain HTTP: one command, no socket.
func TestCurl(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/file/1MiB/curl.bin", "/file/2MiB/curl.bin?delay=30s"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			key := execution.NewName()
			file, exit, out := curl(t, path, key)
			if exit != 0 || fileSum(t, file) != sum(t, path) {
				t.Errorf("exit code %d, other bytes or none: %s", exit, out)
			}
			arn := execution.ARN(stack.stateMachine, execution.NameFor("", key))
			if got := ended(t, arn, 20*time.Second).Status; got != "SUCCEEDED" {
				t.Errorf("execution: got %s, want SUCCEEDED", got)
			}
			// The same key again is the same file, without another copy.
			if file, exit, out := curl(t, path, key); exit != 0 || fileSum(t, file) != sum(t, path) {
				t.Errorf("again: exit code %d, other bytes or none: %s", exit, out)
			}
			if _, exit, out := curl(t, strings.Replace(path, "curl", "other", 1), key, "--retry", "0"); exit != 22 || !strings.Contains(out, "422") {
				t.Errorf("key of another request: got exit code %d, %s, want 22 with 422", exit, out)
			}
		})
	}
	t.Run("fails", func(t *testing.T) {
		t.Parallel()
		file, exit, out := curl(t, "/status/404", execution.NewName(), "--no-fail", "--fail-with-body", "--retry", "0")
		body, _ := os.ReadFile(file)
		if exit != 22 || !strings.Contains(string(body), `"ORIGIN_STATUS"`) {
			t.Errorf("got exit code %d, body %s, output %s, want 22 with ORIGIN_STATUS", exit, body, out)
		}
	})
}

func TestPrefer(t *testing.T) {
	t.Parallel()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(t *testing.T, method, url, prefer string) (*http.Response, map[string]any) {
		t.Helper()
		r, _ := http.NewRequest(method, url, nil)
		if prefer != "" {
			r.Header.Set("Prefer", prefer)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body map[string]any
		_ = json.NewDecoder(resp.Body).Decode(&body)
		return resp, body
	}
	slow := stack.env["API_URL"] + "/download/file/1MiB/p.bin?delay=8s"
	code := func(body map[string]any) any {
		e, _ := body["error"].(map[string]any)
		return e["code"]
	}

	resp, body := ask(t, "GET", slow, "respond-async")
	status, _ := body["statusUrl"].(string)
	if resp.StatusCode != 202 || resp.Header.Get("Location") != status || resp.Header.Get("Retry-After") != "2" || resp.Header.Get("Preference-Applied") != "respond-async" {
		t.Fatalf("respond-async: got %d %v %v", resp.StatusCode, resp.Header, body)
	}
	if resp, body := ask(t, "GET", status+"/file", ""); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || code(body) != "NOT_READY" {
		t.Errorf("file, not ready: got %d %v", resp.StatusCode, body)
	}
	if resp, body := ask(t, "GET", status, "wait=20"); resp.StatusCode != 200 || body["status"] != "READY" || resp.Header.Get("Preference-Applied") != "wait=20" {
		t.Errorf("status, waiting: got %d %v %v", resp.StatusCode, resp.Header, body)
	} else if body["pinned"] != true {
		t.Errorf("got %v, want a pinned file", body)
	}
	if resp, _ := ask(t, "GET", status+"/file", ""); resp.StatusCode != 303 || !strings.Contains(resp.Header.Get("Location"), "X-Amz-Signature") {
		t.Errorf("file: got %d %v, want 303 to a link", resp.StatusCode, resp.Header)
	}
	if resp, body := ask(t, "GET", slow, "wait=1"); resp.StatusCode != 503 || code(body) != "NOT_READY" || body["executionArn"] == nil || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("wait=1: got %d %v %v", resp.StatusCode, resp.Header, body)
	}
	if resp, body := ask(t, "GET", slow, "wait=1, respond-async"); resp.StatusCode != 202 || code(body) != nil {
		t.Errorf("wait=1, respond-async: got %d %v", resp.StatusCode, body)
	}
	if resp, body := ask(t, "GET", stack.env["API_URL"]+"/download/status/404", "wait=20"); resp.StatusCode != 502 || code(body) != "ORIGIN_STATUS" {
		t.Errorf("a failure: got %d %v, want 502 ORIGIN_STATUS", resp.StatusCode, body)
	}
	for _, test := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"HEAD", "/download/file/1MiB/h.bin", 200, ""},
		{"PUT", "/download/file/1MiB/h.bin", 405, "GET, POST, HEAD, OPTIONS"},
		{"DELETE", "/download", 405, "GET, POST, HEAD, OPTIONS"},
		{"POST", "/executions/" + strings.Repeat("0", 32), 405, "GET, DELETE, OPTIONS"},
		{"DELETE", "/executions/" + strings.Repeat("0", 32) + "/file", 405, "GET, OPTIONS"},
		{"GET", "/executions/" + strings.Repeat("0", 32) + "/file", 404, ""},
	} {
		if resp, body := ask(t, test.method, stack.env["API_URL"]+test.path, ""); resp.StatusCode != test.status || resp.Header.Get("Allow") != test.allow {
			t.Errorf("%s %s: got %d %v %v, want %d with Allow %q", test.method, test.path, resp.StatusCode, resp.Header, body, test.status, test.allow)
		}
	}
}

// TestManyWait has more clients than may wait at the same time: those answered at
// once ask again, none is lost, and each key is copied once.
func TestManyWait(t *testing.T) {
	const clients = 40
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			path, key := fmt.Sprintf("/file/64KiB/many%d.bin?delay=3s", n), execution.NewName()
			file, exit, out := curl(t, path, key)
			if exit != 0 || fileSum(t, file) != sum(t, path) {
				t.Errorf("client %d: exit code %d: %s", n, exit, out)
			}
		})
	}
	all.Wait()
}
