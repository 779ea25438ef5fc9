// Command clean-up is called by EventBridge when an execution of the download
// machine has not succeeded.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/download"
	"async-download/internal/event"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/setting"
	"async-download/internal/transfer"
)

type function struct{ download download.Protocol }

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	table := &meeting.Table{Name: env.String("CONNECTIONS_TABLE")}
	copier := &transfer.Copier{Bucket: env.String("BUCKET")}
	f := function{download.Protocol{
		Table: table, Discard: copier.Discard,
		DeliverMachine: env.String("DELIVER_STATE_MACHINE_ARN"),
		Metrics:        &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}}
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	table.DynamoDB = dynamodb.NewFromConfig(cfg)
	copier.S3 = transfer.S3(cfg)
	f.download.Executions, f.download.Events = sfn.NewFromConfig(cfg), event.New(cfg, env.Optional("EVENT_BUS"))
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, e events.CloudWatchEvent) error {
	var b download.Broken
	if err := json.Unmarshal(e.Detail, &b); err != nil {
		return err
	}
	log := slog.With("execution", execution.NameOf(b.ExecutionARN), "status", b.Status)
	item, err := f.download.CleanUp(ctx, b)
	if err != nil {
		log.ErrorContext(ctx, "not cleaned up", "error", failure.As(err))
		return err // Lambda repeats it, twice
	}
	log.InfoContext(ctx, "cleaned up", "item", item.Status)
	return nil
}
