// Command executions answers GET /executions/{name}, how a download stands and
// the link once there is one, and DELETE, which cancels it.
package main

import (
	"context"
	"errors"
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
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/rest"
	"async-download/internal/setting"
	"async-download/internal/ticket"
)

type function struct {
	meeting      *meeting.Meeting
	links        *link.Signer
	stateMachine string
	rest         rest.API
	tickets      bool // whether a client needs more than the name
	metrics      *metric.Recorder
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{
		meeting:      &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		links:        &link.Signer{Bucket: env.String("BUCKET"), Expiry: env.Seconds("LINK_EXPIRY_SECONDS")},
		stateMachine: env.String("STATE_MACHINE_ARN"),
		rest:         rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")},
		tickets:      env.Bool("REQUIRE_TICKET"),
		metrics:      &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}
	signer := env.String("SIGNER_ROLE_ARN")
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	f.meeting.DynamoDB, f.meeting.Tokens = dynamodb.NewFromConfig(cfg), sfn.NewFromConfig(cfg)
	f.links.S3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = env.Optional("LOCAL_ENDPOINT") != "" })
	f.links.Presign = s3.NewPresignClient(f.links.S3)
	f.links.Credentials = link.AssumedRole(sts.NewFromConfig(cfg), signer, f.links.Expiry)
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	a := f.answer(ctx, r)
	return events.APIGatewayProxyResponse{StatusCode: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (f *function) answer(ctx context.Context, r events.APIGatewayProxyRequest) rest.Answer {
	from, name := rest.Header(r.Headers, "Origin"), r.PathParameters["name"]
	if r.HTTPMethod == http.MethodOptions {
		return f.rest.Preflight(from)
	}
	log := slog.With("execution", name, "method", r.HTTPMethod)
	if !execution.IsName(name) {
		return f.rest.Error(from, failure.New(failure.NotFound, "an execution's name is 32 hexadecimal digits"))
	}
	secret := rest.Header(r.Headers, ticket.Header)
	if secret == "" {
		secret = r.QueryStringParameters[ticket.Query]
	}
	s, err := f.state(ctx, name, secret, r.HTTPMethod == http.MethodDelete)
	if err != nil {
		log.WarnContext(ctx, "not answered", "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	log.InfoContext(ctx, "answered", "status", s.Status)
	status, headers := http.StatusOK, map[string]string(nil)
	switch {
	case r.HTTPMethod == http.MethodDelete:
		status = http.StatusAccepted
	case s.Status == meeting.Copying:
		headers = map[string]string{"Retry-After": "2"}
	}
	return f.rest.OK(from, status, s, headers)
}

// state is how a download stands. A link is there exactly when Status is READY.
type state struct {
	Status      meeting.Status `json:"status"` // COPYING, READY, FAILED or CANCELLED
	BytesCopied int64          `json:"bytesCopied"`
	BytesTotal  *int64         `json:"bytesTotal"` // null: the origin didn't say
	Error       *reason        `json:"error,omitempty"`
	*link.Link
}

type reason struct {
	Code    failure.Code `json:"code"`
	Message string       `json:"message"`
}

func (f *function) state(ctx context.Context, name, secret string, cancel bool) (state, error) {
	arn := execution.ARN(f.stateMachine, name)
	item, err := f.meeting.Current(ctx, arn)
	known := !errors.Is(err, meeting.ErrUnknown)
	if known && err != nil {
		return state{}, err
	}
	hash := item.TicketHash
	if !known { // the object remembers, if there is one
		if hash, err = f.links.TicketHash(ctx, name); failure.CodeOf(err) == failure.Expired {
			return state{}, unknown()
		} else if err != nil {
			return state{}, err
		}
	}
	switch {
	case !ticket.Opens(secret, hash, f.tickets):
		return state{}, unknown()
	case cancel:
		return f.cancel(ctx, arn, item)
	case item.Status.Without():
		return state{Status: item.Status, BytesCopied: item.Copied(), BytesTotal: item.BytesTotal, Error: &reason{item.Failure.Code, item.Failure.Message}}, nil
	case item.Cancelled && !item.Status.Ended():
		return stopped(item), nil
	case item.Status == meeting.Copying:
		return state{Status: item.Status, BytesCopied: item.Copied(), BytesTotal: item.BytesTotal}, nil
	}
	l, err := f.links.Sign(ctx, name)
	if err != nil {
		return state{}, err
	}
	if item.Status == meeting.Ready {
		// Who has the link by this answer is a client that came: the execution need
		// not wait for another.
		now, err := f.meeting.Connect(ctx, arn, meeting.Connection{ID: meeting.Request, At: time.Now()})
		if err != nil && !errors.Is(err, meeting.ErrUnknown) {
			return state{}, err
		}
		if err == nil && now.Cancelled && !now.Status.Ended() {
			return stopped(now), nil
		}
		if err == nil && item.ConnectionID != meeting.Request { // for the first time, and to no socket
			f.metrics.Record(metric.Audit(metric.Delivered, item, "", time.Now()))
		}
	}
	return state{Status: meeting.Ready, BytesCopied: l.Size, BytesTotal: &l.Size, Link: &l}, nil
}

// stopped is a download whose cancel was accepted: the workflow has yet to end
// it, and its file, if there is one, goes.
func stopped(item meeting.Item) state {
	return state{Status: meeting.Cancelled, BytesCopied: item.Copied(), BytesTotal: item.BytesTotal, Error: &reason{failure.Cancelled, "the download was cancelled"}}
}

// unknown is the answer to a wrong name and to a wrong ticket alike.
func unknown() error {
	return failure.New(failure.NotFound, "no such execution, its file is no longer kept, or the ticket is another's")
}

func (f *function) cancel(ctx context.Context, arn string, item meeting.Item) (state, error) {
	err := f.meeting.Cancel(ctx, arn)
	switch {
	case errors.Is(err, meeting.ErrEnded), errors.Is(err, meeting.ErrUnknown):
		return state{}, failure.New(failure.Conflict, "the download has ended; there is nothing to cancel")
	case err != nil:
		return state{}, err
	}
	return stopped(item), nil
}
