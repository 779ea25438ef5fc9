// Command fetch copies a file, or one segment of it, from the origin into S3.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"async-download/internal/copying"
	"async-download/internal/event"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/setting"
	"async-download/internal/socket"
	"async-download/internal/transfer"
)

// input is the file of an execution or, with a plan, one segment of it.
type input struct {
	ExecutionARN string           `json:"executionArn"`
	Plan         *transfer.Plan   `json:"plan"`
	Segment      transfer.Segment `json:"segment"`
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	local := env.Optional("LOCAL_ENDPOINT") != ""
	w := copying.Worker{
		Table:   &meeting.Table{Name: env.String("CONNECTIONS_TABLE")},
		Copier:  &transfer.Copier{Bucket: env.String("BUCKET"), MaxBytes: env.Number("MAX_FILE_BYTES"), SegmentBytes: env.Number("SEGMENT_BYTES")},
		Origin:  &origin.Client{Private: env.Bool("ORIGIN_IS_PRIVATE"), AllowLoopback: local, RedirectHosts: env.List("ORIGIN_REDIRECT_HOSTS"), AllowedPaths: env.List("ALLOWED_PATHS")},
		Metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}
	webSocket := env.String("WEBSOCKET_API")
	connections := int(env.Number("ORIGIN_CONNECTIONS"))
	w.Origin.FirstByteTimeout = env.Seconds("ORIGIN_ANSWER_SECONDS")
	w.Copier.Concurrency, w.Origin.Connections = connections, connections
	var err error
	w.Origin.Base, err = origin.ParseBase(env.String("ORIGIN_URL"))
	env.Add("ORIGIN_URL", err)
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	if secret := env.Optional("ORIGIN_SECRET_ARN"); secret != "" {
		w.Origin.Header, err = setting.Headers(context.Background(), secretsmanager.NewFromConfig(cfg), secret)
		if err != nil {
			slog.Error("can't start", "error", err)
			os.Exit(1)
		}
	}
	w.Table.DynamoDB = dynamodb.NewFromConfig(cfg)
	w.Copier.S3 = transfer.S3(cfg)
	w.Events = event.New(cfg, env.Optional("EVENT_BUS"))
	w.Objects = link.NewSigner(cfg, w.Copier.Bucket, "", 0, local)
	w.Socket = &socket.Socket{API: apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = aws.String(webSocket) })}
	lambda.Start(func(ctx context.Context, in input) (copying.Output, error) {
		var out copying.Output
		var err error
		if in.Plan == nil {
			out, err = w.Copy(ctx, in.ExecutionARN)
		} else {
			out, err = w.CopySegment(ctx, in.ExecutionARN, *in.Plan, in.Segment)
		}
		return out, failure.ToStepFunctions(err)
	})
}
