package terminaltest

import (
	"io"
	"testing"
)

func TestScreen(t *testing.T) {
	s := &Screen{}
	for _, text := range []string{"a\r\nbcd\r\n\x1b[1A\x1b[Jx\r\n", "long\rshort", "\r\nlonger than that"} {
		if _, err := io.WriteString(s, text); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.String(); got != "a\nx\nshort\nlonger than that" || s.overwritten != 4 {
		t.Errorf("got %q, %d columns written over, want 4", got, s.overwritten)
	}
}
