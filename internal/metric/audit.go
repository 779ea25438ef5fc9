package metric

import (
	"strings"
	"time"

	"async-download/internal/execution"
	"async-download/internal/meeting"
)

// Audit is the one line about a download that has ended: who asked for what, its size, and
// the outcome. until is when its client connected, or when it was clear that none would;
// code is the failure's, "" without one.
func Audit(outcome Name, item meeting.Item, code string, until time.Time) Line {
	l := Line{
		Message: "audit", Execution: execution.NameFromARN(item.ExecutionARN), Code: code,
		Values: map[Name]float64{outcome: 1},
		About: map[string]any{
			"outcome": strings.ToUpper(string(outcome)), "askedBy": item.AskedBy, "asked": item.Asked().UTC(),
			"path": item.Path, "bytes": item.Copied(),
		},
	}
	if code != "" {
		l.About["code"] = code
	}
	if outcome == Delivered || outcome == Expired {
		l.Values[WaitSeconds] = item.Waited(until).Seconds()
	}
	return l
}
