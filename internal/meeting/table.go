// Package meeting brings a client and an execution together that know nothing
// of each other except the execution's ARN, in whatever order they arrive.
//
// One item per download is the only record of who listens. A download that sends its
// origin more than a path and a query has a second item while it copies ([OriginRequest]).
// [Table] has a method for each change, except for the wait: that is a state in
// asl/download.asl.json, which writes its task token without a function. Every write that
// decides something is conditional, and a comment next to it names the race it closes.
//
// Four guards keep the link from being lost; a model checker finds a losing run
// when any one of them is removed (see model/):
//
//  1. Both sides look for the other: the wait writes its token only if there is no
//     connection; Connect writes the connection and reads the token in one update.
//  2. A 410 while the handshake may be open is not "gone": Deliver tries again, and
//     then returns [ErrOpening].
//  3. Gone means wait again: Deliver removes that connection and returns [ErrGone].
//  4. Disconnect removes its own connection and no other.
package meeting

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
)

// ItemLife is when TTL takes an item that nothing else removes: an execution lasts
// a day at most (TimeoutSeconds in asl/download.asl.json), and one that ended badly
// can be asked for the reason for another.
const ItemLife = 48 * time.Hour

var (
	// ErrUnknown: no item has this ARN or this connection.
	ErrUnknown = errors.New("unknown execution")
	// ErrExists: there is an item with this ARN.
	ErrExists = errors.New("the execution has an item")
	// ErrEnded: the download has ended, or was cancelled.
	ErrEnded = errors.New("the download has ended")
	// ErrTaken: a socket listens, which a request doesn't displace.
	ErrTaken = errors.New("a socket is connected")
	// ErrNotDue: another worker has just announced progress, or nobody listens.
	ErrNotDue = errors.New("no announcement is due")
	// ErrOpening: the socket isn't open yet, or another took its place; try again in
	// a second.
	ErrOpening = errors.New("the connection is still opening")
	// ErrGone: no client is connected; wait again.
	ErrGone = errors.New("the connection is gone")
)

// Tokens is the part of Step Functions that ends waits. An answer to a task token may
// be repeated: the first one that is accepted counts, every later one fails because the
// task is closed. StopExecution ends an execution that waits for its origin.
type Tokens interface {
	SendTaskSuccess(context.Context, *sfn.SendTaskSuccessInput, ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error)
	SendTaskFailure(context.Context, *sfn.SendTaskFailureInput, ...func(*sfn.Options)) (*sfn.SendTaskFailureOutput, error)
	StopExecution(context.Context, *sfn.StopExecutionInput, ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error)
}

// Table works on the items of one DynamoDB table.
type Table struct {
	DynamoDB *dynamodb.Client
	Name     string
	// Tokens may be nil where neither Connect nor Cancel is called.
	Tokens Tokens
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (t *Table) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Create writes the item of a download that is about to start, and with r, unless that is
// nil, its request item. i has ExecutionARN, Path, Query, TicketHash, RequestHash, and
// AskedBy. The execution's name is chosen first, so that the item exists before the
// workflow's first write. The error is [ErrExists] if the ARN has an item.
func (t *Table) Create(ctx context.Context, i Item, r *OriginRequest) error {
	item := values{
		"executionArn": i.ExecutionARN,
		"status":       Copying,
		"path":         i.Path,
		"query":        i.Query,
		"askedBy":      i.AskedBy,
		"bytesCopied":  0,
		"expiresAt":    t.now().Add(ItemLife).Unix(),
	}
	if i.TicketHash != "" {
		item["ticketHash"] = i.TicketHash
	}
	if i.RequestHash != "" {
		item["requestHash"] = i.RequestHash
	}
	condition := aws.String("attribute_not_exists(executionArn)")
	var err error
	if r != nil {
		item["hasRequest"] = true
		_, err = t.transact(ctx, types.TransactWriteItem{Put: &types.Put{
			TableName: &t.Name, Item: attributes(item), ConditionExpression: condition,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}}, t.putRequest(i.ExecutionARN, *r, item["expiresAt"].(int64)))
	} else {
		put := attributes(item)
		_, err = t.DynamoDB.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: &t.Name, Item: put, ConditionExpression: condition,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}, againAfterConflict)
		var there *types.ConditionalCheckFailedException
		if errors.As(err, &there) && reflect.DeepEqual(there.Item, put) {
			return nil // created by this call, which the SDK repeated because its reply was lost
		}
		if err != nil {
			_, err = failed("create", err)
		}
	}
	return ifUnmet(err, ErrExists)
}

// Discard undoes the Create of i, whose execution could not be started. The error is
// [ErrUnknown] if there is no such item, and [ErrEnded] if it is past copying.
func (t *Table) Discard(ctx context.Context, i Item) error {
	if i.HasRequest { // first, so that no request item is left without its download's
		if err := t.DropRequest(ctx, i.ExecutionARN); err != nil {
			return err
		}
	}
	_, err := t.remove(ctx, i.ExecutionARN, "#status = :copying", values{":copying": Copying})
	return ifUnmet(err, ErrEnded)
}

// Current reads the item, consistently. [ErrUnknown] if there is none.
func (t *Table) Current(ctx context.Context, arn string) (Item, error) {
	out, err := t.DynamoDB.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &t.Name, Key: key(arn), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return Item{}, fmt.Errorf("read item: %w", err)
	}
	if out.Item == nil {
		return Item{}, ErrUnknown
	}
	return decode(out.Item)
}
