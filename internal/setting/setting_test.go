package setting

import (
	"strings"
	"testing"
	"time"
)

func TestReader(t *testing.T) {
	env := map[string]string{"S": "x", "N": "42", "B": "true", "F": "false", "EMPTY": "", "ZERO": "0", "MINUS": "-1", "WORD": "yes"}
	r := Reader{Lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	if r.String("S") != "x" || r.Number("N") != 42 || !r.Bool("B") || r.Bool("F") || r.Seconds("N") != 42*time.Second || r.Optional("NONE") != "" {
		t.Errorf("got %v, want each value of %v", []any{r.String("S"), r.Number("N"), r.Bool("B"), r.Bool("F"), r.Seconds("N"), r.Optional("NONE")}, env)
	}
	r.Add("FINE", nil)
	if err := r.Err(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	r.String("EMPTY")
	r.String("NONE")
	r.Number("ZERO")
	r.Number("MINUS")
	r.Number("WORD")
	r.Bool("WORD")
	r.String("NONE")
	err := r.Err()
	if n := strings.Count(err.Error(), "NONE is not set"); n != 1 {
		t.Errorf("got NONE %d times in %q, want once", n, err)
	}
	for _, want := range []string{"EMPTY is not set", "NONE is not set", "ZERO must be", "MINUS must be", "WORD must be a whole number", "WORD must be true or false"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want all at once, with %q", err, want)
		}
	}
}
