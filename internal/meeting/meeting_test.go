package meeting_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
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
			return errors.Join(meeting.ErrUnknown, b.Deliver(ctx, arn, at("c1"), func(context.Context, meeting.Item, meeting.Connection) error { return nil }))
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

func TestConnect(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"while it copies": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			i, err := b.Connect(ctx, arn, meeting.Connection{ID: "c1", Format: "json", At: time.Now()})
			wants(t, err, nil)
			if c, here := i.Connection(); !here || c.ID != "c1" || c.Format != "json" || !c.At.Equal(time.Now().Truncate(time.Millisecond)) {
				t.Errorf("got %+v", c)
			}
			b.is(t, meeting.Copying, "c1", "")
		},
		"while it waits": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			i, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			if i.TaskToken != token {
				t.Errorf("got the item with token %q, want it as the connection found it", i.TaskToken)
			}
			if got := b.tokens.task(token); got.acceptances != 1 || got.output != "{}" {
				t.Errorf("got %d answers and %q, want one of {}", got.acceptances, got.output)
			}
			b.is(t, meeting.Ready, "c1", "")
		},
		"the last one wins": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			_, err := b.Connect(ctx, arn, at("c2"))
			wants(t, err, nil)
			b.is(t, meeting.Copying, "c2", "")
		},
		"a request beside a socket": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			_, err := b.Connect(ctx, arn, at(meeting.Request))
			wants(t, err, meeting.ErrTaken)
			b.is(t, meeting.Ready, "c1", "")
		},
		"a socket beside a request": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, meeting.Request, "")
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
		},
		"a request whose function was killed before it answered": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, meeting.Request, token)
			_, err := b.Connect(ctx, arn, at(meeting.Request))
			wants(t, err, nil)
			if b.tokens.open(token) {
				t.Error("the execution still waits")
			}
		},
		"token can't be answered": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.tokens.pass = func(context.Context, string) fault { return throttled }
			if _, err := b.Connect(ctx, arn, at("c1")); err == nil {
				t.Error("got no error")
			}
			b.is(t, meeting.Ready, "", token) // for the client that comes next
		},
		"waiting again already": func(t *testing.T, b *bench) {
			old, next := b.tokens.issue(), b.tokens.issue()
			b.given(meeting.Ready, "", old)
			b.tokens.pass = func(context.Context, string) fault { // between the answer and its note
				b.table.Items[arn]["taskToken"] = dynamodbtest.Value{"S": next}
				return none
			}
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", next)
		},
		"after the end": func(t *testing.T, b *bench) {
			b.given(meeting.Expired, "", "")
			i, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			if !i.Status.Ended() {
				t.Errorf("got %s, want a status that makes the caller start a delivery", i.Status)
			}
		},
	})
	for title, close := range map[string]func(s *tokens) string{
		"answered before":     func(s *tokens) string { k := s.issue(); s.close(k); return k },
		"execution long gone": func(s *tokens) string { k := s.issue(); s.forget(k); return k },
		"never issued":        func(*tokens) string { return "rubbish" },
	} {
		t.Run("token "+title, func(t *testing.T) {
			b := newBench()
			b.given(meeting.Ready, "", close(b.tokens))
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil) // no error for the client: the workflow has continued
			b.is(t, meeting.Ready, "c1", "")
		})
	}
}

func TestDisconnect(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"before delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "token")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "token")
		},
		"after delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Delivered, "c1", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, "", "", "")
		},
		"after a failure": func(t *testing.T, b *bench) {
			b.given(meeting.Failed, "c1", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Failed, "", "") // for later clients
		},
		"another came": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.table.Behind = true
			b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
			wants(t, b.Disconnect(ctx, "c1"), nil) // the index still says c1
			b.is(t, meeting.Ready, "c2", "")
		},
		"another came after delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Delivered, "c1", "")
			b.table.Behind = true
			b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Delivered, "c2", "")
		},
		"twice": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "")
		},
		"ahead of the index": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.table.Index, b.table.Behind = nil, true
			go func() { time.Sleep(500 * time.Millisecond); b.table.CatchUp() }()
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "")
		},
		"stands nowhere": func(t *testing.T, b *bench) {
			begun := time.Now()
			wants(t, b.Disconnect(ctx, "c1"), nil)
			if d := time.Since(begun); d != time.Second {
				t.Errorf("looked a second time after %v, want 1s", d)
			}
		},
		"given up": func(t *testing.T, b *bench) {
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			wants(t, b.Disconnect(short, "c1"), context.DeadlineExceeded)
		},
	})
}

