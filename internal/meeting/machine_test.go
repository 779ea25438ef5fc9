package meeting_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine is a state machine of asl/, run by an interpreter for the part of the language
// that the two machines use. So the tests run the real condition of the wait, and the
// real Catches and Choices around it.
type machine struct {
	StartAt        string
	TimeoutSeconds int
	States         map[string]*state
}

type state struct {
	Type, Resource, Next, Default string
	End                           bool
	Parameters, ResultSelector    map[string]any
	Result                        any
	ResultPath                    json.RawMessage // absent: the result replaces the input; null: it is dropped
	TimeoutSeconds                int
	TimeoutSecondsPath            string
	SecondsPath                   string
	Choices                       []rule
	Retry                         []retrier
	Catch                         []catcher
	Error, Cause                  string
	ErrorPath, CausePath          string
}

type rule struct {
	Variable           string
	IsPresent          *bool
	BooleanEquals      *bool
	StringEquals       *string
	NumericGreaterThan *float64
	And                []rule
	Next               string
}

type retrier struct {
	ErrorEquals                                   []string
	IntervalSeconds, MaxAttempts, MaxDelaySeconds float64
	BackoffRate                                   float64
}

type catcher struct {
	ErrorEquals []string
	ResultPath  json.RawMessage
	Next        string
}

// mistake is an error as a state machine sees it.
type mistake struct{ name, cause string }

var machines = sync.OnceValue(func() map[string]*machine {
	m := map[string]*machine{}
	for _, name := range []string{"download", "deliver"} {
		text, err := os.ReadFile("../../asl/" + name + ".asl.json")
		if err != nil {
			panic(err)
		}
		text = bytes.ReplaceAll(text, []byte("${Partition}"), []byte("aws"))
		m[name] = &machine{}
		if err := json.Unmarshal(text, m[name]); err != nil {
			panic(err)
		}
	}
	return m
})

// execution runs one machine.
type execution struct {
	*machine
	arn string
	// task executes a Task; token is its $$.Task.Token.
	task func(ctx context.Context, s *state, parameters map[string]any, token string, limit time.Duration) (any, *mistake)
	// issue creates the token of a Task that waits for its answer.
	issue func() string
	// entered, if set, is called with each state.
	entered func(name string)
}

// run returns how the execution ended: SUCCEEDED, or FAILED with the error.
func (x *execution) run(ctx context.Context, input any) (status string, output any, no *mistake) {
	data, name := input, x.StartAt
	for ctx.Err() == nil {
		s := x.States[name]
		if s == nil {
			panic("no state " + name)
		}
		if x.entered != nil {
			x.entered(name)
		}
		switch s.Type {
		case "Succeed":
			return "SUCCEEDED", data, nil
		case "Fail":
			no := &mistake{s.Error, s.Cause}
			if s.ErrorPath != "" {
				no = &mistake{x.read(data, s.ErrorPath).(string), x.read(data, s.CausePath).(string)}
			}
			return "FAILED", nil, no
		case "Pass":
			data = x.place(data, s.ResultPath, s.Result)
			name = s.Next
		case "Wait":
			select {
			case <-time.After(time.Duration(x.read(data, s.SecondsPath).(float64)) * time.Second):
			case <-ctx.Done():
			}
			name = s.Next
		case "Choice":
			name = s.Default
			if i := slices.IndexFunc(s.Choices, func(r rule) bool { return x.holds(data, r) }); i >= 0 {
				name = s.Choices[i].Next
			}
		case "Task":
			result, no := x.try(ctx, data, s)
			if ctx.Err() != nil {
				return "ABORTED", nil, nil
			}
			if no != nil {
				i := slices.IndexFunc(s.Catch, func(c catcher) bool { return no.in(c.ErrorEquals) })
				if i < 0 {
					return "FAILED", nil, no
				}
				data = x.place(data, s.Catch[i].ResultPath, map[string]any{"Error": no.name, "Cause": no.cause})
				name = s.Catch[i].Next
				break
			}
			if s.ResultSelector != nil {
				result = x.fill(result, s.ResultSelector, "")
			}
			data = x.place(data, s.ResultPath, result)
			if name = s.Next; s.End {
				return "SUCCEEDED", data, nil
			}
		default:
			panic("state " + name + " is of the type " + s.Type)
		}
	}
	return "ABORTED", nil, nil
}

// try executes a Task with its Retry. Each try of a Task that waits for a token has its
// own token.
func (x *execution) try(ctx context.Context, data any, s *state) (any, *mistake) {
	tries := make([]float64, len(s.Retry))
	for {
		token := ""
		if strings.HasSuffix(s.Resource, ".waitForTaskToken") {
			token = x.issue()
		}
		limit := time.Duration(s.TimeoutSeconds) * time.Second
		if s.TimeoutSecondsPath != "" {
			limit = time.Duration(x.read(data, s.TimeoutSecondsPath).(float64)) * time.Second
		}
		if limit <= 0 {
			panic("a Task without a time-out")
		}
		result, no := x.task(ctx, s, x.fill(data, s.Parameters, token).(map[string]any), token, limit)
		if no == nil {
			return result, nil
		}
		i := slices.IndexFunc(s.Retry, func(r retrier) bool { return no.in(r.ErrorEquals) })
		if i < 0 || tries[i] >= s.Retry[i].MaxAttempts || ctx.Err() != nil {
			return nil, no
		}
		r := s.Retry[i]
		wait := r.IntervalSeconds
		for range int(tries[i]) {
			wait = min(wait*r.BackoffRate, r.MaxDelaySeconds)
		}
		tries[i]++
		time.Sleep(time.Duration(wait * float64(time.Second))) // jitter would only make it shorter
	}
}

