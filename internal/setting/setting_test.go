package setting

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

func TestReader(t *testing.T) {
	env := map[string]string{"S": "x", "N": "42", "B": "true", "F": "false", "EMPTY": "", "ZERO": "0", "MINUS": "-1", "WORD": "yes"}
	r := Reader{Lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	if r.String("S") != "x" || r.Number("N") != 42 || !r.Bool("B") || r.Bool("F") || r.Seconds("N") != 42*time.Second || r.Optional("NONE") != "" {
		t.Error("a value was read wrong")
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
	err := r.Err()
	for _, want := range []string{"EMPTY is not set", "NONE is not set", "ZERO must be", "MINUS must be", "WORD must be a whole number", "WORD must be true or false"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want all at once, with %q", err, want)
		}
	}
}

// Errors never contain a value.
func TestHeaders(t *testing.T) {
	for text, want := range map[string]string{
		`{"Authorization":"Bearer planted\n","X-Key":"a b"}`: "",
		`{"Authorization":"Bearer\nplanted"}`:                "control character",
		`{"Authorization:":"planted"}`:                       "can't be a header",
		`["planted"]`:                                        "JSON object",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": text})
		}))
		defer server.Close()
		got, err := Headers(t.Context(), secretsmanager.New(secretsmanager.Options{
			BaseEndpoint: &server.URL, Region: "us-east-1", Credentials: aws.AnonymousCredentials{},
		}), "arn")
		if want == "" {
			if err != nil || got.Get("Authorization") != "Bearer planted" || got.Get("X-Key") != "a b" {
				t.Errorf("%s: got %v, %v, want the headers", text, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: got %v, want one with %q and no value", text, err, want)
		}
	}
}
