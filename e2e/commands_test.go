package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// command runs one of the README's with more in its environment, and returns what it printed.
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

// TestDemo runs the README's first command, which leaves nothing running.
func TestDemo(t *testing.T) {
	const port, state = "4577", ".local/e2e-demo"
	out := command(t, []string{"STATE=" + state, "PORT=" + port, "STACK_NAME=demo"}, "make", "--no-print-directory", "demo")
	for _, want := range []string{"Copy the file\n", "Delivered\n", "demo: the file came through whole\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("got no %q", want)
		}
	}
	if conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second); err == nil {
		conn.Close()
		t.Errorf("something listens on %s", port)
	}
	if pids, _ := filepath.Glob(state + "/*.pid"); len(pids) > 0 {
		t.Errorf("left behind: %q", pids)
	}
}

// TestDeployAndDestroy deploys the template as it stands, by make deploy and a
// samconfig.toml, as a second stack, and takes it away with what it holds.
func TestDeployAndDestroy(t *testing.T) {
	config := filepath.Join(t.TempDir(), "samconfig.toml")
	architecture := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
	err := os.WriteFile(config, fmt.Appendf(nil, `version = 0.1
[default.global.parameters]
parameter_overrides = ["OriginUrl=%s", "LocalEndpoint=%s", "Architecture=%s"]
[default.deploy.parameters]
stack_name = "deployed"
region = "us-east-1"
resolve_s3 = true
capabilities = "CAPABILITY_IAM"
`, stack.originURL, stack.env["AWS_ENDPOINT_URL"], architecture), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	out := command(t, []string{"CONFIG=" + config}, "make", "--no-print-directory", "deploy")
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
	within(t, 20*time.Second, "the file", func() bool {
		objects, err := stack.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
		return err == nil && len(objects.Contents) == 1
	})

	out = command(t, []string{"YES=1"}, "make", "--no-print-directory", "destroy", "STACK_NAME=deployed")
	if !strings.Contains(out, "destroy: deployed is gone") {
		t.Errorf("got %q", out)
	}
	if _, err := stack.s3.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket}); err == nil {
		t.Error("the stack's bucket is still there")
	}
}
