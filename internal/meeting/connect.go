package meeting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// Connect writes the connection into the item and resumes the execution if it
// waits there already. The last connection wins. [ErrUnknown] if there is no item;
// [ErrTaken], with the item, for a [Request] where a socket listens. Nothing was
// written then. The item returned has the token that the connection found. If its status
// has ended, no workflow will look for the client any more, and the caller starts a
// delivery.
func (t *Table) Connect(ctx context.Context, arn string, c Connection) (Item, error) {
	// Guard 1: writing the connection and reading the token are one update. Either
	// the wait's write came first and the token is read here, or it comes later
	// and fails on this connection.
	condition := "attribute_exists(executionArn)"
	if c.ID == Request {
		// A request doesn't displace a socket, which receives more than a request does. It
		// displaces another request: its own earlier try, if the reply to this update was
		// lost or the function was killed before it answered the token.
		condition += " AND (attribute_not_exists(connectionId) OR connectionId = :id)"
	}
	item, err := t.update(ctx, arn, "SET connectionId = :id, #format = :format, connectedAt = :at", condition,
		values{":id": c.ID, ":format": c.Format, ":at": c.At.UnixMilli()})
	if errors.Is(err, errCondition) {
		return item, ErrTaken
	}
	if err != nil || item.TaskToken == "" {
		return item, err
	}
	if err := t.resume(ctx, item); err != nil {
		// The client will be refused and connect again; until then nobody is connected.
		return item, errors.Join(err, t.Leave(ctx, arn, c.ID))
	}
	return item, nil
}

// resume answers the token in the item and removes it when the answer was accepted
// or came too late. Until then it stays, so that the next Connect answers it after a
// crash.
func (t *Table) resume(ctx context.Context, item Item) error {
	_, err := t.Tokens.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{
		TaskToken: &item.TaskToken,
		Output:    aws.String("{}"), // delivery reads the item again
	})
	return t.answered(ctx, item, err)
}

func (t *Table) answered(ctx context.Context, item Item, err error) error {
	if err != nil && !closed(err) {
		return fmt.Errorf("answer task token: %w", err)
	}
	// A wait that was entered again in the meantime has written a new token.
	_, err = t.update(ctx, item.ExecutionARN, "REMOVE taskToken", "taskToken = :token", values{":token": item.TaskToken})
	if errors.Is(err, errCondition) || errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// closed reports that a token's task is over. Step Functions answers TaskTimedOut
// both for one that timed out and for one that was answered before
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html);
// none of the three is an error for the client, since the workflow has continued.
func closed(err error) bool {
	var timedOut *sfntypes.TaskTimedOut
	var missing *sfntypes.TaskDoesNotExist
	var invalid *sfntypes.InvalidToken
	return errors.As(err, &timedOut) || errors.As(err, &missing) || errors.As(err, &invalid)
}

// Find returns the ARN of the item that has this connection, or [ErrUnknown].
func (t *Table) Find(ctx context.Context, connectionID string) (string, error) {
	out, err := t.DynamoDB.Query(ctx, &dynamodb.QueryInput{
		TableName: &t.Name, IndexName: aws.String("connectionId"),
		KeyConditionExpression:    aws.String("connectionId = :id"),
		ExpressionAttributeValues: attributes(values{":id": connectionID}),
	})
	if err != nil {
		return "", fmt.Errorf("find connection: %w", err)
	}
	if len(out.Items) == 0 {
		return "", ErrUnknown
	}
	item, err := decode(out.Items[0])
	return item.ExecutionARN, err
}

// FindRecent is Find that looks a second time, indexLag later, for a socket that may
// have opened just now and is ahead of the index.
func (t *Table) FindRecent(ctx context.Context, connectionID string) (string, error) {
	arn, err := t.Find(ctx, connectionID)
	if !errors.Is(err, ErrUnknown) {
		return arn, err
	}
	select {
	case <-time.After(indexLag):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return t.Find(ctx, connectionID)
}

// indexLag is how long FindRecent waits: an index follows its table within a
// fraction of a second. A connection that Disconnect misses even so is removed by
// Deliver, at its 410.
const indexLag = time.Second

// Disconnect removes a closed connection from its item, and the item from the table
// if the link was delivered: from then on the object is the record. A connection
// that is in no item is no error: another took its place, or Deliver removed it.
func (t *Table) Disconnect(ctx context.Context, connectionID string) error {
	arn, err := t.FindRecent(ctx, connectionID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.Leave(ctx, arn, connectionID)
}

// Leave is Disconnect for a known ARN. It also undoes a Connect whose client is then
// refused.
func (t *Table) Leave(ctx context.Context, arn, connectionID string) error {
	_, err := t.leave(ctx, arn, connectionID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// leave returns the item without that connection, or [ErrUnknown] when there is no
// item any more.
func (t *Table) leave(ctx context.Context, arn, connectionID string) (Item, error) {
	mine := values{":id": connectionID, ":delivered": Delivered}
	for {
		// Guard 4: a late $disconnect must not remove the connection that came after.
		item, err := t.update(ctx, arn, noConnection, "connectionId = :id AND #status <> :delivered", mine)
		if !errors.Is(err, errCondition) {
			return item, err
		}
		if item.ConnectionID != connectionID {
			return item, nil
		}
		item, err = t.remove(ctx, arn, "connectionId = :id AND #status = :delivered", mine)
		if err == nil {
			return Item{}, ErrUnknown
		}
		if !errors.Is(err, errCondition) { // the other of the two may hold again
			return Item{}, err
		}
	}
}
