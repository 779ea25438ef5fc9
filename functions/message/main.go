// Command message handles what a client sends on its socket.
package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/start"
)

type function struct{ download download.Protocol }

func main() {
	env := start.New()
	f := function{download.Protocol{Table: env.Table(), Socket: env.Socket()}}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	arn, refused, err := f.download.Message(ctx, r.RequestContext.ConnectionID, r.Body)
	log := slog.With("connectionId", r.RequestContext.ConnectionID, "execution", execution.NameFromARN(arn))
	switch {
	case err != nil:
		log.ErrorContext(ctx, "message failed", "error", failure.As(err))
		return events.APIGatewayProxyResponse{StatusCode: http.StatusInternalServerError}, nil
	case refused != nil:
		log.InfoContext(ctx, "message refused", "reason", refused)
	case arn != "":
		log.InfoContext(ctx, "cancelled")
	}
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}