func TestDeliver(t *testing.T) {
	var notified []string
	took := func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
		notified = append(notified, c.ID)
		return nil
	}
	gone := func(context.Context, meeting.Item, meeting.Connection) error { return meeting.ErrGone }
	broken := errors.New("broken")
	for title, scene := range map[string]struct {
		given    func(b *bench)
		fallback string
		post     func(b *bench) func(context.Context, meeting.Item, meeting.Connection) error
		want     error
		notified string
		item     [3]string // status, connection, token
	}{
		"posted":                          {given: func(b *bench) { b.given(meeting.Ready, "c1", "old") }, notified: "c1", item: [3]string{"DELIVERED", "c1", ""}},
		"again, after delivery":           {given: func(b *bench) { b.given(meeting.Delivered, "c1", "") }, item: [3]string{"DELIVERED", "c1", ""}},
		"after expiry":                    {given: func(b *bench) { b.given(meeting.Expired, "c1", "") }, notified: "c1", item: [3]string{"DELIVERED", "c1", ""}},
		"the reason of a failure":         {given: func(b *bench) { b.given(meeting.Failed, "c1", "") }, notified: "c1", item: [3]string{"FAILED", "c1", ""}},
		"after the end":                   {given: func(b *bench) { b.given(meeting.Delivered, "c1", "") }, fallback: "c1", notified: "c1", item: [3]string{"DELIVERED", "c1", ""}},
		"after the end, and another came": {given: func(b *bench) { b.given(meeting.Delivered, "c2", "") }, fallback: "c1", item: [3]string{"DELIVERED", "c2", ""}},
		"nobody here":                     {given: func(b *bench) { b.given(meeting.Ready, "", "token") }, want: meeting.ErrGone, item: [3]string{"READY", "", "token"}},
		"nobody here, and deleted":        {given: func(b *bench) { b.given(meeting.Cancelled, "", "", "cancelled") }, item: [3]string{"CANCELLED", "", ""}},
		"cancelled":                       {given: func(b *bench) { b.given(meeting.Ready, "c1", "", "cancelled") }, want: failure.ErrCancelled, item: [3]string{"READY", "c1", ""}},
		"after a cancel":                  {given: func(b *bench) { b.given(meeting.Cancelled, "c1", "", "cancelled") }, notified: "c1", item: [3]string{"CANCELLED", "c1", ""}},
		"a request":                       {given: func(b *bench) { b.given(meeting.Ready, meeting.Request, "") }},
		"a request, failed":               {given: func(b *bench) { b.given(meeting.Failed, meeting.Request, "") }, item: [3]string{"FAILED", meeting.Request, ""}},
		"gone, client known":              {given: func(*bench) {}, fallback: "c1", notified: "c1"},
		"gone, nobody known":              {given: func(*bench) {}},
		"post breaks": {given: func(b *bench) { b.given(meeting.Ready, "c1", "") }, want: broken, item: [3]string{"READY", "c1", ""}, post: func(*bench) func(context.Context, meeting.Item, meeting.Connection) error {
			return func(context.Context, meeting.Item, meeting.Connection) error { return broken }
		}},
		"410, young":            {given: func(b *bench) { b.given(meeting.Ready, "c1", "") }, want: meeting.ErrOpening, item: [3]string{"READY", "c1", ""}, post: func(*bench) func(context.Context, meeting.Item, meeting.Connection) error { return gone }},
		"410, old":              {given: func(b *bench) { b.given(meeting.Ready, "c1", "", "long ago") }, want: meeting.ErrGone, item: [3]string{"READY", "", ""}, post: func(*bench) func(context.Context, meeting.Item, meeting.Connection) error { return gone }},
		"410, after delivery":   {given: func(b *bench) { b.given(meeting.Delivered, "c1", "", "long ago") }, fallback: "c1", post: func(*bench) func(context.Context, meeting.Item, meeting.Connection) error { return gone }},
		"410, item gone":        {given: func(*bench) {}, fallback: "long ago", want: meeting.ErrGone, post: func(*bench) func(context.Context, meeting.Item, meeting.Connection) error { return gone }},
		"410, item gone, young": {given: func(*bench) {}, fallback: "c1", want: meeting.ErrOpening, post: func(*bench) func(context.Context, meeting.Item, meeting.Connection) error { return gone }},
		"410, and another came": {given: func(b *bench) { b.given(meeting.Ready, "c1", "", "long ago") }, notified: "c2", item: [3]string{"DELIVERED", "c2", ""},
			post: func(b *bench) func(context.Context, meeting.Item, meeting.Connection) error {
				return func(ctx context.Context, i meeting.Item, c meeting.Connection) error {
					if c.ID == "c1" {
						b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
						return meeting.ErrGone
					}
					return took(ctx, i, c)
				}
			}},
		"posted, and another came": {given: func(b *bench) { b.given(meeting.Ready, "c1", "") }, notified: "c1 c2", item: [3]string{"DELIVERED", "c2", ""},
			post: func(b *bench) func(context.Context, meeting.Item, meeting.Connection) error {
				return func(ctx context.Context, i meeting.Item, c meeting.Connection) error {
					b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"}
					return took(ctx, i, c)
				}
			}},
		"posted, and another came each time": {given: func(b *bench) { b.given(meeting.Ready, "c1", "") }, want: meeting.ErrOpening, item: [3]string{"READY", "c1....", ""},
			post: func(b *bench) func(context.Context, meeting.Item, meeting.Connection) error {
				return func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
					b.table.Items[arn][dynamodbtest.IndexName] = dynamodbtest.Value{"S": c.ID + "."}
					return nil
				}
			}},
		"posted, and closed at once": {given: func(b *bench) { b.given(meeting.Ready, "c1", "") },
			post: func(b *bench) func(context.Context, meeting.Item, meeting.Connection) error {
				return func(context.Context, meeting.Item, meeting.Connection) error { return b.Leave(ctx, arn, "c1") }
			}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				notified = nil
				scene.given(b)
				fallback := meeting.Connection{ID: scene.fallback, At: time.Now()}
				if scene.fallback == "long ago" {
					fallback.At = time.Time{}
				}
				post := took
				if scene.post != nil {
					post = scene.post(b)
				}
				err := b.Deliver(ctx, arn, fallback, post)
				wants(t, err, scene.want)
				if got := strings.Join(notified, " "); got != scene.notified {
					t.Errorf("notified: got %q, want %q", got, scene.notified)
				}
				b.is(t, meeting.Status(scene.item[0]), scene.item[1], scene.item[2])
			})
		})
	}
}

