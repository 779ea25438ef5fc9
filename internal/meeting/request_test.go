package meeting_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
)

// post is what a POST sends in these tests.
var post = meeting.OriginRequest{
	Method: "POST", ContentType: "application/json", Body: []byte(`{"q":1}`), Header: map[string]string{"Authorization": "Bearer a.b.c"},
}

// create creates a download with a request, or without one.
func (b *bench) create(t *testing.T, r *meeting.OriginRequest) meeting.Item {
	t.Helper()
	wants(t, b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "a"}, r), nil)
	item, err := b.Current(ctx, arn)
	wants(t, err, nil)
	if item.HasRequest != (r != nil) {
		t.Errorf("hasRequest: got %t, want %t", item.HasRequest, r != nil)
	}
	return item
}

// wantRequest compares the request item; nil means that there is none.
func (b *bench) wantRequest(t *testing.T, want *meeting.OriginRequest) {
	t.Helper()
	got, err := b.Request(ctx, arn)
	if want == nil {
		wants(t, err, meeting.ErrUnknown)
		return
	}
	wants(t, err, nil)
	if !reflect.DeepEqual(got, *want) {
		t.Errorf("request: got %+v, want %+v", got, *want)
	}
	// Both items expire together.
	if of := b.table.Get(arn); of != nil && !dynamodbtest.Equal(of["expiresAt"], b.table.Get(arn + "#request")["expiresAt"]) {
		t.Errorf("the request expires at %v, its download at %v", b.table.Get(arn + "#request")["expiresAt"], of["expiresAt"])
	}
}

