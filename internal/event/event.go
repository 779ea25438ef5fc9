// Package event puts the outcomes of downloads on an EventBridge bus: one event for
// each, at least once.
//
// An event has neither the link nor the query nor a ticket. A consumer that wants
// the file asks for GET /executions/{name}.
package event

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/object"
)

// Source is the source of all events.
const Source = "async-download"

// The detail-types.
const (
	Ready     = "Download ready"
	Failed    = "Download failed"
	Cancelled = "Download cancelled"
)

// tries is how often an event is put whose entry EventBridge refuses, which is
// throttling or a fault there. The SDK repeats calls that fail as a whole.
const (
	tries = 4
	pause = 500 * time.Millisecond
)

// PutEvents is the part of EventBridge that takes events.
type PutEvents interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}

// Bus is an event bus. A nil Bus takes no events.
type Bus struct {
	EventBridge PutEvents
	Name        string
}

// New returns the bus called name, nil for "".
func New(cfg aws.Config, name string) *Bus {
	if name == "" {
		return nil
	}
	return &Bus{eventbridge.NewFromConfig(cfg), name}
}

// download has the members of every event.
type download struct {
	ExecutionARN string `json:"executionArn"`
	Name         string `json:"name"`
	Path         string `json:"path"`
	AskedBy      string `json:"askedBy"`
}

func about(item meeting.Item) download {
	return download{item.ExecutionARN, execution.NameFromARN(item.ExecutionARN), item.Path, item.AskedBy}
}

// Ready puts [Ready]: the file was copied.
func (b *Bus) Ready(ctx context.Context, item meeting.Item, f object.File) {
	b.put(ctx, item, Ready, struct {
		download
		Size        int64             `json:"size"` // bytes
		ContentType string            `json:"contentType"`
		FileName    string            `json:"fileName"`
		Checksum    map[string]string `json:"checksum"`
		Verified    bool              `json:"verified"`
	}{about(item), f.Size, f.ContentType, f.FileName, f.Checksum, f.Verified})
}

// Ended puts [Cancelled] or [Failed]: there is no file, because of why.
func (b *Bus) Ended(ctx context.Context, item meeting.Item, why *failure.Error) {
	kind := Failed
	if why.Code == failure.Cancelled {
		kind = Cancelled
	}
	b.put(ctx, item, kind, struct {
		download
		Code    failure.Code `json:"code"`
		Message string       `json:"message"`
	}{about(item), why.Code, why.Message})
}

// put logs an event that could not be put; the download doesn't fail.
func (b *Bus) put(ctx context.Context, item meeting.Item, kind string, detail any) {
	if b == nil {
		return
	}
	if err := b.try(ctx, kind, detail); err != nil {
		slog.ErrorContext(ctx, "event not sent", "execution", execution.NameFromARN(item.ExecutionARN), "type", kind, "error", failure.As(err))
	}
}

func (b *Bus) try(ctx context.Context, kind string, detail any) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		out, err := b.EventBridge.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
			EventBusName: &b.Name, Source: aws.String(Source), DetailType: &kind, Detail: aws.String(string(text)),
		}}})
		if err != nil {
			return err
		}
		if out.FailedEntryCount == 0 {
			return nil
		}
		// PutEvents succeeds although its entry failed.
		// https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
		if n == tries {
			return errors.New("put event: " + aws.ToString(out.Entries[0].ErrorCode))
		}
		select {
		case <-time.After(pause << n):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
