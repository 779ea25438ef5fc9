package meeting_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
)

// The guards, and the tests that fail when one is removed. Each was tried by hand, with
// 3,000 histories; most also lose a link in the model (model/). (asl) is
// asl/download.asl.json, which these tests read.
//
//	guard                                                             failing tests
//	1 (asl) Wait for the client: attribute_not_exists(connectionId)   TestHistories, TestEveryOrder/a_client, TestWaitIsConditional
//	1 Connect: resume                                                 TestHistories, TestEveryOrder/a_client, TestConnect/while_it_waits
//	2 Deliver: ErrOpening for a young connection                      TestHistories, TestEveryOrder/a_client, TestDeliver/410,_young
//	2 Deliver: its own tries                                          TestHandshakes, TestDeliver/410,_and_another_came
//	3 Deliver: leave at a 410                                         TestHistories, TestEveryOrder/a_client_that_drops_unnoticed, TestDeliver/410,_old
//	3 (asl) ConnectionGone leads to Wait for the client               TestHistories, TestEveryOrder/a_client_that_drops_at_once
//	4 leave: connectionId = :id                                       TestHistories, TestDisconnect/another_came
//	(asl) Wait for the client: attribute_exists(executionArn)         TestWaitIsConditional
//	(asl) Wait for the client: attribute_not_exists(cancelled)        TestHistories, TestEveryOrder/a_cancel, TestWaitIsConditional
//	(asl) Note the expiry: attribute_not_exists(connectionId)         TestHistories, TestWaitIsConditional
//	(asl) Note the expiry: the other two conditions                   TestWaitIsConditional
//	(asl) ConnectionOpening leads to Wait for the client              TestClientThatKeepsComing
//	Connect: attribute_exists(executionArn)                           TestUnknownMakesNoRow
//	Connect: a request displaces itself                               TestLostReplies/connect_of_a_request, TestConnect/a_request_whose_function_was_killed...
//	Connect: and no socket                                            TestHistories, TestEveryOrder/a_client_and_a_request, TestConnect/a_request_beside_a_socket
//	Connect: Leave when the token can't be answered                   TestConnect/token_can't_be_answered
//	answered: taskToken = :token                                      TestConnect/waiting_again_already
//	answered: a closed task is no error                               TestConnect/token_...
//	Create: what is there is this call's own                          TestLostReplies/create
//	Find: the second look                                             TestDisconnect/ahead_of_the_index
//	leave: the item goes when it was delivered                        TestHistories, TestEveryOrder/a_client_that_drops_unnoticed
//	Deliver: not while cancelled                                      TestDeliver/cancelled
//	Deliver: an item that has gone was delivered                      TestDeliver/gone,_nobody_known
//	Deliver: another one has its own delivery                         TestDeliver/after_the_end,_and_another_came; e2e
//	delivered: attribute_not_exists(cancelled) in fileKept            TestHistories, TestCancelWhileTheLinkIsOnItsWay
//	delivered: the status in fileKept                                 TestEndWhileTheLinkIsOnItsWay
//	delivered: the item goes when its client has closed               TestDeliver/posted,_and_closed_at_once
//	deliveryResult: another connection is there                        TestHistories, TestEveryOrder/two_clients, TestDeliver/410,_and_another_came
//	Copied: attribute_not_exists(cancelled)                           TestCancel/while_it_copies
//	copying: what each worker notes, and when it stops                TestHistories
//	Cancel: only before the end                                       TestHistories, TestCancel
//	Cancel: SendTaskFailure                                           TestHistories, TestEveryOrder/a_cancel, TestCancel/while_it_waits
//	Cancel: StopExecution                                             TestWaitUntil, model
//	WaitUntil, SetPlace: copyingOn                                    TestWaitUntil, TestRequest/no_place_after_the_end, TestHistories, model
//	Copied: deletes the request                                       TestHistories, TestRequest/gone_with_the_copy, model
//	Copied: no transaction by a second worker                         TestRequest/gone_with_the_copy
//	End: DropRequest                                                  TestHistories, TestRequest/gone_with_the_end, model
//	Discard: DropRequest                                              TestRequest/discarded
//	MarkSent: not sent by another run                                 TestHistories, TestRequest/sent_once
//	End: only once                                                    TestEnd
//	Progress, Announce: attribute_exists                              TestUnknownMakesNoRow

