// Command message answers what a client sends on its socket.
package main

import (
	"context"
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

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/setting"
	"async-download/internal/socket"
)

type function struct{ download download.Protocol }

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	table := &meeting.Table{Name: env.String("CONNECTIONS_TABLE")}
	webSocket := env.String("WEBSOCKET_API")
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	table.DynamoDB, table.Tokens = dynamodb.NewFromConfig(cfg), sfn.NewFromConfig(cfg)
	f := function{download.Protocol{Table: table}}
	f.download.Socket = &socket.Socket{API: apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = aws.String(webSocket) })}
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	arn, refused, err := f.download.Message(ctx, r.RequestContext.ConnectionID, r.Body)
	log := slog.With("connectionId", r.RequestContext.ConnectionID, "execution", execution.NameOf(arn))
	switch {
	case err != nil:
		log.ErrorContext(ctx, "not answered", "error", failure.As(err))
		return events.APIGatewayProxyResponse{StatusCode: http.StatusInternalServerError}, nil
	case refused != nil:
		log.InfoContext(ctx, "message refused", "reason", refused)
	case arn != "":
		log.InfoContext(ctx, "cancelled")
	}
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}
