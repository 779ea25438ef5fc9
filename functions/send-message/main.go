// Command send-message answers the client of an execution: with a freshly signed
// link, or with the reason why there is none.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/setting"
	"async-download/internal/socket"
)

type function struct {
	meeting *meeting.Meeting
	links   *link.Signer
	socket  *socket.Socket
	metrics *metric.Recorder
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{
		meeting: &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		links:   &link.Signer{Bucket: env.String("BUCKET"), Expiry: env.Seconds("LINK_EXPIRY_SECONDS")},
		metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}
	signer, webSocket := env.String("SIGNER_ROLE_ARN"), env.String("WEBSOCKET_API")
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	f.meeting.DynamoDB = dynamodb.NewFromConfig(cfg)
	f.links.S3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = env.Optional("LOCAL_ENDPOINT") != "" })
	f.links.Presign = s3.NewPresignClient(f.links.S3)
	f.links.Credentials = link.AssumedRole(sts.NewFromConfig(cfg), signer, f.links.Expiry)
	f.socket = &socket.Socket{API: apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = aws.String(webSocket) })}
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, d meeting.Delivery) (struct{}, error) {
	name := execution.NameOf(d.ExecutionARN)
	log := slog.With("execution", name)
	var fallback meeting.Connection
	if d.Connection != nil {
		fallback = *d.Connection
	}
	var told meeting.Item
	gone := 0
	err := f.meeting.Deliver(ctx, d.ExecutionARN, fallback, func(ctx context.Context, item meeting.Item, c meeting.Connection) error {
		told = item
		event, err := f.event(ctx, name, item)
		if err != nil {
			return err
		}
		if item.Status == meeting.Ready { // the last word on a copy that was watched
			err = f.socket.Post(ctx, c, socket.Progress(item.BytesCopied, item.BytesTotal))
		}
		if err == nil {
			err = f.socket.Post(ctx, c, event)
		}
		if errors.Is(err, meeting.ErrGone) {
			gone++
		}
		return err
	})
	if gone > 0 {
		f.metrics.Record(metric.Line{Message: "measured", Execution: name, Values: map[metric.Name]float64{metric.Gone: float64(gone)}})
	}
	switch {
	case err == nil:
		log.InfoContext(ctx, "answered")
		if told.Status == meeting.Ready { // for the first time
			c, _ := told.Connection()
			f.metrics.Record(metric.Audit(metric.Delivered, told, "", c.At))
		}
	case errors.Is(err, meeting.ErrOpening), errors.Is(err, meeting.ErrGone):
		log.InfoContext(ctx, "not answered", "reason", err)
	default:
		log.ErrorContext(ctx, "not answered", "error", failure.As(err))
	}
	return struct{}{}, named(err)
}

// event is what the client is told.
func (f *function) event(ctx context.Context, name string, item meeting.Item) (socket.Event, error) {
	if item.Status.Without() {
		return socket.Failed(failure.New(item.Failure.Code, "%s", item.Failure.Message)), nil
	}
	l, err := f.links.Sign(ctx, name)
	if failure.CodeOf(err) == failure.Expired {
		return socket.Failed(failure.As(err)), nil
	}
	if err != nil {
		return socket.Event{}, err
	}
	return socket.Ready(l), nil
}

// named gives the two ends that asl/deliver.asl.json and asl/download.asl.json
// know the names they have there.
func named(err error) error {
	switch {
	case errors.Is(err, meeting.ErrOpening):
		return messages.InvokeResponse_Error{Type: "ConnectionOpening", Message: err.Error()}
	case errors.Is(err, meeting.ErrGone):
		return messages.InvokeResponse_Error{Type: "ConnectionGone", Message: err.Error()}
	}
	return failure.ToStepFunctions(err)
}
