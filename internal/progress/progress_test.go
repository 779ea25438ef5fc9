package progress

import (
	"strings"
	"testing"
	"time"
)

func TestLayout(t *testing.T) {
	half := Progress{Phase: Downloading, Done: 15 << 20, Total: 20 << 20, Rate: 1 << 20, Left: 5 * time.Second}
	long := Progress{Phase: Downloading, Done: 1 << 29, Total: 1 << 34, Rate: 1000 << 10, Left: 4*time.Hour + 34*time.Minute + 59*time.Second}
	waits := Progress{Phase: Copying, Total: -1, Quiet: 12 * time.Second}
	tests := []struct {
		p     Progress
		width int
		want  string
	}{
		{half, 80, "downloading 15 MiB of 20 MiB     [=========>   ]  75 %  1.0 MiB/s, 5s left"},
		{half, 60, "downloading 15 MiB of 20 MiB  75 %  1.0 MiB/s, 5s left"},
		{half, 40, "downloading  75 %  1.0 MiB/s, 5s left"},
		{long, 40, " 3 %  1000 KiB/s, 4h34m59s left"},
		{long, 30, "1000 KiB/s, 4h34m59s left"},
		{long, 20, "3 %"},
		{waits, 80, "copying     waiting for the origin  12s"},
		{waits, 40, "copying  waiting for the origin  12s"},
	}
	for _, test := range tests {
		if got := strings.TrimSpace(layout(test.p, test.width)); got != strings.TrimSpace(test.want) {
			t.Errorf("%d columns: got %q, want %q", test.width, got, test.want)
		}
	}
	for width := 10; width < 200; width++ {
		for _, p := range []Progress{half, long, waits, {Phase: Verifying, Done: 5, Total: 5}} {
			if got := layout(p, width); len(got) > max(width-3, 6) {
				t.Errorf("%d columns: got %d in %q", width, len(got), got)
			}
		}
	}
	if got, want := (Progress{Phase: Copying, Done: 3, Total: 6, Rate: 1, Left: 3 * time.Second}).line(), "copying: 3 B of 6 B (50 %), 1 B/s, 3s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
