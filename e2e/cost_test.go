package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"async-download/internal/execution"
)

// TestCallsOfADownload counts what AWS bills for a download: state transitions,
// and the functions' calls to DynamoDB and S3. scripts/cost.py computes the prices in
// docs/capacity.md from the same numbers. The writes that occur once per second during
// a copy are not counted.
func TestCallsOfADownload(t *testing.T) {
	b, err := os.ReadFile("e2e/testdata/calls.json")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		Name, Path   string
		Waits        bool  // whether the client connects after the copy
		SegmentBytes int64 // 0: the stack's
		Transitions  int
		Calls        map[string]int
	}
	if err := json.Unmarshal(b, &tests); err != nil {
		t.Fatal(err)
	}
	workers := []string{"FetchFunction", "FinishFunction"}
	for _, id := range workers { // an event costs a read of the item and of the object
		before := setEnv(t, id, "EVENT_BUS", "")
		defer setEnv(t, id, "EVENT_BUS", before)
	}
	for _, test := range tests {
		t.Run(test.Name, func(t *testing.T) {
			if test.SegmentBytes > 0 {
				for _, id := range workers {
					before := setEnv(t, id, "SEGMENT_BYTES", fmt.Sprint(test.SegmentBytes))
					defer setEnv(t, id, "SEGMENT_BYTES", before)
				}
			}
			arn := ask(t, test.Path)
			if test.Waits {
				awaitToken(t, arn)
			}
			c := dial(t, arn, "")
			i, _ := item(t, arn)
			c.next()
			ended(t, arn) // by then the item is marked as delivered
			c.close()
			awaitNoItem(t, arn)
			if got := len(states(t, arn)); got != test.Transitions {
				t.Errorf("state transitions: got %d, want %d: %q", got, test.Transitions, states(t, arn))
			}
			got := map[string]int{}
			for _, call := range calls(t) {
				ours := strings.Contains(call, execution.NameFromARN(arn)) || strings.Contains(call, i.ConnectionID) && strings.HasPrefix(call, "dynamodb:Query ")
				if ours && !strings.Contains(call, "SET #copied") {
					got[strings.Fields(call)[0]]++
				}
			}
			// A message posted during the handshake is repeated, and the item and the object are read again for it.
			want, again := maps.Clone(test.Calls), gonePosts(t, arn)
			want["dynamodb:GetItem"] += again
			want["s3:HeadObject"] += again
			if !maps.Equal(got, want) {
				t.Errorf("calls: got %v, want %v", got, want)
			}
		})
	}
}

// gonePosts returns how many posts of an execution were answered with 410, according to its metric.
func gonePosts(t *testing.T, arn string) (n int) {
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
		if json.Unmarshal([]byte(l), &line) == nil && line.Execution == execution.NameFromARN(arn) {
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
