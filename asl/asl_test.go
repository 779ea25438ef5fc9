// Package asl_test checks the two state machines against the project's rules for
// them, and every name in them against its source: the template, the Go code, or
// AWS.
package asl_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// machine is a state machine, or the part that a Map runs for each item.
type machine struct {
	Comment        string
	QueryLanguage  string
	StartAt        string
	TimeoutSeconds int
	States         ordered

	ProcessorConfig processor // only of a Map's part

	file string
	text string // the whole file
}

type state struct {
	Type, Comment, Resource    string
	QueryLanguage              string
	Parameters                 map[string]any
	ResultSelector             map[string]any
	ResultPath                 *string
	Result                     map[string]string
	TimeoutSeconds             int
	TimeoutSecondsPath         string
	Retry                      []retrier
	Catch                      []catcher
	Next                       string
	End                        bool
	Default                    string
	Choices                    []rule
	ItemProcessor              *machine
	MaxConcurrencyPath         string
	ToleratedFailurePercentage float64
	SecondsPath                string
	Error, ErrorPath           string
	CausePath                  string
}

type processor struct{ Mode, ExecutionType string }

type retrier struct {
	Comment                                       string
	ErrorEquals                                   []string
	IntervalSeconds, MaxAttempts, MaxDelaySeconds int
	BackoffRate                                   float64
	JitterStrategy                                string
}

type catcher struct {
	ErrorEquals []string
	ResultPath  *string
	Next        string
}

type rule struct {
	Variable           string
	IsPresent          *bool
	StringEquals       *string
	NumericGreaterThan *float64
	BooleanEquals      *bool
	And                []rule
	Next               string
}

// named is a state with its name. A JSON object of states becomes an ordered list.
type named struct {
	Name string
	state
}

type ordered []named

func (o *ordered) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil { // {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		s := named{Name: name.(string)}
		if err := d.Decode(&s.state); err != nil {
			return err
		}
		*o = append(*o, s)
	}
	return nil
}

// next returns all states that may follow.
func (s state) next() []string {
	var names []string
	for _, n := range append([]string{s.Next, s.Default}, append(nexts(s.Choices), caught(s.Catch)...)...) {
		if n != "" {
			names = append(names, n)
		}
	}
	return names
}

func nexts(rules []rule) (names []string) {
	for _, r := range rules {
		names = append(names, r.Next)
	}
	return names
}

func caught(catchers []catcher) (names []string) {
	for _, c := range catchers {
		names = append(names, c.Next)
	}
	return names
}

// machines returns the machines of this folder, each followed by the parts that
// its Maps run.
func machines(t *testing.T) []machine {
	t.Helper()
	files, err := filepath.Glob("*.asl.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("state machines: got %v (%v), want some", files, err)
	}
	var all []machine
	for _, file := range files {
		m := load(t, file)
		all = append(all, m)
		for _, s := range m.States {
			if s.ItemProcessor != nil {
				inner := *s.ItemProcessor
				inner.file = file + ": " + s.Name
				all = append(all, inner)
			}
		}
	}
	return all
}

func load(t *testing.T, file string) machine {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := machine{file: file, text: string(b)}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return m
}

// every calls check for each state of each machine.
func every(t *testing.T, check func(t *testing.T, m machine, s named)) {
	t.Helper()
	for _, m := range machines(t) {
		for _, s := range m.States {
			t.Run(m.file+"/"+s.Name, func(t *testing.T) { check(t, m, s) })
		}
	}
}

func (s state) delivers() bool { return s.Parameters["StateMachineArn"] == "${DeliverStateMachineArn}" }