func TestRequest(t *testing.T) {
	with := func(change func(*meeting.OriginRequest)) *meeting.OriginRequest {
		r := post
		change(&r)
		return &r
	}
	sentBy := func(run string) *meeting.OriginRequest {
		return with(func(r *meeting.OriginRequest) { r.SentBy = run })
	}
	atPlace := func(r *meeting.OriginRequest) {
		r.Place, r.Away, r.Cookies = "https://origin.example/jobs/1", true, []byte("c")
	}
	place := func(b *bench, i meeting.Item) error {
		return b.SetPlace(ctx, i, "https://origin.example/jobs/1", true, []byte("c"))
	}
	scenes(t, map[string]func(*testing.T, *bench){
		"created with its download": func(t *testing.T, b *bench) {
			b.create(t, &post)
			b.wantRequest(t, &post)
			wants(t, b.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "a"}, sentBy("x")), meeting.ErrExists)
			b.wantRequest(t, &post)
		},
		"created, reply lost": func(t *testing.T, b *bench) {
			b.loses("TransactWriteItems", "")
			b.create(t, &post)
			b.wantRequest(t, &post)
		},
		"empty": func(t *testing.T, b *bench) {
			b.create(t, &meeting.OriginRequest{Method: "POST"})
			b.wantRequest(t, &meeting.OriginRequest{Method: "POST"})
		},
		"none": func(t *testing.T, b *bench) {
			i := b.create(t, nil)
			b.wantRequest(t, nil)
			wants(t, b.MarkSent(ctx, arn, "run"), meeting.ErrUnknown)
			wants(t, b.ClearSent(ctx, arn, "run"), meeting.ErrUnknown)
			wants(t, b.DropRequest(ctx, arn), nil)
			wants(t, b.Discard(ctx, i), nil)
			b.is(t, "", "", "")
		},
		"sent once": func(t *testing.T, b *bench) {
			b.create(t, &post)
			wants(t, b.MarkSent(ctx, arn, "one"), nil)
			b.wantRequest(t, sentBy("one"))
			wants(t, b.MarkSent(ctx, arn, "two"), meeting.ErrSent)
			wants(t, b.ClearSent(ctx, arn, "two"), meeting.ErrSent)
			b.wantRequest(t, sentBy("one"))
			wants(t, b.ClearSent(ctx, arn, "one"), nil)
			b.wantRequest(t, &post)
			wants(t, b.MarkSent(ctx, arn, "two"), nil)
			b.wantRequest(t, sentBy("two"))
		},
		"sent, replies lost": func(t *testing.T, b *bench) {
			b.create(t, &post)
			b.loses("UpdateItem", "SET sentBy")
			wants(t, b.MarkSent(ctx, arn, "one"), nil)
			b.loses("UpdateItem", "SET sentBy")
			wants(t, b.ClearSent(ctx, arn, "one"), nil)
			b.wantRequest(t, &post)
		},
		"a place": func(t *testing.T, b *bench) {
			i := b.create(t, &post)
			wants(t, place(b, i), nil)
			b.wantRequest(t, with(atPlace))
		},
		"a place of a plain GET, reply lost": func(t *testing.T, b *bench) {
			i := b.create(t, nil)
			b.loses("TransactWriteItems", "SET place")
			wants(t, place(b, i), nil)
			want := meeting.OriginRequest{}
			atPlace(&want)
			b.wantRequest(t, &want)
			if i, _ = b.Current(ctx, arn); !i.HasRequest {
				t.Error("the item doesn't say that there is a request")
			}
		},
		"no place after the end": func(t *testing.T, b *bench) {
			for _, end := range []func(){
				func() { wants(t, b.Cancel(ctx, arn), nil) },
				func() { wants(t, b.Copied(ctx, arn, 1), nil) },
				func() { _, err := b.End(ctx, arn, failure.New(failure.OriginStatus, "404")); wants(t, err, nil) },
			} {
				b.table.Items = nil
				i := b.create(t, nil)
				end()
				wants(t, place(b, i), meeting.ErrEnded)
				b.wantRequest(t, nil)
			}
			b.table.Items = nil
			wants(t, place(b, meeting.Item{ExecutionARN: arn}), meeting.ErrUnknown)
			b.wantRequest(t, nil)
		},
		"gone with the copy": func(t *testing.T, b *bench) {
			b.create(t, &post)
			b.loses("TransactWriteItems", ":ready")
			wants(t, b.Copied(ctx, arn, 3), nil)
			b.is(t, meeting.Ready, "", "")
			if i, _ := b.Current(ctx, arn); i.BytesCopied != 3 || i.CopiedAt == 0 {
				t.Errorf("got %+v, want 3 bytes", i)
			}
			// A second worker that is done, and one that is after a delivery.
			b.before = func(operation, _ string) fault {
				if operation == "TransactWriteItems" {
					t.Error("a worker that was not the first began a transaction")
				}
				return none
			}
			wants(t, b.Copied(ctx, arn, 3), nil)
			b.table.Items = nil
			wants(t, b.Copied(ctx, arn, 3), meeting.ErrUnknown)
		},
		"copied after a cancel": func(t *testing.T, b *bench) {
			b.create(t, &post)
			wants(t, b.Cancel(ctx, arn), nil)
			wants(t, b.Copied(ctx, arn, 3), meeting.ErrEnded)
			b.wantRequest(t, &post) // until the end is noted
		},
		"gone with the end": func(t *testing.T, b *bench) {
			b.create(t, &post)
			failed := failure.New(failure.OriginStatus, "404")
			b.before = func(operation, _ string) fault {
				if operation == "DeleteItem" {
					return throttled
				}
				return none
			}
			if _, err := b.End(ctx, arn, failed); err == nil || errors.Is(err, meeting.ErrEnded) {
				t.Errorf("got %v, want an error that has End called again", err)
			}
			b.before = nil
			_, err := b.End(ctx, arn, failed)
			wants(t, err, meeting.ErrEnded)
			b.is(t, meeting.Failed, "", "")
		},
		"discarded": func(t *testing.T, b *bench) {
			wants(t, b.Discard(ctx, b.create(t, &post)), nil)
			b.is(t, "", "", "")
		},
	})
}