// A 410 is final after Handshake.
func TestHandshakeIsWaitedFor(t *testing.T) {
	for age, want := range map[time.Duration]error{
		0: meeting.ErrOpening, meeting.Handshake - time.Millisecond: meeting.ErrOpening,
		meeting.Handshake: meeting.ErrGone, time.Hour: meeting.ErrGone,
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.given(meeting.Ready, "c1", "")
			begun := time.Now()
			b.table.Items[arn]["connectedAt"] = dynamodbtest.Value{"N": fmt.Sprint(begun.UnixMilli())}
			b.Now = func() time.Time { return time.UnixMilli(begun.UnixMilli()).Add(age) }
			err := b.Deliver(ctx, arn, meeting.Connection{}, func(context.Context, meeting.Item, meeting.Connection) error { return meeting.ErrGone })
			if !errors.Is(err, want) {
				t.Errorf("410 after %v: got %v, want %v", age, err, want)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"while it copies": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			wants(t, b.Cancel(ctx, arn), nil)
			if i, err := b.Progress(ctx, arn, 0, 1, nil); err != nil || !i.Cancelled {
				t.Errorf("the worker's next Progress: got cancelled %v, %v", i.Cancelled, err)
			}
			wants(t, b.Copied(ctx, arn, 5), meeting.ErrEnded)
			b.is(t, meeting.Copying, "c1", "")
		},
		"while it waits": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			wants(t, b.Cancel(ctx, arn), nil)
			if got := b.tokens.task(token); got.acceptances != 1 || got.err != "CANCELLED" {
				t.Errorf("got %d answers, error %q, want one of CANCELLED", got.acceptances, got.err)
			}
			b.is(t, meeting.Ready, "", "")
		},
		"twice": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			wants(t, b.Cancel(ctx, arn), nil)
			wants(t, b.Cancel(ctx, arn), nil)
		},
		"token can't be answered, then again": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.tokens.pass = func(context.Context, string) fault { return throttled }
			if err := b.Cancel(ctx, arn); err == nil {
				t.Error("got no error")
			}
			b.is(t, meeting.Ready, "", token)
			b.tokens.pass = nil
			wants(t, b.Cancel(ctx, arn), nil)
			if b.tokens.open(token) {
				t.Error("the execution still waits")
			}
		},
	})
	for _, s := range []meeting.Status{meeting.Delivered, meeting.Failed, meeting.Cancelled, meeting.Expired} {
		b := newBench()
		b.given(s, "", "")
		if err := b.Cancel(ctx, arn); !errors.Is(err, meeting.ErrEnded) {
			t.Errorf("%s: got %v, want ErrEnded", s, err)
		}
		if i, err := b.Current(ctx, arn); err != nil || i.Cancelled {
			t.Errorf("%s: marked after the end: %v, %v", s, i.Cancelled, err)
		}
	}
}

