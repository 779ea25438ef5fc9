package metric

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// record returns the output of a recorder with a fixed clock.
func record(l Line) string {
	var out bytes.Buffer
	r := Recorder{Stack: "download", Out: &out, Now: func() time.Time { return time.UnixMilli(1764165906123) }}
	r.Record(l)
	return out.String()
}

func TestShape(t *testing.T) {
	for _, test := range []struct {
		title string
		line  Line
		want  string
	}{
		{"one count", Line{Message: "started", Execution: "5f0c", Values: map[Name]float64{Started: 1}, About: map[string]any{"path": "a/b"}},
			`{"Stack":"download","Started":1,"_aws":{"CloudWatchMetrics":[{"Namespace":"AsyncDownload","Dimensions":[["Stack"]],"Metrics":[{"Name":"Started","Unit":"Count"}]}],"Timestamp":1764165906123},` +
				`"execution":"5f0c","level":"INFO","message":"started","path":"a/b","timestamp":"2025-11-26T14:05:06.123Z"}` + "\n"},
		{"text of a client is escaped", Line{Message: "started", Execution: "5f0c", Values: map[Name]float64{Started: 1}, About: map[string]any{"path": "a\u202eb"}},
			`{"Stack":"download","Started":1,"_aws":{"CloudWatchMetrics":[{"Namespace":"AsyncDownload","Dimensions":[["Stack"]],"Metrics":[{"Name":"Started","Unit":"Count"}]}],"Timestamp":1764165906123},` +
				`"execution":"5f0c","level":"INFO","message":"started","path":"a\u202eb","timestamp":"2025-11-26T14:05:06.123Z"}` + "\n"},
		{"several units", Line{Message: "copied", Execution: "5f0c", Values: map[Name]float64{Bytes: 1048576, CopySeconds: 0.25, MegabytesPerSecond: 4.194304}},
			`{"Bytes":1048576,"CopySeconds":0.25,"MegabytesPerSecond":4.194304,"Stack":"download","_aws":{"CloudWatchMetrics":[{"Namespace":"AsyncDownload","Dimensions":[["Stack"]],"Metrics":[` +
				`{"Name":"Bytes","Unit":"Bytes"},{"Name":"CopySeconds","Unit":"Seconds"},{"Name":"MegabytesPerSecond","Unit":"Megabytes/Second"}]}],"Timestamp":1764165906123},` +
				`"execution":"5f0c","level":"INFO","message":"copied","timestamp":"2025-11-26T14:05:06.123Z"}` + "\n"},
		{"a failure has its code as a dimension, its neighbours don't", Line{Message: "audit", Execution: "5f0c", Values: map[Name]float64{Failed: 1, Retries: 2}, Code: "ORIGIN_STATUS"},
			`{"Code":"ORIGIN_STATUS","Failed":1,"Retries":2,"Stack":"download","_aws":{"CloudWatchMetrics":[` +
				`{"Namespace":"AsyncDownload","Dimensions":[["Stack"]],"Metrics":[{"Name":"Retries","Unit":"Count"}]},` +
				`{"Namespace":"AsyncDownload","Dimensions":[["Stack"],["Stack","Code"]],"Metrics":[{"Name":"Failed","Unit":"Count"}]}],"Timestamp":1764165906123},` +
				`"execution":"5f0c","level":"INFO","message":"audit","timestamp":"2025-11-26T14:05:06.123Z"}` + "\n"},
		{"a value that isn't a number is omitted", Line{Message: "copied", Execution: "5f0c", Values: map[Name]float64{Bytes: 0, MegabytesPerSecond: math.NaN(), CopySeconds: math.Inf(1)}},
			`{"Bytes":0,"Stack":"download","_aws":{"CloudWatchMetrics":[{"Namespace":"AsyncDownload","Dimensions":[["Stack"]],"Metrics":[{"Name":"Bytes","Unit":"Bytes"}]}],"Timestamp":1764165906123},` +
				`"execution":"5f0c","level":"INFO","message":"copied","timestamp":"2025-11-26T14:05:06.123Z"}` + "\n"},
		{"nothing to count", Line{Message: "copied", Values: map[Name]float64{MegabytesPerSecond: math.NaN()}}, ""},
		{"About doesn't replace what a line needs", Line{Message: "audit", Execution: "5f0c", Values: map[Name]float64{Delivered: 1},
			About: map[string]any{"message": "x", "execution": "x", "Stack": "x", "_aws": "x", "Delivered": "x"}},
			`{"Delivered":1,"Stack":"download","_aws":{"CloudWatchMetrics":[{"Namespace":"AsyncDownload","Dimensions":[["Stack"]],"Metrics":[{"Name":"Delivered","Unit":"Count"}]}],"Timestamp":1764165906123},` +
				`"execution":"5f0c","level":"INFO","message":"audit","timestamp":"2025-11-26T14:05:06.123Z"}` + "\n"},
	} {
		if got := record(test.line); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", test.title, got, test.want)
		}
	}
}

// CloudWatch silently ignores a metric or dimension that isn't a number or string of
// the line, an unknown unit, more than 100 metrics or 30 dimensions, and a stack's
// name that is too long.
func TestCloudWatchTakesEveryLine(t *testing.T) {
	known := []string{"Seconds", "Bytes", "Count", "Megabytes/Second"} // of MetricDatum's units
	values := map[Name]float64{}
	for name, unit := range units {
		if !slices.Contains(known, unit) {
			t.Errorf("%s: got unit %q, want one of %q", name, unit, known)
		}
		values[name] = 1
	}
	var line struct {
		AWS struct {
			Timestamp         int64
			CloudWatchMetrics []struct {
				Namespace  string
				Dimensions [][]string
				Metrics    []struct{ Name, Unit string }
			}
		} `json:"_aws"`
	}
	text := record(Line{Message: "all", Execution: "5f0c", Values: values, Code: "INTERNAL"})
	var members map[string]any
	for _, into := range []any{&line, &members} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "}\n") {
		t.Errorf("got %q, want one line", text)
	}
	seen := 0
	for _, d := range line.AWS.CloudWatchMetrics {
		for _, set := range d.Dimensions {
			for _, name := range set {
				if _, ok := members[name].(string); !ok {
					t.Errorf("dimension %s: got %v, want a string", name, members[name])
				}
			}
		}
		for _, m := range d.Metrics {
			seen++
			if _, ok := members[m.Name].(float64); !ok || m.Unit == "" {
				t.Errorf("metric %s: got %v %q, want a number and a unit", m.Name, members[m.Name], m.Unit)
			}
		}
	}
	if seen != len(units) {
		t.Errorf("got %d metrics, want %d", seen, len(units))
	}
}

// Each metric has a unit, and each unit belongs to a metric.
func TestEveryNameHasAUnit(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "metric.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []Name
	for _, d := range file.Decls {
		general, ok := d.(*ast.GenDecl)
		if !ok || general.Tok != token.CONST {
			continue
		}
		for _, s := range general.Specs {
			if v := s.(*ast.ValueSpec); v.Type != nil && v.Type.(*ast.Ident).Name == "Name" {
				value, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil || value != v.Names[0].Name {
					t.Errorf("got %s = %q (%v), want the same word", v.Names[0], value, err)
				}
				names = append(names, Name(value))
			}
		}
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(units)); !slices.Equal(got, names) {
		t.Errorf("got units for %v, want %v", got, names)
	}
}

// A download must not fail because of a metric.
func TestWhatCannotBeWrittenIsLeftOut(t *testing.T) {
	if got := record(Line{Values: map[Name]float64{Started: 1}, About: map[string]any{"f": func() {}}}); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}
