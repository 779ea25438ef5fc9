// Package dynamodbtest is a fake DynamoDB with the connections table: one item per key, an
// index that may lag, and an evaluator of the expressions that the SDK and Step Functions
// send. It rejects what it doesn't know; TestTableAsDynamoDB in internal/meeting compares it
// with DynamoDB's own answers.
//
// It implements the service's protocol, so that the real SDK with its retries is used. In
// process, ten thousand histories take minutes, and time can be testing/synctest's.
package dynamodbtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// Table is the table. The zero value is empty and ready to use.
type Table struct {
	// Items has the items by key, and Index the connectionId of each as the index has it.
	// Both may be read and set while no request is served.
	Items map[string]Item
	Index map[string]string
	// Behind makes the index lag until CatchUp is called.
	Behind bool
	// done has the answers of transactions by their tokens.
	done map[string]map[string]any

	// Changed, if set, is called after each write that changed something.
	Changed func(before, after Item)

	mu sync.Mutex
}

// Item is an item, by the names of its attributes.
type Item map[string]Value

// Value is an attribute's value in the protocol: {"S": "x"}.
type Value map[string]any

// The table's names.
const (
	TableName = "connections"
	KeyName   = "executionArn"
	IndexName = "connectionId"
)

// refusal is an error of the service.
type refusal struct {
	code, message string
	item          Item
	reasons       []map[string]any // of a cancelled transaction
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func invalid(format string, a ...any) *refusal {
	return &refusal{code: "ValidationException", message: fmt.Sprintf(format, a...)}
}

// Request has the parameters of all operations, and of a part of a transaction.
type Request struct {
	TransactItems                       []map[string]Request
	ClientRequestToken                  string
	TableName, IndexName                string
	Key, Item                           Item
	ConsistentRead                      bool
	ProjectionExpression                string
	KeyConditionExpression              string
	UpdateExpression                    string
	ConditionExpression                 string
	ExpressionAttributeNames            map[string]string
	ExpressionAttributeValues           map[string]Value
	ReturnValues                        string
	ReturnValuesOnConditionCheckFailure string
}

// Do executes a request and returns the service's answer.
func (t *Table) Do(operation string, body []byte) (status int, answer []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var r Request
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	out, err := map[string]any(nil), d.Decode(&r)
	if err == nil {
		out, err = t.carryOut(operation, r)
	}
	if err != nil {
		no, ok := err.(*refusal)
		if !ok {
			no = &refusal{code: "SerializationException", message: err.Error()}
		}
		status, out = http.StatusBadRequest, map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + no.code, "message": no.message}
		if no.item != nil {
			out["Item"] = no.item
		}
		if no.reasons != nil {
			out["CancellationReasons"] = no.reasons
		}
	} else {
		status = http.StatusOK
	}
	answer, err = json.Marshal(out)
	if err != nil {
		panic(err)
	}
	return status, answer
}

// transact applies the writes of a transaction, all or none.
func (t *Table) transact(r Request) (map[string]any, error) {
	if answer, ok := t.done[r.ClientRequestToken]; ok {
		return answer, nil
	}
	var writes []write
	var reasons []map[string]any
	cancelled := false
	for _, one := range r.TransactItems {
		for verb, r := range one {
			key, before, after, _, err := t.change(verb+"Item", r)
			no, refused := err.(*refusal)
			reason := map[string]any{"Code": "None"}
			switch {
			case refused && no.code == "ConditionalCheckFailedException":
				cancelled = true
				reason = map[string]any{"Code": "ConditionalCheckFailed", "Message": no.message}
				if no.item != nil {
					reason["Item"] = no.item
				}
			case err != nil:
				return nil, err
			}
			if slices.ContainsFunc(writes, func(w write) bool { return w.key == key }) {
				return nil, invalid("Transaction request cannot include multiple operations on one item")
			}
			reasons, writes = append(reasons, reason), append(writes, write{key, before, after})
		}
	}
	if cancelled {
		return nil, &refusal{code: "TransactionCanceledException", message: "Transaction cancelled, please refer cancellation reasons for specific reasons", reasons: reasons}
	}
	if err := t.apply(writes...); err != nil {
		return nil, err
	}
	if t.done == nil {
		t.done = map[string]map[string]any{}
	}
	if r.ClientRequestToken != "" {
		t.done[r.ClientRequestToken] = map[string]any{}
	}
	return map[string]any{}, nil
}

func (t *Table) carryOut(operation string, r Request) (map[string]any, error) {
	switch operation {
	case "TransactWriteItems":
		return t.transact(r)
	case "PutItem", "DeleteItem", "UpdateItem":
		key, before, after, out, err := t.change(operation, r)
		if err == nil {
			err = t.apply(write{key, before, after})
		}
		return out, err
	case "GetItem":
		return t.getItem(r)
	case "Query":
		return t.query(r)
	}
	return nil, fmt.Errorf("%s is not known here", operation)
}