func TestEnd(t *testing.T) {
	for code, want := range map[failure.Code]meeting.Status{
		failure.OriginStatus: meeting.Failed, failure.Internal: meeting.Failed, failure.Cancelled: meeting.Cancelled, failure.Expired: meeting.Expired,
	} {
		for _, from := range []meeting.Status{meeting.Copying, meeting.Ready} {
			b := newBench()
			b.given(from, "c1", "token")
			i, err := b.End(ctx, arn, failure.New(code, "why"))
			wants(t, err, nil)
			if i.Failure == nil || *i.Failure != (failure.Error{Code: code, Message: "why"}) || i.ConnectionID != "c1" {
				t.Errorf("%s: got %+v", code, i)
			}
			b.is(t, want, "c1", "")
		}
	}
	for _, s := range []meeting.Status{meeting.Delivered, meeting.Failed, meeting.Cancelled, meeting.Expired} {
		b := newBench()
		b.given(s, "c1", "")
		i, err := b.End(ctx, arn, failure.New(failure.Internal, "why"))
		wants(t, err, meeting.ErrEnded)
		if i.Status != s || i.ConnectionID != "c1" {
			t.Errorf("got %+v, want the item as it was", i)
		}
		b.is(t, s, "c1", "")
	}
}

func TestCopy(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"progress": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			total := int64(10)
			for _, step := range []struct {
				segment      int32
				copied, want int64
				total        *int64
			}{
				{0, 3, 3, nil},
				{0, 4, 4, &total}, // set, not added to
				{0, 2, 4, &total}, // never back
				{1, 4, 4, &total}, // of a segment, which the whole file's has too
				{9, 3, 7, &total},
				{9, 3, 7, &total}, // by a repeated call
				{9, 8, 10, &total},
			} {
				i, err := b.Progress(ctx, arn, step.segment, step.copied, step.total)
				wants(t, err, nil)
				if i.Copied() != step.want || i.BytesTotal != nil != (step.total != nil) {
					t.Errorf("%d bytes of segment %d: got %d of %v, want %d", step.copied, step.segment, i.Copied(), i.BytesTotal, step.want)
				}
				if got := i.CopiedOf(step.segment); got < step.copied {
					t.Errorf("got %d bytes of segment %d, want %d", got, step.segment, step.copied)
				}
			}
			_, err := b.Progress(ctx, "unknown", 0, 1, nil)
			wants(t, err, meeting.ErrUnknown)
		},
		"copied": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			wants(t, b.Uploading(ctx, arn, "upload"), nil)
			wants(t, b.Copied(ctx, arn, 12), nil)
			i, err := b.Current(ctx, arn)
			if err != nil || i.Status != meeting.Ready || i.BytesCopied != 12 || *i.BytesTotal != 12 || i.UploadID != "" || i.CopiedAt != time.Now().UnixMilli() {
				t.Errorf("got %+v, %v", i, err)
			}
			wants(t, b.Copied(ctx, arn, 12), nil) // by a second try
		},
		"copied, and ended meanwhile with the file": func(t *testing.T, b *bench) {
			for _, status := range []meeting.Status{meeting.Delivered, meeting.Expired} {
				b.given(meeting.Copying, "c1", "")
				wants(t, b.Copied(ctx, arn, 12), nil)
				b.table.Items[arn]["status"] = dynamodbtest.Value{"S": string(status)}
				wants(t, b.Copied(ctx, arn, 12), nil) // nothing for a worker to discard
				b.is(t, status, "c1", "")
			}
		},
		"copied, and cancelled": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			wants(t, b.Copied(ctx, arn, 12), nil)
			wants(t, b.Cancel(ctx, arn), nil)
			wants(t, b.Copied(ctx, arn, 12), meeting.ErrEnded)
		},
		"one announces in a second": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			i, err := b.Announce(ctx, arn)
			wants(t, err, nil)
			_, err = b.Announce(ctx, arn)
			wants(t, err, meeting.ErrNotDue)
			if b.Due(i) {
				t.Error("due at once")
			}
			time.Sleep(time.Second)
			if !b.Due(i) {
				t.Error("not due after a second")
			}
			_, err = b.Announce(ctx, arn)
			wants(t, err, nil)
		},
		"to nobody": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			_, err := b.Announce(ctx, arn)
			wants(t, err, meeting.ErrNotDue)
		},
	})
	for _, s := range []meeting.Status{meeting.Delivered, meeting.Failed, meeting.Cancelled, meeting.Expired} {
		b := newBench()
		b.given(s, "", "")
		wants(t, b.Copied(ctx, arn, 1), meeting.ErrEnded)
		wants(t, b.Uploading(ctx, arn, "upload"), meeting.ErrEnded)
		b.is(t, s, "", "")
	}
}

