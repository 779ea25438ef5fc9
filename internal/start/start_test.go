package start

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"async-download/internal/link"
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

// What each method builds has the values of its variables. Which ones a function reads is
// tested in functions/, against the template.
func TestVariables(t *testing.T) {
	t.Setenv("AWS_REGION", "us-east-1")
	values := map[string]string{
		"CONNECTIONS_TABLE": "table", "BUCKET": "bucket", "SIGNER_ROLE_ARN": "arn:aws:iam::123456789012:role/signer", "LINK_EXPIRY_SECONDS": "600",
		"WEBSOCKET_API": "https://socket.example/dev", "STACK_NAME": "stack", "ALLOWED_WEB_ORIGINS": "https://app.example", "EVENT_BUS": "bus",
		"ORIGIN_CONNECTIONS": "7", "MAX_FILE_BYTES": "5", "SEGMENT_BYTES": "6", "ORIGIN_URL": "https://origin.example/files",
		"ORIGIN_IS_PRIVATE": "true", "ORIGIN_ANSWER_SECONDS": "8", "ORIGIN_REDIRECT_HOSTS": "cdn.example,other.example", "ALLOWED_PATHS": "public/",
		"LOCAL_ENDPOINT": "", "ORIGIN_SECRET_ARN": "", "FORWARDED_HEADERS": "Accept-Language", "CALLER_HEADER": "", "API_AUTH": "NONE",
	}
	env := New()
	env.Lookup = func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	posts, links, bus, api, forwarding, w := env.Socket(), env.Links(), env.Events(), env.REST(), env.Forwarding(), env.Worker()
	if err := env.Err(); err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"endpoint":       {*posts.API.Options().BaseEndpoint, "https://socket.example/dev"},
		"expiry":         {links.Expiry, 10 * time.Minute},
		"signs":          {links.Credentials != nil, true},
		"bucket":         {links.Bucket + w.Copier.Bucket + w.Objects.(*link.Signer).Bucket, "bucketbucketbucket"},
		"bus":            {bus.Name, "bus"},
		"web origins":    {api.AllowedOrigins, "https://app.example"},
		"forwarded":      {strings.Join(forwarding.Headers, " "), "Accept-Language"},
		"table":          {w.Table.Name, "table"},
		"stack":          {w.Metrics.Stack, "stack"},
		"limits":         {[]int64{w.Copier.MaxBytes, w.Copier.SegmentBytes}, []int64{5, 6}},
		"connections":    {[]int{w.Copier.Concurrency, w.Origin.Connections}, []int{7, 7}},
		"base":           {w.Origin.Base.String(), "https://origin.example/files"},
		"private":        {[]bool{w.Origin.Private, w.Origin.AllowLoopback}, []bool{true, false}},
		"first byte":     {w.Origin.FirstByteTimeout, 8 * time.Second},
		"redirect hosts": {w.Origin.RedirectHosts, []string{"cdn.example", "other.example"}},
		"paths":          {w.Origin.AllowedPaths, []string{"public/"}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
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