func (m *mistake) in(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n == m.name || n == "States.ALL" })
}

// fill replaces each "name.$" by the value at its path.
func (x *execution) fill(data any, template any, token string) any {
	switch t := template.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range t {
			if name, ok := strings.CutSuffix(k, ".$"); ok {
				out[name] = x.value(data, v.(string), token)
			} else {
				out[k] = x.fill(data, v, token)
			}
		}
		return out
	default:
		return template
	}
}

var format = regexp.MustCompile(`^States\.Format\('(.*)', (\$[^)]*)\)$`)

func (x *execution) value(data any, path, token string) any {
	if f := format.FindStringSubmatch(path); f != nil {
		text := strings.Replace(f[1], "{}", x.value(data, f[2], token).(string), 1)
		return strings.NewReplacer(`\{`, "{", `\}`, "}").Replace(text)
	}
	switch path {
	case "$$.Execution.Id":
		return x.arn
	case "$$.Task.Token":
		if token == "" {
			panic("a token in a state that doesn't wait for it")
		}
		return token
	}
	return x.read(data, path)
}

// read follows a path, which must exist: on AWS, a missing path ends the execution, and
// no Catch applies.
func (x *execution) read(data any, path string) any {
	v, ok := lookUp(data, path)
	if !ok {
		panic(fmt.Sprintf("States.Runtime: %s leads nowhere in %v", path, data))
	}
	return v
}

var step = regexp.MustCompile(`^\.([A-Za-z]+)|^\[(\d+)\]`)

func lookUp(data any, path string) (any, bool) {
	rest, ok := strings.CutPrefix(path, "$")
	if !ok || strings.HasPrefix(rest, "$") {
		panic("path " + path + " is not known here")
	}
	for rest != "" {
		s := step.FindStringSubmatch(rest)
		if s == nil {
			panic("path " + path + " is not known here")
		}
		rest = rest[len(s[0]):]
		if s[1] == "" {
			list, ok := data.([]any)
			if !ok || len(list) == 0 { // [0] is the only one used
				return nil, false
			}
			data = list[0]
			continue
		}
		object, ok := data.(map[string]any)
		if !ok {
			return nil, false
		}
		if data, ok = object[s[1]]; !ok {
			return nil, false
		}
	}
	return data, true
}

// place puts a result at its ResultPath.
func (x *execution) place(data any, path json.RawMessage, result any) any {
	switch string(path) {
	case "":
		return result
	case "null":
		return data
	}
	var p string
	if err := json.Unmarshal(path, &p); err != nil {
		panic(err)
	}
	name, ok := strings.CutPrefix(p, "$.")
	if !ok || strings.ContainsAny(name, ".[") {
		panic("ResultPath " + p + " is not known here")
	}
	out := map[string]any{}
	for k, v := range data.(map[string]any) {
		out[k] = v
	}
	out[name] = result
	return out
}

func (x *execution) holds(data any, r rule) bool {
	if r.And != nil {
		return !slices.ContainsFunc(r.And, func(r rule) bool { return !x.holds(data, r) })
	}
	v, there := lookUp(data, r.Variable)
	if r.IsPresent != nil {
		return there == *r.IsPresent
	}
	if !there {
		panic(fmt.Sprintf("States.Runtime: %s leads nowhere in %v", r.Variable, data))
	}
	switch {
	case r.StringEquals != nil:
		return v == *r.StringEquals
	case r.BooleanEquals != nil:
		return v == *r.BooleanEquals
	case r.NumericGreaterThan != nil:
		n, ok := v.(float64)
		return ok && n > *r.NumericGreaterThan
	}
	panic(fmt.Sprintf("rule %+v is not known here", r))
}

func TestInterpreter(t *testing.T) {
	x := &execution{arn: "arn:e"}
	data := map[string]any{"a": map[string]any{"b": []any{map[string]any{"c": "d"}}}, "n": 2.0}
	for path, want := range map[string]any{
		"$.a.b[0].c":      "d",
		"$.n":             2.0,
		"$$.Execution.Id": "arn:e",
		"$$.Task.Token":   "token",
		`States.Format('\{"executionArn":"{}"\}', $$.Execution.Id)`: `{"executionArn":"arn:e"}`,
	} {
		if got := x.value(data, path, "token"); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	if _, ok := lookUp(data, "$.a.x"); ok {
		t.Error("$.a.x: got a value, want none")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("got no panic for a path that leads nowhere")
			}
		}()
		x.read(data, "$.a.x")
	}()
	if got := fmt.Sprint(x.place(data, json.RawMessage(`"$.n"`), 3)); !strings.Contains(got, "n:3") {
		t.Errorf("ResultPath $.n: got %s", got)
	}
	if got := x.place(data, json.RawMessage(`null`), 3); fmt.Sprint(got) != fmt.Sprint(data) {
		t.Errorf("ResultPath null: got %v", got)
	}
}
