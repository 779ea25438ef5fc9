// Command finish ends a copy: it completes an upload made of segments or, given
// a failure, leaves nothing of the copy and notes why.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"async-download/internal/copying"
	"async-download/internal/download"
	"async-download/internal/event"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/setting"
	"async-download/internal/transfer"
)

type function struct{ copying.Worker }

// input has either the work that was done in segments or what a Catch caught.
type input struct {
	ExecutionARN string        `json:"executionArn"`
	Work         transfer.Work `json:"work"`
	Failure      *struct {
		Error string
		Cause string
	} `json:"failure"`
}

// output of a copy is as fetch's; of a failure, what the client is notified of
// and whether one is connected.
type output struct {
	copying.Output

	Code      failure.Code `json:"code,omitempty"`
	Message   string       `json:"message,omitempty"`
	Connected bool         `json:"connected"`
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	local := env.Optional("LOCAL_ENDPOINT") != ""
	f := function{copying.Worker{
		Table:   &meeting.Table{Name: env.String("CONNECTIONS_TABLE")},
		Copier:  &transfer.Copier{Bucket: env.String("BUCKET"), MaxBytes: env.Number("MAX_FILE_BYTES"), SegmentBytes: env.Number("SEGMENT_BYTES")},
		Origin:  &origin.Client{Private: env.Bool("ORIGIN_IS_PRIVATE"), AllowLoopback: local, RedirectHosts: env.List("ORIGIN_REDIRECT_HOSTS"), AllowedPaths: env.List("ALLOWED_PATHS")},
		Metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}}
	connections := int(env.Number("ORIGIN_CONNECTIONS"))
	f.Origin.FirstByteTimeout = env.Seconds("ORIGIN_ANSWER_SECONDS")
	f.Copier.Concurrency, f.Origin.Connections = connections, connections
	var err error
	f.Origin.Base, err = origin.ParseBase(env.String("ORIGIN_URL"))
	env.Add("ORIGIN_URL", err)
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	if secret := env.Optional("ORIGIN_SECRET_ARN"); secret != "" {
		f.Origin.Header, err = setting.Headers(context.Background(), secretsmanager.NewFromConfig(cfg), secret)
		if err != nil {
			slog.Error("can't start", "error", err)
			os.Exit(1)
		}
	}
	f.Table.DynamoDB = dynamodb.NewFromConfig(cfg)
	f.Copier.S3 = transfer.S3(cfg)
	f.Events = event.New(cfg, env.Optional("EVENT_BUS"))
	f.Objects = link.NewSigner(cfg, f.Copier.Bucket, "", 0, local)
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, in input) (output, error) {
	if in.Failure == nil {
		out, err := f.Finish(ctx, in.ExecutionARN, in.Work)
		return output{Output: out}, failure.ToStepFunctions(err)
	}
	log := slog.With("execution", execution.NameOf(in.ExecutionARN))
	p := download.Protocol{Table: f.Table, Discard: f.Copier.Discard, Metrics: f.Metrics, Events: f.Events}
	noted, err := p.NoteFailure(ctx, in.ExecutionARN, failure.FromStepFunctions(in.Failure.Error, in.Failure.Cause))
	if err != nil {
		log.WarnContext(ctx, "failure not noted", "error", failure.As(err))
		return output{}, failure.ToStepFunctions(err)
	}
	log.InfoContext(ctx, "failure noted", "code", noted.Code, "message", noted.Message)
	return output{Code: noted.Code, Message: noted.Message, Connected: noted.Connected}, nil
}
