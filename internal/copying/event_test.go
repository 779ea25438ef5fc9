package copying_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"async-download/internal/event"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/object"
	"async-download/internal/origin/origintest"
)

// bus records events, and is what describes objects.
type bus struct {
	events []types.PutEventsRequestEntry
	fails  error
}

func (b *bus) PutEvents(_ context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	b.events = append(b.events, in.Entries...)
	return &eventbridge.PutEventsOutput{}, nil
}

func (b *bus) Describe(context.Context, string) (object.File, error) {
	return object.File{Size: 9, FileName: "file.bin"}, b.fails
}

// A copy that is complete puts one event, and keeps in the object what opens it later. An
// event that can't be put doesn't fail the download.
func TestReadyIsAnnounced(t *testing.T) {
	s := newStack(t, origintest.New([]byte("some text"), `"v1"`))
	s.item(dynamodbtest.Item{"ticketHash": {"S": "hash"}, "requestHash": {"S": "of the request"}, "askedBy": {"S": "192.0.2.1 ann"}})
	b := &bus{}
	s.worker.Events, s.worker.Objects = &event.Bus{EventBridge: b, Name: "bus"}, b
	if _, err := s.worker.Copy(t.Context(), arn); err != nil {
		t.Fatal(err)
	}
	if len(b.events) != 1 || *b.events[0].DetailType != event.Ready {
		t.Fatalf("got events %+v, want that the file is ready", b.events)
	}
	var detail struct {
		ExecutionARN, AskedBy, FileName string
		Size                            int64
	}
	if err := json.Unmarshal([]byte(*b.events[0].Detail), &detail); err != nil || detail.ExecutionARN != arn || detail.AskedBy != "192.0.2.1 ann" || detail.FileName != "file.bin" || detail.Size != 9 {
		t.Errorf("got %s (%v), want the item's caller and the object's description", *b.events[0].Detail, err)
	}
	if h := s.s3.Object("downloads/" + name).Header; h.Get("X-Amz-Meta-Ticket-Hash") != "hash" || h.Get("X-Amz-Meta-Request-Hash") != "of the request" {
		t.Errorf("got %v, want the hashes of the ticket and of the request", h)
	}

	s = newStack(t, origintest.New([]byte("some text"), `"v1"`))
	b = &bus{fails: errors.New("no")}
	s.worker.Events, s.worker.Objects = &event.Bus{EventBridge: b, Name: "bus"}, b
	if _, err := s.worker.Copy(t.Context(), arn); err != nil || len(b.events) > 0 {
		t.Errorf("not described: got %v and %d events, want the copy and none", err, len(b.events))
	}
}
