package download_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/download"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/socket"
)

const (
	machine = "arn:aws:states:us-east-1:123456789012:stateMachine:download"
	name    = "5f0c3b1e9a7d4c6288e1f2a3b4c5d6e7"
	arn     = "arn:aws:states:us-east-1:123456789012:execution:download:" + name
	asker   = "203.0.113.25 arn:aws:iam::123456789012:user/ana"
)

// stack is one download with all that its use cases need.
type stack struct {
	download.Protocol
	table  dynamodbtest.Table
	lines  bytes.Buffer // of metrics
	file   bool
	starts []string // names of the executions that were started
	sent   []string // posts, each as connectionId and text

	before func(operation string) // called before each operation of the table, if set

	// What fails: an operation of the table, and calls.
	refused                                        string
	startFails, signFails, postFails, discardFails error
	gone                                           int // how many posts are answered with 410
}

func newStack() *stack {
	s := &stack{file: true}
	s.Protocol = download.Protocol{
		Table: &meeting.Table{Name: dynamodbtest.TableName, DynamoDB: dynamodbtest.Client(func(_ *http.Request, operation string, body []byte) (int, []byte, error) {
			if s.before != nil {
				s.before(operation)
			}
			if operation == s.refused {
				return http.StatusBadRequest, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException","message":"no"}`), nil
			}
			status, answer := s.table.Do(operation, body)
			return status, answer, nil
		})},
		Metrics: &metric.Recorder{Stack: "stack", Out: &s.lines}, StateMachine: machine,
		Objects: s, Socket: s, Executions: s, Discard: func(context.Context, string) error { s.file = false; return s.discardFails },
	}
	return s
}

// item stores the download's item, 90 s after its file was copied.
func (s *stack) item(status meeting.Status, more dynamodbtest.Item) {
	i := dynamodbtest.Item{
		"executionArn": {"S": arn}, "status": {"S": string(status)}, "path": {"S": "reports/Q3.pdf"}, "query": {"S": "key=planted"}, "askedBy": {"S": asker},
		"bytesCopied": {"N": "1048576"}, "copiedAt": {"N": fmt.Sprint(time.Now().Add(-90 * time.Second).UnixMilli())},
		"expiresAt": {"N": fmt.Sprint(time.Now().Add(47 * time.Hour).Unix())},
	}
	if status.NoFile() {
		i["failure"] = dynamodbtest.Value{"M": map[string]any{"code": map[string]any{"S": "TOO_LARGE"}, "message": map[string]any{"S": "why"}}}
	}
	maps.Copy(i, more)
	s.table.Items = map[string]dynamodbtest.Item{arn: i}
}

func connectedAt(at time.Time) dynamodbtest.Item {
	return dynamodbtest.Item{"connectionId": {"S": "c1"}, "connectedAt": {"N": fmt.Sprint(at.UnixMilli())}, "format": {"S": ""}}
}

func (s *stack) Record(context.Context, string) (object.Record, error) {
	if !s.file {
		return object.Record{}, object.Gone(nil)
	}
	return object.Record{}, nil
}

func (s *stack) Sign(ctx context.Context, name string) (link.Link, error) {
	if _, err := s.Record(ctx, name); err != nil {
		return link.Link{}, err
	}
	return link.Link{URL: "https://link"}, s.signFails
}

func (s *stack) Post(_ context.Context, c meeting.Connection, e socket.Event) error {
	if s.gone > 0 {
		s.gone--
		return meeting.ErrGone
	}
	s.sent = append(s.sent, c.ID+" "+string(e.In(c.Format)))
	return s.postFails
}

func (s *stack) StartExecution(_ context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	s.starts = append(s.starts, aws.ToString(in.Name))
	return &sfn.StartExecutionOutput{}, s.startFails
}
