package start

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"async-download/internal/setting"
)

// All clients of S3 have the same rule: the copied object, its head and its link are at
// the same place.
func TestPathStyle(t *testing.T) {
	t.Setenv("AWS_REGION", "us-east-1")
	for endpoint, want := range map[string]bool{"": false, "http://store.example": true} {
		t.Setenv("AWS_ENDPOINT_URL", endpoint)
		env := &Environment{Reader: setting.Reader{Lookup: func(string) (string, bool) { return "1", true }}}
		for what, client := range map[string]*s3.Client{"heads": env.Objects().S3, "links": env.Links().S3, "copies": env.Worker().Copier.S3} {
			if got := client.Options().UsePathStyle; got != want {
				t.Errorf("%s at %q: got path style %v, want %v", what, endpoint, got, want)
			}
		}
	}
}

// Errors never contain a value.
func TestOriginHeader(t *testing.T) {
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
		got, err := originHeader(t.Context(), secretsmanager.New(secretsmanager.Options{
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
