// Command on-connect answers $connect: it writes the connection into the item of
// the execution named by the client, and resumes the execution if it waits.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

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
	meeting       *meeting.Meeting
	objects       *link.Signer // asked only whether an object exists, and for whom
	stepFunctions *sfn.Client
	stateMachine  string // whose executions may be waited for
	deliver       string
	rest          rest.API
	tickets       bool // whether a client needs more than the ARN
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{
		meeting:      &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		objects:      &link.Signer{Bucket: env.String("BUCKET")},
		stateMachine: env.String("STATE_MACHINE_ARN"),
		deliver:      env.String("DELIVER_STATE_MACHINE_ARN"),
		rest:         rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")},
		tickets:      env.Bool("REQUIRE_TICKET"),
	}
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	f.stepFunctions = sfn.NewFromConfig(cfg)
	f.meeting.DynamoDB, f.meeting.Tokens = dynamodb.NewFromConfig(cfg), f.stepFunctions
	f.objects.S3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = env.Optional("LOCAL_ENDPOINT") != "" })
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	status := f.connect(ctx, r)
	return events.APIGatewayProxyResponse{StatusCode: status}, nil
}

// connect returns the status of the handshake: 403 for an execution that is not
// there or not ours, whichever, so that nothing can be learnt from it; 503 where
// AWS was too busy to tell.
func (f *function) connect(ctx context.Context, r events.APIGatewayWebsocketProxyRequest) int {
	if origin := rest.Header(r.Headers, "Origin"); origin != "" && f.rest.Allow(origin) == "" {
		slog.WarnContext(ctx, "refused", "reason", "web origin not allowed")
		return http.StatusForbidden
	}
	arn, format := asked(r)
	name, ours := execution.Name(f.stateMachine, arn)
	if !ours {
		slog.WarnContext(ctx, "refused", "reason", "not an execution of this stack")
		return http.StatusForbidden
	}
	log := slog.With("execution", name, "connectionId", r.RequestContext.ConnectionID)
	switch allowed, err := f.allowed(ctx, r, arn, name); {
	case err != nil:
		log.ErrorContext(ctx, "not connected", "error", failure.As(err))
		return http.StatusServiceUnavailable
	case !allowed:
		log.WarnContext(ctx, "refused", "reason", "no such execution, or another's ticket")
		return http.StatusForbidden
	}
	c := meeting.Connection{ID: r.RequestContext.ConnectionID, Format: format, At: time.Now()}
	item, err := f.meeting.Connect(ctx, arn, c)
	known := !errors.Is(err, meeting.ErrUnknown)
	if known && err != nil {
		log.ErrorContext(ctx, "not connected", "error", failure.As(err))
		return http.StatusServiceUnavailable
	}
	if !known || item.Status.Ended() {
		// No workflow looks for this client any more, and nothing can be posted
		// before this function has returned.
		if err := f.startDelivery(ctx, arn, c); err != nil {
			// The client is refused and comes again; until then nobody is here.
			log.ErrorContext(ctx, "not connected", "error", failure.As(errors.Join(err, f.meeting.Leave(ctx, arn, c.ID))))
			return http.StatusServiceUnavailable
		}
	}
	log.InfoContext(ctx, "connected", "status", item.Status, "resumed", item.TaskToken != "")
	return http.StatusOK
}

// allowed says whether there is such a download, in the table or in the bucket,
// and whether the client has shown its ticket. Nothing is written before.
func (f *function) allowed(ctx context.Context, r events.APIGatewayWebsocketProxyRequest, arn, name string) (bool, error) {
	var hash string
	item, err := f.meeting.Current(ctx, arn)
	switch {
	case err == nil:
		hash = item.TicketHash
	case errors.Is(err, meeting.ErrUnknown):
		hash, err = f.objects.TicketHash(ctx, name)
		if failure.CodeOf(err) == failure.Expired {
			return false, nil
		}
	}
	if err != nil {
		return false, err
	}
	secret := rest.Header(r.Headers, ticket.Header)
	if secret == "" {
		secret = r.QueryStringParameters[ticket.Query]
	}
	return ticket.Opens(secret, hash, f.tickets), nil
}

// asked reads the ARN and the format from the header or, since browsers can't
// set headers, from the query.
func asked(r events.APIGatewayWebsocketProxyRequest) (arn, format string) {
	arn = rest.Header(r.Headers, "X-StateMachine-ExecutionArn")
	if arn == "" {
		arn = r.QueryStringParameters["executionArn"]
	}
	format = rest.Header(r.Headers, "X-Download-Format")
	if format == "" {
		format = r.QueryStringParameters["format"]
	}
	if format != socket.JSON {
		format = "" // plain text
	}
	return arn, format
}

func (f *function) startDelivery(ctx context.Context, arn string, c meeting.Connection) error {
	input, err := json.Marshal(meeting.Delivery{ExecutionARN: arn, Connection: &c})
	if err != nil {
		return err
	}
	_, err = f.stepFunctions.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &f.deliver, Input: aws.String(string(input))})
	return err
}
