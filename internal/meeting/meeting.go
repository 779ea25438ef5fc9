// Package meeting brings a client and an execution together that know nothing
// of each other but the execution's ARN, in whatever order they come.
//
// One item a download is the only truth about who listens. Its verbs are
// [Table.Create], [Table.Connect], [Table.Disconnect], [Table.Current],
// [Table.Progress], [Table.Copied], [Table.Deliver], [Table.Cancel] and
// [Table.End]; one more, the wait, is a state in asl/download.asl.json that
// writes its task token by itself. Every write that decides something is
// conditional, and the comment beside it names the race it closes.
//
// Four guards keep the link from being lost; a model checker finds a losing run
// when any one of them is taken out (see model/):
//
//  1. Both sides look for the other: the wait writes its token only where no
//     connection is, Connect writes the connection and reads the token in one update.
//  2. A 410 while the handshake may be open is not "gone": Deliver tries again, and
//     then says [ErrOpening].
//  3. Gone means wait again: Deliver takes that connection out and says [ErrGone].
//  4. Disconnect takes out its own connection and no other.
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
	// Handshake is how long after [Table.Connect] a socket may still be opening:
	// the time-out of on-connect, 10 s, and API Gateway's own share.
	Handshake = 12 * time.Second

	// openingTries and openingPause are how Deliver waits for a socket to open: 3 s,
	// which is more than on-connect takes once it has written the connection. The
	// client has its answer a fifth of a second after its socket is open; the deliver
	// machine's own tries, whole seconds apart, are for what takes longer.
	openingTries = 16
	openingPause = 200 * time.Millisecond

	// ItemLife is when TTL takes an item that nobody else has: an execution lasts
	// a day at most (TimeoutSeconds in asl/download.asl.json), and one that ended
	// badly can be asked why for another.
	ItemLife = 48 * time.Hour

	// indexLag is how long Disconnect waits before it looks a second time. An index
	// follows its table within a fraction of a second, and nobody waits for a
	// $disconnect; what is missed all the same is met by Deliver as a 410.
	indexLag = time.Second
)

var (
	// ErrUnknown: no item has this ARN or this connection.
	ErrUnknown = errors.New("unknown execution")
	// ErrOpening: the client is still not there, or another took its place; try again in a second.
	ErrOpening = errors.New("the connection is still opening")
	// ErrGone: nobody is there; wait again.
	ErrGone = errors.New("the connection is gone")
	// ErrEnded: the download is past the point where it can be cancelled.
	ErrEnded = errors.New("the execution has ended")
)

// Tokens is the part of Step Functions that answers task tokens. Both calls may
// be repeated: the first one that is accepted counts, every later one is told
// that the task is closed.
type Tokens interface {
	SendTaskSuccess(context.Context, *sfn.SendTaskSuccessInput, ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error)
	SendTaskFailure(context.Context, *sfn.SendTaskFailureInput, ...func(*sfn.Options)) (*sfn.SendTaskFailureOutput, error)
}

// Table works on the items of one table.
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

// Create writes the item of a download that is about to start, of which i has
// ExecutionARN, Path, Query, TicketHash and AskedBy. The execution's name is chosen
// before, so the item exists before the workflow's first write.
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
	put := attributes(item)
	_, err := t.DynamoDB.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &t.Name,
		Item:      put,
		// Names are 128 random bits; a second item under one would be a broken generator.
		ConditionExpression:                 aws.String("attribute_not_exists(executionArn)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var there *types.ConditionalCheckFailedException
	if errors.As(err, &there) && reflect.DeepEqual(there.Item, put) {
		return nil // by this very call, repeated by the SDK because its reply was lost
	}
	if err != nil {
		return fmt.Errorf("create item: %w", err)
	}
	return nil
}