// DynamoDB refuses writes that meet a transaction on the same item; they are repeated.
func TestTransactionConflicts(t *testing.T) {
	for title, refusal := range map[string]string{
		"a write": `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"Transaction is ongoing for the item"}`,
		"a transaction": `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"Transaction cancelled",
			"CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}]}`,
		"throttling": `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"Transaction cancelled",
			"CancellationReasons":[{"Code":"ThrottlingError"},{"Code":"None"}]}`,
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var conflicts []string
				mine := &dynamodbtest.Table{}
				b := &bench{table: mine, Table: &meeting.Table{Name: dynamodbtest.TableName, DynamoDB: dynamodbtest.Client(func(_ *http.Request, operation string, body []byte) (int, []byte, error) {
					write := operation
					if operation != "GetItem" && !slices.Contains(conflicts, write) && strings.Contains(title, "write") == (operation != "TransactWriteItems") {
						conflicts = append(conflicts, write)
						return http.StatusBadRequest, []byte(refusal), nil
					}
					status, answer := mine.Do(operation, body)
					return status, answer, nil
				})}}
				i := b.create(t, &post)
				wants(t, b.SetPlace(ctx, i, "https://origin.example/", false, nil), nil)
				wants(t, b.MarkSent(ctx, arn, "one"), nil)
				wants(t, b.Discard(ctx, i), nil)
				b.is(t, "", "", "")
				if len(conflicts) == 0 {
					t.Error("nothing met a conflict")
				}
			})
		})
	}
}

func TestWaitUntil(t *testing.T) {
	until := time.UnixMilli(1_800_000_000_123)
	scenes(t, map[string]func(*testing.T, *bench){
		"while it copies": func(t *testing.T, b *bench) {
			b.create(t, nil)
			wants(t, b.WaitUntil(ctx, arn, until), nil)
			if i, _ := b.Current(ctx, arn); i.WaitsUntil != until.UnixMilli() {
				t.Errorf("got %d, want %d", i.WaitsUntil, until.UnixMilli())
			}
		},
		"after a cancel": func(t *testing.T, b *bench) {
			b.create(t, nil)
			wants(t, b.Cancel(ctx, arn), nil)
			wants(t, b.WaitUntil(ctx, arn, until), meeting.ErrEnded)
		},
		"cancelled during the wait": func(t *testing.T, b *bench) {
			b.create(t, nil)
			stops := 0
			b.tokens.stop = func() bool { stops++; return true }
			wants(t, b.WaitUntil(ctx, arn, time.Now().Add(time.Minute)), nil)
			b.tokens.pass = func(context.Context, string) fault { return throttled }
			if err := b.Cancel(ctx, arn); err == nil {
				t.Error("want an error, after which the client cancels again")
			}
			b.tokens.pass = nil
			wants(t, b.Cancel(ctx, arn), nil)
			if stops != 1 {
				t.Errorf("the execution was stopped %d times, want 1", stops)
			}
			b.tokens.stop = func() bool { return false } // it has ended
			wants(t, b.Cancel(ctx, arn), nil)
		},
		"cancelled after the wait": func(t *testing.T, b *bench) {
			b.create(t, nil)
			b.tokens.stop = func() bool { t.Error("an execution whose worker runs was stopped"); return true }
			wants(t, b.WaitUntil(ctx, arn, time.Now().Add(time.Minute)), nil)
			time.Sleep(time.Minute)
			wants(t, b.Cancel(ctx, arn), nil)
		},
		"cancelled while the file waits for its client": func(t *testing.T, b *bench) {
			b.create(t, nil)
			b.tokens.stop = func() bool { t.Error("an execution that doesn't wait for its origin was stopped"); return true }
			wants(t, b.WaitUntil(ctx, arn, time.Now().Add(time.Minute)), nil)
			wants(t, b.Copied(ctx, arn, 3), nil) // by a worker whose predecessor's reply was lost
			wants(t, b.Cancel(ctx, arn), nil)
		},
		"without an item": func(t *testing.T, b *bench) {
			wants(t, b.WaitUntil(ctx, arn, until), meeting.ErrUnknown)
			b.is(t, "", "", "")
		},
	})
}