// bench is a table with tokens, on which the tests call the package.
type bench struct {
	*meeting.Table
	table  *dynamodbtest.Table
	tokens *tokens
	// before, if set, is called before each call of the table, and may fail it.
	before func(operation, expression string) fault
}

func newBench() *bench {
	b := &bench{table: &dynamodbtest.Table{}, tokens: &tokens{}}
	b.Table = &meeting.Table{Name: dynamodbtest.TableName, Tokens: b.tokens, DynamoDB: dynamodbtest.Client(func(_ *http.Request, operation string, body []byte) (int, []byte, error) {
		f := none
		if b.before != nil {
			f = b.before(operation, string(body))
		}
		if f == throttled {
			return http.StatusBadRequest, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"Rate exceeded"}`), nil
		}
		status, answer := b.table.Do(operation, body)
		if f == lost {
			return 0, nil, syscall.ECONNRESET
		}
		return status, answer, nil
	})}
	return b
}

// loses loses the reply of the first call with this text.
func (b *bench) loses(operation, expression string) {
	b.before = func(o, e string) fault {
		if o == operation && strings.Contains(e, expression) {
			b.before = nil
			return lost
		}
		return none
	}
}

// given creates the item; "" omits an attribute.
func (b *bench) given(status meeting.Status, connection, token string, more ...string) {
	i := dynamodbtest.Item{dynamodbtest.KeyName: {"S": arn}, "status": {"S": string(status)}, "bytesCopied": {"N": "0"}}
	if connection != "" {
		i[dynamodbtest.IndexName] = dynamodbtest.Value{"S": connection}
		i["connectedAt"] = dynamodbtest.Value{"N": fmt.Sprint(time.Now().UnixMilli())}
		i["format"] = dynamodbtest.Value{"S": ""}
	}
	if token != "" {
		i["taskToken"] = dynamodbtest.Value{"S": token}
	}
	for _, m := range more {
		switch m {
		case "cancelled":
			i[m] = dynamodbtest.Value{"BOOL": true}
		case "long ago":
			i["connectedAt"] = dynamodbtest.Value{"N": "1"}
		default:
			panic(m)
		}
	}
	b.table.Items = map[string]dynamodbtest.Item{arn: i}
	b.table.CatchUp()
}

// having is given as a part of a row.
func having(status meeting.Status, connection, token string, more ...string) func(*bench) {
	return func(b *bench) { b.given(status, connection, token, more...) }
}

// is compares the item; "" means no connection or token, and as a status, no item.
func (b *bench) is(t *testing.T, status meeting.Status, connection, token string) {
	t.Helper()
	i := b.table.Get(arn)
	s := func(name string) string { s, _ := i[name]["S"].(string); return s }
	got, want := [3]string{s("status"), s(dynamodbtest.IndexName), s("taskToken")}, [3]string{string(status), connection, token}
	if got != want {
		t.Errorf("item: got %q, want %q", got, want)
	}
	if n := len(b.table.Items); n > 1 || status == "" && n > 0 {
		t.Errorf("got %d items: %v", n, b.table.Items)
	}
}

func wants(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("got %v, want %v", got, want)
	}
}

// scenes runs each scene in its own virtual time.
func scenes(t *testing.T, all map[string]func(t *testing.T, b *bench)) {
	t.Helper()
	for title, scene := range all {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { scene(t, newBench()) })
		})
	}
}

var (
	ctx = context.Background()
	at  = func(id string) meeting.Connection { return meeting.Connection{ID: id, At: time.Now()} }
)

// poster is how a test answers the posts of a delivery.
type poster = func(context.Context, meeting.Item, meeting.Connection) error

func accept(context.Context, meeting.Item, meeting.Connection) error    { return nil }
func refuse410(context.Context, meeting.Item, meeting.Connection) error { return meeting.ErrGone }

func TestCreate(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"new": func(t *testing.T, b *bench) {
			wants(t, b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "a%20b", Query: "q=%26", TicketHash: "hash", AskedBy: "192.0.2.1"}, nil), nil)
			got, err := b.Current(ctx, arn)
			want := meeting.Item{ExecutionARN: arn, Status: meeting.Copying, Path: "a%20b", Query: "q=%26", TicketHash: "hash", AskedBy: "192.0.2.1",
				ExpiresAt: time.Now().Add(meeting.ItemLife).Unix()}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		},
		"twice": func(t *testing.T, b *bench) {
			wants(t, b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "a"}, nil), nil)
			if err := b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "b"}, nil); err == nil {
				t.Error("got no error for a second item under the name")
			}
			if i, _ := b.Current(ctx, arn); i.Path != "a" {
				t.Errorf("got path %q, want the first one's", i.Path)
			}
		},
		"discarded": func(t *testing.T, b *bench) {
			wants(t, b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "a"}, nil), nil)
			wants(t, b.Discard(ctx, meeting.Item{ExecutionARN: arn}), nil)
			b.is(t, "", "", "")
			wants(t, b.Discard(ctx, meeting.Item{ExecutionARN: arn}), meeting.ErrUnknown)
		},
	})
}

// No method creates the item of an unknown execution.
func TestUnknownMakesNoRow(t *testing.T) {
	total := int64(1)
	for title, verb := range map[string]func(b *bench) error{
		"Current":   func(b *bench) error { _, err := b.Current(ctx, arn); return err },
		"Connect":   func(b *bench) error { _, err := b.Connect(ctx, arn, at("c1")); return err },
		"a request": func(b *bench) error { _, err := b.Connect(ctx, arn, at(meeting.Request)); return err },
		"Progress":  func(b *bench) error { _, err := b.Progress(ctx, arn, 0, 1, &total); return err },
		"Cancel":    func(b *bench) error { return b.Cancel(ctx, arn) },
		"End":       func(b *bench) error { _, err := b.End(ctx, arn, failure.New(failure.Internal, "")); return err },
		"Discard":   func(b *bench) error { return b.Discard(ctx, meeting.Item{ExecutionARN: arn}) },
		"Find":      func(b *bench) error { _, err := b.Find(ctx, "c1"); return err },
		"Copied":    func(b *bench) error { return b.Copied(ctx, arn, 1) },
		"Uploading": func(b *bench) error { return b.Uploading(ctx, arn, "u") },
		"Announce":  func(b *bench) error { _, err := b.Announce(ctx, arn); return err },
		"Disconnect": func(b *bench) error {
			return errors.Join(meeting.ErrUnknown, b.Disconnect(ctx, "c1"))
		},
		"Leave": func(b *bench) error { return errors.Join(meeting.ErrUnknown, b.Leave(ctx, arn, "c1")) },
		"Deliver": func(b *bench) error {
			return errors.Join(meeting.ErrUnknown, b.Deliver(ctx, arn, meeting.Connection{}, nil))
		},
		"Deliver to the client on-connect saw": func(b *bench) error {
			return errors.Join(meeting.ErrUnknown, b.Deliver(ctx, arn, at("c1"), accept))
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				err := verb(b)
				wants(t, err, meeting.ErrUnknown)
				if strings.Count(fmt.Sprint(err), "\n") > 0 {
					t.Errorf("got an error beside: %v", err)
				}
				b.is(t, "", "", "")
			})
		})
	}
}
