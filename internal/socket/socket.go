// Package socket defines the messages to clients and posts them to their
// WebSockets.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"

	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/wire"
)

// JSON is the format in which each message is a JSON event. Any other format is
// plain text.
const JSON = "json"

// Format returns the format that a client asked for: [JSON], or "" for plain text.
func Format(asked string) string {
	if asked == JSON {
		return JSON
	}
	return ""
}

// Event is a message to a client.
type Event struct {
	text  string
	event any
}

// Progress reports the number of bytes copied; total is nil if the origin didn't
// send a size. Clients with plain text don't get it.
func Progress(copied int64, total *int64) Event {
	return Event{event: struct {
		Type        string `json:"type"`
		BytesCopied int64  `json:"bytesCopied"`
		BytesTotal  *int64 `json:"bytesTotal"`
	}{"progress", copied, total}}
}

// Ready has the link; in plain text, only its URL.
func Ready(l link.Link) Event {
	return Event{text: l.URL, event: struct {
		Type string `json:"type"`
		link.Link
	}{"ready", l}}
}

// Failed reports why there is no file.
func Failed(e *failure.Error) Event { return trouble("failed", e) }

// Refused answers a client's message that is invalid. The download continues.
func Refused(e *failure.Error) Event { return trouble("error", e) }

func trouble(kind string, e *failure.Error) Event {
	return Event{text: fmt.Sprintf("error: %s %s", e.Code, e.Message), event: struct {
		Type string `json:"type"`
		*failure.Error
	}{kind, e}}
}

// In returns the message in a format; nil if there is none.
func (e Event) In(format string) []byte {
	if format != JSON {
		if e.text == "" {
			return nil
		}
		return []byte(e.text)
	}
	return wire.JSON(e.event)
}

// Socket posts to the clients of one WebSocket API.
type Socket struct {
	API *apigatewaymanagementapi.Client
}

// Post sends e to a client. The error is [meeting.ErrGone] if API Gateway answers
// 410, which it also does while the handshake is still open.
func (s *Socket) Post(ctx context.Context, c meeting.Connection, e Event) error {
	data := e.In(c.Format)
	if data == nil {
		return nil
	}
	_, err := s.API.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &c.ID, Data: data})
	var gone *types.GoneException
	if errors.As(err, &gone) {
		return meeting.ErrGone
	}
	if err != nil {
		return fmt.Errorf("post to connection: %w", withoutURL(err))
	}
	return nil
}

// withoutURL removes the URL from a transport's error, because it ends in the
// connectionId.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
