package rest

import (
	"testing"
	"time"
)

func TestParsePrefer(t *testing.T) {
	tests := []struct {
		headers []string
		want    Preference
	}{
		{nil, Preference{}},
		{[]string{""}, Preference{}},
		{[]string{"respond-async"}, Preference{RespondAsync: true}},
		{[]string{"RESPOND-ASYNC"}, Preference{RespondAsync: true}},
		{[]string{"wait=7"}, Preference{Waits: true, Wait: 7 * time.Second}},
		{[]string{`wait="7"`}, Preference{Waits: true, Wait: 7 * time.Second}},
		{[]string{"wait = 7 ; x=1"}, Preference{Waits: true, Wait: 7 * time.Second}},
		{[]string{"respond-async, wait=0"}, Preference{RespondAsync: true, Waits: true}},
		{[]string{"wait=3", "respond-async"}, Preference{RespondAsync: true, Waits: true, Wait: 3 * time.Second}},
		{[]string{"wait=21"}, Preference{Waits: true, Wait: MaxWait}},
		{[]string{"wait=99999999999999999999"}, Preference{Waits: true, Wait: MaxWait}},
		{[]string{"wait=3, wait=9"}, Preference{Waits: true, Wait: 3 * time.Second}},
		{[]string{"wait=x, wait=9"}, Preference{}},
		{[]string{"wait=-1"}, Preference{}},
		{[]string{"wait=1.5"}, Preference{}},
		{[]string{"wait"}, Preference{}},
		{[]string{"return=minimal; wait=5"}, Preference{}},
		{[]string{"handling=lenient, respond-async"}, Preference{RespondAsync: true}},
	}
	for _, test := range tests {
		if got := ParsePrefer(map[string][]string{"prefer": test.headers}); got != test.want {
			t.Errorf("%q: got %+v, want %+v", test.headers, got, test.want)
		}
	}
}

func TestApplied(t *testing.T) {
	p := Preference{RespondAsync: true, Waits: true, Wait: 7 * time.Second}
	if got, want := p.Applied(true), "respond-async, wait=7"; got != want {
		t.Errorf("waited: got %q, want %q", got, want)
	}
	if got, want := p.Applied(false), "respond-async"; got != want {
		t.Errorf("not waited: got %q, want %q", got, want)
	}
	if got := (Preference{}).Applied(true); got != "" {
		t.Errorf("no preference: got %q, want none", got)
	}
}
