// Command download answers GET /download, which starts the copy of a file, and
// serves the page and its client.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/page"
	"async-download/internal/rest"
	"async-download/internal/start"
)

type function struct {
	downloads download.Starter
	rest      rest.API
	webSocket string // wss://…
	local     string // the local stack's URL, "" on AWS
	auth      string // ApiAuth
}

func main() {
	env := start.New()
	executions := env.StepFunctions()
	f := function{
		downloads: download.Starter{
			Protocol: download.Protocol{
				Table: env.Table(), Objects: env.Links(), Executions: executions, StateMachine: env.String("STATE_MACHINE_ARN"),
				RequireTicket: env.Bool("REQUIRE_TICKET"), Metrics: env.Metrics(),
			},
			Origin: env.Origin(), AllowedPaths: env.List("ALLOWED_PATHS"), Describer: executions,
			Input: download.Input{
				ClientTimeoutSeconds:  env.Number("CLIENT_TIMEOUT_SECONDS"),
				MaxConcurrentSegments: download.ConcurrentSegments(env.Number("MAX_CONCURRENT_SEGMENTS"), env.Number("FETCH_CONCURRENCY")),
			},
		},
		rest:      env.REST(),
		webSocket: "ws" + strings.TrimPrefix(env.String("WEBSOCKET_API"), "http"), // http to ws, https to wss
		local:     env.Local(),
		auth:      env.String("API_AUTH"),
	}
	env.Run(f.handle)
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
