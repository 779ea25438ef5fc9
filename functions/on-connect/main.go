// Command on-connect answers $connect: it admits the client to the execution that
// it names, and resumes the execution if it waits.
package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/rest"
	"async-download/internal/socket"
	"async-download/internal/start"
	"async-download/internal/ticket"
)

type function struct {
	download download.Protocol
	rest     rest.API
}

func main() {
	env := start.New()
	f := function{
		download: download.Protocol{
			Table: env.Table(), Objects: env.Objects(), RequireTicket: env.Bool("REQUIRE_TICKET"), StateMachine: env.String("STATE_MACHINE_ARN"),
			Executions: env.StepFunctions(), DeliverMachine: env.String("DELIVER_STATE_MACHINE_ARN"),
		},
		rest: env.REST(),
	}
	env.Run(f.handle)
}

// handle returns the status of the handshake: 403 for a client that is refused, whatever
// the reason, and 503 if AWS could not be asked, after which the client tries again.
func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	asked := func(header, query string) string { // browsers can't set headers
		return cmp.Or(rest.Header(r.Headers, header), r.QueryStringParameters[query])
	}
	arn := asked("X-StateMachine-ExecutionArn", "executionArn")
	c := meeting.Connection{ID: r.RequestContext.ConnectionID, Format: socket.Format(asked("X-Download-Format", "format")), At: time.Now()}
	log := slog.With("execution", execution.Logged(execution.NameFromARN(arn)), "connectionId", c.ID)
	if err := f.rest.Foreign(r.Headers, ""); err != nil {
		log.WarnContext(ctx, "refused", "reason", err)
		return events.APIGatewayProxyResponse{StatusCode: http.StatusForbidden}, nil
	}
	item, err := f.download.Connect(ctx, arn, asked(ticket.Header, ticket.Query), c)
	switch {
	case failure.CodeOf(err) == failure.NotFound:
		log.WarnContext(ctx, "refused", "reason", failure.As(err))
		return events.APIGatewayProxyResponse{StatusCode: http.StatusForbidden}, nil
	case err != nil:
		log.ErrorContext(ctx, "not connected", "error", failure.As(err))
		return events.APIGatewayProxyResponse{StatusCode: http.StatusServiceUnavailable}, nil
	}
	log.InfoContext(ctx, "connected", "status", item.Status, "resumed", item.TaskToken != "")
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}
