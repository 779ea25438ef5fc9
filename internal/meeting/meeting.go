// Package meeting brings a client and an execution together. They share only the
// execution's ARN, and arrive in any order.
//
// One item per download is the only source of truth about who listens. Its methods
// are [Table.Create], [Table.Connect], [Table.Disconnect], [Table.Current],
// [Table.Progress], [Table.Copied], [Table.Deliver], [Table.Cancel] and
// [Table.End]. The wait is a state in asl/download.asl.json that writes its own task
// token. Each write that decides something is conditional, and its comment names the
// race that the condition closes.
//
// Four guards keep the link from being lost; a model checker finds a losing run when
// any one of them is removed (see model/):
//
//  1. Both sides look for the other: the wait writes its token only if there is no
//     connection; Connect writes the connection and reads the token in one update.
//  2. A 410 while the handshake may be open doesn't mean "gone": Deliver tries again,
//     and then returns [ErrOpening].
//  3. Gone means wait again: Deliver removes that connection and returns [ErrGone].
//  4. Disconnect removes only its own connection.
package meeting

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/failure"
)

const (
	// Handshake is how long after [Table.Connect] a socket may still be opening: the
	// time-out of on-connect, 10 s, and some time for API Gateway.
	Handshake = 12 * time.Second

	// openingTries and openingPause are how Deliver waits for a socket to open: 3 s,
	// which is more than on-connect takes after it has written the connection. The
	// client gets its answer a fifth of a second after its socket has opened. The deliver
	// machine's own tries, whole seconds apart, cover longer handshakes.
	openingTries = 16
	openingPause = 200 * time.Millisecond

	// ItemLife is the age at which an item expires by TTL: an execution lasts at most a
	// day (TimeoutSeconds in asl/download.asl.json), and the reason of a failure is kept
	// for another.
	ItemLife = 48 * time.Hour

	// indexLag is how long Find waits before it looks a second time. An index follows its
	// table within a fraction of a second, and nobody waits for a $disconnect. A
	// connection that is missed anyway is removed by Deliver after a 410.
	indexLag = time.Second
)

var (
	// ErrUnknown: no item has this ARN or this connection.
	ErrUnknown = errors.New("unknown execution")
	// ErrExists: there is an item with this ARN.
	ErrExists = errors.New("the execution has an item")
	// ErrOpening: the client's socket isn't open yet, or another connection took its
	// place; try again in a second.
	ErrOpening = errors.New("the connection is still opening")
	// ErrGone: no client is connected; wait again.
	ErrGone = errors.New("the connection is gone")
	// ErrEnded: the download is past the point where it can be cancelled.
	ErrEnded = errors.New("the execution has ended")
)

// Tokens is the part of Step Functions that answers task tokens. Both calls may be
// repeated: the first call counts, and every later one gets an error that the task is
// closed.
type Tokens interface {
	SendTaskSuccess(context.Context, *sfn.SendTaskSuccessInput, ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error)
	SendTaskFailure(context.Context, *sfn.SendTaskFailureInput, ...func(*sfn.Options)) (*sfn.SendTaskFailureOutput, error)
}