// Discard takes back a Create whose execution could not be started.
func (t *Table) Discard(ctx context.Context, arn string) error {
	return t.remove(ctx, arn, "attribute_exists(executionArn)", nil)
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

// Connect writes the connection into the item and resumes the execution if it
// waits there already. The last connection wins. [ErrUnknown] if there is no
// item, and then nothing was written. The item returned is as the connection
// found it: where its status has ended, no workflow will look for the client
// any more and the caller starts a delivery.
func (t *Table) Connect(ctx context.Context, arn string, c Connection) (Item, error) {
	// Guard 1: writing the connection and reading the token are one update. Either
	// the wait's write came first and the token is read here, or it comes later
	// and fails on the connection that stands here.
	condition := "attribute_exists(executionArn)"
	if c.ID == Request {
		// A socket hears more than a request does; it is not displaced by one. A
		// request is: by itself, when the reply of this update was lost or its
		// function was killed before it answered the token.
		condition += " AND (attribute_not_exists(connectionId) OR connectionId = :id)"
	}
	item, err := t.update(ctx, arn, "SET connectionId = :id, #format = :format, connectedAt = :at", condition,
		values{":id": c.ID, ":format": c.Format, ":at": c.At.UnixMilli()})
	if err != nil || item.TaskToken == "" {
		return item, err
	}
	if err := t.resume(ctx, item); err != nil {
		// The client will be refused and come again; until then nobody is here.
		return item, errors.Join(err, t.Leave(ctx, arn, c.ID))
	}
	return item, nil
}

// resume answers the token that stands in the item and takes it out when the
// answer was accepted or came too late: until then it stays, so that a crash in
// between is healed by the next Connect.
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
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// closed says that a token's task is over. Step Functions answers TaskTimedOut
// both for one that timed out and for one that was answered before
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html);
// none of the three is an error for the client, since the workflow has gone on.
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
	select { // a socket that closes or speaks as soon as it is open is ahead of the index
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

// Disconnect takes a closed connection out of the item it stands in, and the
// item out of the table if the link was delivered: from then on the object
// remembers. A connection that stands nowhere is no error: another took its
// place, or Deliver met its end first.
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

// Leave is Disconnect for who knows the item, and takes back a Connect whose
// client is refused after all.
func (t *Table) Leave(ctx context.Context, arn, connectionID string) error {
	_, err := t.leave(ctx, arn, connectionID)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// leave returns the item without that connection, or [ErrUnknown] when there is none.
func (t *Table) leave(ctx context.Context, arn, connectionID string) (Item, error) {
	mine := values{":id": connectionID, ":delivered": Delivered}
	for {
		// Guard 4: a late $disconnect must not take out the connection that came after.
		// A $disconnect that overtook its $connect may find the connection only after
		// both writes, hence the loop; it is written once, so there are two turns.
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

// Progress notes how many bytes of a segment, named by its first part, have been
// copied, of the whole file if segment is 0. It returns the item, in which the
// caller looks for Cancelled. total is the file's size, nil if unknown.
func (t *Table) Progress(ctx context.Context, arn string, segment int32, copied int64, total *int64) (Item, error) {
	expression, v := "SET #copied = :copied", values{"#copied": copiedPrefix + strconv.Itoa(int(segment)), ":copied": copied}
	if total != nil {
		expression, v[":total"] = expression+", bytesTotal = :total", *total
	}
	// Never make an item, and never go back: a worker that was thought dead may still
	// be writing.
	item, err := t.update(ctx, arn, expression, "attribute_exists(executionArn) AND (attribute_not_exists(#copied) OR #copied < :copied)", v)
	if errors.Is(err, ErrUnknown) {
		return t.Current(ctx, arn)
	}
	return item, err
}

// Uploading notes the multipart upload of a copy, for whoever looks at the item;
// what has to be aborted is found by the object's key.
func (t *Table) Uploading(ctx context.Context, arn, uploadID string) error {
	_, err := t.update(ctx, arn, "SET uploadId = :id", running, values{":id": uploadID, ":copying": Copying, ":ready": Ready})
	if errors.Is(err, ErrUnknown) {
		return ErrEnded
	}
	return err
}

// Due reports whether progress may be told again, by what item says.
func (t *Table) Due(item Item) bool {
	return item.AnnouncedAt <= t.now().UnixMilli()-announceEvery.Milliseconds()
}

// announceEvery is the time between two messages about progress, at least.
const announceEvery = time.Second

// Announce claims the right to tell the client how far the copy is, for one
// worker at a time and once a second, whatever number of them copy. It returns
// the item as it was claimed, so that what is told never goes backwards, or
// [ErrEnded] when it isn't this worker's turn or nobody listens.
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

// Copied notes that the object is whole. A copy that was ended meanwhile stays
// ended: [ErrEnded].
func (t *Table) Copied(ctx context.Context, arn string, size int64) error {
	_, err := t.update(ctx, arn, "SET #status = :ready, bytesCopied = :size, bytesTotal = :size, copiedAt = :now REMOVE uploadId",
		running+" AND attribute_not_exists(cancelled)",
		values{":copying": Copying, ":ready": Ready, ":size": size, ":now": t.now().UnixMilli()})
	if errors.Is(err, ErrUnknown) {
		return ErrEnded
	}
	return err
}

// Cancel marks the item, which the copying workers see on their next Progress,
// and fails the wait if there is one. [ErrEnded] when it is too late,
// [ErrUnknown] when there is no item.
func (t *Table) Cancel(ctx context.Context, arn string) error {
	// Not after the end, where it would be a promise that nobody keeps.
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
	// The wait's condition fails on the mark; a wait that was first has left its token here.
	_, err = t.Tokens.SendTaskFailure(ctx, &sfn.SendTaskFailureInput{
		TaskToken: &item.TaskToken,
		Error:     aws.String(string(failure.Cancelled)),
		Cause:     aws.String("cancelled by the client"),
	})
	return t.answered(ctx, item, err)
}

// Deliver posts the answer to the client that is here. Where on-connect started
// the delivery, fallback is the client it saw: the one that is meant, and that
// nobody else knows once the item has gone. Its ID is "" otherwise. post gets the
// item as it is now; it returns [ErrGone] for API Gateway's 410 and may be called
// again with the same connection.
//
// Deliver returns nil once the client was answered, [ErrOpening] to be called
// again in a second, after it has tried for some, [ErrGone] when nobody is there.
func (t *Table) Deliver(ctx context.Context, arn string, fallback Connection, post func(context.Context, Item, Connection) error) error {
	begun := t.now()
	for try := 1; ; try++ {
		err := t.deliver(ctx, arn, fallback, post)
		// Where AWS is slow the tries are fewer: send-message has ten seconds.
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

// deliver is one try, which looks at the item anew: another connection may have
// come in between.
func (t *Table) deliver(ctx context.Context, arn string, fallback Connection, post func(context.Context, Item, Connection) error) error {
	item, err := t.Current(ctx, arn)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	known := err == nil
	if known && item.Cancelling() {
		return ErrGone // let the workflow look again: it finds the mark and ends
	}
	c, here := item.Connection()
	if !known {
		c, here = fallback, fallback.ID != ""
	}
	if !here && !known {
		// Only a delivery takes an item out: another one of this client, or an earlier
		// try of this one whose answer was lost.
		return nil
	}
	if !here {
		return ErrGone
	}
	if known && fallback.ID != "" && c.ID != fallback.ID {
		// Another came after the client that on-connect saw, and found that the
		// execution had ended, as that one did: it has a delivery of its own, and
		// would hear its answer twice.
		return nil
	}

	if known && fallback.ID == "" && item.Status == Delivered {
		// The workflow's delivery has nothing left to do: who is here was told, or came
		// after the mark and has a delivery of its own. So it is where the mark's reply was
		// lost, and the client left and came back before the mark was repeated.
		return nil
	}

	if c.ID != Request { // a request is answered by the one who holds it
		err = post(ctx, item, c)
	}
	if errors.Is(err, ErrGone) {
		// Guard 2: API Gateway answers 410 as well until on-connect has returned.
		if t.now().Sub(c.At) < Handshake {
			return ErrOpening
		}
		if !known {
			return ErrGone
		}
		// Guard 3: take it out, so that the wait's condition holds again. If another
		// connection took its place, that one is owed the answer. An item that was
		// marked as delivered goes with it, as at a disconnect.
		return toWhom(t.leave(ctx, arn, c.ID))
	}
	if err != nil || !known {
		return err
	}
	if item.Status.NoFile() {
		return nil // told; the item stays for others who ask
	}
	return t.delivered(ctx, arn, c)
}

// delivered marks the item, but only while there is a file: a cancel that was
// accepted while the link was on its way is a promise that nothing is left, and
// clean-up may have ended the item of an execution that was stopped.
func (t *Table) delivered(ctx context.Context, arn string, c Connection) error {
	v := values{":id": c.ID, ":ready": Ready, ":delivered": Delivered, ":expired": Expired}
	if c.ID == Request {
		// Nobody will close it, so the item goes at once, as it does at a disconnect.
		err := t.remove(ctx, arn, "connectionId = :id AND "+fileKept, v)
		if errors.Is(err, ErrUnknown) {
			return t.again(ctx, arn)
		}
		return err
	}
	_, err := t.update(ctx, arn, "SET #status = :delivered REMOVE taskToken", "connectionId = :id AND "+fileKept, v)
	if !errors.Is(err, ErrUnknown) {
		return err
	}
	// The client took the link and closed before this write: the item would stay
	// for nobody. But a connection that came in between is owed the link too.
	delete(v, ":id")
	err = t.remove(ctx, arn, "attribute_not_exists(connectionId) AND "+fileKept, v)
	if errors.Is(err, ErrUnknown) {
		return t.again(ctx, arn)
	}
	return err
}

// again says whether there is still somebody to answer after a condition failed.
func (t *Table) again(ctx context.Context, arn string) error {
	return toWhom(t.Current(ctx, arn))
}

// toWhom says what Deliver owes to the item as it is now.
func toWhom(item Item, err error) error {
	switch {
	case errors.Is(err, ErrUnknown): // delivered, and taken out
		return nil
	case err != nil:
		return err
	case item.Cancelling(), item.ConnectionID == "":
		return ErrGone
	}
	return ErrOpening
}

// End notes why a download ended without a file. The item returned tells
// whether a client is here to be told now; one that comes later finds the
// reason, since it writes its connection into the same item. An item that has
// ended before stays as it was: [ErrEnded], with the item.
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

// values of an expression's placeholders. A name that begins with # stands for an
// attribute's name, any other for a value.
type values map[string]any

// update applies expression where condition holds and returns the item as it is
// then; [ErrUnknown] when the condition does not hold, which it never does
// where there is no item.
//
// The SDK repeats a call whose reply was lost. Each update of this package may
// be applied twice without harm, and a condition that its own first application makes false
// (a token or a connection taken out) is one whose failure the callers take for
// "done", or look again.
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

// remove deletes the item; [ErrUnknown] when the condition does not hold.
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

// names gives the attributes that are reserved words of DynamoDB, where they occur,
// and those that v names.
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
		return nil // an empty map is refused
	}
	return n
}

// attributes encodes values, whose types are this package's own and encodable.
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
