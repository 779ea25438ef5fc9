package execution

import "testing"

func TestName(t *testing.T) {
	const machine = "arn:aws:states:us-east-1:123456789012:stateMachine:m"
	name := NewName()
	arn := ARN(machine, name)
	if want := "arn:aws:states:us-east-1:123456789012:execution:m:" + name; arn != want {
		t.Errorf("got %s, want %s", arn, want)
	}
	if got, ours := ParseARN(machine, arn); got != name || !ours || NameFromARN(arn) != name {
		t.Errorf("got %s, %t, want %s", got, ours, name)
	}
	if NewName() == name {
		t.Error("the same name twice")
	}
	for _, wrong := range []string{
		"", name, machine, machine + ":" + name, arn + "0", arn[:len(arn)-1], arn + "\n", " " + arn,
		ARN(machine+"2", name), ARN(machine, "G"+name[1:]), ARN(machine, "x:"+name), ARN(machine, ""),
		"arn:aws:states:eu-west-1:123456789012:execution:m:" + name,
		"arn:aws:states:us-east-1:210987654321:execution:m:" + name,
		"arn:aws:states:us-east-1:123456789012:express:m:" + name,
	} {
		if got, ours := ParseARN(machine, wrong); ours {
			t.Errorf("%q: got %s, want refused", wrong, got)
		}
	}
}

// A changed derivation would start repeated requests again after an update.
func TestNameFor(t *testing.T) {
	if got, want := NameFor("caller", "key"), "fdae7a84b77e626f954d9dc0151041a8"; got != want || !IsName(got) {
		t.Errorf("got %s, want %s", got, want)
	}
	if NameFor("a", "bc") == NameFor("ab", "c") {
		t.Error("got one name for two callers")
	}
}