// After a lost reply, the SDK repeats the call, whose condition the first application may
// have made false.
func TestLostReplies(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"create": func(t *testing.T, b *bench) {
			b.loses("PutItem", "")
			wants(t, b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "a", Query: "q=1", AskedBy: "192.0.2.1"}, nil), nil)
			b.is(t, meeting.Copying, "", "")
		},
		"connect": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.loses("UpdateItem", "SET connectionId")
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
		},
		"connect of a request": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.loses("UpdateItem", "SET connectionId")
			_, err := b.Connect(ctx, arn, at(meeting.Request))
			wants(t, err, nil)
			if b.tokens.open(token) {
				t.Error("the execution still waits for a client that has its answer")
			}
		},
		"the token's answer": func(t *testing.T, b *bench) {
			token := b.tokens.issue()
			b.given(meeting.Ready, "", token)
			b.tokens.pass = func(context.Context, string) fault { b.tokens.pass = nil; return lost }
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
			if n := b.tokens.task(token).acceptances; n != 1 {
				t.Errorf("got %d acceptances, want 1", n)
			}
		},
		"the token's note": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "", b.tokens.issue())
			b.loses("UpdateItem", "REMOVE taskToken")
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Ready, "c1", "")
		},
		"disconnect": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.loses("UpdateItem", "REMOVE connectionId")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, meeting.Ready, "", "")
		},
		"disconnect after delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Delivered, "c1", "")
			b.loses("DeleteItem", "")
			wants(t, b.Disconnect(ctx, "c1"), nil)
			b.is(t, "", "", "")
		},
		"the mark of delivery": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			b.loses("UpdateItem", "SET #status = :delivered")
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, func(context.Context, meeting.Item, meeting.Connection) error { return nil }), nil)
			b.is(t, meeting.Delivered, "c1", "")
		},
		"the mark of delivery, before another comes": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "")
			marks := 0
			b.before = func(_, expression string) fault {
				if !strings.Contains(expression, "SET #status = :delivered") {
					return none
				}
				if marks++; marks == 1 {
					return lost
				}
				b.before = nil
				item := b.table.Items[arn]
				item[dynamodbtest.IndexName] = dynamodbtest.Value{"S": "c2"} // written by an on-connect that finds DELIVERED and starts a delivery
				return none
			}
			var notified []string
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, func(_ context.Context, _ meeting.Item, c meeting.Connection) error {
				notified = append(notified, c.ID)
				return nil
			}), nil)
			if marks != 2 || !slices.Equal(notified, []string{"c1"}) {
				t.Errorf("got %d marks, and %q notified, want c1 alone", marks, notified)
			}
			b.is(t, meeting.Delivered, "c2", "")
		},
		"a request's end": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, meeting.Request, "")
			b.loses("DeleteItem", "")
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, nil), nil)
			b.is(t, "", "", "")
		},
		"a dead connection taken out": func(t *testing.T, b *bench) {
			b.given(meeting.Ready, "c1", "", "long ago")
			b.loses("UpdateItem", "REMOVE connectionId")
			wants(t, b.Deliver(ctx, arn, meeting.Connection{}, func(context.Context, meeting.Item, meeting.Connection) error { return meeting.ErrGone }), meeting.ErrGone)
			b.is(t, meeting.Ready, "", "")
		},
		"cancel": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			b.loses("UpdateItem", "SET cancelled")
			wants(t, b.Cancel(ctx, arn), nil)
		},
		"copied": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "", "")
			b.loses("UpdateItem", "SET #status = :ready")
			wants(t, b.Copied(ctx, arn, 1), nil)
		},
		"end": func(t *testing.T, b *bench) {
			b.given(meeting.Copying, "c1", "")
			b.loses("UpdateItem", "SET #status = :status")
			i, err := b.End(ctx, arn, failure.New(failure.OriginStatus, "why"))
			wants(t, err, meeting.ErrEnded) // the item has the reason that was noted first
			if i.Failure == nil || i.Failure.Code != failure.OriginStatus || i.ConnectionID != "c1" {
				t.Errorf("got %+v", i)
			}
		},
	})
}

