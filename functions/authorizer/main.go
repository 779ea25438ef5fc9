// Command authorizer lets callers of the REST API in who show a token that the
// issuer has signed for this audience: Authorization: Bearer TOKEN.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/coreos/go-oidc/v3/oidc"

	"async-download/internal/setting"
)

// errUnauthorized is the one text that API Gateway answers with 401; any other
// error is a 500.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
var errUnauthorized = errors.New("Unauthorized")

type function struct {
	issuer, audience string
	verifier         *oidc.IDTokenVerifier // nil until the issuer's keys were found
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{issuer: env.String("JWT_ISSUER"), audience: env.String("JWT_AUDIENCE")}
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayCustomAuthorizerRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
	var none events.APIGatewayCustomAuthorizerResponse
	if f.verifier == nil {
		// The provider keeps this context for reading keys later, which is after this call.
		provider, err := oidc.NewProvider(context.WithoutCancel(ctx), f.issuer)
		if err != nil {
			slog.ErrorContext(ctx, "issuer not reached", "error", err)
			return none, errors.New("the issuer's keys can't be read")
		}
		f.verifier = provider.Verifier(&oidc.Config{ClientID: f.audience})
	}
	scheme, token, _ := strings.Cut(r.AuthorizationToken, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return none, errUnauthorized
	}
	verified, err := f.verifier.Verify(ctx, strings.TrimSpace(token))
	if err != nil && strings.Contains(err.Error(), "fetching keys") { // go-oidc has no type for it
		slog.ErrorContext(ctx, "issuer's keys not read")
		return none, errors.New("the issuer's keys can't be read")
	}
	if err != nil {
		slog.WarnContext(ctx, "refused") // the error may quote the token's claims
		return none, errUnauthorized
	}
	slog.InfoContext(ctx, "let in", "subject", verified.Subject)
	return events.APIGatewayCustomAuthorizerResponse{
		PrincipalID: verified.Subject,
		PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{
			Version: "2012-10-17",
			Statement: []events.IAMPolicyStatement{{
				Effect: "Allow", Action: []string{"execute-api:Invoke"},
				// The whole stage: the answer is kept for five minutes and serves every method.
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
