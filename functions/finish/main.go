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
	// margin is what is left of the function's time for the answer.
	margin = 20 * time.Second
	// discarding is how long a failure may take to leave nothing behind, well
	// within the 120 s of its state; clean-up has more time.
	discarding = time.Minute
)

type function struct {
	meeting *meeting.Meeting
	copier  *transfer.Copier
	origin  *origin.Client
	metrics *metric.Recorder
}

// task has either the work that was done in segments or what a Catch caught.
type task struct {
	ExecutionARN string        `json:"executionArn"`
	Work         transfer.Work `json:"work"`
	Failure      *struct {
		Error string
		Cause string
	} `json:"failure"`
}

// outcome of a copy is as fetch's; of a failure, what the client is told and
// whether one is here to hear it.
type outcome struct {
	Work        transfer.Work `json:"work"`
	WaitSeconds int64         `json:"waitSeconds"`

	Code      failure.Code `json:"code,omitempty"`
	Message   string       `json:"message,omitempty"`
	Connected bool         `json:"connected"`
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	local := env.Optional("LOCAL_ENDPOINT") != ""
	f := function{
		meeting: &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		copier:  &transfer.Copier{Bucket: env.String("BUCKET"), MaxBytes: env.Number("MAX_FILE_BYTES"), SegmentBytes: env.Number("SEGMENT_BYTES")},
		origin:  &origin.Client{Private: env.Bool("ORIGIN_IS_PRIVATE"), AllowLoopback: local, RedirectHosts: env.List("ORIGIN_REDIRECT_HOSTS"), AllowedPaths: env.List("ALLOWED_PATHS")},
		metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}
	var err error
	f.origin.Base, err = origin.ParseBase(env.String("ORIGIN_URL"))
	env.Add("ORIGIN_URL", err)
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	if secret := env.Optional("ORIGIN_SECRET_ARN"); secret != "" {
		f.origin.Header, err = setting.Headers(context.Background(), secretsmanager.NewFromConfig(cfg), secret)
		if err != nil {
			slog.Error("can't start", "error", err)
			os.Exit(1)
		}
	}
	f.meeting.DynamoDB = dynamodb.NewFromConfig(cfg)
	f.copier.S3 = transfer.S3(cfg)
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, t task) (outcome, error) {
	log := slog.With("execution", execution.NameOf(t.ExecutionARN))
	var out outcome
	var err error
	if t.Failure != nil {
		out, err = f.fail(ctx, t.ExecutionARN, failure.FromStepFunctions(t.Failure.Error, t.Failure.Cause))
	} else {
		out, err = f.finish(ctx, t.ExecutionARN, t.Work)
	}
	var later *origin.Later
	switch {
	case errors.As(err, &later):
		log.InfoContext(ctx, "told to wait", "code", later.Err.Code, "after", later.After.String())
		return outcome{WaitSeconds: int64(later.After.Seconds()) + 1}, nil
	case err != nil:
		log.WarnContext(ctx, "not finished", "error", failure.As(err))
		return outcome{}, failure.ToStepFunctions(err)
	}
	log.InfoContext(ctx, "finished", "code", out.Code, "message", out.Message, "segments", len(out.Work.Segments))
	return out, nil
}

func (f *function) finish(ctx context.Context, arn string, work transfer.Work) (outcome, error) {
	item, err := f.meeting.Current(ctx, arn)
	if errors.Is(err, meeting.ErrUnknown) || err == nil && (item.Cancelled || item.Status.Ended()) {
		return outcome{}, cancelled()
	}
	if err != nil {
		return outcome{}, err
	}
	target, err := origin.Join(f.origin.Base, f.origin.AllowedPaths, item.Path, item.Query)
	if err != nil {
		return outcome{}, err
	}
	working := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		working, cancel = context.WithDeadline(ctx, deadline.Add(-margin))
		defer cancel()
	}
	done, err := f.copier.Finish(working, transfer.Source{Client: f.origin, URL: target}, work)
	if err != nil {
		return outcome{}, err
	}
	if done.Work != nil {
		f.count(arn, map[metric.Name]float64{metric.Retries: 1})
		return outcome{Work: *done.Work}, nil
	}
	err = f.meeting.Copied(ctx, arn, done.Result.Bytes)
	if errors.Is(err, meeting.ErrEnded) { // nobody will ask for it
		err = errors.Join(cancelled(), f.copier.Discard(ctx, link.Key(execution.NameOf(arn))))
	}
	if err == nil {
		f.count(arn, map[metric.Name]float64{metric.Bytes: float64(done.Result.Bytes), metric.CopySeconds: time.Since(item.Asked()).Seconds()})
	}
	return outcome{}, err
}

// fail notes the reason first: workers that are still at it see that in the item
// and stop, and a client that comes now finds it.
func (f *function) fail(ctx context.Context, arn string, why *failure.Error) (outcome, error) {
	item, err := f.meeting.End(ctx, arn, why)
	if errors.Is(err, meeting.ErrEnded) && item.Failure != nil { // by an earlier try of this one
		why, err = failure.New(item.Failure.Code, "%s", item.Failure.Message), nil
	}
	if err != nil && !errors.Is(err, meeting.ErrUnknown) && !errors.Is(err, meeting.ErrEnded) {
		return outcome{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, discarding)
	defer cancel()
	if err := f.copier.Discard(ctx, link.Key(execution.NameOf(arn))); err != nil {
		// The client is told all the same; clean-up tries again when the execution has ended.
		slog.ErrorContext(ctx, "not discarded", "execution", execution.NameOf(arn), "error", failure.As(err))
		f.count(arn, map[metric.Name]float64{metric.NotDiscarded: 1})
	}
	_, connected := item.Connection()
	return outcome{Code: why.Code, Message: why.Message, Connected: connected}, nil
}

func (f *function) count(arn string, values map[metric.Name]float64) {
	f.metrics.Record(metric.Line{Message: "measured", Execution: execution.NameOf(arn), Values: values})
}

func cancelled() error { return failure.New(failure.Cancelled, "the download was cancelled") }
