package meeting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// OriginRequest is what a download sends to its origin in addition to path and query, and
// what the origin's replies have added. It is a separate item from the one that
// is kept after the download: it may hold credentials and personal data, and exists only
// while the file is copied. A plain GET has none.
type OriginRequest struct {
	Method      string            `dynamodbav:"method"` // GET or POST; "" is GET
	ContentType string            `dynamodbav:"contentType"`
	Body        []byte            `dynamodbav:"body"`
	Header      map[string]string `dynamodbav:"header"` // forwarded headers and the caller's, for the configured host only

	// SentBy identifies the run that sent a POST; "" if none has.
	SentBy string `dynamodbav:"sentBy"`

	// Place is the absolute URL that replaces the file's own, asked by GET: the Location
	// of a 202, or of the redirect that answered a POST; "" if there is none.
	Place string `dynamodbav:"place"`
	// Away reports that a redirect on the way to Place left the configured host, so that
	// Header and the origin's secret are no longer sent.
	Away bool `dynamodbav:"away"`
	// Cookies are the origin's, encoded by package origin.
	Cookies []byte `dynamodbav:"cookies"`
}

// ErrSent: another run has sent the request.
var ErrSent = errors.New("the request was sent by another run")

// requestKey is the key of the request item of an execution.
func requestKey(arn string) string { return arn + "#request" }

// Request reads what a download with HasRequest sends to its origin, consistently.
// [ErrUnknown] if there is no such item, which means that the copy has ended.
func (t *Table) Request(ctx context.Context, arn string) (OriginRequest, error) {
	out, err := t.DynamoDB.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &t.Name, Key: key(requestKey(arn)), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return OriginRequest{}, fmt.Errorf("read request: %w", err)
	}
	if out.Item == nil {
		return OriginRequest{}, ErrUnknown
	}
	var r OriginRequest
	if err := attributevalue.UnmarshalMap(out.Item, &r); err != nil {
		return OriginRequest{}, fmt.Errorf("decode request: %w", err)
	}
	return r, nil
}

// putRequest is the write that creates the request item of a download.
func (t *Table) putRequest(arn string, r OriginRequest, expiry int64) types.TransactWriteItem {
	put, err := attributevalue.MarshalMap(r)
	if err != nil {
		panic(err) // strings, bytes, and a map of strings
	}
	for name, value := range attributes(values{"executionArn": requestKey(arn), "expiresAt": expiry}) {
		put[name] = value
	}
	return types.TransactWriteItem{Put: &types.Put{TableName: &t.Name, Item: put}}
}

// deleteRequest is the write that deletes the request item of a download.
func (t *Table) deleteRequest(arn string) types.TransactWriteItem {
	return types.TransactWriteItem{Delete: &types.Delete{TableName: &t.Name, Key: key(requestKey(arn))}}
}

// MarkSent records that a run is about to send a POST. [ErrSent] if another run has: the
// origin may have executed it. [ErrUnknown] if the download has ended.
func (t *Table) MarkSent(ctx context.Context, arn, run string) error {
	return t.setSentBy(ctx, arn, run, "SET sentBy = :run")
}

// ClearSent takes back MarkSent, for a POST that didn't reach the origin or that the
// origin refused without executing it. Another run's mark stays: [ErrSent].
// [ErrUnknown] if the download has ended.
func (t *Table) ClearSent(ctx context.Context, arn, run string) error {
	return t.setSentBy(ctx, arn, run, "SET sentBy = :none")
}

func (t *Table) setSentBy(ctx context.Context, arn, run, set string) error {
	// The same run may repeat a call whose reply was lost.
	_, err := t.update(ctx, requestKey(arn), set,
		"attribute_exists(executionArn) AND (sentBy = :none OR sentBy = :run)", values{":run": run, ":none": ""})
	return ifUnmet(err, ErrSent)
}

// SetPlace records where the origin's answer is found from now on, for every later run. It
// creates the request item of a download that has none, with i's ExpiresAt. [ErrEnded]
// when the download was cancelled or is no longer copying, [ErrUnknown] when it has no
// item: nothing is written then, so that no request item is created after the last look
// for one.
func (t *Table) SetPlace(ctx context.Context, i Item, place string, away bool, cookies []byte) error {
	_, err := t.transact(ctx,
		t.change(i.ExecutionARN, "SET hasRequest = :true", copyingOn, values{":true": true, ":copying": Copying}),
		t.change(requestKey(i.ExecutionARN), "SET place = :place, away = :away, cookies = :cookies, expiresAt = :expiry", "",
			values{":place": place, ":away": away, ":cookies": cookies, ":expiry": i.ExpiresAt}))
	return ifUnmet(err, ErrEnded)
}

// WaitUntil records that the workflow waits for the origin until then, without a worker
// that would notice a cancel. [ErrEnded] when the download was cancelled or is no longer
// copying, [ErrUnknown] when it has no item.
//
// This and [Table.Cancel] are two writes to one item: either the cancel came first and
// fails this one, or Cancel finds the wait.
func (t *Table) WaitUntil(ctx context.Context, arn string, until time.Time) error {
	_, err := t.update(ctx, arn, "SET waitsUntil = :until", copyingOn, values{":until": until.UnixMilli(), ":copying": Copying})
	return ifUnmet(err, ErrEnded)
}

// DropRequest deletes the request item, if there is one. After a write that ended the
// copy, none can be created any more.
func (t *Table) DropRequest(ctx context.Context, arn string) error {
	_, err := t.DynamoDB.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &t.Name, Key: key(requestKey(arn))}, againAfterConflict)
	if err != nil {
		return fmt.Errorf("delete request: %w", err)
	}
	return nil
}
