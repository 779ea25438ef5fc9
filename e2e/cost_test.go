package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"async-download/internal/execution"
)

// TestWhatADownloadAsksFor counts what AWS bills for a download, as in
// docs/capacity.md: state transitions, and the functions' calls to DynamoDB and
// S3. The writes that occur once per second during a copy are not counted.
func TestWhatADownloadAsksFor(t *testing.T) {
	const part = 8 << 20
	for _, test := range []struct {
		name, path   string
		waits        bool
		segmentBytes int64
		transitions  int
		want         map[string]int
	}{
		{"1 MB, the client first", "/file/1MB/cost.bin?delay=10s", false, 0, 7, map[string]int{
			"dynamodb:PutItem": 1, "dynamodb:GetItem": 3, "dynamodb:UpdateItem": 4, "dynamodb:Query": 1, "dynamodb:DeleteItem": 1,
			"s3:PutObject": 1, "s3:HeadObject": 3, "s3:ListMultipartUploads": 1,
		}},
		{"1 MB, the workflow first", "/file/1MB/cost.bin", true, 0, 8, map[string]int{
			"dynamodb:PutItem": 1, "dynamodb:GetItem": 3, "dynamodb:UpdateItem": 5, "dynamodb:Query": 1, "dynamodb:DeleteItem": 1,
			"s3:PutObject": 1, "s3:HeadObject": 3, "s3:ListMultipartUploads": 1,
		}},
		// A multipart upload has one more part, which marks the file's version.
		{"16 parts", "/file/128MiB/cost.bin", true, 0, 8, map[string]int{
			"dynamodb:PutItem": 1, "dynamodb:GetItem": 3, "dynamodb:UpdateItem": 6, "dynamodb:Query": 1, "dynamodb:DeleteItem": 1,
			"s3:UploadPart": 16 + 1, "s3:HeadObject": 4, "s3:ListMultipartUploads": 2, "s3:ListParts": 1,
			"s3:CreateMultipartUpload": 1, "s3:CompleteMultipartUpload": 1,
		}},
		// Each segment reads the item and lists its parts; finish reads and lists too.
		{"16 parts in 4 segments", "/file/128MiB/cost.bin", true, 4 * part, 11, map[string]int{
			"dynamodb:PutItem": 1, "dynamodb:GetItem": 3 + 4 + 1, "dynamodb:UpdateItem": 6, "dynamodb:Query": 1, "dynamodb:DeleteItem": 1,
			"s3:UploadPart": 16 + 1, "s3:HeadObject": 4, "s3:ListMultipartUploads": 2, "s3:ListParts": 1 + 4 + 2,
			"s3:CreateMultipartUpload": 1, "s3:CompleteMultipartUpload": 1,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.segmentBytes > 0 {
				for _, id := range []string{"FetchFunction", "FinishFunction"} {
					before := set(t, id, "SEGMENT_BYTES", fmt.Sprint(test.segmentBytes))
					defer set(t, id, "SEGMENT_BYTES", before)
				}
			}
			arn := ask(t, test.path)
			if test.waits {
				within(t, time.Minute, "the task token", func() bool { i, _ := item(t, arn); return i.TaskToken != "" })
			}
			c := dial(t, arn, "")
			i, _ := item(t, arn)
			c.next(60 * time.Second)
			ended(t, arn, 10*time.Second) // by then the item is marked as delivered
			c.close()
			within(t, 10*time.Second, "the item to go", func() bool { _, known := item(t, arn); return !known })
			if got := len(states(t, arn)); got != test.transitions {
				t.Errorf("state transitions: got %d, want %d: %q", got, test.transitions, states(t, arn))
			}
			got := map[string]int{}
			for _, call := range calls(t) {
				ours := strings.Contains(call, execution.NameOf(arn)) || strings.Contains(call, i.ConnectionID) && strings.HasPrefix(call, "dynamodb:Query ")
				if ours && !strings.Contains(call, "SET #copied") {
					got[strings.Fields(call)[0]]++
				}
			}
			// A message posted during the handshake is repeated, and the item and the object are read again for it.
			want, again := maps.Clone(test.want), gone(t, arn)
			want["dynamodb:GetItem"] += again
			want["s3:HeadObject"] += again
			if !maps.Equal(got, want) {
				t.Errorf("calls: got %v, want %v", got, want)
			}
		})
	}
}

// gone returns how many posts of an execution were answered with 410, according to its metric.
func gone(t *testing.T, arn string) (n int) {
	t.Helper()
	lines, err := functionLogs("e2e")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		var line struct {
			Execution string
			Gone      int
		}
		if json.Unmarshal([]byte(l), &line) == nil && line.Execution == execution.NameOf(arn) {
			n += line.Gone
		}
	}
	return n
}

// calls returns the functions' calls of DynamoDB and S3, as the local stack recorded them.
func calls(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(state, "calls.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}
