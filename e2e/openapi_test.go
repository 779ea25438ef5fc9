package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"async-download/internal/execution"
)

// schemathesis is its configuration. The names are those of downloads in each state,
// which it could not guess. A check that doesn't apply, or a status that it would not
// expect, has its reason next to it.
const schemathesis = `
max-redirects = 0 # a link is S3's, not the API's
request-timeout = 30
seed = %s
generation.max-examples = 8
generation.no-shrink = true
cache.enabled = false
phases.stateful.generation.max-examples = 4
phases.coverage.unexpected-methods = ["POST", "PUT", "PATCH", "DELETE"] # API Gateway itself refuses those that it doesn't know

[dictionaries]
names.values = [%s]

[parameters]
"path.name" = {dictionary = "names"}

[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 502, 503] # a failed copy, and one that is not ready
use_after_free.enabled = false # a cancelled download has a status

[[operations]]
include-operation-id = ["download", "downloadBase", "downloadByPost", "downloadBaseByPost"]
# Some paths and queries are refused for what they mean: dot segments, a name of the base URL's query. 410 and 413: the copy's end.
checks.positive_data_acceptance.expected-statuses = ["2xx", 303, 400, 404, 410, 413, 422, 429, 502, 503]
checks.negative_data_rejection.expected-statuses = [400, 404, 413, 422, 429, 502, 503] # 413: a body that is too large

[[operations]]
include-operation-id = ["status", "file"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 303, 404, 410, 413, 429, 502, 503]

[[operations]]
include-operation-id = ["cancel"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 410, 429]
`

// TestOpenAPI lets schemathesis send what docs/openapi.yaml describes, and what it
// forbids, and compare the answers with it. SEED chooses other requests.
func TestOpenAPI(t *testing.T) {
	names := []string{strconv.Quote(strings.Repeat("0", 32))}
	for _, path := range []string{"/file/64KiB/openapi.bin", "/status/404", "/file/3GiB/openapi.bin", "/file/1MiB/openapi.bin?delay=60s", "/file/1MiB/gone.bin?delay=60s"} {
		arn := ask(t, path)
		names = append(names, strconv.Quote(execution.NameFromARN(arn)))
		if strings.Contains(path, "gone") {
			remove(t, arn, http.StatusAccepted)
		}
	}
	useOrigin(t, stack.originURL+"/file/64KiB") // a small file, whatever the path
	seed := "1"
	if s := os.Getenv("SEED"); s != "" {
		seed = s
	}
	config := filepath.Join(t.TempDir(), "schemathesis.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, schemathesis, seed, strings.Join(names, ", ")), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	start := time.Now()
	out, err := exec.CommandContext(ctx, ".local/contract/bin/schemathesis", "--no-color", "--config-file", config,
		"run", "docs/openapi.yaml", "--url", stack.env["API_URL"]).CombinedOutput()
	out = regexp.MustCompile(`(?m)^(.{500}).*$`).ReplaceAll(out, []byte("$1…")) // a body may have 256 KiB
	t.Logf("%s after %s", out, time.Since(start).Round(time.Second))
	if err != nil {
		t.Error(err)
	}
	if !regexp.MustCompile(`Operations: +9 selected / 9 total`).Match(out) {
		t.Error("not every operation was tested")
	}
}
