package rest

import (
	"errors"
	"testing"

	"async-download/internal/failure"
)

func TestAllow(t *testing.T) {
	const page, other = "https://app.example", "https://app.example.evil"
	tests := []struct{ allowed, origin, want string }{
		{"*", "", "*"},
		{"*", page, "*"},
		{page, page, page},
		{page, "", ""},
		{page, other, ""},
		{page, "https://app.exampl", ""},
		{page, "HTTPS://APP.EXAMPLE", ""},
		{page, "null", ""},
		{page + "," + other, other, other},
		{"*," + page, other, "*"},
		{page + "," + other, page + "," + other, ""},
	}
	for _, test := range tests {
		if got := (API{test.allowed}).Allow(test.origin); got != test.want {
			t.Errorf("%s asked by %q: got %q, want %q", test.allowed, test.origin, got, test.want)
		}
	}
}

func TestError(t *testing.T) {
	a := API{"https://app.example"}.Error("https://app.example", errors.New("GET https://x/?key=planted"))
	if a.Status != 500 || a.Body != `{"error":{"code":"INTERNAL","message":"an unexpected error; the logs have it under this execution's name"}}` {
		t.Errorf("got %d %s, want 500 and nothing of the cause", a.Status, a.Body)
	}
	if a.Headers["Cache-Control"] != "no-store" || a.Headers["Access-Control-Allow-Origin"] != "https://app.example" || a.Headers["Vary"] != "Origin" {
		t.Errorf("got headers %v", a.Headers)
	}
	for code, want := range map[failure.Code]int{failure.InvalidPath: 400, failure.NotFound: 404, failure.Conflict: 409, failure.Throttled: 429, failure.Internal: 500} {
		if a := (API{"*"}).Error("", failure.New(code, "x")); a.Status != want {
			t.Errorf("%s: got %d, want %d", code, a.Status, want)
		} else if (a.Headers["Retry-After"] != "") != (code == failure.Throttled) {
			t.Errorf("%s: got Retry-After %q", code, a.Headers["Retry-After"])
		}
	}
	for _, spelling := range []string{"X-Download-Ticket", "x-download-ticket", "X-DOWNLOAD-TICKET"} {
		if got := Header(map[string]string{spelling: "t"}, "X-Download-Ticket"); got != "t" {
			t.Errorf("%s: got %q, want t", spelling, got)
		}
	}
}
