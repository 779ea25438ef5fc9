// Command download answers GET /download: it writes the item of a new download
// and starts the execution that copies the file.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/page"
	"async-download/internal/rest"
	"async-download/internal/setting"
	"async-download/internal/ticket"
)

type function struct {
	meeting       *meeting.Meeting
	stepFunctions *sfn.Client
	stateMachine  string
	origin        *url.URL
	allowed       []string // AllowedPaths
	input         input
	webSocket     string // wss://…
	local         string // the local stack's URL, "" on AWS
	tickets       bool   // whether a client needs more than the ARN
	rest          rest.API
	metrics       *metric.Recorder
}

// input is the execution's input: the two numbers its states read.
type input struct {
	ClientTimeoutSeconds  int64 `json:"clientTimeoutSeconds"`
	MaxConcurrentSegments int64 `json:"maxConcurrentSegments"`
}

type answer struct {
	ExecutionARN      string `json:"executionArn"`
	WebSocketEndpoint string `json:"webSocketEndpoint"`
	WebSocketURL      string `json:"webSocketUrl"`
	StatusURL         string `json:"statusUrl"`
	Ticket            string `json:"ticket,omitempty"` // shown this once
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	f := function{
		meeting:      &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		stateMachine: env.String("STATE_MACHINE_ARN"),
		input:        input{env.Number("CLIENT_TIMEOUT_SECONDS"), env.Number("MAX_CONCURRENT_SEGMENTS")},
		webSocket:    "ws" + strings.TrimPrefix(env.String("WEBSOCKET_API"), "http"), // http to ws, https to wss
		local:        env.Optional("LOCAL_ENDPOINT"),
		tickets:      env.Bool("REQUIRE_TICKET"),
		rest:         rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")},
		metrics:      &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}
	f.allowed = env.List("ALLOWED_PATHS")
	var err error
	f.origin, err = origin.ParseBase(env.String("ORIGIN_URL"))
	env.Add("ORIGIN_URL", err)
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	f.meeting.DynamoDB = dynamodb.NewFromConfig(cfg)
	f.stepFunctions = sfn.NewFromConfig(cfg)
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	a := f.answer(ctx, r)
	return events.APIGatewayProxyResponse{StatusCode: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (f *function) answer(ctx context.Context, r events.APIGatewayProxyRequest) rest.Answer {
	switch r.Resource {
	case "/":
		return page.Index(f.webSocket, f.baseURL(r))
	case "/client.js":
		return page.Client(f.rest, r.Headers)
	}
	from := rest.Header(r.Headers, "Origin")
	if r.HTTPMethod == http.MethodOptions {
		return f.rest.Preflight(from)
	}
	path := pathOf(r)
	query := url.Values(r.MultiValueQueryStringParameters).Encode()
	name := execution.NewName()
	var secret, hash string
	if f.tickets {
		secret, hash = ticket.New()
	}
	by := askedBy(r.RequestContext)
	if err := f.start(ctx, name, path, query, hash, by); err != nil {
		slog.WarnContext(ctx, "not started", "execution", name, "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	f.metrics.Record(metric.Line{
		Message: "started", Execution: name, Values: map[metric.Name]float64{metric.Started: 1},
		About: map[string]any{"path": path, "askedBy": by},
	})
	arn := execution.ARN(f.stateMachine, name)
	return f.rest.OK(from, http.StatusOK, answer{
		ExecutionARN:      arn,
		WebSocketEndpoint: f.webSocket,
		WebSocketURL:      f.webSocket + "?executionArn=" + url.QueryEscape(arn),
		StatusURL:         f.baseURL(r) + "/executions/" + name,
		Ticket:            secret,
	}, nil)
}

// askedBy is the address that API Gateway saw and, behind it, the principal that
// it let in: of IAM, of a token, of an API key by its id.
func askedBy(c events.APIGatewayProxyRequestContext) string {
	principal, _ := c.Authorizer["principalId"].(string)
	return strings.TrimSpace(c.Identity.SourceIP + " " + cmp.Or(c.Identity.UserArn, principal, c.Identity.APIKeyID))
}

func (f *function) start(ctx context.Context, name, path, query, ticketHash, by string) error {
	if _, err := origin.Join(f.origin, f.allowed, path, query); err != nil {
		return err
	}
	arn := execution.ARN(f.stateMachine, name)
	if err := f.meeting.Create(ctx, arn, path, query, ticketHash, by); err != nil {
		return throttled(err)
	}
	input, err := json.Marshal(f.input)
	if err != nil {
		return err
	}
	// A call repeated after a lost reply has the same name and input, which Step
	// Functions takes for the same execution while that runs. One that has ended at
	// once, as when the origin says 404, already exists: nobody else has its name.
	// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
	var there *sfntypes.ExecutionAlreadyExists
	_, err = f.stepFunctions.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &f.stateMachine, Name: &name, Input: aws.String(string(input)),
	})
	if err != nil && !errors.As(err, &there) {
		return errors.Join(throttled(err), f.meeting.Discard(ctx, arn))
	}
	return nil
}

// throttled tells a client to come again where AWS told us so.
func throttled(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "ThrottlingException", "RequestLimitExceeded", "ProvisionedThroughputExceededException", "ExecutionLimitExceeded", "TooManyRequestsException":
			return failure.Wrap(err, failure.Throttled, "too many downloads are being started; try again in a second")
		}
	}
	return err
}

// around cuts path, the request's or as its context has it, at the segment
// "download" behind which the API's own path parameter stands: a stage or the
// base path of a custom domain may stand before it, and be called so too.
func around(r events.APIGatewayProxyRequest, path string) (before, after string) {
	found := false
	for i := range path {
		rest, ok := strings.CutPrefix(path[i:], "/download")
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		rest = strings.TrimPrefix(rest, "/")
		if !found {
			before, after, found = path[:i], rest, true
		}
		if decoded, err := url.PathUnescape(rest); rest == r.PathParameters["path"] || err == nil && decoded == r.PathParameters["path"] {
			return path[:i], rest
		}
	}
	return before, after
}

// pathOf returns what stands after /download/, percent-encoded as it came.
func pathOf(r events.APIGatewayProxyRequest) string {
	_, path := around(r, r.Path)
	return path
}

// baseURL is the API's own URL, taken from the request: a reference to the API
// in the template would be a cycle. A custom domain has its base path in the
// place of the stage.
func (f *function) baseURL(r events.APIGatewayProxyRequest) string {
	c := r.RequestContext
	if f.local != "" { // where a host name can't lead
		return f.local + "/_aws/execute-api/" + c.APIID + "/" + c.Stage
	}
	prefix := "/" + c.Stage
	if !strings.Contains(c.DomainName, ".execute-api.") {
		prefix, _ = around(r, c.Path)
	}
	return "https://" + c.DomainName + prefix
}
