package rest

import (
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// The URL of the API and the path of the file, as API Gateway passes requests: with the
// stage before the path in the context, or the base path of a custom domain in both.
func TestURLs(t *testing.T) {
	const own, custom = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", "files.example.com"
	for title, test := range map[string]struct {
		domain, stage, path, context string // the request's path, and the one in its context
		file                         string // the API's own path parameter, decoded
		local                        string
		wantBase, wantPath           string
	}{
		"the API's own domain":                 {own, "dev", "/download/a%20b", "/dev/download/a%20b", "a b", "", "https://" + own + "/dev", "a%20b"},
		"no path":                              {own, "dev", "/download", "/dev/download", "", "", "https://" + own + "/dev", ""},
		"a stage called download":              {own, "download", "/download/a", "/download/download/a", "a", "", "https://" + own + "/download", "a"},
		"custom domain":                        {custom, "dev", "/v1/download", "/v1/download", "", "", "https://" + custom + "/v1", ""},
		"custom domain without a base path":    {custom, "dev", "/download/a", "/download/a", "a", "", "https://" + custom, "a"},
		"a base path that begins alike":        {custom, "dev", "/downloads/download/a/download/b", "/downloads/download/a/download/b", "", "", "https://" + custom + "/downloads", "a/download/b"},
		"the base path download":               {custom, "dev", "/download/download/a%20b", "/download/download/a%20b", "a b", "", "https://" + custom + "/download", "a%20b"},
		"a path that can't be decoded":         {own, "dev", "/download/a%zz", "/dev/download/a%zz", "a%zz", "", "https://" + own + "/dev", "a%zz"},
		"the local stack, whose host can't be": {"localhost:1", "dev", "/download/a", "/dev/download/a", "a", "http://127.0.0.1:4566", "http://127.0.0.1:4566/_aws/execute-api/a1b2c3d4e5/dev", "a"},
	} {
		r := events.APIGatewayProxyRequest{Path: test.path, RequestContext: events.APIGatewayProxyRequestContext{
			APIID: "a1b2c3d4e5", DomainName: test.domain, Stage: test.stage, Path: test.context,
		}}
		if test.file != "" {
			r.PathParameters = map[string]string{"path": test.file}
		}
		if got := BaseURL(r, test.local); got != test.wantBase {
			t.Errorf("%s: got base %s, want %s", title, got, test.wantBase)
		}
		if got := downloadPath(r); got != test.wantPath {
			t.Errorf("%s: got path %q, want %q", title, got, test.wantPath)
		}
	}
}

func TestAskedBy(t *testing.T) {
	const ana = "arn:aws:iam::123456789012:user/ana"
	for want, c := range map[string]events.APIGatewayProxyRequestContext{
		"203.0.113.25":        {},
		"203.0.113.25 " + ana: {Identity: events.APIGatewayRequestIdentity{UserArn: ana}},
		"203.0.113.25 ana":    {Authorizer: map[string]any{"principalId": "ana"}},
		"203.0.113.25 k3y1d":  {Identity: events.APIGatewayRequestIdentity{APIKeyID: "k3y1d", APIKey: "secret"}},
	} {
		c.Identity.SourceIP = "203.0.113.25"
		if got := askedBy(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
