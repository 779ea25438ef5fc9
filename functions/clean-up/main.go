// Command clean-up removes what an execution of the download machine left that has not
// succeeded. EventBridge calls it.
package main

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/start"
)

type function struct{ download download.Protocol }

func main() {
	env := start.New()
	f := function{download.Protocol{
		Table: env.Table(), Discard: env.Discard(), Executions: env.StepFunctions(), DeliverMachine: env.String("DELIVER_STATE_MACHINE_ARN"),
		Metrics: env.Metrics(), Events: env.Events(),
	}}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, e events.CloudWatchEvent) error {
	var b download.Broken
	if err := json.Unmarshal(e.Detail, &b); err != nil {
		return err
	}
	log := slog.With("execution", execution.NameFromARN(b.ExecutionARN), "status", b.Status)
	item, err := f.download.CleanUp(ctx, b)
	if err != nil {
		log.ErrorContext(ctx, "not cleaned up", "error", failure.As(err))
		return err // Lambda tries again, twice
	}
	log.InfoContext(ctx, "cleaned up", "item", item.Status)
	return nil
}
