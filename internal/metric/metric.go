// Package metric writes metrics and audit lines: JSON lines on standard output,
// from which CloudWatch Logs extracts the metrics and which it keeps for searches.
//
// The format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
//
// A metric is billed per month and per value of its dimensions, so there is one
// dimension, the stack; [Failed] also has its code. What belongs to one download,
// such as the execution's name, is in the line but not in a dimension.
package metric

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"async-download/internal/escape"
)

// namespace is the same for all stacks, so that one dashboard can show several.
const namespace = "AsyncDownload"

// Name is one of the metrics below.
type Name string

// Downloads by outcome. Each is counted once as Started and once when it ends.
const (
	Started   Name = "Started"
	Delivered Name = "Delivered" // a client has the link
	Failed    Name = "Failed"    // also by Code
	Expired   Name = "Expired"   // no client connected in time
	Cancelled Name = "Cancelled" // by the client or an operator
)

// Sizes, times, and incidents of downloads.
const (
	// Bytes is the size of a file whose copy is complete.
	Bytes Name = "Bytes"
	// CopySeconds is how long the copy took: one run, or, with several runs, the time
	// since the request.
	CopySeconds Name = "CopySeconds"
	// MegabytesPerSecond is the rate of one worker, in units of 10⁶ bytes.
	MegabytesPerSecond Name = "MegabytesPerSecond"
	// WaitSeconds is how long a ready file waited until its client connected or the
	// download expired.
	WaitSeconds Name = "WaitSeconds"
	// Gone counts posts that API Gateway answered with 410.
	Gone Name = "Gone"
	// Retries counts repetitions: requests to the origin beyond one per part, runs that
	// continued an earlier one, waits that the origin asked for, and further rounds of
	// segments.
	Retries Name = "Retries"
	// NotDiscarded counts uploads and objects that should have been removed and may
	// not have been.
	NotDiscarded Name = "NotDiscarded"
)

var units = map[Name]string{
	Started: "Count", Delivered: "Count", Failed: "Count", Expired: "Count", Cancelled: "Count",
	Bytes: "Bytes", CopySeconds: "Seconds", WaitSeconds: "Seconds", MegabytesPerSecond: "Megabytes/Second",
	Gone: "Count", Retries: "Count", NotDiscarded: "Count",
}

// Line is a line of the log that has metrics.
type Line struct {
	Message   string
	Execution string // the execution's name
	Values    map[Name]float64
	// Code is the second dimension of [Failed].
	Code string
	// About has further members, without secrets and queries. Their names start with
	// a lower-case letter; those of metrics and dimensions don't.
	About map[string]any
}

// Recorder writes lines.
type Recorder struct {
	Stack string // the stack's name, a dimension
	Out   io.Writer
	Now   func() time.Time // nil means time.Now
}

// Record writes a line, unless it has no metric.
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
	plain := directive{Namespace: namespace, Dimensions: [][]string{{"Stack"}}}
	coded := directive{Namespace: namespace, Dimensions: [][]string{{"Stack"}, {"Stack", "Code"}}}
	for _, name := range slices.Sorted(maps.Keys(l.Values)) {
		value := l.Values[name]
		if math.IsNaN(value) || math.IsInf(value, 0) {
			continue // not representable in JSON
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
	if err != nil { // About has an unsupported value; the download must not fail for it
		return
	}
	_, _ = r.Out.Write(append(escape.JSON(text), '\n')) // one write per line, since other goroutines write too
}
