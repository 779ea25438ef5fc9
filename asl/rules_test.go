package asl_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

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
func TestFailuresReachTheClient(t *testing.T) {
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
		i := slices.IndexFunc(m.States, func(s named) bool { return s.Name == todo[0] })
		if i < 0 || seen[todo[0]] {
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
