package rest

import (
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/failure"
)

// unforwardableNames are also refused by the template's patterns; see
// scripts/template_test.py.
func unforwardableNames(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/unforwardable.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestCheckForwarding(t *testing.T) {
	names := unforwardableNames(t)
	if len(names) < 30 {
		t.Fatalf("got %d names, want more", len(names))
	}
	for _, name := range names {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			f := Forwarding{Headers: []string{"Accept", spelling}, Caller: spelling}
			for _, err := range []error{f.CheckHeaders("JWT"), f.CheckCaller("JWT")} {
				if err == nil || !strings.Contains(err.Error(), spelling) {
					t.Errorf("%q: got %v, want a refusal", spelling, err)
				}
			}
		}
	}
	tests := []struct {
		f    Forwarding
		auth string
		ok   bool
	}{
		{Forwarding{}, "NONE", true},
		{Forwarding{}, "", true},
		{Forwarding{Headers: []string{"Authorization", "Accept-Language", "X-Tenant_1", "X-Amzn-Trace-Id"}}, "NONE", true},
		{Forwarding{Headers: []string{"Authorization"}}, "JWT", true},
		{Forwarding{Headers: []string{"authorization"}}, "IAM", false},
		{Forwarding{Headers: []string{"Accept", ""}}, "NONE", false},
		{Forwarding{Caller: "X-Caller"}, "NONE", false},
		{Forwarding{Caller: "X-Caller"}, "", false},
		{Forwarding{Caller: "X-Caller"}, "IAM", true},
		{Forwarding{Caller: "X-Caller,X-Other"}, "IAM", false},
	}
	for _, test := range tests {
		if err := errors.Join(test.f.CheckHeaders(test.auth), test.f.CheckCaller(test.auth)); err == nil != test.ok {
			t.Errorf("%+v, ApiAuth %s: got %v, want ok %t", test.f, test.auth, err, test.ok)
		}
	}
}

func TestForwarded(t *testing.T) {
	f := Forwarding{Headers: []string{"authorization", "Accept-Language", "X-Caller", "x_caller"}, Caller: "x-caller"}
	tests := map[string]struct {
		headers map[string][]string
		want    map[string]string
	}{
		"none":          {nil, nil},
		"only those":    {map[string][]string{"Authorization": {"Bearer a"}, "Cookie": {"c"}, "X-Other": {"o"}}, map[string]string{"Authorization": "Bearer a"}},
		"in any case":   {map[string][]string{"AUTHORIZATION": {"a"}, "accept-language": {"de"}}, map[string]string{"Authorization": "a", "Accept-Language": "de"}},
		"twice":         {map[string][]string{"Accept-Language": {"de", "en"}}, map[string]string{"Accept-Language": "de, en"}},
		"two spellings": {map[string][]string{"accept-language": {"en"}, "Accept-Language": {"de"}}, map[string]string{"Accept-Language": "de, en"}},
		"never the caller's own": {
			map[string][]string{"X-Caller": {"admin"}, "x-caller": {"admin"}, "X-CALLER": {"admin"}, "X_Caller": {"admin"}}, nil},
		"empty": {map[string][]string{"Authorization": {""}}, map[string]string{"Authorization": ""}},
	}
	for title, test := range tests {
		if got, err := f.Of(test.headers); err != nil || !maps.Equal(got, test.want) {
			t.Errorf("%s: got %v, %v, want %v", title, got, err, test.want)
		}
	}
	for value, code := range map[string]failure.Code{
		strings.Repeat("a", 8<<10):       "",
		strings.Repeat("a", 8<<10+1):     failure.TooLarge,
		"planted\r\nX-Other: 1":          failure.InvalidPath,
		"planted \x00":                   failure.InvalidPath,
		"planted \x7f":                   failure.InvalidPath,
		"planted \ufffd":                 failure.InvalidPath,
		"a\tb":                           "",
		"J\u00f6rg, \u65e5\u672c\u8a9e!": "",
	} {
		_, err := f.Of(map[string][]string{"Authorization": {value}})
		if failure.CodeOf(err) != code || err != nil && strings.Contains(err.Error(), "planted") {
			t.Errorf("%.20q…: got %v, want %q, and not the value", value, err, code)
		}
	}
	_, err := f.Of(map[string][]string{"Authorization": {strings.Repeat("a", 4<<10)}, "Accept-Language": {strings.Repeat("a", 4<<10+1)}})
	if failure.CodeOf(err) != failure.TooLarge {
		t.Errorf("two headers of 8 KB together: got %v, want TOO_LARGE", err)
	}
}

