// Command on-connect answers $connect: it admits the client to the execution that
// it names, and resumes the execution if it waits.
package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/rest"
	"async-download/internal/setting"
	"async-download/internal/socket"
	"async-download/internal/ticket"
)

type function struct {
	download download.Protocol
	rest     rest.API
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	table := &meeting.Table{Name: env.String("CONNECTIONS_TABLE")}
	objects := &link.Signer{Bucket: env.String("BUCKET")}
	f := function{
		download: download.Protocol{
			Table: table, Objects: objects,
			StateMachine: env.String("STATE_MACHINE_ARN"), DeliverMachine: env.String("DELIVER_STATE_MACHINE_ARN"),
			RequireTicket: env.Bool("REQUIRE_TICKET"),
		},
		rest: rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")},
	}
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	stepFunctions := sfn.NewFromConfig(cfg)
	f.download.Executions = stepFunctions
	table.DynamoDB, table.Tokens = dynamodb.NewFromConfig(cfg), stepFunctions
	objects.S3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = env.Optional("LOCAL_ENDPOINT") != "" })
	lambda.Start(f.handle)
}

// handle returns the status of the handshake: 403 for a client that is refused,
// whatever the reason, and 503 where AWS was too busy to tell.
func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	asked := func(header, query string) string { // browsers can't set headers
		return cmp.Or(rest.Header(r.Headers, header), r.QueryStringParameters[query])
	}
	arn := asked("X-StateMachine-ExecutionArn", "executionArn")
	c := meeting.Connection{ID: r.RequestContext.ConnectionID, Format: socket.Format(asked("X-Download-Format", "format")), At: time.Now()}
	log := slog.With("execution", execution.NameOf(arn), "connectionId", c.ID)
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
