package main

import (
	"os"
	"strings"
	"testing"
)

// A tool that couldn't be built leaves only its own cells empty.
func TestTables(t *testing.T) {
	s := scenarios()[0]
	medians := map[string]result{
		ours.name:   {seconds: 1, cpu: 0.5, rss: 28 << 20},
		defs.name:   {seconds: 2, cpu: 1.5, rss: 64 << 20},
		rclone.name: {err: os.ErrNotExist},
		s5cmd.name:  {seconds: 5, cpu: 4, rss: 200 << 20},
	}
	got := summary(map[string]map[string]result{s.name: medians}) + table(s, medians)
	for _, want := range []string{
		"| time relative to the manager | HTTP | CPU s/GB over HTTP | peak RSS MiB |\n|---|---|---|---|\n",
		"| copyurl | 0.50 | 0.47 | 28 |\n",
		"| rclone copyurl " + rcloneVersion + " | | | |\n",
		`| curl \| s5cmd pipe | 2.50 | 3.73 | 200 |` + "\n",
		"| copyurl | 1.00 | 0.50 | 0.47 | 28 |\n",
		"| rclone copyurl " + rcloneVersion + " | file does not exist | | | |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant a line %q", got, want)
		}
	}
}

// A scenario that -only leaves out is in no table.
func TestTablesOfOneScenario(t *testing.T) {
	s := scenarios()[3]
	got := summary(map[string]map[string]result{s.name: {ours.name: {seconds: 1}, defs.name: {seconds: 8}}})
	if want := "| copyurl | 0.12 |\n"; !strings.Contains(got, want) || strings.Contains(got, "CPU") || strings.Contains(got, " 0 ") || strings.Contains(got, "0.00") {
		t.Errorf("got\n%s\nwant a line %q and nothing that wasn't measured", got, want)
	}
	if got := summary(nil); got != "" {
		t.Errorf("got %q of nothing, want nothing", got)
	}
}
