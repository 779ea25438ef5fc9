// Command executions answers GET /executions/{name}, the status of a download and
// the link once there is one, GET /executions/{name}/file, the file, and DELETE,
// which cancels the download or deletes its file.
package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/rest"
	"async-download/internal/setting"
	"async-download/internal/ticket"
	"async-download/internal/transfer"
)

type function struct {
	download download.Protocol
	rest     rest.API
	local    string // the local stack's URL, "" on AWS
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	table := &meeting.Table{Name: env.String("CONNECTIONS_TABLE")}
	f := function{
		download: download.Protocol{
			Table: table, StateMachine: env.String("STATE_MACHINE_ARN"), RequireTicket: env.Bool("REQUIRE_TICKET"),
			Metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
		},
		rest:  rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")},
		local: env.Optional("LOCAL_ENDPOINT"),
	}
	bucket, role, expiry := env.String("BUCKET"), env.String("SIGNER_ROLE_ARN"), env.Seconds("LINK_EXPIRY_SECONDS")
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	table.DynamoDB, table.Tokens = dynamodb.NewFromConfig(cfg), sfn.NewFromConfig(cfg)
	f.download.Objects = link.NewSigner(cfg, bucket, role, expiry, f.local != "")
	f.download.Discard = (&transfer.Copier{S3: transfer.S3(cfg), Bucket: bucket}).Discard
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	a := f.answer(ctx, r)
	return events.APIGatewayProxyResponse{StatusCode: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (f *function) answer(ctx context.Context, r events.APIGatewayProxyRequest) rest.Answer {
	from, name := rest.Header(r.Headers, "Origin"), r.PathParameters["name"]
	file := r.Resource == "/executions/{name}/file"
	switch {
	case r.HTTPMethod == http.MethodOptions:
		return f.rest.Preflight(from)
	case file && r.HTTPMethod != http.MethodGet:
		return f.rest.NotAllowed(from, "GET, OPTIONS")
	case r.HTTPMethod != http.MethodGet && r.HTTPMethod != http.MethodDelete:
		return f.rest.NotAllowed(from, "GET, DELETE, OPTIONS")
	}
	log := slog.With("execution", name, "method", r.HTTPMethod)
	if err := f.rest.Foreign(r.Headers, rest.BaseURL(r, f.local)); err != nil {
		log.WarnContext(ctx, "request refused", "error", err)
		return f.rest.Error(from, err)
	}
	secret := cmp.Or(rest.Header(r.Headers, ticket.Header), r.QueryStringParameters[ticket.Query])
	prefer, waited := rest.ParsePrefer(r.MultiValueHeaders), false
	var s download.State
	var err error
	if r.HTTPMethod == http.MethodDelete {
		s, err = f.download.Delete(ctx, name, secret)
	} else {
		s, waited, err = f.download.Wait(ctx, name, secret, prefer.Wait)
	}
	if err != nil {
		log.WarnContext(ctx, "request failed", "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	log.InfoContext(ctx, "answered", "status", s.Status)
	switch {
	case s.Status == meeting.Deleted:
		return f.rest.OK(from, http.StatusOK, map[string]meeting.Status{"status": s.Status}, nil)
	case r.HTTPMethod == http.MethodDelete:
		return f.rest.OK(from, http.StatusAccepted, s, nil)
	case file:
		return f.rest.Outcome(from, s, waited, rest.Preference{Waits: prefer.Waits, Wait: prefer.Wait}, nil, nil)
	}
	return f.rest.State(from, s, prefer, waited)
}
