package main

import (
	"net/http"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/bearer"
)

// internal/bearer has the tokens; events/ has one that is accepted.
func TestAuthorizationThatIsNoToken(t *testing.T) {
	f := function{&bearer.Verifier{Issuer: "http://127.0.0.1:1", Audience: "files", Client: http.DefaultClient}}
	for _, text := range []string{"", "Bearer", "Bearer ", "Basic eyJh.eyJh.eyJh", "eyJh.eyJh.eyJh"} {
		got, err := f.handle(t.Context(), events.APIGatewayCustomAuthorizerRequest{AuthorizationToken: text})
		if err == nil || err.Error() != "Unauthorized" || len(got.PolicyDocument.Statement) > 0 {
			t.Errorf("%q: got %+v, %v, want Unauthorized", text, got, err)
		}
	}
}