// A throttled call is tried three times; then it returns an error and nothing has
// changed.
func TestThrottled(t *testing.T) {
	scenes(t, map[string]func(*testing.T, *bench){
		"twice": func(t *testing.T, b *bench) {
			n := 0
			b.given(meeting.Copying, "", "")
			b.before = func(string, string) fault {
				if n++; n <= 2 {
					return throttled
				}
				return none
			}
			_, err := b.Connect(ctx, arn, at("c1"))
			wants(t, err, nil)
			b.is(t, meeting.Copying, "c1", "")
		},
		"for good": func(t *testing.T, b *bench) {
			n := 0
			b.given(meeting.Copying, "", "")
			b.before = func(string, string) fault { n++; return throttled }
			_, err := b.Connect(ctx, arn, at("c1"))
			if err == nil || errors.Is(err, meeting.ErrUnknown) {
				t.Errorf("got %v, want an error that isn't ErrUnknown: throttled is not unknown", err)
			}
			if n > 5 {
				t.Errorf("got %d tries, want 5 at most", n)
			}
			b.before = nil
			b.is(t, meeting.Copying, "", "")
		},
	})
}

// A cancel that is accepted while the link is being posted promises that nothing is
// kept: the mark of delivery doesn't overwrite it, even if the client closed meanwhile.
func TestCancelWhileTheLinkIsOnItsWay(t *testing.T) {
	for title, more := range map[string]func(b *bench) error{
		"stays":  func(*bench) error { return nil },
		"closes": func(b *bench) error { return b.Leave(ctx, arn, "c1") },
	} {
		t.Run(title, func(t *testing.T) {
			b := newBench()
			b.given(meeting.Ready, "c1", "")
			err := b.Deliver(ctx, arn, meeting.Connection{}, func(context.Context, meeting.Item, meeting.Connection) error {
				return errors.Join(b.Cancel(ctx, arn), more(b))
			})
			wants(t, err, failure.ErrCancelled)
			if i, err := b.Current(ctx, arn); err != nil || !i.Cancelled || i.Status != meeting.Ready {
				t.Errorf("got %+v, %v, want the mark in an item that has not ended", i, err)
			}
		})
	}
	b := newBench()
	b.given(meeting.Ready, meeting.Request, "")
	b.before = func(operation, _ string) fault {
		if operation == "DeleteItem" {
			b.before = nil
			wants(t, b.Cancel(ctx, arn), nil)
		}
		return none
	}
	wants(t, b.Deliver(ctx, arn, meeting.Connection{}, nil), failure.ErrCancelled)
	b.is(t, meeting.Ready, meeting.Request, "")
}

