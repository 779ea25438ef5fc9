package download

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/object"
)

// An item is created in a transaction where there is a request; DynamoDB reports its
// throttling as a reason of the cancelled transaction.
func TestThrottled(t *testing.T) {
	for _, test := range []struct {
		err  error
		want failure.Code
	}{
		{&dynamodbtypes.TransactionCanceledException{}, failure.Throttled},
		{&dynamodbtypes.ProvisionedThroughputExceededException{}, failure.Throttled},
		{&sfntypes.ExecutionLimitExceeded{}, failure.Throttled},
		{&dynamodbtypes.ResourceNotFoundException{}, failure.Internal},
		{errors.New("reset"), failure.Internal},
	} {
		if got := failure.CodeOf(throttled(test.err)); got != test.want {
			t.Errorf("%T: got %s, want %s", test.err, got, test.want)
		}
	}
}

// What makes two requests with one key the same: a GET's body and key don't count, nor do
// the values of headers.
func TestHash(t *testing.T) {
	get := Request{Path: "a"}
	header := Request{Path: "a", Header: map[string]string{"Accept": "x"}}
	post := Request{Path: "a", Method: http.MethodPost}
	for _, test := range []struct {
		name string
		a, b Request
		same bool
	}{
		{"GET, named", get, Request{Path: "a", Method: http.MethodGet}, true},
		{"GET, another key and body", get, Request{Path: "a", Key: "k", Body: []byte("b"), ContentType: "t"}, true},
		{"GET, another path", get, Request{Path: "b"}, false},
		{"GET with a header", get, header, false},
		{"another value", header, Request{Path: "a", Header: map[string]string{"Accept": "y"}}, true},
		{"another header", header, Request{Path: "a", Header: map[string]string{"Range": "x"}}, false},
		{"POST", get, post, false},
		{"POST, another body", post, Request{Path: "a", Method: http.MethodPost, Body: []byte("b")}, false},
		{"POST, another type", post, Request{Path: "a", Method: http.MethodPost, ContentType: "t"}, false},
		{"POST, another key", post, Request{Path: "a", Method: http.MethodPost, Key: "k"}, false},
	} {
		if same := test.a.hash("q") == test.b.hash("q"); same != test.same {
			t.Errorf("%s: got the same hash %t, want %t", test.name, same, test.same)
		}
	}
}

// kept is a file whose request had this hash; there is none for "".
type kept string

func (k kept) Record(context.Context, string) (object.Record, error) {
	if k == "" {
		return object.Record{}, object.Gone(nil)
	}
	return object.Record{RequestHash: string(k)}, nil
}

func (kept) Sign(context.Context, string) (link.Link, error) { return link.Link{}, nil }

// existing is the execution of a key.
type existing struct {
	status  sfntypes.ExecutionStatus
	stopped time.Time
}

func (e existing) DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	return &sfn.DescribeExecutionOutput{Status: e.status, StopDate: &e.stopped}, nil
}

// What the key of an execution that exists means, by how that ended, by its item, and by
// its file, which may have been delivered meanwhile.
func TestExistingExecution(t *testing.T) {
	const arn = "arn:aws:states:us-east-1:123456789012:execution:download:5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7"
	running, failed, succeeded := sfntypes.ExecutionStatusRunning, sfntypes.ExecutionStatusFailed, sfntypes.ExecutionStatusSucceeded
	asked := time.Unix(1_800_000_000, 0)
	for _, test := range []struct {
		status  sfntypes.ExecutionStatus
		stopped time.Duration  // after the request
		item    meeting.Status // "" for none
		hash    string         // of the item's request
		file    kept
		want    failure.Code
		left    bool // the item
	}{
		{status: running},
		{status: succeeded, file: "hash"},
		{status: succeeded, file: "other", want: failure.KeyReused},
		{status: succeeded, want: failure.Expired},
		{status: failed, item: meeting.Ready, hash: "hash", left: true},
		{status: failed, item: meeting.Failed, hash: "other", want: failure.KeyReused, left: true},
		{status: failed, item: meeting.Copying, hash: "hash", left: true},
		{status: failed, item: meeting.Copying, hash: "other", want: failure.KeyReused, left: true},
		{status: failed, stopped: -time.Second, item: meeting.Copying, hash: "hash", want: failure.Expired},
		{status: succeeded, item: meeting.Copying, hash: "hash", want: failure.Expired},
		{status: succeeded, item: meeting.Copying, hash: "hash", file: "hash"},
	} {
		var table dynamodbtest.Table
		if test.item != "" {
			table.Items = map[string]dynamodbtest.Item{arn: {
				"executionArn": {"S": arn}, "status": {"S": string(test.item)}, "requestHash": {"S": test.hash}, "expiresAt": {"N": fmt.Sprint(asked.Add(meeting.ItemLife).Unix())},
			}}
		}
		s := &Starter{Describer: existing{test.status, asked.Add(test.stopped)}}
		s.Objects = test.file
		s.Table = &meeting.Table{Name: dynamodbtest.TableName, DynamoDB: table.Client()}
		err := s.checkExisting(t.Context(), meeting.Item{ExecutionARN: arn, RequestHash: "hash"})
		if failure.CodeOf(err) != test.want || (table.Get(arn) != nil) != test.left {
			t.Errorf("%+v: got %v and the item %v", test, err, table.Get(arn))
		}
	}
}

func TestConcurrentSegments(t *testing.T) {
	for _, test := range []struct{ limit, concurrency, want int64 }{
		{40, 1_000_000, 40}, {40, 41, 40}, {40, 40, 39}, {40, 10, 9}, {40, 2, 1}, {40, 1, 1}, {1, 1, 1}, {1, 2, 1},
	} {
		if got := ConcurrentSegments(test.limit, test.concurrency); got != test.want {
			t.Errorf("limit %d, concurrency %d: got %d, want %d", test.limit, test.concurrency, got, test.want)
		}
	}
}
