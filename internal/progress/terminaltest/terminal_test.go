package terminaltest

import (
	"errors"
	"testing"
)

func TestScreen(t *testing.T) {
	s := &Screen{}
	if err := errors.Join(s.write("a\r\nbcd\r\n\x1b[1A\x1b[Jx\r\n"), s.write("long\rshort"), s.write("\r\nlonger than that")); err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "a\nx\nshort\nlonger than that" || s.overwritten != 4 {
		t.Errorf("got %q, %d columns written over, want 4", got, s.overwritten)
	}
}
