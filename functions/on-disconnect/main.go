// Command on-disconnect answers $disconnect: it takes the closed connection out
// of its item, and the item out of the table if its link was delivered.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/setting"
)

type function struct {
	meeting *meeting.Table
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{&meeting.Table{Name: env.String("CONNECTIONS_TABLE")}}
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	f.meeting.DynamoDB = dynamodb.NewFromConfig(cfg)
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	log := slog.With("connectionId", r.RequestContext.ConnectionID)
	if err := f.meeting.Disconnect(ctx, r.RequestContext.ConnectionID); err != nil {
		// Nobody hears the answer; the next delivery meets the connection as gone.
		log.ErrorContext(ctx, "not disconnected", "error", failure.As(err))
		return events.APIGatewayProxyResponse{StatusCode: http.StatusInternalServerError}, nil
	}
	log.InfoContext(ctx, "disconnected")
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}
