// Package download has the use cases of a download: it is started ([Starter]), a
// client connects ([Protocol.Connect]), asks for the status ([Protocol.Status]),
// cancels or deletes ([Protocol.Delete]) or sends a message ([Protocol.Message]), the
// answer is delivered ([Protocol.Deliver]), a failure is noted ([Protocol.NoteFailure]),
// and what a broken execution left is cleaned up ([Protocol.CleanUp]).
//
// The Lambdas translate their events into these calls. The histories of
// internal/meeting run the same calls in many orders, with faults.
package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/event"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/socket"
	"async-download/internal/ticket"
)

// Objects are the copied files, found by the name of their execution. A
// [link.Signer] is one.
type Objects interface {
	// Record returns what the file keeps of its download; [object.ErrGone] if there
	// is no file.
	Record(ctx context.Context, name string) (object.Record, error)
	// Sign returns a link to the file; [object.ErrGone] if there is none.
	Sign(ctx context.Context, name string) (link.Link, error)
}

// Executions is the part of Step Functions that starts executions.
type Executions interface {
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
}

// Socket posts to a client. The error is [meeting.ErrGone] for API Gateway's 410.
type Socket interface {
	Post(ctx context.Context, c meeting.Connection, e socket.Event) error
}

// Protocol has what the use cases of one stack need. Each function sets the
// fields that its use case names.
type Protocol struct {
	Table   *meeting.Table
	Metrics *metric.Recorder

	StateMachine  string // ARN of the download machine, whose executions clients may name
	RequireTicket bool   // whether the ARN alone is not enough

	Objects Objects
	// Discard removes the object with a key and its open uploads.
	Discard func(ctx context.Context, key string) error

	Executions     Executions
	DeliverMachine string // ARN of the deliver machine

	Socket Socket

	Events *event.Bus // nil for none
}

// errNotFound is the answer to a wrong name and to a wrong ticket, so that it reveals
// nothing.
var errNotFound = failure.New(failure.NotFound, "no such execution, its file is no longer kept, or the ticket is wrong")

// find returns the item of the download called name, if secret is its ticket. Once the
// item is gone, the object is the record: known is then false and the item empty.
// The error is [failure.NotFound] where there is neither, or the ticket is wrong.
func (p *Protocol) find(ctx context.Context, name, secret string) (item meeting.Item, known bool, err error) {
	if !execution.IsName(name) {
		return meeting.Item{}, false, failure.New(failure.NotFound, "an execution's name is 32 hexadecimal digits")
	}
	item, err = p.Table.Current(ctx, execution.ARN(p.StateMachine, name))
	hash := item.TicketHash
	known = err == nil
	if errors.Is(err, meeting.ErrUnknown) {
		var record object.Record
		record, err = p.Objects.Record(ctx, name)
		hash = record.TicketHash
		if errors.Is(err, object.ErrGone) {
			return meeting.Item{}, false, errNotFound
		}
	}
	if err != nil {
		return meeting.Item{}, false, err
	}
	if !ticket.Opens(secret, hash, p.RequireTicket) {
		return meeting.Item{}, false, errNotFound
	}
	return item, known, nil
}

// startDelivery starts an execution of the deliver machine.
func (p *Protocol) startDelivery(ctx context.Context, d meeting.Delivery) error {
	input, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode delivery: %w", err)
	}
	_, err = p.Executions.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &p.DeliverMachine, Input: aws.String(string(input))})
	if err != nil {
		return fmt.Errorf("start delivery: %w", err)
	}
	return nil
}

// count records metrics of the execution with this ARN.
func (p *Protocol) count(arn string, values map[metric.Name]float64) {
	p.Metrics.Record(metric.Line{Message: "metrics", Execution: execution.NameFromARN(arn), Values: values})
}

// ended records how a download ended, once per download. until is when its client
// connected, or when it was clear that none would.
func (p *Protocol) ended(outcome metric.Name, item meeting.Item, code failure.Code, until time.Time) {
	p.Metrics.Record(metric.Audit(outcome, item, string(code), until))
}
