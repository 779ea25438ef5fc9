// Command finish runs two states of the download machine: it completes an object that was
// copied in segments, or ends a download after a state has failed.
package main

import (
	"context"
	"encoding/json"
	"log/slog"

	"async-download/internal/copying"
	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/start"
)

type function struct {
	worker   copying.Worker
	download download.Protocol
}

func main() {
	env := start.New()
	w := env.Worker()
	f := function{w, download.Protocol{Table: w.Table, Discard: w.Copier.Discard, Metrics: w.Metrics, Events: w.Events}}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, event json.RawMessage) (any, error) {
	var failed download.FailureInput
	if err := json.Unmarshal(event, &failed); err != nil {
		return nil, err
	}
	if failed.Failure != nil {
		return f.note(ctx, failed)
	}
	var in copying.FinishInput
	if err := json.Unmarshal(event, &in); err != nil {
		return nil, err
	}
	out, err := f.worker.Finish(ctx, in.ExecutionARN, in.Work)
	return out, failure.ToStepFunctions(err)
}

func (f *function) note(ctx context.Context, in download.FailureInput) (download.Noted, error) {
	log := slog.With("execution", execution.NameFromARN(in.ExecutionARN))
	noted, err := f.download.NoteFailure(ctx, in.ExecutionARN, failure.FromStepFunctions(in.Failure.Error, in.Failure.Cause))
	if err != nil {
		log.WarnContext(ctx, "failure not noted", "error", failure.As(err))
		return noted, failure.ToStepFunctions(err)
	}
	log.InfoContext(ctx, "failure noted", "code", noted.Code, "message", noted.Message)
	return noted, nil
}
