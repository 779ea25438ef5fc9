// Command message takes what the client says on its socket: {"action":"cancel"}
// stops the download, {"action":"ping"} keeps the socket from being idle.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/setting"
	"async-download/internal/socket"
)

type function struct {
	meeting *meeting.Meeting
	socket  *socket.Socket
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{meeting: &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")}}
	webSocket := env.String("WEBSOCKET_API")
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	f.meeting.DynamoDB, f.meeting.Tokens = dynamodb.NewFromConfig(cfg), sfn.NewFromConfig(cfg)
	f.socket = &socket.Socket{API: apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = aws.String(webSocket) })}
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	log := slog.With("connectionId", r.RequestContext.ConnectionID)
	if err := f.follow(ctx, log, r.RequestContext.ConnectionID, r.Body); err != nil {
		log.ErrorContext(ctx, "not answered", "error", failure.As(err))
		return events.APIGatewayProxyResponse{StatusCode: http.StatusInternalServerError}, nil
	}
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}

func (f *function) follow(ctx context.Context, log *slog.Logger, connectionID, body string) error {
	var message struct {
		Action string `json:"action"`
	}
	if json.Unmarshal([]byte(body), &message) == nil && message.Action == "ping" {
		return nil
	}
	// A client of an execution that has ended and gone stands in no item.
	c := meeting.Connection{ID: connectionID}
	arn, err := f.meeting.Find(ctx, connectionID)
	if err != nil && !errors.Is(err, meeting.ErrUnknown) {
		return err
	}
	known := err == nil
	if known {
		if item, err := f.meeting.Current(ctx, arn); err == nil && item.ConnectionID == connectionID {
			c.Format = item.Format
		}
	}
	refused := failure.New(failure.NotFound, `no such action; there are {"action":"cancel"} and {"action":"ping"}`)
	if message.Action == "cancel" {
		refused = failure.New(failure.Conflict, "the download has ended; there is nothing to cancel")
		if known {
			err := f.meeting.Cancel(ctx, arn)
			log.InfoContext(ctx, "cancel", "execution", execution.NameOf(arn), "refused", err != nil)
			if err == nil {
				return nil // the workflow tells the client how it ended
			}
			if !errors.Is(err, meeting.ErrEnded) && !errors.Is(err, meeting.ErrUnknown) {
				return err
			}
		}
	}
	if err := f.socket.Post(ctx, c, socket.Refused(refused)); !errors.Is(err, meeting.ErrGone) {
		return err
	}
	return nil
}
