package asl_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"async-download/internal/meeting"
)

// section returns what stands in README.md below a heading, up to the next one
// of the same rank or a higher one.
func section(t *testing.T, heading string) string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut("\n"+string(b), "\n"+heading+"\n")
	if !found {
		t.Fatalf("README.md has no %q", heading)
	}
	rank := strings.IndexByte(heading, ' ')
	if end := regexp.MustCompile(`(?m)^#{1,` + string(rune('0'+rank)) + `} `).FindStringIndex(text); end != nil {
		text = text[:end[0]]
	}
	return text
}

// picture returns the first block of code in a text.
func picture(t *testing.T, text string) string {
	t.Helper()
	parts := strings.SplitN(text, "```\n", 3)
	if len(parts) < 3 {
		t.Fatalf("no picture in %.60q…", text)
	}
	return parts[1]
}

// rows returns the cells of a text's table, without its head.
func rows(t *testing.T, text string) (all [][]string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "|") && strings.HasSuffix(line, "|") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			all = append(all, cells)
		}
	}
	if len(all) < 3 {
		t.Fatalf("no table in %.60q…", text)
	}
	return all[2:]
}

// stateNames are those of every machine and of what a Map runs.
func stateNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, m := range machines(t) {
		for _, s := range m.States {
			names[s.Name] = true
		}
	}
	return names
}

type edge struct{ from, to string }

// anything stands in the picture for every state from which States.ALL leads to
// the note; TestFailuresAreTold knows which these are.
const anything = "what fails"

// edges of the machine; those of States.ALL are left to anything.
func (m machine) edges() map[edge]bool {
	all := map[edge]bool{}
	for _, s := range m.States {
		s.Catch = slices.DeleteFunc(slices.Clone(s.Catch), func(c catcher) bool {
			if !slices.Contains(c.ErrorEquals, "States.ALL") {
				return false
			}
			if c.Next == "Note the failure" {
				all[edge{anything, c.Next}] = true
			}
			return true
		})
		for _, n := range s.next() {
			all[edge{s.Name, n}] = true
		}
	}
	return all
}

// drawn reads a picture of states: A ─► B; A ─┬─ when ─► B and below the ┬, at a
// ├ or └, the other ways from A.
func drawn(t *testing.T, picture string) map[edge]bool {
	t.Helper()
	all, forks := map[edge]bool{}, map[int]string{} // forks: the column of a ┬, and the state before it
	for line := range strings.Lines(picture) {
		from, at := "", 0
		for i, part := range strings.Split(line, "►") {
			before, _, fork := strings.Cut(part, "┬")
			name := strings.Trim(before, " ─│\n")
			if i == 0 {
				for column, r := range []rune(part) {
					if (r == '├' || r == '└') && forks[column] != "" {
						from = forks[column]
						name = ""
					}
				}
			}
			if name != "" && from != "" {
				all[edge{from, name}] = true
			}
			if name != "" {
				from = name
			}
			if fork {
				forks[at+len([]rune(before))] = from
			}
			at += len([]rune(part)) + 1
		}
	}
	return all
}

func TestPictureOfTheMachine(t *testing.T) {
	want := map[edge]bool{}
	for _, m := range machines(t) {
		maps.Copy(want, m.edges())
	}
	got := drawn(t, picture(t, section(t, "### The state machines")))
	for e := range got {
		if !want[e] {
			t.Errorf("the picture leads from %q to %q, no machine does", e.from, e.to)
		}
	}
	for e := range want {
		if !got[e] {
			t.Errorf("the machine leads from %q to %q, the picture doesn't", e.from, e.to)
		}
	}
}

func TestTableOfTheStates(t *testing.T) {
	names := stateNames(t)
	told := map[string]bool{}
	text := section(t, "### The state machines")
	_, table, _ := strings.Cut(text, "| state |")
	for _, row := range rows(t, "| state |"+table) {
		for _, name := range strings.Split(row[0], ", ") {
			if !names[name] {
				t.Errorf("the table has a row for %q, which is no state", name)
			}
			told[name] = true
		}
		for name := range names {
			told[name] = told[name] || strings.Contains(row[1], name)
		}
	}
	for name := range names {
		if !told[name] {
			t.Errorf("the table doesn't tell of %q", name)
		}
	}
}

