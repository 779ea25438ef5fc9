package rest

import (
	"net/url"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/download"
)

// Started is the body of the answer to a request for a download.
type Started struct {
	ExecutionARN      string `json:"executionArn"`
	WebSocketEndpoint string `json:"webSocketEndpoint"`
	WebSocketURL      string `json:"webSocketUrl"`
	StatusURL         string `json:"statusUrl"`
	Ticket            string `json:"ticket,omitempty"` // shown this once
}

// NewStarted describes a download that was started by r. webSocket is the socket's
// endpoint; local is as for [BaseURL].
func NewStarted(r events.APIGatewayProxyRequest, d download.Started, webSocket, local string) Started {
	return Started{
		ExecutionARN:      d.ExecutionARN,
		WebSocketEndpoint: webSocket,
		WebSocketURL:      webSocket + "?executionArn=" + url.QueryEscape(d.ExecutionARN),
		StatusURL:         BaseURL(r, local) + "/executions/" + d.Name,
		Ticket:            d.Ticket,
	}
}