func (r Request) key(operation string) (string, error) {
	of := r.Key
	if operation == "PutItem" {
		of = r.Item
	} else if len(of) != 1 {
		return "", invalid("The provided key element does not match the schema")
	}
	key, ok := of[KeyName]["S"].(string)
	if !ok {
		return "", invalid("The provided key element does not match the schema")
	}
	if key == "" {
		return "", invalid("One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: %s", KeyName)
	}
	return key, nil
}

var errNoTable = &refusal{code: "ResourceNotFoundException", message: "Cannot do operations on a non-existent table"}

// change returns what a write makes of its item, and its answer.
func (t *Table) change(operation string, r Request) (key string, before, after Item, answer map[string]any, err error) {
	if r.TableName != TableName {
		return "", nil, nil, nil, errNoTable
	}
	e := newExpressions(r)
	if key, err = r.key(operation); err != nil {
		return key, nil, nil, nil, err
	}
	condition, err := e.condition(r.ConditionExpression)
	if err != nil {
		return key, nil, nil, nil, err
	}
	update := func(Item) error { return nil }
	if operation == "UpdateItem" {
		if update, err = e.update(r.UpdateExpression); err != nil {
			return key, nil, nil, nil, err
		}
	}
	if err := e.finish(); err != nil {
		return key, nil, nil, nil, err
	}
	before, answer = t.Items[key], map[string]any{}
	if condition != nil && !condition(before) {
		no := &refusal{code: "ConditionalCheckFailedException", message: "The conditional request failed"}
		if r.ReturnValuesOnConditionCheckFailure == "ALL_OLD" && before != nil {
			no.item = before
		}
		return key, nil, nil, nil, no
	}
	switch operation {
	case "PutItem":
		after = maps.Clone(r.Item)
	case "UpdateItem":
		if after = maps.Clone(before); after == nil { // an update creates a missing item
			after = Item{KeyName: r.Key[KeyName]}
		}
		if err := update(after); err != nil {
			return key, nil, nil, nil, err
		}
		switch r.ReturnValues {
		case "", "NONE":
		case "ALL_NEW":
			answer["Attributes"] = after
		default:
			return key, nil, nil, nil, fmt.Errorf("ReturnValues %s is not known here", r.ReturnValues)
		}
	}
	return key, before, after, answer, nil
}

func (t *Table) getItem(r Request) (map[string]any, error) {
	if r.TableName != TableName {
		return nil, errNoTable
	}
	key, err := r.key("GetItem")
	if err != nil {
		return nil, err
	}
	e := newExpressions(r)
	only, err := e.projection(r.ProjectionExpression)
	if err != nil {
		return nil, err
	}
	if err := e.finish(); err != nil {
		return nil, err
	}
	if !r.ConsistentRead {
		return nil, fmt.Errorf("a read of the item that isn't consistent decides nothing")
	}
	if t.Items[key] == nil {
		return map[string]any{}, nil
	}
	return map[string]any{"Item": only(t.Items[key])}, nil
}

func (t *Table) query(r Request) (map[string]any, error) {
	switch {
	case r.TableName != TableName:
		return nil, errNoTable
	case r.IndexName != IndexName:
		return nil, invalid("The table does not have the specified index: %s", r.IndexName)
	case r.ConsistentRead:
		return nil, invalid("Consistent reads are not supported on global secondary indexes")
	}
	e := newExpressions(r)
	asked, err := e.condition(r.KeyConditionExpression)
	if err != nil {
		return nil, err
	}
	if err := e.finish(); err != nil {
		return nil, err
	}
	found := []Item{}
	for _, key := range slices.Sorted(maps.Keys(t.Index)) {
		i := Item{KeyName: {"S": key}, IndexName: {"S": t.Index[key]}}
		if asked(i) {
			found = append(found, i)
		}
	}
	return map[string]any{"Items": found, "Count": len(found), "ScannedCount": len(found)}, nil
}

// write is what a write makes of an item; nil is none.
type write struct {
	key           string
	before, after Item
}

func (t *Table) apply(writes ...write) error {
	for _, w := range writes {
		if id, ok := w.after[IndexName]; ok {
			s, isString := id["S"].(string)
			if !isString {
				return invalid("One or more parameter values were invalid: Type mismatch for Index Key %s", IndexName)
			}
			if s == "" {
				return invalid("One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain an empty string value. IndexName: %s, IndexKey: %s", IndexName, IndexName)
			}
		}
	}
	if t.Items == nil {
		t.Items = map[string]Item{}
	}
	for _, w := range writes {
		if w.after == nil {
			delete(t.Items, w.key)
		} else {
			t.Items[w.key] = w.after
		}
	}
	if !t.Behind {
		t.follow()
	}
	for _, w := range writes {
		if t.Changed != nil {
			t.Changed(w.before, w.after)
		}
	}
	return nil
}

// follow brings the index up to date.
func (t *Table) follow() {
	t.Index = map[string]string{}
	for key, i := range t.Items {
		if id, ok := i[IndexName]["S"].(string); ok {
			t.Index[key] = id
		}
	}
}

// CatchUp brings the index up to date.
func (t *Table) CatchUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.follow()
}

// Get returns the item with a key, nil if there is none.
func (t *Table) Get(key string) Item {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.Items[key])
}