// Clean-up may end the item of an execution that was stopped while its link was being
// posted; the item then has the reason and stays.
func TestEndWhileTheLinkIsOnItsWay(t *testing.T) {
	for title, more := range map[string]struct {
		do   func(b *bench) error
		want error
		left string
	}{
		"stays":  {func(*bench) error { return nil }, nil, "c1"}, // and gets the reason
		"closes": {func(b *bench) error { return b.Leave(ctx, arn, "c1") }, meeting.ErrGone, ""},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.given(meeting.Ready, "c1", "")
				var notified []meeting.Status
				err := b.Deliver(ctx, arn, meeting.Connection{}, func(_ context.Context, i meeting.Item, _ meeting.Connection) error {
					if notified = append(notified, i.Status); len(notified) > 1 {
						return nil
					}
					_, err := b.End(ctx, arn, failure.New(failure.Cancelled, "stopped"))
					return errors.Join(err, more.do(b))
				})
				wants(t, err, more.want)
				b.is(t, meeting.Cancelled, more.left, "")
				if last := notified[len(notified)-1]; more.left != "" && last != meeting.Cancelled {
					t.Errorf("notified last of %s, want CANCELLED", last)
				}
			})
		})
	}
}

// The writes of the wait and of the expiry, as the state machine sends them.
func TestWaitIsConditional(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"Wait for the client", "Note the expiry"} {
		s := machines()["download"].States[name]
		for title, scene := range map[string]struct {
			given func(b *bench)
			held  bool
		}{
			"nobody here":   {func(b *bench) { b.given(meeting.Ready, "", "") }, true},
			"waited before": {func(b *bench) { b.given(meeting.Ready, "", "old") }, true},
			"client here":   {func(b *bench) { b.given(meeting.Ready, "c1", "") }, false},
			"request here":  {func(b *bench) { b.given(meeting.Ready, meeting.Request, "") }, false},
			"cancelled":     {func(b *bench) { b.given(meeting.Ready, "", "", "cancelled") }, false},
			"item gone":     {func(*bench) {}, false},
		} {
			t.Run(name+", "+title, func(t *testing.T) {
				b := newBench()
				scene.given(b)
				before := b.table.Get(arn)
				x := &execution{arn: arn}
				p := x.fill(map[string]any{}, s.Parameters, "new").(map[string]any)
				w.table.Items = b.table.Items
				p2, no := w.integrated(ctx, p)
				if scene.held != (no == nil) {
					t.Fatalf("got %v %v, want it to hold: %v", p2, no, scene.held)
				}
				i := w.table.Get(arn)
				if !scene.held {
					if no.name != "DynamoDb.ConditionalCheckFailedException" || !reflect.DeepEqual(i, before) {
						t.Errorf("got %v and item %v, want nothing changed", no, i)
					}
					if len(w.table.Items) > 1 || before == nil && i != nil {
						t.Errorf("made a row: %v", w.table.Items)
					}
					return
				}
				if token := i["taskToken"]["S"]; name == "Wait for the client" && token != "new" || name == "Note the expiry" && (token != nil || i["status"]["S"] != "EXPIRED") {
					t.Errorf("got %v", i)
				}
			})
		}
	}
}

// For a client whose connections open and close every few seconds, each delivery finds
// one that may still be opening. It still gets its link.
func TestClientThatKeepsComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(int) int { return 0 })
		defer w.finally()
		w.begin()
		for range 30 {
			s := w.connect()
			for tick := range 30 { // 3 s
				for {
					all, _ := w.standing()
					i := slices.IndexFunc(all, func(c *call) bool { return !strings.HasPrefix(c.what, "101") })
					if i < 0 {
						break
					}
					w.proceed(all[i], none)
				}
				if tick == 5 { // before it is open
					w.drop(s, true)
				}
				w.sleep(100 * time.Millisecond)
			}
		}
		if w.visits["Send the link"] < 2 {
			t.Errorf("got %d deliveries, want them to give up at least once", w.visits["Send the link"])
		}
		w.connect()
		w.settle()
		w.judge()
		if w.end != "SUCCEEDED" {
			t.Errorf("ended as %s%s", w.end, w.story())
		}
	})
}