// The ways to end are ways through the machine.
func TestWaysToEnd(t *testing.T) {
	m := load(t, "download.asl.json")
	ways := m.edges()
	for _, s := range m.States { // a Catch of anything is a way too
		for _, n := range s.next() {
			ways[edge{s.Name, n}] = true
		}
	}
	aside := regexp.MustCompile(`\s*\([^)]*\)|, if so$`)
	end := regexp.MustCompile(`^\*\*Execution(Succeeded|Failed|Aborted)\*\*`)
	for _, row := range rows(t, section(t, "### The ways to end")) {
		before := ""
		for i, step := range strings.Split(row[1], " · ") {
			step = aside.ReplaceAllString(step, "")
			rest, gap := strings.CutPrefix(step, "…")
			if step = strings.TrimSpace(rest); gap && step == "" {
				before = ""
				continue
			}
			if end.MatchString(step) {
				at, known := m.States.find(before)
				if kind := end.FindStringSubmatch(step)[1]; !known || kind == "Succeeded" && m.States[at].Type != "Succeed" || kind == "Failed" && m.States[at].Type != "Fail" {
					t.Errorf("%s: got %s after %q", row[0], step, before)
				}
				continue
			}
			if _, known := m.States.find(step); !known {
				t.Errorf("%s: got %q, which is no state", row[0], step)
			}
			if i == 0 && !gap && step != m.StartAt {
				t.Errorf("%s: begins with %q, want %q", row[0], step, m.StartAt)
			}
			if before != "" && !ways[edge{before, step}] {
				t.Errorf("%s: goes from %q to %q, the machine doesn't", row[0], before, step)
			}
			before = step
		}
	}
}

// The picture at the top names states, functions and calls that are there.
func TestPictureOfTheFlow(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	flow := picture(t, string(b))
	m := load(t, "download.asl.json")
	found := 0
	for _, name := range regexp.MustCompile(`[A-Z][a-z]+(?: [a-z]+)+\??`).FindAllString(flow, -1) {
		found++
		if _, known := m.States.find(name); !known {
			t.Errorf("got %q, which is no state", name)
		}
	}
	if found < 4 {
		t.Errorf("states: got %d, want the copy, the look, the wait and the delivery", found)
	}
	// What an API leads to is a function, and the call beside it is its own.
	calls := map[string]string{}
	for _, match := range regexp.MustCompile(`API Gateway \(\w+\) ─+► ([a-z-]+) ─*[►─]?(?:.*\b((?:Start|Send)[A-Z]\w+))?`).FindAllStringSubmatch(flow, -1) {
		calls[match[1]] = match[2]
	}
	if got, want := slices.Sorted(maps.Keys(calls)), []string{"download", "on-connect"}; !slices.Equal(got, want) {
		t.Errorf("behind the APIs: got %q, want %q", got, want)
	}
	template, err := os.ReadFile("../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for function, call := range calls {
		// Permissions are what the code does: test_functions_may_do_what_their_verbs_do_and_no_more.
		_, after, _ := strings.Cut(string(template), "CodeUri: functions/"+function+"\n")
		resource, _, _ := strings.Cut(after, "\n\n")
		if call == "" || !strings.Contains(resource, "states:"+call) {
			t.Errorf("%s: the picture has it call %q, which it may not", function, call)
		}
	}
}

func TestTableOfTheItem(t *testing.T) {
	attributes := map[string]bool{}
	item := reflect.TypeFor[meeting.Item]()
	for i := range item.NumField() {
		attributes[item.Field(i).Tag.Get("dynamodbav")] = true
	}
	b, err := os.ReadFile("../internal/meeting/meeting.go")
	if err != nil {
		t.Fatal(err)
	}
	functions, err := filepath.Glob("../functions/*")
	if err != nil {
		t.Fatal(err)
	}
	states := stateNames(t)
	for _, row := range rows(t, section(t, "### The item")) {
		for _, match := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[0], -1) {
			name := match[1]
			if !attributes[name] && !regexp.MustCompile(`SET [^"]*\b`+name+` = `).Match(b) { // one that is written and never read
				t.Errorf("the table has %q, which is no attribute of the item", name)
			}
			delete(attributes, name)
		}
		// Who sets and who removes: functions, and states.
		for _, cell := range row[1:] {
			for _, who := range regexp.MustCompile(`, | or |; `).Split(strings.SplitN(cell, ":", 2)[0], -1) {
				isFunction := slices.Contains(functions, "../functions/"+strings.SplitN(who, " ", 2)[0])
				if !isFunction && !states[who] && who != "with the item" && !strings.HasPrefix(who, "when ") {
					t.Errorf("%s: got %q, want a function or a state", row[0], who)
				}
			}
		}
	}
	for name := range attributes {
		t.Errorf("the table doesn't have %q", name)
	}
}
