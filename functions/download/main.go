// Command download answers GET and POST /download, which start the copy of a file, and
// serves the page and its client.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
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
	methods   []string // of /download
	forward   rest.Forwarding
	rest      rest.API
	webSocket string // wss://…
	local     string // the local stack's URL, "" on AWS
	auth      string // ApiAuth
}

func main() {
	env := start.New()
	executions, forward := env.StepFunctions(), env.Forwarding()
	f := function{
		downloads: download.Starter{
			Protocol: download.Protocol{
				Table: env.Table(), Objects: env.Links(), Executions: executions, StateMachine: env.String("STATE_MACHINE_ARN"),
				RequireTicket: env.Bool("REQUIRE_TICKET"), Metrics: env.Metrics(),
			},
			Origin: env.Origin(), AllowedPaths: env.List("ALLOWED_PATHS"), Describer: executions, CallerHeader: forward.Caller,
			Input: download.Input{
				ClientTimeoutSeconds:  env.Number("CLIENT_TIMEOUT_SECONDS"),
				MaxConcurrentSegments: download.ConcurrentSegments(env.Number("MAX_CONCURRENT_SEGMENTS"), env.Number("FETCH_CONCURRENCY")),
			},
		},
		methods:   append(strings.Split(env.String("ALLOWED_METHODS"), ","), http.MethodHead, http.MethodOptions),
		forward:   forward,
		rest:      env.REST(),
		webSocket: "ws" + strings.TrimPrefix(env.String("WEBSOCKET_API"), "http"), // http to ws, https to wss
		local:     env.Local(),
		auth:      env.String("API_AUTH"),
	}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	a := f.answer(ctx, r)
	if r.HTTPMethod == http.MethodHead {
		a.Body = ""
	}
	return events.APIGatewayProxyResponse{StatusCode: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (f *function) answer(ctx context.Context, r events.APIGatewayProxyRequest) rest.Answer {
	from, methods := rest.Header(r.Headers, "Origin"), strings.Join(f.methods, ", ")
	isPage := r.Resource == "/" || r.Resource == "/client.js"
	switch {
	case isPage && r.HTTPMethod != http.MethodGet && r.HTTPMethod != http.MethodHead:
		return f.rest.NotAllowed(from, "GET, HEAD")
	case r.Resource == "/":
		return page.Index(f.auth, f.webSocket, rest.BaseURL(r, f.local))
	case isPage:
		return page.Client(f.rest, r.Headers)
	case !slices.Contains(f.methods, r.HTTPMethod):
		return f.rest.NotAllowed(from, methods)
	case r.HTTPMethod == http.MethodOptions:
		return f.rest.Preflight(from, methods, append([]string{"Content-Type"}, f.forward.Headers...)...)
	case r.HTTPMethod == http.MethodHead: // without starting anything
		return rest.Answer{Status: http.StatusOK, Headers: f.rest.OK(from, http.StatusOK, nil, nil).Headers}
	}
	if err := f.rest.Foreign(r.Headers, rest.BaseURL(r, f.local)); err != nil {
		slog.WarnContext(ctx, "request refused", "error", err)
		return f.rest.Error(from, err)
	}
	request, err := rest.DownloadRequest(r, f.forward)
	var started download.Started
	if err == nil {
		started, err = f.downloads.Start(ctx, request)
	}
	if err != nil {
		slog.WarnContext(ctx, "request failed", "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	body, prefer := rest.NewStarted(r, started, f.webSocket, f.local), rest.ParsePrefer(r.MultiValueHeaders)
	if !prefer.Waits && !prefer.RespondAsync {
		return f.rest.Started(from, r.HTTPMethod, body)
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
