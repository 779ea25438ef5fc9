// Package metric writes what CloudWatch counts and what an auditor reads, one
// line for both: JSON on standard output, of which CloudWatch Logs takes the
// metrics and keeps the rest to be searched.
//
// The format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
//
// A metric costs by the month and by each value of its dimensions, so there is
// one dimension, the stack; [Failed] has its code as a second. What belongs to
// one download, above all the execution's name, is in the line and in no dimension.
package metric

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"slices"
	"time"
)

// Namespace is the same for every stack, so that one dashboard can show several.
const Namespace = "AsyncDownload"

// Name is one of the metrics below.
type Name string

// Downloads by outcome: each is counted once as Started and once more when it ends.
const (
	Started   Name = "Started"
	Delivered Name = "Delivered" // a client has the link
	Failed    Name = "Failed"    // also by Code
	Expired   Name = "Expired"   // nobody came in time
	Cancelled Name = "Cancelled" // by the client or an operator
)

// What a download took.
const (
	// Bytes is the size of a file whose copy is complete.
	Bytes Name = "Bytes"
	// CopySeconds is how long its copy took: the run that copied it or, where it
	// was more than one, all from the request on.
	CopySeconds Name = "CopySeconds"
	// MegabytesPerSecond (10⁶ bytes) is what one worker carried.
	MegabytesPerSecond Name = "MegabytesPerSecond"
	// WaitSeconds is how long a file that was ready waited for its client, who
	// came or, if the download is Expired, did not.
	WaitSeconds Name = "WaitSeconds"
	// Gone counts posts that API Gateway answered with 410.
	Gone Name = "Gone"
	// Retries counts what was done once more: requests to the origin beyond one a
	// part, runs that went on with what an earlier one had stored, waits the origin
	// asked for, further rounds of segments.
	Retries Name = "Retries"
	// NotDiscarded counts uploads and objects that should be gone and may not be.
	NotDiscarded Name = "NotDiscarded"
)

var units = map[Name]string{
	Started: "Count", Delivered: "Count", Failed: "Count", Expired: "Count", Cancelled: "Count",
	Bytes: "Bytes", CopySeconds: "Seconds", WaitSeconds: "Seconds", MegabytesPerSecond: "Megabytes/Second",
	Gone: "Count", Retries: "Count", NotDiscarded: "Count",
}

// Line is one line of the log with metrics in it.
type Line struct {
	Message   string
	Execution string // its name
	Values    map[Name]float64
	// Code is the dimension that [Failed] has beside the stack.
	Code string
	// About is what else is known; no secret, no query. Its names begin small,
	// those of metrics and dimensions don't.
	About map[string]any
}

// Recorder writes lines.
type Recorder struct {
	Stack string // its name, the dimension
	Out   io.Writer
	Now   func() time.Time // nil means time.Now
}

// Record writes a line; one without a value isn't worth one.
func (r *Recorder) Record(l Line) {
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	at := now().UTC()
	members := map[string]any{"timestamp": at.Format(time.RFC3339Nano), "level": "INFO"}
	maps.Copy(members, l.About)
	members["message"], members["execution"], members["Stack"] = l.Message, l.Execution, r.Stack

	type definition struct {
		Name Name
		Unit string
	}
	type directive struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []definition
	}
	plain := directive{Namespace: Namespace, Dimensions: [][]string{{"Stack"}}}
	coded := directive{Namespace: Namespace, Dimensions: [][]string{{"Stack"}, {"Stack", "Code"}}}
	for _, name := range slices.Sorted(maps.Keys(l.Values)) {
		value := l.Values[name]
		if math.IsNaN(value) || math.IsInf(value, 0) {
			continue // JSON has no word for it
		}
		members[string(name)] = value
		to := &plain
		if name == Failed && l.Code != "" {
			to, members["Code"] = &coded, l.Code
		}
		to.Metrics = append(to.Metrics, definition{name, units[name]})
	}
	directives := slices.DeleteFunc([]directive{plain, coded}, func(d directive) bool { return len(d.Metrics) == 0 })
	if len(directives) == 0 {
		return
	}
	members["_aws"] = map[string]any{"Timestamp": at.UnixMilli(), "CloudWatchMetrics": directives}
	text, err := json.Marshal(members)
	if err != nil { // a value that About should not hold; the download goes on
		return
	}
	_, _ = r.Out.Write(append(text, '\n')) // in one piece: lines of others come in between
}
