// Command send-message is the one state of the deliver machine: it answers the
// client of an execution.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/setting"
	"async-download/internal/socket"
)

type function struct{ download download.Protocol }

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	table := &meeting.Table{Name: env.String("CONNECTIONS_TABLE")}
	links := &link.Signer{Bucket: env.String("BUCKET"), Expiry: env.Seconds("LINK_EXPIRY_SECONDS")}
	f := function{download.Protocol{
		Table: table, Objects: links,
		Metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}}
	signer, webSocket := env.String("SIGNER_ROLE_ARN"), env.String("WEBSOCKET_API")
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	table.DynamoDB = dynamodb.NewFromConfig(cfg)
	links.S3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = env.Optional("LOCAL_ENDPOINT") != "" })
	links.Presign = s3.NewPresignClient(links.S3)
	links.Credentials = link.AssumedRole(sts.NewFromConfig(cfg), signer, links.Expiry)
	f.download.Socket = &socket.Socket{API: apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = aws.String(webSocket) })}
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, d meeting.Delivery) (struct{}, error) {
	log := slog.With("execution", execution.NameOf(d.ExecutionARN))
	err := f.download.Deliver(ctx, d)
	switch {
	case err == nil:
		log.InfoContext(ctx, "answered")
	case errors.Is(err, meeting.ErrOpening), errors.Is(err, meeting.ErrGone), errors.Is(err, failure.ErrCancelled):
		log.InfoContext(ctx, "not answered", "reason", err)
	default:
		log.ErrorContext(ctx, "not answered", "error", failure.As(err))
	}
	return struct{}{}, download.ToStepFunctions(err)
}
