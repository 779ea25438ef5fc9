package ticket

import (
	"testing"

	"async-download/internal/execution"
)

func TestOpens(t *testing.T) {
	secret, hash := New()
	other, _ := New()
	if len(secret) != 32 || secret == other {
		t.Fatalf("tickets: got %q and %q, want two of 32 digits", secret, other)
	}
	tests := []struct {
		name, secret, hash string
		required, want     bool
	}{
		{"right", secret, hash, true, true},
		{"right where none is required", secret, hash, false, true},
		{"wrong", other, hash, true, false},
		{"wrong where none is required", other, hash, false, false},
		{"none", "", hash, true, false},
		{"none presented, one given out", "", hash, false, false},
		{"the hash itself", hash, hash, true, false},
		{"none given out, one required", "", "", true, false},
		{"none given out, none required", "", "", false, true},
		{"cut", secret[:31], hash, true, false},
	}
	for _, test := range tests {
		if got := Opens(test.secret, test.hash, test.required); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
}

// The ticket of a key is the same each time, differs for each caller and key, and can't
// be read from the execution's name, which is made of the same two.
func TestFor(t *testing.T) {
	seen := map[string]bool{}
	for _, of := range [][2]string{{"", "abc"}, {"a", "bc"}, {"ab", "c"}, {"abc", ""}} {
		secret, hash := For(of[0], of[1])
		again, _ := For(of[0], of[1])
		if secret != again || len(secret) != 32 || !Opens(secret, hash, true) {
			t.Errorf("%q: got %q and then %q with hash %q", of, secret, again, hash)
		}
		for _, text := range []string{secret, execution.NameFor(of[0], of[1])} {
			if seen[text] {
				t.Errorf("%q: got %s twice", of, text)
			}
			seen[text] = true
		}
	}
	// A changed derivation would give repeated requests another ticket after an update.
	if got, _ := For("caller", "key"); got != "aec60473f6f43c04d4a82f92c5ac72ce" {
		t.Errorf("got %s", got)
	}
}
