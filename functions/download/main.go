// Command download answers GET /download, which starts the copy of a file, and
// serves the page and its client.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/page"
	"async-download/internal/rest"
	"async-download/internal/setting"
)

type function struct {
	downloads download.Starter
	rest      rest.API
	webSocket string // wss://…
	local     string // the local stack's URL, "" on AWS
	auth      string // ApiAuth
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	table := &meeting.Table{Name: env.String("CONNECTIONS_TABLE")}
	f := function{
		downloads: download.Starter{
			Protocol: download.Protocol{
				Table: table, StateMachine: env.String("STATE_MACHINE_ARN"), RequireTicket: env.Bool("REQUIRE_TICKET"),
				Metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
			},
			AllowedPaths: env.List("ALLOWED_PATHS"),
			Input:        download.Input{ClientTimeoutSeconds: env.Number("CLIENT_TIMEOUT_SECONDS"), MaxConcurrentSegments: download.ConcurrentSegments(env.Number("MAX_CONCURRENT_SEGMENTS"), env.Number("FETCH_CONCURRENCY"))},
		},
		rest:      rest.API{AllowedOrigins: env.String("ALLOWED_WEB_ORIGINS")},
		webSocket: "ws" + strings.TrimPrefix(env.String("WEBSOCKET_API"), "http"), // http to ws, https to wss
		local:     env.Optional("LOCAL_ENDPOINT"),
		auth:      env.Optional("API_AUTH"),
	}
	bucket, role, expiry := env.String("BUCKET"), env.String("SIGNER_ROLE_ARN"), env.Seconds("LINK_EXPIRY_SECONDS")
	var err error
	f.downloads.Origin, err = origin.ParseBase(env.String("ORIGIN_URL"))
	env.Add("ORIGIN_URL", err)
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	executions := sfn.NewFromConfig(cfg)
	table.DynamoDB, table.Tokens = dynamodb.NewFromConfig(cfg), executions
	f.downloads.Executions, f.downloads.Describer = executions, executions
	f.downloads.Objects = link.NewSigner(cfg, bucket, role, expiry, f.local != "")
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	a := f.answer(ctx, r)
	return events.APIGatewayProxyResponse{StatusCode: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (f *function) answer(ctx context.Context, r events.APIGatewayProxyRequest) rest.Answer {
	switch r.Resource {
	case "/":
		return page.Index(f.auth, f.webSocket, rest.BaseURL(r, f.local))
	case "/client.js":
		return page.Client(f.rest, r.Headers)
	}
	from := rest.Header(r.Headers, "Origin")
	switch r.HTTPMethod {
	case http.MethodOptions:
		return f.rest.Preflight(from)
	case http.MethodHead: // without starting anything
		return rest.Answer{Status: http.StatusOK, Headers: f.rest.OK(from, http.StatusOK, nil, nil).Headers}
	case http.MethodGet:
	default:
		return f.rest.NotAllowed(from, "GET, HEAD, OPTIONS")
	}
	if err := f.rest.Foreign(r.Headers, rest.BaseURL(r, f.local)); err != nil {
		slog.WarnContext(ctx, "request refused", "error", err)
		return f.rest.Error(from, err)
	}
	started, err := f.downloads.Start(ctx, download.Request{
		Path: rest.DownloadPath(r), Query: r.MultiValueQueryStringParameters,
		AskedBy: rest.AskedBy(r.RequestContext), Caller: rest.Principal(r.RequestContext), Key: rest.Header(r.Headers, "Idempotency-Key"),
	})
	if err != nil {
		slog.WarnContext(ctx, "request failed", "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	body, prefer := rest.NewStarted(r, started, f.webSocket, f.local), rest.ParsePrefer(r.MultiValueHeaders)
	if !prefer.Waits && !prefer.RespondAsync {
		return f.rest.OK(from, http.StatusOK, body, nil)
	}
	state, waited := download.State{Status: meeting.Copying}, false
	if prefer.Waits {
		state, waited, err = f.downloads.Wait(ctx, started.Name, started.Ticket, prefer.Wait)
	}
	if err != nil {
		slog.WarnContext(ctx, "request failed", "execution", started.Name, "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	return f.rest.Outcome(from, state, waited, prefer, body, map[string]string{"Location": body.StatusURL})
}
