package page

import (
	"net/http"
	"strings"
	"testing"

	"async-download/internal/rest"
)

func TestIndex(t *testing.T) {
	a := Index("JWT", "wss://socket.example/dev", "https://api.example/dev")
	policy := a.Headers["Content-Security-Policy"]
	for _, want := range []string{"default-src 'none'; ", "script-src 'sha256-", "connect-src 'self' wss://socket.example https://api.example; "} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy: got %q, want %q in it", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy: got %q", policy)
	}
	if !strings.Contains(a.Body, `data-auth="JWT"`) {
		t.Error("the page doesn't know ApiAuth")
	}
	if got := strings.Count(a.Body, "<script"); got != 1 {
		t.Errorf("got %d scripts, want 1", got)
	}
	for _, module := range []string{"\nexport ", "\nimport ", "src="} {
		if strings.Contains(a.Body, module) {
			t.Errorf("the page has %q, which only a module may have", module)
		}
	}
	for _, half := range []string{"function download(", "addEventListener(\"submit\""} {
		if !strings.Contains(a.Body, half) {
			t.Errorf("the page has no %s", half)
		}
	}
}

func TestClient(t *testing.T) {
	const app = "https://app.example"
	tag := Client(rest.API{AllowedOrigins: "*"}, nil).Headers["ETag"]
	tests := []struct {
		name, allowed string
		headers       map[string]string
		status        int
		origin        string
	}{
		{"any origin", "*", map[string]string{"Origin": app}, http.StatusOK, "*"},
		{"an origin that is allowed", app, map[string]string{"origin": app}, http.StatusOK, app},
		{"an origin that is not", app, map[string]string{"Origin": "https://other.example"}, http.StatusOK, ""},
		{"the same version", "*", map[string]string{"If-None-Match": tag}, http.StatusNotModified, "*"},
		{"the same version, compressed on the way", app, map[string]string{"Origin": app, "if-none-match": `"x", W/` + tag}, http.StatusNotModified, app},
		{"another version", "*", map[string]string{"If-None-Match": `"x"`}, http.StatusOK, "*"},
	}
	for _, test := range tests {
		a := Client(rest.API{AllowedOrigins: test.allowed}, test.headers)
		if a.Status != test.status || (a.Body == client) != (test.status == http.StatusOK) {
			t.Errorf("%s: got %d with %d bytes, want %d", test.name, a.Status, len(a.Body), test.status)
		}
		if got := a.Headers["Access-Control-Allow-Origin"]; got != test.origin {
			t.Errorf("%s: Access-Control-Allow-Origin: got %q, want %q", test.name, got, test.origin)
		}
		for name, want := range map[string]string{"ETag": tag, "Vary": "Origin", "Content-Type": "text/javascript; charset=utf-8", "X-Content-Type-Options": "nosniff"} {
			if got := a.Headers[name]; got != want {
				t.Errorf("%s: %s: got %q, want %q", test.name, name, got, want)
			}
		}
	}
}
