// Command executions answers GET /executions/{name} with the status of a download and its
// link, GET /executions/{name}/file with a redirect to the file, and DELETE, which cancels
// the download or deletes its file.
package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/download"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/rest"
	"async-download/internal/start"
	"async-download/internal/ticket"
)

type function struct {
	download download.Protocol
	rest     rest.API
	local    string // the local stack's URL, "" on AWS
	forward  rest.Forwarding
}

func main() {
	env := start.New()
	f := function{
		download: download.Protocol{
			Table: env.Table(), Objects: env.Links(), Discard: env.Discard(), StateMachine: env.String("STATE_MACHINE_ARN"),
			RequireTicket: env.Bool("REQUIRE_TICKET"), Metrics: env.Metrics(),
		},
		rest:    env.REST(),
		local:   env.Local(),
		forward: env.Forwarding(),
	}
	env.Run(f.handle)
}

func (f *function) handle(ctx context.Context, r events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	a := f.answer(ctx, r)
	return events.APIGatewayProxyResponse{StatusCode: a.Status, Headers: a.Headers, Body: a.Body}, nil
}

func (f *function) answer(ctx context.Context, r events.APIGatewayProxyRequest) rest.Answer {
	from, name := rest.Header(r.Headers, "Origin"), r.PathParameters["name"]
	file := r.Resource == "/executions/{name}/file"
	switch {
	case r.HTTPMethod == http.MethodOptions:
		// A page sends the headers for its origin with each request of a download.
		return f.rest.Preflight(from, "GET, DELETE, OPTIONS", f.forward.Headers...)
	case file && r.HTTPMethod != http.MethodGet:
		return f.rest.NotAllowed(from, "GET, OPTIONS")
	case r.HTTPMethod != http.MethodGet && r.HTTPMethod != http.MethodDelete:
		return f.rest.NotAllowed(from, "GET, DELETE, OPTIONS")
	}
	log := slog.With("execution", execution.Logged(name), "method", r.HTTPMethod)
	if err := f.rest.Foreign(r.Headers, rest.BaseURL(r, f.local)); err != nil {
		log.WarnContext(ctx, "request refused", "error", err)
		return f.rest.Error(from, err)
	}
	secret := cmp.Or(rest.Header(r.Headers, ticket.Header), r.QueryStringParameters[ticket.Query])
	prefer, waited := rest.ParsePrefer(r.MultiValueHeaders), false
	var s download.State
	var err error
	if r.HTTPMethod == http.MethodDelete {
		s, err = f.download.Delete(ctx, name, secret)
	} else {
		s, waited, err = f.download.Wait(ctx, name, secret, prefer.Wait)
	}
	if err != nil {
		log.WarnContext(ctx, "request failed", "error", failure.As(err))
		return f.rest.Error(from, err)
	}
	log.InfoContext(ctx, "request answered", "status", s.Status)
	switch {
	case s.Status == meeting.Deleted:
		return f.rest.OK(from, http.StatusOK, map[string]meeting.Status{"status": s.Status}, nil)
	case r.HTTPMethod == http.MethodDelete:
		return f.rest.OK(from, http.StatusAccepted, s, nil)
	case file:
		return f.rest.Outcome(from, s, waited, rest.Preference{Waits: prefer.Waits, Wait: prefer.Wait}, nil, nil)
	}
	return f.rest.State(from, s, prefer, waited)
}
