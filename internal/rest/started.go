package rest

import (
	"net/http"
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

// Started answers a request without a preference: 200, or 202 with the status URL for a
// POST, whose outcome isn't known yet (RFC 9110, section 15.3.3).
func (a API) Started(origin, method string, body Started) Answer {
	if method == http.MethodPost {
		return a.OK(origin, http.StatusAccepted, body, map[string]string{"Location": body.StatusURL, "Retry-After": "2"})
	}
	return a.OK(origin, http.StatusOK, body, nil)
}
