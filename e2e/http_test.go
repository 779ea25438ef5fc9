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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"async-download/internal/execution"
)

// shell runs a script with KEY, WAIT, FILE, URL, and, where the system has none,
// uuidgen. It returns the file that the script has written and its exit code.
func shell(t *testing.T, script, path, key string, wait int) (file string, exit int, output string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "file")
	c := exec.Command("bash", "-c", "command -v uuidgen >/dev/null || uuidgen() { cat /proc/sys/kernel/random/uuid; }\n"+script)
	c.Env = append(os.Environ(), "KEY="+key, fmt.Sprint("WAIT=", wait), "FILE="+file, "URL="+stack.env["API_URL"]+"/download"+path)
	out, err := c.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return file, c.ProcessState.ExitCode(), string(out)
}

// The commands of docs/api.md, here with a key and a wait that the test knows.
const (
	curl = `curl -sSfL --retry 999 -H "Idempotency-Key: $KEY" -H "Prefer: wait=$WAIT" -o "$FILE" "$URL"`
	wget = `wget -nv --tries 0 --waitretry 1 --retry-on-http-error 503 --header "Idempotency-Key: $KEY" --header "Prefer: wait=$WAIT" -O "$FILE" "$URL"`
)

func fileSum(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// TestCurl downloads by plain HTTP: one command, no socket. A file that takes longer
// than two waits arrives as well; the waits are short, so that the test is.
func TestCurl(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		command, path string
		wait          int
	}{
		{curl, "/file/1MiB/curl.bin", 20},
		{curl, "/file/2MiB/curl.bin?delay=7s", 3},
		{wget, "/file/1MiB/wget.bin", 20},
		{wget, "/file/2MiB/wget.bin?delay=7s", 3},
	} {
		t.Run(test.path, func(t *testing.T) {
			t.Parallel()
			key, want := execution.NewName(), sum(t, test.path)
			for _, again := range []bool{false, true} { // the same key again is the same file, without another copy
				if file, exit, out := shell(t, test.command, test.path, key, test.wait); exit != 0 || fileSum(t, file) != want {
					t.Errorf("again %v: exit code %d, other bytes or none: %s", again, exit, out)
				}
			}
			arn := execution.ARN(stack.stateMachine, execution.NameFor("", key))
			if got := ended(t, arn).Status; got != "SUCCEEDED" {
				t.Errorf("execution: got %s, want SUCCEEDED", got)
			}
			if got := copies(t, arn); got != 1 {
				t.Errorf("copied %d times, want once", got)
			}
			if _, exit, out := shell(t, curl, strings.Replace(test.path, ".bin", ".txt", 1), key, test.wait); exit != 22 || !strings.Contains(out, "422") {
				t.Errorf("key of another request: got exit code %d, %s, want 22 with 422", exit, out)
			}
		})
	}
	for _, test := range []struct {
		name, command, path string
		exit                int
		code                string
	}{
		// The documentation's command, unchanged. 413 is not repeated.
		{"too large", `curl -fL --retry 999 -H "Idempotency-Key: $(uuidgen)" -H 'Prefer: wait=20' -o "$FILE" "$URL"`, "/file/3GiB/curl.bin", 22, ""},
		{"too large, with the error", strings.Replace(curl, "-sSfL", "-sSL --fail-with-body", 1), "/file/3GiB/curl.bin", 22, "TOO_LARGE"},
		{"no such file", strings.Replace(curl, "-sSfL --retry 999", "-sSL --fail-with-body --retry 1", 1), "/status/404", 22, "ORIGIN_STATUS"},
		{"no such file, for a limited time", strings.Replace(curl, "-sSfL", "-sSL --fail-with-body --retry-max-time 5", 1), "/status/404", 22, "ORIGIN_STATUS"},
		{"no such file, by wget", strings.Replace(wget, "-nv", "-nv --content-on-error", 1), "/status/404", 8, "ORIGIN_STATUS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file, exit, out := shell(t, test.command, test.path, execution.NewName(), 20)
			body, _ := os.ReadFile(file)
			if exit != test.exit || !strings.Contains(string(body), test.code) {
				t.Errorf("got exit code %d, body %s, output %s, want %d with %s", exit, body, out, test.exit, test.code)
			}
		})
	}
}

// copies returns how often a file was stored.
func copies(t *testing.T, arn string) (n int) {
	t.Helper()
	for _, call := range calls(t) {
		if strings.Contains(call, execution.NameFromARN(arn)) && (strings.HasPrefix(call, "s3:PutObject ") || strings.HasPrefix(call, "s3:CompleteMultipartUpload ")) {
			n++
		}
	}
	return n
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
		{"HEAD", "/", 200, ""},
		{"POST", "/", 405, "GET, HEAD"},
		{"PUT", "/client.js", 405, "GET, HEAD"},
	} {
		if resp, body := ask(t, test.method, stack.env["API_URL"]+test.path, ""); resp.StatusCode != test.status || resp.Header.Get("Allow") != test.allow {
			t.Errorf("%s %s: got %d %v %v, want %d with Allow %q", test.method, test.path, resp.StatusCode, resp.Header, body, test.status, test.allow)
		}
	}
}

// TestManyWait runs more waiting clients than the local stack serves at the same time,
// and with MANY_WAIT=200 more than the app lets wait. Clients that are answered at once
// ask again; none is lost, each key is copied once, and sockets are served meanwhile.
func TestManyWait(t *testing.T) {
	clients := 40
	if n := os.Getenv("MANY_WAIT"); n != "" {
		var err error
		if clients, err = strconv.Atoi(n); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	defer all.Wait() // also when a socket fails the test
	for n := range clients {
		all.Go(func() {
			path, key := fmt.Sprintf("/file/64KiB/many%d.bin?delay=3s", n), execution.NewName()
			file, exit, out := shell(t, curl, path, key, 20)
			if exit != 0 || fileSum(t, file) != sum(t, path) {
				t.Errorf("client %d: exit code %d: %s", n, exit, out)
			}
			if got := copies(t, execution.ARN(stack.stateMachine, execution.NameFor("", key))); got != 1 {
				t.Errorf("client %d: copied %d times, want once", n, got)
			}
		})
	}
	waiting, sockets, slowest := make(chan struct{}), 0, time.Duration(0)
	go func() { all.Wait(); close(waiting) }()
	for served := false; !served; {
		began := time.Now()
		arn := ask(t, fmt.Sprintf("/file/64KiB/beside%d.bin", sockets))
		c := dial(t, arn, "")
		if url := c.next(); !strings.HasPrefix(url, "http") {
			t.Errorf("socket %d: got %q, want a link", sockets, url)
		}
		c.close()
		sockets, slowest = sockets+1, max(slowest, time.Since(began))
		select {
		case <-waiting:
			served = true
		default:
		}
	}
	t.Logf("%d clients waited, %d sockets were served meanwhile, the slowest in %.1f s", clients, sockets, slowest.Seconds())
}
