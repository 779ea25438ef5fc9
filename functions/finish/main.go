// Command finish ends a copy: it completes an upload made of segments or, given
// a failure, leaves nothing of the copy and notes why.
package main

import (
	"context"
	"log/slog"

	"async-download/internal/copying"
	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/start"
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
	env := start.New()
	f := function{env.Worker()}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, in input) (output, error) {
	if in.Failure == nil {
		out, err := f.Finish(ctx, in.ExecutionARN, in.Work)
		return output{Output: out}, failure.ToStepFunctions(err)
	}
	log := slog.With("execution", execution.NameFromARN(in.ExecutionARN))
	p := download.Protocol{Table: f.Table, Discard: f.Copier.Discard, Metrics: f.Metrics, Events: f.Events}
	noted, err := p.NoteFailure(ctx, in.ExecutionARN, failure.FromStepFunctions(in.Failure.Error, in.Failure.Cause))
	if err != nil {
		log.WarnContext(ctx, "failure not noted", "error", failure.As(err))
		return output{}, failure.ToStepFunctions(err)
	}
	log.InfoContext(ctx, "failure noted", "code", noted.Code, "message", noted.Message)
	return output{Code: noted.Code, Message: noted.Message, Connected: noted.Connected}, nil
}
