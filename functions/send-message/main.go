// Command send-message is the one state of the deliver machine: it posts the link, or the
// reason why there is none, to the client of an execution.
package main

import (
	"context"
	"errors"
	"log/slog"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/start"
)

type function struct{ download download.Protocol }

func main() {
	env := start.New()
	f := function{download.Protocol{Table: env.Table(), Objects: env.Links(), Socket: env.Socket(), Metrics: env.Metrics()}}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, d meeting.Delivery) (struct{}, error) {
	log := slog.With("execution", execution.NameFromARN(d.ExecutionARN))
	err := f.download.Deliver(ctx, d)
	switch {
	case err == nil:
		log.InfoContext(ctx, "client notified")
	case errors.Is(err, meeting.ErrOpening), errors.Is(err, meeting.ErrGone), errors.Is(err, failure.ErrCancelled):
		log.InfoContext(ctx, "client not notified", "reason", err)
	default:
		log.ErrorContext(ctx, "client not notified", "error", failure.As(err))
	}
	return struct{}{}, download.ToStepFunctions(err)
}
