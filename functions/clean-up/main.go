// Command clean-up ends what an execution left that ended badly. Most have done
// so themselves; one that was stopped, ran out of time or broke runs no Catch,
// and stops no Lambda that is still copying.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/setting"
	"async-download/internal/transfer"
)

// settle is how long a worker may take to see that the item has ended and to
// store the part it has in hand, which it does every second; what it opens in
// that time is looked for once more.
const settle = 15 * time.Second

type function struct {
	meeting       *meeting.Meeting
	copier        *transfer.Copier
	stepFunctions *sfn.Client
	deliver       string
	metrics       *metric.Recorder
}

// change is the detail of a Step Functions Execution Status Change.
// https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
type change struct {
	ExecutionARN string  `json:"executionArn"`
	Status       string  `json:"status"`
	Error        *string `json:"error"`
	Cause        *string `json:"cause"`
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{
		meeting: &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		copier:  &transfer.Copier{Bucket: env.String("BUCKET")},
		deliver: env.String("DELIVER_STATE_MACHINE_ARN"),
		metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	f.meeting.DynamoDB = dynamodb.NewFromConfig(cfg)
	f.copier.S3 = transfer.S3(cfg)
	f.stepFunctions = sfn.NewFromConfig(cfg)
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, e events.CloudWatchEvent) error {
	var c change
	if err := json.Unmarshal(e.Detail, &c); err != nil {
		return err
	}
	log := slog.With("execution", execution.NameOf(c.ExecutionARN), "status", c.Status)
	item, err := f.cleanUp(ctx, c)
	if err != nil {
		log.ErrorContext(ctx, "not cleaned up", "error", failure.As(err))
		f.metrics.Record(metric.Line{Message: "measured", Execution: execution.NameOf(c.ExecutionARN), Values: map[metric.Name]float64{metric.NotDiscarded: 1}})
		return err // Lambda repeats it, twice
	}
	log.InfoContext(ctx, "cleaned up", "item", item.Status)
	if outcome, code := outcome(c, item); outcome != "" {
		f.metrics.Record(metric.Audit(outcome, item, string(code), time.Now()))
	}
	return nil
}

// outcome is how a download ended; "" for one that was delivered, which
// send-message or executions has said.
func outcome(c change, item meeting.Item) (metric.Name, failure.Code) {
	switch item.Status {
	case meeting.Failed:
		if item.Failure != nil {
			return metric.Failed, item.Failure.Code
		}
		return metric.Failed, reason(c, item).Code
	case meeting.Cancelled:
		return metric.Cancelled, ""
	case meeting.Expired:
		if c.Status == "FAILED" && aws.ToString(c.Error) != string(failure.Expired) {
			return metric.Failed, failure.Internal // a client is owed a link that nobody could send; it may come for it
		}
		return metric.Expired, ""
	}
	return "", ""
}

func (f *function) cleanUp(ctx context.Context, c change) (meeting.Item, error) {
	item, err := f.meeting.Current(ctx, c.ExecutionARN)
	if errors.Is(err, meeting.ErrUnknown) {
		return item, nil // delivered, and the client has gone
	}
	if err != nil {
		return item, err
	}
	why := reason(c, item)
	item, err = f.meeting.End(ctx, c.ExecutionARN, why)
	switch {
	case errors.Is(err, meeting.ErrUnknown):
		return item, nil
	case errors.Is(err, meeting.ErrEnded):
		// A workflow that failed by itself has told the client. One that was stopped
		// may have been between the note and the telling, and an earlier try of this
		// function may have ended the item and no more: twice is better than never.
		err = nil
		if c.Status != "FAILED" || item.Status == meeting.Expired && item.Failure != nil {
			err = f.tell(ctx, item)
		}
	case err == nil:
		err = f.tell(ctx, item)
	}
	if err != nil || !item.Status.Without() {
		return item, err
	}
	key := link.Key(execution.NameOf(c.ExecutionARN))
	if err := f.copier.Discard(ctx, key); err != nil {
		return item, err
	}
	if c.Status == "FAILED" {
		return item, nil // its workers had ended
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return item, ctx.Err()
	}
	return item, f.copier.Discard(ctx, key)
}

// reason is what the client is told. A file that is whole outlives a workflow
// that broke or timed out: the item then says EXPIRED, for which a client still
// gets the link, now or when it comes.
func reason(c change, item meeting.Item) *failure.Error {
	switch {
	case c.Status == "ABORTED":
		return failure.New(failure.Cancelled, "the download was stopped by an operator")
	case item.Cancelled: // a promise that nothing is left, which the workflow could not keep
		return failure.New(failure.Cancelled, "the download was cancelled")
	case item.Status == meeting.Ready:
		return failure.New(failure.Expired, "the workflow ended before a client came")
	case c.Status == "TIMED_OUT":
		return failure.New(failure.OriginTooSlow, "the copy took longer than an execution may last")
	}
	return failure.FromStepFunctions(aws.ToString(c.Error), aws.ToString(c.Cause))
}

func (f *function) tell(ctx context.Context, item meeting.Item) error {
	if _, here := item.Connection(); !here {
		return nil
	}
	input, err := json.Marshal(meeting.Delivery{ExecutionARN: item.ExecutionARN})
	if err != nil {
		return err
	}
	_, err = f.stepFunctions.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &f.deliver, Input: aws.String(string(input))})
	return err
}
