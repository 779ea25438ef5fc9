// Package asl_test checks the two state machines against the project's rules for
// them, and every name in them against its source: the template, the Go code, or
// AWS.
package asl_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"async-download/internal/copying"
	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/transfer"
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
	ItemSelector               map[string]any
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

func (o ordered) find(name string) (int, bool) {
	i := slices.IndexFunc(o, func(s named) bool { return s.Name == name })
	return i, i >= 0
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

func TestMachines(t *testing.T) {
	for _, m := range machines(t) {
		if m.QueryLanguage != "" && m.QueryLanguage != "JSONPath" || strings.Contains(m.text, "{%") {
			t.Errorf("%s: got JSONata, want JSONPath", m.file)
		}
		if whole := m.text != ""; whole && (!strings.Contains(m.Comment, "Ends as succeeded when") || m.TimeoutSeconds == 0) {
			t.Errorf("%s: got Comment %q and TimeoutSeconds %d, want when the machine succeeds, and a time-out", m.file, m.Comment, m.TimeoutSeconds)
		}
		// The states are in the order of the run, the happy path first.
		if m.States[0].Name != m.StartAt {
			t.Errorf("%s: first state: got %q, want StartAt, %q", m.file, m.States[0].Name, m.StartAt)
		}
		known := map[string]bool{m.StartAt: true} // named by a state above
		failed := false
		for _, s := range m.States {
			if !known[s.Name] {
				t.Errorf("%s: %s: no state above leads here", m.file, s.Name)
			}
			for _, n := range s.next() {
				known[n] = true
			}
			if failed = failed || s.Type == "Fail"; failed && s.Type == "Succeed" {
				t.Errorf("%s: %q comes after a state of failure", m.file, s.Name)
			}
		}
	}
}

// A list that fits into a line of 120 columns is on one line.
func TestShortListsAreOnOneLine(t *testing.T) {
	list := regexp.MustCompile(`(?m)^( *(?:"\w+": )?)\[\n((?:\s*"[^"\n]*",?[ \n]*)+)\]`)
	for _, file := range []string{"download.asl.json", "deliver.asl.json"} {
		for _, match := range list.FindAllStringSubmatch(load(t, file).text, -1) {
			if line := match[1] + "[" + strings.Join(strings.Fields(match[2]), " ") + "]"; len(line) <= 120 {
				t.Errorf("%s: got a list of several lines, want %s", file, strings.TrimSpace(line))
			}
		}
	}
}

var (
	sentence = regexp.MustCompile(`^[A-Z][a-z]+( [a-z]+)*\??$`)
	services = regexp.MustCompile(`(?i)\b(lambda|dynamo ?db|step functions?|api gateway|web ?socket|s3|sns|sqs|bucket|table|token|handler)\b`)
)

// rules are the rules for each state; each returns whether a state breaks it.
var rules = map[string]func(m machine, s named) bool{
	"it has the machine's query language": func(_ machine, s named) bool { return s.QueryLanguage != "" },
	"its name is a sentence":              func(_ machine, s named) bool { return !sentence.MatchString(s.Name) },
	"its name has no service in it":       func(_ machine, s named) bool { return services.MatchString(s.Name) },
	"only a Choice is a question":         func(_ machine, s named) bool { return strings.HasSuffix(s.Name, "?") != (s.Type == "Choice") },
	"a Choice has a Default":              func(_ machine, s named) bool { return s.Type == "Choice" && s.Default == "" }, // else States.NoChoiceMatched, which it can't catch
	"a Task has a time-out": func(_ machine, s named) bool {
		return s.Type == "Task" && s.TimeoutSeconds == 0 && s.TimeoutSecondsPath == ""
	},
	"a Task has Retry": func(_ machine, s named) bool { return s.Type == "Task" && len(s.Retry) == 0 },
	"Retry names the temporary errors": anyRetrier(func(r retrier) bool {
		return slices.Contains(r.ErrorEquals, "States.ALL") || slices.Contains(r.ErrorEquals, "States.TaskFailed")
	}),
	// A worker that is late may have a transaction on the item.
	"a write that meets a transaction is tried again": func(_ machine, s named) bool {
		return strings.Contains(s.Resource, ":aws-sdk:dynamodb:") && !anyRetrier(func(r retrier) bool {
			return slices.Contains(r.ErrorEquals, "DynamoDb.TransactionConflictException")
		})(machine{}, s)
	},
	"Retry has interval, attempts, rate":   anyRetrier(func(r retrier) bool { return r.IntervalSeconds == 0 || r.MaxAttempts == 0 || r.BackoffRate < 1 }),
	"MaxDelaySeconds exceeds the interval": anyRetrier(func(r retrier) bool { return r.MaxDelaySeconds < r.IntervalSeconds }),
	"JitterStrategy is FULL; the handshake has NONE, with its reason": func(m machine, s named) bool {
		return anyRetrier(func(r retrier) bool {
			handshake := m.file == "deliver.asl.json" && slices.Equal(r.ErrorEquals, []string{"ConnectionOpening"}) && strings.Contains(r.Comment, "without jitter")
			return r.JitterStrategy != "FULL" && !handshake
		})(m, s)
	},
	"the last Catch is States.ALL alone": func(_ machine, s named) bool {
		for i, c := range s.Catch {
			if all := slices.Equal(c.ErrorEquals, []string{"States.ALL"}); all != (i == len(s.Catch)-1) || !all && slices.Contains(c.ErrorEquals, "States.ALL") {
				return true
			}
		}
		return false
	},
	// In the deliver machine and in a child of the Map, the error is the result.
	"a Task or Map of the download has a Catch": func(m machine, s named) bool {
		return m.file == "download.asl.json" && (s.Type == "Task" || s.Type == "Map") && len(s.Catch) == 0
	},
}

func anyRetrier(broken func(r retrier) bool) func(machine, named) bool {
	return func(_ machine, s named) bool { return slices.ContainsFunc(s.Retry, broken) }
}

func TestRules(t *testing.T) {
	every(t, func(t *testing.T, m machine, s named) {
		for rule, broken := range rules {
			if broken(m, s) {
				t.Errorf("want: %s", rule)
			}
		}
	})
}

// The deliver machine must give up before its callers do, and within the five
// minutes of an Express execution.
// https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
func TestDeliveryEndsBeforeItsCaller(t *testing.T) {
	deliver := load(t, "deliver.asl.json")
	if deliver.TimeoutSeconds >= 300 {
		t.Errorf("deliver.asl.json: got TimeoutSeconds %d, want less than 300", deliver.TimeoutSeconds)
	}
	callers := 0
	for _, s := range load(t, "download.asl.json").States {
		if s.delivers() {
			callers++
			if s.TimeoutSeconds <= deliver.TimeoutSeconds {
				t.Errorf("%s: got TimeoutSeconds %d, want more than the deliver machine's %d", s.Name, s.TimeoutSeconds, deliver.TimeoutSeconds)
			}
		}
	}
	if callers == 0 {
		t.Error("no state starts the deliver machine")
	}
}

func (s state) delivers() bool { return s.Parameters["StateMachineArn"] == "${DeliverStateMachineArn}" }

// Lambda.TooManyRequestsException is throttling: the workers of one large file may
// hold every slot for minutes. With full jitter a wait is half of its limit on average.
func TestThrottlingIsWaitedFor(t *testing.T) {
	throttled := 0
	every(t, func(t *testing.T, m machine, s named) {
		if s.Resource != "arn:${Partition}:states:::lambda:invoke" {
			return
		}
		for _, r := range s.Retry {
			if !slices.Contains(r.ErrorEquals, "Lambda.TooManyRequestsException") {
				continue
			}
			throttled++
			if len(r.ErrorEquals) != 1 {
				t.Errorf("got %q, want a separate retrier, so that nothing else uses up its attempts", r.ErrorEquals)
			}
			var mean float64 // seconds
			wait := float64(r.IntervalSeconds)
			for range r.MaxAttempts {
				mean += min(wait, float64(r.MaxDelaySeconds)) / 2
				wait *= r.BackoffRate
			}
			if m.file == "deliver.asl.json" {
				if r.MaxAttempts != 8 || 2*mean > 60 {
					t.Errorf("got %d attempts in at most %.0f s, want 8 within a minute", r.MaxAttempts, 2*mean)
				}
			} else if mean < 45*60 || mean > 55*60 || r.IntervalSeconds != 5 || r.BackoffRate != 2 || r.MaxDelaySeconds != 60 {
				t.Errorf("got %+v, which waits for %.0f s, want some 50 minutes of waits from 5 s to 60 s", r, mean)
			}
		}
	})
	if throttled != 5 {
		t.Errorf("states that wait for Lambda: got %d, want the four of the copy and deliver's", throttled)
	}
}

// A worker that is killed reports under one of these names; which one is not documented.
func TestKilledWorkersAreTriedAgain(t *testing.T) {
	killed := []string{"Sandbox.Timedout", "Sandbox.Failure", "Runtime.ExitError", "Runtime.OutOfMemory", "Runtime.Unknown",
		"Function.Unknown", "Lambda.Unknown", "States.Timeout"}
	every(t, func(t *testing.T, m machine, s named) {
		if s.Resource != "arn:${Partition}:states:::lambda:invoke" || s.Name == "Copy the segment" { // finish judges by the parts
			return
		}
		for _, name := range killed {
			if !slices.ContainsFunc(s.Retry, func(r retrier) bool { return slices.Contains(r.ErrorEquals, name) }) {
				t.Errorf("%s isn't retried", name)
			}
		}
	})
}

// Guard 2: a client whose handshake is still open must not be regarded as gone. The
// tries without jitter must last longer than any handshake.
func TestTriesOutlastTheHandshake(t *testing.T) {
	for _, r := range load(t, "deliver.asl.json").States[0].Retry {
		if slices.Contains(r.ErrorEquals, "ConnectionOpening") {
			got, wait := 0.0, float64(r.IntervalSeconds)
			for range r.MaxAttempts {
				got += min(wait, float64(r.MaxDelaySeconds))
				wait *= float64(r.BackoffRate)
			}
			if want := meeting.Handshake.Seconds(); got <= want || r.JitterStrategy != "NONE" {
				t.Errorf("tries while the handshake is open: got %v s of them, jitter %s, want more than %v s without", got, r.JitterStrategy, want)
			}
			return
		}
	}
	t.Error("nothing retries ConnectionOpening")
}

// A failed segment doesn't stop the others: finish decides by the stored parts. No
// other test covers this, since the available engines don't implement the
// tolerance or the types of children.
func TestMap(t *testing.T) {
	found := 0
	for _, s := range load(t, "download.asl.json").States {
		if s.Type != "Map" {
			continue
		}
		found++
		if s.ToleratedFailurePercentage != 100 {
			t.Errorf("%s: got ToleratedFailurePercentage %v, want 100", s.Name, s.ToleratedFailurePercentage)
		}
		if got, want := s.ItemProcessor.ProcessorConfig, (processor{"DISTRIBUTED", "STANDARD"}); got != want {
			t.Errorf("%s: got %v, want %v", s.Name, got, want)
		}
		if last := s.ItemProcessor.States[len(s.ItemProcessor.States)-1]; last.Type != "Pass" || last.Result == nil || len(last.Result) > 0 || !last.End {
			t.Errorf("%s: a child ends with %+v, want a Pass that returns {}: 10,000 answers must fit into 256 KiB", s.Name, last)
		}
	}
	if found != 1 {
		t.Errorf("Maps: got %d, want 1", found)
	}
}

// The client is notified of every failure: each Catch of States.ALL leads to the
// state that notes the failure. The exceptions are the states that notify the
// client; clean-up, which EventBridge starts for every failed execution, does what
// they couldn't.
func TestFailuresAreTold(t *testing.T) {
	m := load(t, "download.asl.json")
	direct := map[string]string{
		"Send the link":      "Not sent",
		"Note the failure":   "Not sent",
		"Report the failure": "How did it end?", // already noted for later clients
		"Note the expiry":    "Expired",         // no client is connected
	}
	for _, s := range m.States {
		if len(s.Catch) == 0 {
			continue
		}
		want := "Note the failure"
		if d, ok := direct[s.Name]; ok {
			want = d
		}
		if got := s.Catch[len(s.Catch)-1].Next; got != want {
			t.Errorf("%s: Catch of States.ALL: got %q, want %q", s.Name, got, want)
		}
	}
	// Each state leads to an end, and the note leads to the client.
	for _, s := range m.States {
		if !m.reaches(s.Name, func(s named) bool { return s.Type == "Succeed" || s.Type == "Fail" }) {
			t.Errorf("%s: doesn't lead to an end", s.Name)
		}
	}
	if !m.reaches("Note the failure", func(s named) bool { return s.delivers() }) {
		t.Error("Note the failure: no way to the client")
	}
}

func (m machine) reaches(from string, there func(named) bool) bool {
	seen := map[string]bool{}
	for todo := []string{from}; len(todo) > 0; todo = todo[1:] {
		i, ok := m.States.find(todo[0])
		if !ok || seen[todo[0]] {
			continue
		}
		seen[todo[0]] = true
		if there(m.States[i]) {
			return true
		}
		todo = append(todo, m.States[i].next()...)
	}
	return false
}

// aws has the errors of AWS, each with its source.
var aws = []string{
	// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
	"States.ALL", "States.Timeout",
	"Lambda.Unknown", "Sandbox.Timedout",
	// https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception
	"Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException",
	"Lambda.TooManyRequestsException", "Lambda.ClientExecutionTimeoutException",
	// a worker that ran out of memory or exited, as seen in a history:
	// https://github.com/awslabs/amazon-s3-find-and-forget/pull/283
	"Runtime.ExitError", "Runtime.OutOfMemory", "Runtime.Unknown", "Function.Unknown", "Sandbox.Failure",
	// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors
	"Lambda.ResourceNotReadyException", "Lambda.ResourceConflictException", "Lambda.EC2ThrottledException",
	// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html#API_UpdateItem_Errors;
	// the integration adds the suffix Exception if the API has none, and writes the service in Pascal case:
	// https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
	"DynamoDb.ConditionalCheckFailedException", "DynamoDb.ProvisionedThroughputExceededException",
	"DynamoDb.ThrottlingException", "DynamoDb.RequestLimitExceededException", "DynamoDb.TransactionConflictException",
	"DynamoDb.InternalServerErrorException", "DynamoDb.SdkClientException",
	// errors without their own type in the SDK, as seen on AWS:
	// https://github.com/localstack/localstack/blob/main/tests/aws/services/stepfunctions/v2/error_handling/test_aws_sdk.snapshot.json
	"DynamoDb.DynamoDbException",
	// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartSyncExecution.html#API_StartSyncExecution_Errors
	"Sfn.SfnException", "Sfn.SdkClientException", "Sfn.StateMachineDoesNotExistException",
}

func TestErrorNamesExist(t *testing.T) {
	var codes []string
	for _, code := range failure.Codes() {
		codes = append(codes, string(code))
	}
	deliveries := append([]string{download.ConnectionOpening, download.ConnectionGone}, codes...)
	ours := append(deliveries, string(failure.Throttled))
	exists := func(name string) bool {
		// Both spellings of the service occur; each error is listed with both.
		if error, ok := strings.CutPrefix(name, "DynamoDB."); ok {
			name = "DynamoDb." + error
		}
		return slices.Contains(ours, name) || slices.Contains(aws, name)
	}
	every(t, func(t *testing.T, m machine, s named) {
		lists := [][]string{}
		for _, r := range s.Retry {
			lists = append(lists, r.ErrorEquals)
		}
		for _, c := range s.Catch {
			lists = append(lists, c.ErrorEquals)
		}
		for _, list := range lists {
			for _, name := range list {
				if !exists(name) {
					t.Errorf("got error %q, want one that exists", name)
				}
				if error, ok := strings.CutPrefix(name, "DynamoDb."); ok && !slices.Contains(list, "DynamoDB."+error) {
					t.Errorf("got only %q, want DynamoDB.%s as well", name, error)
				}
			}
		}
		// An execution ends with the code that the client got.
		for _, code := range []string{s.Error, s.Result["Error"]} {
			if code != "" && !slices.Contains(codes, code) {
				t.Errorf("ends as %q, want a code of internal/failure", code)
			}
		}
		for _, r := range comparisons(s.Choices) {
			if r.StringEquals == nil {
				continue
			}
			var want []string
			switch r.Variable {
			case "$.delivery.Status":
				// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartSyncExecution.html
				want = []string{"SUCCEEDED", "FAILED", "TIMED_OUT"}
			case "$.delivery.Error":
				want = deliveries
			case "$.failure.code":
				want = codes
			}
			if !slices.Contains(want, *r.StringEquals) {
				t.Errorf("compares %s with %q, want one of %q", r.Variable, *r.StringEquals, want)
			}
		}
	})
}

// comparisons returns the rules that compare a variable, without those that combine
// other rules.
func comparisons(rules []rule) (all []rule) {
	for _, r := range rules {
		if len(r.And) > 0 {
			all = append(all, comparisons(r.And)...)
			continue
		}
		all = append(all, r)
	}
	return all
}

// A missing path in a Choice or a Fail ends the execution with States.Runtime,
// which can't be caught.
// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
func TestChoicesReadOnlyWhatIsThere(t *testing.T) {
	for _, m := range machines(t) {
		there := map[string]bool{"$.delivery.Status": true} // StartSyncExecution always returns it
		for _, s := range m.States {
			for key := range s.ResultSelector {
				if s.ResultPath != nil {
					there[*s.ResultPath+"."+strings.TrimSuffix(key, ".$")] = true
				}
			}
		}
		for _, s := range m.States {
			for _, r := range s.Choices {
				checked := maps.Clone(there)
				for _, c := range comparisons([]rule{r}) {
					if c.IsPresent != nil && *c.IsPresent {
						checked[c.Variable] = true
					} else if !checked[c.Variable] {
						t.Errorf("%s: %s: compares %s, which may be missing; want IsPresent before it", m.file, s.Name, c.Variable)
					}
				}
			}
			for _, path := range []string{s.ErrorPath, s.CausePath, s.SecondsPath} {
				if path != "" && !there[path] {
					t.Errorf("%s: %s: reads %s, which may be missing", m.file, s.Name, path)
				}
			}
		}
	}
}

// The functions' inputs, and what is read from their results, match their Go types.
// A path that a ResultSelector doesn't find fails the state.
func TestFunctionsSpeakTheMachinesWords(t *testing.T) {
	work, output, noted := fields(transfer.Work{}), fields(copying.Output{}), fields(download.Noted{})
	for name := range work {
		output["work."+name] = work[name]
	}
	calls := map[string]struct{ input, output map[string]bool }{
		"Copy the file":    {fields(copying.Input{}), output},
		"Copy the segment": {fields(copying.Input{}), output},
		"Finish the copy":  {fields(copying.FinishInput{}), output},
		"Note the failure": {fields(download.FailureInput{}), noted},
	}
	start := fields(download.Input{})
	for _, m := range machines(t) {
		for _, s := range m.States {
			for _, path := range []string{s.TimeoutSecondsPath, s.MaxConcurrencyPath} {
				if _, ok := start[strings.TrimPrefix(path, "$.")]; path != "" && !ok {
					t.Errorf("%s: reads %s, which isn't in the input that the download function sets", s.Name, path)
				}
			}
			call, ok := calls[s.Name]
			if !ok {
				continue
			}
			delete(calls, s.Name)
			payload, whole := s.Parameters["Payload"].(map[string]any)
			if !whole {
				payload = mapItems(t)
			}
			for key := range payload {
				if _, ok := call.input[strings.TrimSuffix(key, ".$")]; !ok {
					t.Errorf("%s: passes %s, which isn't in the function's input", s.Name, key)
				}
			}
			for _, path := range s.ResultSelector {
				if omitted, ok := call.output[strings.TrimPrefix(path.(string), "$.Payload.")]; !ok || omitted {
					t.Errorf("%s: reads %s, which the function's result may not have", s.Name, path)
				}
			}
		}
	}
	for name := range calls {
		t.Errorf("got no state %q", name)
	}
}

// mapItems returns what the Map passes to the states that it runs.
func mapItems(t *testing.T) map[string]any {
	t.Helper()
	for _, s := range load(t, "download.asl.json").States {
		if s.ItemProcessor != nil {
			return s.ItemSelector
		}
	}
	return nil
}

// fields returns the JSON names of a struct's fields, and whether each may be omitted.
func fields(v any) map[string]bool {
	names := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		if name, options, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names[name] = strings.Contains(options, "omit")
		}
	}
	return names
}
