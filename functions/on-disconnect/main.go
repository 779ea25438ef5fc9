// Command on-disconnect answers $disconnect: it removes the closed connection from its
// item, and the item from the table if its link was delivered.
package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/start"
)

type function struct {
	meeting *meeting.Table
}

func main() {
	env := start.New()
	f := function{env.Table()}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	log := slog.With("connectionId", r.RequestContext.ConnectionID)
	if err := f.meeting.Disconnect(ctx, r.RequestContext.ConnectionID); err != nil {
		// No client gets this answer. The next delivery finds the connection gone.
		log.ErrorContext(ctx, "not disconnected", "error", failure.As(err))
		return events.APIGatewayProxyResponse{StatusCode: http.StatusInternalServerError}, nil
	}
	log.InfoContext(ctx, "disconnected")
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}
