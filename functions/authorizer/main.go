// Command authorizer admits callers of the REST API whose bearer token the
// issuer has signed for this audience.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/bearer"
	"async-download/internal/escape"
	"async-download/internal/start"
)

// API Gateway answers this text with 401 and any other error with 500.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
var errUnauthorized = errors.New("Unauthorized")

type function struct{ tokens *bearer.Verifier }

func main() {
	env := start.New()
	f := function{&bearer.Verifier{Issuer: env.String("JWT_ISSUER"), Audience: env.String("JWT_AUDIENCE"), Client: http.DefaultClient}}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayCustomAuthorizerRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
	var none events.APIGatewayCustomAuthorizerResponse
	scheme, token, _ := strings.Cut(r.AuthorizationToken, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return none, errUnauthorized
	}
	subject, err := f.tokens.Verify(ctx, strings.TrimSpace(token))
	switch {
	case errors.Is(err, bearer.ErrRefused):
		slog.WarnContext(ctx, "unauthorized", "reason", err)
		return none, errUnauthorized
	case err != nil:
		slog.ErrorContext(ctx, "issuer's keys can't be read", "error", escape.Text(err.Error()))
		return none, errors.New("the issuer's keys can't be read")
	}
	slog.InfoContext(ctx, "authorized", "subject", subject)
	return events.APIGatewayCustomAuthorizerResponse{
		PrincipalID: subject,
		PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{
			Version: "2012-10-17",
			Statement: []events.IAMPolicyStatement{{
				Effect: "Allow", Action: []string{"execute-api:Invoke"},
				// The whole stage: API Gateway caches the policy by token and uses it for every method.
				Resource: []string{stage(r.MethodArn) + "/*"},
			}},
		},
	}, nil
}

// stage returns the first two parts of arn:…:api/stage/METHOD/path.
func stage(methodARN string) string {
	parts := strings.SplitN(methodARN, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}
