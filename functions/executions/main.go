// Command executions answers GET /executions/{name}, the status of a download and
// the link once there is one, and DELETE, which cancels it.
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
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/rest"
	"async-download/internal/setting"
	"async-download/internal/ticket"
)

type function struct {
	download download.Protocol
	rest     rest.API
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	table := &meeting.Table{Name: env.String("CONNECTIONS_TABLE")}
	links := &link.Signer{Bucket: env.String("BUCKET"), Expiry: env.Seconds("LINK_EXPIRY_SECONDS")}
	f := function{
		download: download.Protocol{
			Table: table, Objects: links,
			StateMachine: env.String("STATE_MACHINE_ARN"), RequireTicket: env.Bool("REQUIRE_TICKET"),
			Metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
		},
		rest: rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")},
	}
	signer := env.String("SIGNER_ROLE_ARN")
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	table.DynamoDB, table.Tokens = dynamodb.NewFromConfig(cfg), sfn.NewFromConfig(cfg)
	links.S3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = env.Optional("LOCAL_ENDPOINT") != "" })
	links.Presign = s3.NewPresignClient(links.S3)
	links.Credentials = link.AssumedRole(sts.NewFromConfig(cfg), signer, links.Expiry)
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	a := f.answer(ctx, r)
	return events.APIGatewayProxyResponse{StatusCode: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (f *function) answer(ctx context.Context, r events.APIGatewayProxyRequest) rest.Answer {
	from, name := rest.Header(r.Headers, "Origin"), r.PathParameters["name"]
	if r.HTTPMethod == http.MethodOptions {
		return f.rest.Preflight(from)
	}
	log := slog.With("execution", name, "method", r.HTTPMethod)
	ask, status := f.download.Status, http.StatusOK
	if r.HTTPMethod == http.MethodDelete {
		ask, status = f.download.Cancel, http.StatusAccepted
	}
	s, err := ask(ctx, name, cmp.Or(rest.Header(r.Headers, ticket.Header), r.QueryStringParameters[ticket.Query]))
	if err != nil {
		log.WarnContext(ctx, "not answered", "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	log.InfoContext(ctx, "answered", "status", s.Status)
	var headers map[string]string
	if s.Status == meeting.Copying {
		headers = map[string]string{"Retry-After": "2"}
	}
	return f.rest.OK(from, status, s, headers)
}
