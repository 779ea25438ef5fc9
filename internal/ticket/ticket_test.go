package ticket

import "testing"

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
		{"none shown, one given out", "", hash, false, false},
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
