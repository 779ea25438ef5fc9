package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/rest"
)

// A page that sends a header for the origin with its POST sends it when it asks for the
// status, too.
func TestPreflight(t *testing.T) {
	f := function{rest: rest.API{AllowedOrigins: "*"}, forward: rest.Forwarding{Headers: []string{"X-Tenant"}}}
	a, err := f.handle(t.Context(), events.APIGatewayProxyRequest{HTTPMethod: http.MethodOptions, Resource: "/executions/{name}"})
	if err != nil || a.StatusCode != http.StatusNoContent || a.Headers["Access-Control-Allow-Methods"] != "GET, DELETE, OPTIONS" ||
		!strings.HasSuffix(a.Headers["Access-Control-Allow-Headers"], ", X-Tenant") {
		t.Errorf("got %d %v, %v", a.StatusCode, a.Headers, err)
	}
}