// Table works on the items of one table.
type Table struct {
	DynamoDB *dynamodb.Client
	Name     string
	// Tokens may be nil if neither Connect nor Cancel is called.
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

// Create writes the item of a download that is about to start; i has ExecutionARN,
// Path, Query, TicketHash, RequestHash and AskedBy. The execution's name is chosen first, so that
// the item exists before the workflow's first write. The error is [ErrExists]
// if the ARN has an item.
func (t *Table) Create(ctx context.Context, i Item) error {
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
	put := attributes(item)
	_, err := t.DynamoDB.PutItem(ctx, &dynamodb.PutItemInput{
		TableName:                           &t.Name,
		Item:                                put,
		ConditionExpression:                 aws.String("attribute_not_exists(executionArn)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var there *types.ConditionalCheckFailedException
	if errors.As(err, &there) && reflect.DeepEqual(there.Item, put) {
		return nil // created by this call, which the SDK repeated because its reply was lost
	}
	if there != nil {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("create item: %w", err)
	}
	return nil
}

// Discard undoes a Create whose execution could not be started. The error is
// [ErrUnknown] if there is no such item.
func (t *Table) Discard(ctx context.Context, arn string) error {
	return t.remove(ctx, arn, "#status = :copying", values{":copying": Copying})
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

// Connect writes the connection into the item and resumes the execution if it already
// waits. The last connection wins. The error is [ErrUnknown] if there is no item; then
// nothing is written. If the status of the returned item has ended, no workflow will
// look for the client, and the caller starts a delivery.
func (t *Table) Connect(ctx context.Context, arn string, c Connection) (Item, error) {
	// Guard 1: writing the connection and reading the token are one update. Either the
	// wait's write came first, and the token is read here; or it comes later, and its
	// condition fails because of this connection.
	condition := "attribute_exists(executionArn)"
	if c.ID == Request {
		// A request doesn't displace a socket, which gets more messages. It displaces
		// itself: when the reply of this update was lost, or its function was killed before
		// it answered the token.
		condition += " AND (attribute_not_exists(connectionId) OR connectionId = :id)"
	}
	item, err := t.update(ctx, arn, "SET connectionId = :id, #format = :format, connectedAt = :at", condition,
		values{":id": c.ID, ":format": c.Format, ":at": c.At.UnixMilli()})
	if err != nil || item.TaskToken == "" {
		return item, err
	}
	if err := t.resume(ctx, item); err != nil {
		// The client will be refused and try again; until then it isn't connected.
		return item, errors.Join(err, t.Leave(ctx, arn, c.ID))
	}
	return item, nil
}

// resume answers the item's token, and removes it once the answer was accepted or came
// too late. It stays in the item until then, so that after a crash the next Connect
// answers it.
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
	// The condition fails if the wait was entered again and has written a new token.
	_, err = t.update(ctx, item.ExecutionARN, "REMOVE taskToken", "taskToken = :token", values{":token": item.TaskToken})
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// closed reports whether a token's task has ended. Step Functions returns TaskTimedOut
// both for a task that timed out and for one that was answered before
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html).
// None of the three is an error for the client, since the workflow has continued.
func closed(err error) bool {
	var timedOut *sfntypes.TaskTimedOut
	var missing *sfntypes.TaskDoesNotExist
	var invalid *sfntypes.InvalidToken
	return errors.As(err, &timedOut) || errors.As(err, &missing) || errors.As(err, &invalid)
}

// Find returns the ARN of the item that has this connection, or [ErrUnknown].
func (t *Table) Find(ctx context.Context, connectionID string) (string, error) {
	arn, err := t.find(ctx, connectionID)
	if !errors.Is(err, ErrUnknown) {
		return arn, err
	}
	select { // a socket that closes or sends immediately is ahead of the index
	case <-time.After(indexLag):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return t.find(ctx, connectionID)
}

func (t *Table) find(ctx context.Context, connectionID string) (string, error) {
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

// Disconnect removes a closed connection from its item, and the item from the table if
// the link was delivered; from then on the object is the record. It is not an error if
// no item has the connection: another one took its place, or Deliver noticed its end
// first.
func (t *Table) Disconnect(ctx context.Context, connectionID string) error {
	arn, err := t.Find(ctx, connectionID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.Leave(ctx, arn, connectionID)
}

// Leave is Disconnect for callers that know the item. It also undoes a Connect whose
// client is refused in the end.
func (t *Table) Leave(ctx context.Context, arn, connectionID string) error {
	_, err := t.leave(ctx, arn, connectionID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// leave returns the item without that connection, or [ErrUnknown] if there is no item.
func (t *Table) leave(ctx context.Context, arn, connectionID string) (Item, error) {
	mine := values{":id": connectionID, ":delivered": Delivered}
	for {
		// Guard 4: a late $disconnect must not remove a later connection. A $disconnect that
		// overtook its $connect may find the connection only after both writes, hence the
		// loop. The connection is written once, so there are at most two iterations.
		item, err := t.update(ctx, arn, noConnection, "connectionId = :id AND #status <> :delivered", mine)
		if !errors.Is(err, ErrUnknown) {
			return item, err
		}
		err = t.remove(ctx, arn, "connectionId = :id AND #status = :delivered", mine)
		if err == nil {
			return Item{}, ErrUnknown
		}
		if !errors.Is(err, ErrUnknown) {
			return Item{}, err
		}
		item, err = t.Current(ctx, arn)
		if err != nil || item.ConnectionID != connectionID {
			return item, err
		}
	}
}

// Progress records how many bytes of a segment, named by its first part, have been
// copied; of the whole file if segment is 0. It returns the item, in which the caller
// checks Cancelled. total is the file's size, nil if unknown.
func (t *Table) Progress(ctx context.Context, arn string, segment int32, copied int64, total *int64) (Item, error) {
	expression, v := "SET #copied = :copied", values{"#copied": copiedPrefix + strconv.Itoa(int(segment)), ":copied": copied}
	if total != nil {
		expression, v[":total"] = expression+", bytesTotal = :total", *total
	}
	// Never create an item, and never decrease the number: a worker that was regarded as
	// dead may still write.
	item, err := t.update(ctx, arn, expression, "attribute_exists(executionArn) AND (attribute_not_exists(#copied) OR #copied < :copied)", v)
	if errors.Is(err, ErrUnknown) {
		return t.Current(ctx, arn)
	}
	return item, err
}

// Uploading records the multipart upload of a copy, for people who read the item. The
// uploads to abort are found by the object's key.
func (t *Table) Uploading(ctx context.Context, arn, uploadID string) error {
	_, err := t.update(ctx, arn, "SET uploadId = :id", running, values{":id": uploadID, ":copying": Copying, ":ready": Ready})
	if errors.Is(err, ErrUnknown) {
		return ErrEnded
	}
	return err
}

// Due reports whether progress may be posted again, according to item.
func (t *Table) Due(item Item) bool {
	return item.AnnouncedAt <= t.now().UnixMilli()-announceEvery.Milliseconds()
}

// announceEvery is the minimum time between two progress messages.
const announceEvery = time.Second

// Announce claims the right to post progress, for one worker at a time and at most once
// per second for all workers together. It returns the item at that time, so that the
// posted progress never goes backwards, or [ErrEnded] if it isn't this worker's turn or
// no client listens.
func (t *Table) Announce(ctx context.Context, arn string) (Item, error) {
	now := t.now().UnixMilli()
	item, err := t.update(ctx, arn, "SET announcedAt = :now",
		"attribute_exists(connectionId) AND #status = :copying AND (attribute_not_exists(announcedAt) OR announcedAt <= :before)",
		values{":now": now, ":before": now - announceEvery.Milliseconds(), ":copying": Copying})
	if errors.Is(err, ErrUnknown) {
		return item, ErrEnded
	}
	return item, err
}

// Copied records that the object is complete. The error is [ErrEnded] if the download
// has ended in the meantime.
func (t *Table) Copied(ctx context.Context, arn string, size int64) error {
	_, err := t.update(ctx, arn, "SET #status = :ready, bytesCopied = :size, bytesTotal = :size, copiedAt = :now REMOVE uploadId",
		running+" AND attribute_not_exists(cancelled)",
		values{":copying": Copying, ":ready": Ready, ":size": size, ":now": t.now().UnixMilli()})
	if errors.Is(err, ErrUnknown) {
		return ErrEnded
	}
	return err
}

// Cancel marks the item as cancelled, which the copying workers see on their next
// Progress, and fails the wait if there is one. The error is [ErrEnded] if it is too
// late, and [ErrUnknown] if there is no item.
func (t *Table) Cancel(ctx context.Context, arn string) error {
	// Not after the end, when nobody would act on it.
	item, err := t.update(ctx, arn, "SET cancelled = :true", running, values{":true": true, ":copying": Copying, ":ready": Ready})
	if errors.Is(err, ErrUnknown) {
		if _, err := t.Current(ctx, arn); err != nil {
			return err
		}
		return ErrEnded
	}
	if err != nil || item.TaskToken == "" {
		return err
	}
	// The wait's condition fails because of the mark; a wait that started earlier has left
	// its token in the item.
	_, err = t.Tokens.SendTaskFailure(ctx, &sfn.SendTaskFailureInput{
		TaskToken: &item.TaskToken,
		Error:     aws.String(string(failure.Cancelled)),
		Cause:     aws.String("cancelled by the client"),
	})
	return t.answered(ctx, item, err)
}

// Revoke notes that the file of a download that has ended is deleted. The error is
// [ErrEnded] if it has no file any more, or has not ended, and [ErrUnknown] if there
// is no item.
func (t *Table) Revoke(ctx context.Context, arn string) error {
	why := failure.New(failure.Cancelled, "the file was deleted")
	_, err := t.update(ctx, arn, "SET #status = :cancelled, cancelled = :true, failure = :why REMOVE taskToken",
		"#status IN (:delivered, :expired)",
		values{":cancelled": Cancelled, ":true": true, ":why": why, ":delivered": Delivered, ":expired": Expired})
	if errors.Is(err, ErrUnknown) {
		if _, err := t.Current(ctx, arn); err != nil {
			return err
		}
		return ErrEnded
	}
	return err
}

// Deliver posts the answer to the connected client. If on-connect started the delivery,
// fallback is the client that it saw, which only fallback has once the item is deleted;
// otherwise its ID is "". post gets the current item; it returns [ErrGone] for API
// Gateway's 410, and may be called again with the same connection.
//
// Deliver returns nil once the client has its answer, [ErrOpening] if it should be
// called again in a second, after several tries, [ErrGone] if no client is
// connected, and [failure.ErrCancelled] while the download is being cancelled.
func (t *Table) Deliver(ctx context.Context, arn string, fallback Connection, post func(context.Context, Item, Connection) error) error {
	begun := t.now()
	for try := 1; ; try++ {
		err := t.deliver(ctx, arn, fallback, post)
		// Fewer tries if AWS is slow: send-message has ten seconds.
		if !errors.Is(err, ErrOpening) || try == openingTries || t.now().Sub(begun) > openingTries*openingPause {
			return err
		}
		select {
		case <-time.After(openingPause):
		case <-ctx.Done():
			return err
		}
	}
}

// deliver is one try. It reads the item again, since another connection may have
// replaced the last one.
func (t *Table) deliver(ctx context.Context, arn string, fallback Connection, post func(context.Context, Item, Connection) error) error {
	item, err := t.Current(ctx, arn)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	known := err == nil
	if known && item.Cancelling() {
		return failure.ErrCancelled // no link any more; the workflow ends
	}
	c, here := item.Connection()
	if !known {
		c, here = fallback, fallback.ID != ""
	}
	if !here && !known {
		// Only a delivery deletes an item: another delivery to this client, or an earlier
		// try of this one whose reply was lost.
		return nil
	}
	if !here {
		return ErrGone
	}
	if known && fallback.ID != "" && c.ID != fallback.ID {
		// Another connection replaced the one that on-connect saw. It found that the
		// execution had ended, too, so it has its own delivery and would get its answer
		// twice.
		return nil
	}

	if known && fallback.ID == "" && item.Status == Delivered {
		// The workflow's delivery has nothing left to do: the client has its answer, or
		// connected after the mark and has its own delivery. This happens when the mark's
		// reply was lost, and the client left and returned before the mark was repeated.
		return nil
	}

	if c.ID != Request { // the REST function answers a request
		err = post(ctx, item, c)
	}
	if errors.Is(err, ErrGone) {
		// Guard 2: API Gateway also answers 410 until on-connect has returned.
		if t.now().Sub(c.At) < Handshake {
			return ErrOpening
		}
		if !known {
			return ErrGone
		}
		// Guard 3: remove it, so that the wait's condition holds again. If another connection
		// took its place, that one must get the answer. An item that was marked as delivered
		// is deleted, as at a disconnect.
		return deliveryResult(t.leave(ctx, arn, c.ID))
	}
	if err != nil || !known {
		return err
	}
	if item.Status.NoFile() {
		return nil // posted; the item stays for later clients
	}
	return t.delivered(ctx, arn, c)
}

// delivered marks the item, but only while there is a file: a cancel that was accepted
// while the link was being posted promises that nothing is kept, and clean-up may have
// ended the item of an execution that was stopped.
func (t *Table) delivered(ctx context.Context, arn string, c Connection) error {
	v := values{":id": c.ID, ":ready": Ready, ":delivered": Delivered, ":expired": Expired}
	if c.ID == Request {
		// A request has no disconnect, so the item is deleted now.
		err := t.remove(ctx, arn, "connectionId = :id AND "+fileKept, v)
		if errors.Is(err, ErrUnknown) {
			return t.recheck(ctx, arn)
		}
		return err
	}
	_, err := t.update(ctx, arn, "SET #status = :delivered REMOVE taskToken", "connectionId = :id AND "+fileKept, v)
	if !errors.Is(err, ErrUnknown) {
		return err
	}
	// The client got the link and closed before this write, so the item is deleted here.
	// But a connection that came in between must get the link, too.
	delete(v, ":id")
	err = t.remove(ctx, arn, "attribute_not_exists(connectionId) AND "+fileKept, v)
	if errors.Is(err, ErrUnknown) {
		return t.recheck(ctx, arn)
	}
	return err
}

// recheck reads the item after a condition failed, and returns Deliver's result for it.
func (t *Table) recheck(ctx context.Context, arn string) error {
	return deliveryResult(t.Current(ctx, arn))
}

// deliveryResult returns Deliver's result for an item whose last connection got its
// answer or has gone.
func deliveryResult(item Item, err error) error {
	switch {
	case errors.Is(err, ErrUnknown): // delivered and deleted
		return nil
	case err != nil:
		return err
	case item.Cancelling():
		return failure.ErrCancelled
	case item.ConnectionID == "":
		return ErrGone
	}
	return ErrOpening
}

// End records why a download ended without a file. The returned item has the connection
// of the client to notify, if there is one; later clients find the reason in the item,
// into which they write their connection. An item that has already ended is unchanged;
// the error is then [ErrEnded], together with the item.
func (t *Table) End(ctx context.Context, arn string, why *failure.Error) (Item, error) {
	status := Failed
	switch why.Code {
	case failure.Cancelled:
		status = Cancelled
	case failure.Expired:
		status = Expired
	}
	item, err := t.update(ctx, arn, "SET #status = :status, failure = :why REMOVE taskToken, uploadId", running,
		values{":status": status, ":why": why, ":copying": Copying, ":ready": Ready})
	if errors.Is(err, ErrUnknown) {
		if item, err = t.Current(ctx, arn); err == nil {
			err = ErrEnded
		}
	}
	return item, err
}

const (
	noConnection = "REMOVE connectionId, connectedAt, #format"
	running      = "#status IN (:copying, :ready)"
	fileKept     = "attribute_not_exists(cancelled) AND #status IN (:ready, :delivered, :expired)"
)

// values has the values of an expression's placeholders. A name that begins with # is
// replaced by an attribute's name, any other by a value.
type values map[string]any

// update applies expression if condition holds and returns the updated item. The error
// is [ErrUnknown] if the condition doesn't hold, which is always so without an item.
//
// The SDK repeats a call whose reply was lost. Each update of this package may be
// applied twice without harm. If the first application makes the condition false, such
// as by removing a token or a connection, the callers regard the failure as success or
// read the item again.
func (t *Table) update(ctx context.Context, arn, expression, condition string, v values) (Item, error) {
	out, err := t.DynamoDB.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &t.Name, Key: key(arn),
		UpdateExpression: &expression, ConditionExpression: &condition,
		ExpressionAttributeNames:  names(expression+condition, v),
		ExpressionAttributeValues: attributes(v),
		ReturnValues:              types.ReturnValueAllNew,
	})
	if failed(err) {
		return Item{}, ErrUnknown
	}
	if err != nil {
		return Item{}, fmt.Errorf("update item: %w", err)
	}
	return decode(out.Attributes)
}

// remove deletes the item; the error is [ErrUnknown] if the condition doesn't hold.
func (t *Table) remove(ctx context.Context, arn, condition string, v values) error {
	_, err := t.DynamoDB.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &t.Name, Key: key(arn),
		ConditionExpression:       &condition,
		ExpressionAttributeNames:  names(condition, v),
		ExpressionAttributeValues: attributes(v),
	})
	if failed(err) {
		return ErrUnknown
	}
	if err != nil {
		return fmt.Errorf("delete item: %w", err)
	}
	return nil
}

func failed(err error) bool {
	var condition *types.ConditionalCheckFailedException
	return errors.As(err, &condition)
}

func key(arn string) map[string]types.AttributeValue {
	return attributes(values{"executionArn": arn})
}

// names returns the names for attributes that are DynamoDB's reserved words, if the
// expressions use them, and for those in v.
func names(expressions string, v values) map[string]string {
	n := map[string]string{}
	for _, word := range []string{"status", "format"} {
		if strings.Contains(expressions, "#"+word) {
			n["#"+word] = word
		}
	}
	for name, value := range v {
		if name[0] == '#' {
			n[name] = value.(string)
		}
	}
	if len(n) == 0 {
		return nil // DynamoDB rejects an empty map
	}
	return n
}

// attributes encodes values. It panics if a type can't be encoded.
func attributes(v values) map[string]types.AttributeValue {
	encode := map[string]any{}
	for name, value := range v {
		if name[0] != '#' {
			encode[name] = value
		}
	}
	if len(encode) == 0 {
		return nil
	}
	m, err := attributevalue.MarshalMap(encode)
	if err != nil {
		panic(err)
	}
	return m
}

func decode(attributes map[string]types.AttributeValue) (Item, error) {
	var item Item
	if err := attributevalue.UnmarshalMap(attributes, &item); err != nil {
		return Item{}, fmt.Errorf("decode item: %w", err)
	}
	for name, value := range attributes {
		if segment, ok := strings.CutPrefix(name, copiedPrefix); ok {
			if item.copied == nil {
				item.copied = map[string]int64{}
			}
			var n int64
			if err := attributevalue.Unmarshal(value, &n); err != nil {
				return Item{}, fmt.Errorf("decode item: %w", err)
			}
			item.copied[segment] = n
		}
	}
	return item, nil
}
