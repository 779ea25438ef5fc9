// Command finish ends a copy: it completes an upload made of segments or, given
// a failure, leaves nothing of the copy and notes why.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"async-download/internal/copying"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/setting"
	"async-download/internal/transfer"
)

const (
	// discarding is how long a failure may take to leave nothing behind, well
	// within the 120 s of its state; clean-up has more time.
	discarding = time.Minute
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
		Table:   &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		Copier:  &transfer.Copier{Bucket: env.String("BUCKET"), MaxBytes: env.Number("MAX_FILE_BYTES"), SegmentBytes: env.Number("SEGMENT_BYTES")},
		Origin:  &origin.Client{Private: env.Bool("ORIGIN_IS_PRIVATE"), AllowLoopback: local, RedirectHosts: env.List("ORIGIN_REDIRECT_HOSTS"), AllowedPaths: env.List("ALLOWED_PATHS")},
		Metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}}
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
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, in input) (output, error) {
	if in.Failure == nil {
		out, err := f.Finish(ctx, in.ExecutionARN, in.Work)
		return output{Output: out}, failure.ToStepFunctions(err)
	}
	log := slog.With("execution", execution.NameOf(in.ExecutionARN))
	out, err := f.fail(ctx, in.ExecutionARN, failure.FromStepFunctions(in.Failure.Error, in.Failure.Cause))
	if err != nil {
		log.WarnContext(ctx, "failure not noted", "error", failure.As(err))
		return output{}, failure.ToStepFunctions(err)
	}
	log.InfoContext(ctx, "failure noted", "code", out.Code, "message", out.Message)
	return out, nil
}

// fail notes the reason first: workers that are still at it see that in the item
// and stop, and a client that comes now finds it.
func (f *function) fail(ctx context.Context, arn string, why *failure.Error) (output, error) {
	item, err := f.Table.End(ctx, arn, why)
	if errors.Is(err, meeting.ErrEnded) && item.Failure != nil { // by an earlier try of this one
		why, err = failure.New(item.Failure.Code, "%s", item.Failure.Message), nil
	}
	if err != nil && !errors.Is(err, meeting.ErrUnknown) && !errors.Is(err, meeting.ErrEnded) {
		return output{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, discarding)
	defer cancel()
	if err := f.Copier.Discard(ctx, link.Key(execution.NameOf(arn))); err != nil {
		// The client is told all the same; clean-up tries again when the execution has ended.
		slog.ErrorContext(ctx, "not discarded", "execution", execution.NameOf(arn), "error", failure.As(err))
		f.count(arn, map[metric.Name]float64{metric.NotDiscarded: 1})
	}
	_, connected := item.Connection()
	return output{Code: why.Code, Message: why.Message, Connected: connected}, nil
}

func (f *function) count(arn string, values map[metric.Name]float64) {
	f.Metrics.Record(metric.Line{Message: "metrics", Execution: execution.NameOf(arn), Values: values})
}