func TestBody(t *testing.T) {
	binary := string([]byte{0, 0xff, 0xfe, 0x80})
	tests := map[string]struct {
		body string
		is64 bool
		want string
		code failure.Code
	}{
		"none":                   {"", false, "", ""},
		"text":                   {`{"q":"ä"}`, false, `{"q":"ä"}`, ""},
		"damaged":                {"planted \ufffd", false, "", failure.InvalidPath},
		"base64":                 {base64.StdEncoding.EncodeToString([]byte(binary)), true, binary, ""},
		"base64 with U+FFFD":     {base64.StdEncoding.EncodeToString([]byte("\ufffd")), true, "\ufffd", ""},
		"not base64":             {"planted!", true, "", failure.InvalidPath},
		"the largest":            {strings.Repeat("x", MaxBody), false, strings.Repeat("x", MaxBody), ""},
		"too large":              {strings.Repeat("x", MaxBody+1), false, "", failure.TooLarge},
		"too large, base64":      {base64.StdEncoding.EncodeToString(make([]byte, MaxBody+1)), true, "", failure.TooLarge},
		"large only when base64": {base64.StdEncoding.EncodeToString(make([]byte, MaxBody)), true, string(make([]byte, MaxBody)), ""},
	}
	for title, test := range tests {
		got, err := requestBody(events.APIGatewayProxyRequest{Body: test.body, IsBase64Encoded: test.is64})
		if failure.CodeOf(err) != test.code || err == nil && string(got) != test.want || err != nil && strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: got %d bytes, %v, want %d bytes, %q", title, len(got), err, len(test.want), test.code)
		}
	}
}

func TestDownloadRequest(t *testing.T) {
	r := events.APIGatewayProxyRequest{
		HTTPMethod: http.MethodPost, Path: "/download/a", Body: "b", Headers: map[string]string{"content-type": "text/plain"},
		MultiValueHeaders: map[string][]string{"accept-language": {"de"}},
	}
	f := Forwarding{Headers: []string{"Accept-Language"}}
	got, err := DownloadRequest(r, f)
	if err != nil || got.Method != "POST" || string(got.Body) != "b" || got.ContentType != "text/plain" || got.Header["Accept-Language"] != "de" {
		t.Errorf("POST: got %+v, %v", got, err)
	}
	r.HTTPMethod = http.MethodGet
	got, err = DownloadRequest(r, f)
	if err != nil || got.Method != "GET" || got.Body != nil || got.ContentType != "" || got.Header["Accept-Language"] != "de" {
		t.Errorf("GET: got %+v, %v, want no body", got, err)
	}
	for _, keys := range [][]string{{""}, {"5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7", "5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7"}} {
		r.MultiValueHeaders["idempotency-Key"] = keys
		if _, err := DownloadRequest(r, f); failure.CodeOf(err) != failure.InvalidPath {
			t.Errorf("keys %q: got %v, want a refusal", keys, err)
		}
	}
	r.Headers["idempotency-key"] = "5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7"
	r.MultiValueHeaders["idempotency-Key"] = []string{r.Headers["idempotency-key"]}
	if got, err = DownloadRequest(r, f); err != nil || got.Key != r.Headers["idempotency-key"] {
		t.Errorf("one key: got %q, %v", got.Key, err)
	}
}

func TestStartedStatus(t *testing.T) {
	for method, want := range map[string]int{http.MethodGet: http.StatusOK, http.MethodPost: http.StatusAccepted} {
		got := API{}.Started("", method, Started{StatusURL: "https://status"})
		if got.Status != want || (got.Headers["Location"] == "https://status" && got.Headers["Retry-After"] == "2") != (want == http.StatusAccepted) {
			t.Errorf("%s: got %+v, want %d", method, got, want)
		}
	}
}
