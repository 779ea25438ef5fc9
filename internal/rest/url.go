package rest

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// askedBy returns the address that API Gateway saw and, after a space, the principal
// that it authorized: of IAM, of a token, or of an API key by its id.
func askedBy(c events.APIGatewayProxyRequestContext) string {
	return strings.TrimSpace(c.Identity.SourceIP + " " + principal(c))
}

// principal returns the caller that API Gateway authorized: the ARN of IAM, the
// subject of a token, or the id of an API key; "" without authorization.
func principal(c events.APIGatewayProxyRequestContext) string {
	authorized, _ := c.Authorizer["principalId"].(string)
	return cmp.Or(c.Identity.UserArn, authorized, c.Identity.APIKeyID)
}

// downloadPath returns what follows /download/ in a request's path,
// percent-encoded as the client sent it.
func downloadPath(r events.APIGatewayProxyRequest) string {
	_, path := cutDownload(r, r.Path)
	return path
}

// BaseURL returns the API's own URL, taken from the request: a reference to the
// API in the template would be a cycle. A custom domain has its base path in the
// place of the stage. local is the local stack's URL, "" on AWS.
func BaseURL(r events.APIGatewayProxyRequest, local string) string {
	c := r.RequestContext
	if local != "" { // where a host name can't lead
		return local + "/_aws/execute-api/" + c.APIID + "/" + c.Stage
	}
	prefix := "/" + c.Stage
	if !strings.Contains(c.DomainName, ".execute-api.") {
		prefix, _ = cutDownload(r, c.Path)
	}
	return "https://" + c.DomainName + prefix
}

// cutDownload cuts path, the request's or the one in its context, at the segment
// "download" that the API's own path parameter follows: a stage or the base path
// of a custom domain may come before it, and may have the same name.
func cutDownload(r events.APIGatewayProxyRequest, path string) (before, after string) {
	found := false
	for i := range path {
		rest, ok := strings.CutPrefix(path[i:], "/download")
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		rest = strings.TrimPrefix(rest, "/")
		if !found {
			before, after, found = path[:i], rest, true
		}
		if decoded, err := url.PathUnescape(rest); rest == r.PathParameters["path"] || err == nil && decoded == r.PathParameters["path"] {
			return path[:i], rest
		}
	}
	return before, after
}
