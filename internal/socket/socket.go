// Package socket says what a client hears on its WebSocket, and says it.
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

// JSON is the format in which every message is one JSON event. Any other is the
// plain text of the original sample.
const JSON = "json"

// Event is one thing to say.
type Event struct {
	text  string
	event any
}

// Progress tells how many bytes are in S3; total is nil where the origin didn't
// say. It is not said in plain text.
func Progress(copied int64, total *int64) Event {
	return Event{event: struct {
		Type        string `json:"type"`
		BytesCopied int64  `json:"bytesCopied"`
		BytesTotal  *int64 `json:"bytesTotal"`
	}{"progress", copied, total}}
}

// Ready hands over the link, which in plain text is all that is said.
func Ready(l link.Link) Event {
	return Event{text: l.URL, event: struct {
		Type string `json:"type"`
		link.Link
	}{"ready", l}}
}

// Failed tells why there is no file.
func Failed(e *failure.Error) Event { return trouble("failed", e) }

// Refused answers a message of the client's that can't be followed; the download
// goes on.
func Refused(e *failure.Error) Event { return trouble("error", e) }

func trouble(kind string, e *failure.Error) Event {
	return Event{text: fmt.Sprintf("error: %s %s", e.Code, e.Message), event: struct {
		Type    string       `json:"type"`
		Code    failure.Code `json:"code"`
		Message string       `json:"message"`
	}{kind, e.Code, e.Message}}
}

// In returns the message for a format; nil is nothing to say.
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

// Post says e to the client. [meeting.ErrGone] is API Gateway's 410, which also
// comes while the handshake is not finished.
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

// withoutURL takes the address out of a transport's error: it ends in the
// connectionId.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
