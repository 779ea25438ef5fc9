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
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	_ "embed"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
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
	case "GetItem", "Query":
		return t.find(operation, r)
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
	e := expressions{names: r.ExpressionAttributeNames, values: r.ExpressionAttributeValues, used: map[string]bool{}}
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

// find answers the two reads.
func (t *Table) find(operation string, r Request) (map[string]any, error) {
	if r.TableName != TableName {
		return nil, errNoTable
	}
	e := expressions{names: r.ExpressionAttributeNames, values: r.ExpressionAttributeValues, used: map[string]bool{}}
	if operation == "GetItem" {
		key, err := r.key(operation)
		if err != nil {
			return nil, err
		}
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
	if r.IndexName != IndexName {
		return nil, invalid("The table does not have the specified index: %s", r.IndexName)
	}
	if r.ConsistentRead {
		return nil, invalid("Consistent reads are not supported on global secondary indexes")
	}
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

// expressions are the expressions of a request, with their names and values.
type expressions struct {
	names  map[string]string
	values map[string]Value
	used   map[string]bool

	tokens []string
}

// operand returns a value, or nil if it is missing.
type operand func(Item) Value

//go:embed reserved.txt
var reservedText string

// reserved has DynamoDB's reserved words.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
var reserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(reservedText) {
		m[w] = true
	}
	return m
}()

func (e *expressions) scan(text string) {
	e.tokens = nil
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		n := 1
		switch c := rest[0]; {
		case strings.HasPrefix(rest, "<>"), strings.HasPrefix(rest, "<="), strings.HasPrefix(rest, ">="):
			n = 2
		case c == '#' || c == ':' || word(c):
			for n < len(rest) && word(rest[n]) {
				n++
			}
		}
		e.tokens, rest = append(e.tokens, rest[:n]), rest[n:]
	}
}

func word(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func (e *expressions) peek() string {
	if len(e.tokens) == 0 {
		return ""
	}
	return e.tokens[0]
}

func (e *expressions) take() string {
	t := e.peek()
	if t != "" {
		e.tokens = e.tokens[1:]
	}
	return t
}

func (e *expressions) accept(t string) bool {
	if !strings.EqualFold(e.peek(), t) {
		return false
	}
	e.take()
	return true
}

func (e *expressions) expect(t string) error {
	if !e.accept(t) {
		return invalid("Invalid expression: Syntax error; token: %q, wanted %q", e.peek(), t)
	}
	return nil
}

// finish rejects names and values that were not used.
func (e *expressions) finish() error {
	for n := range e.names {
		if !e.used[n] {
			return invalid("Value provided in ExpressionAttributeNames unused in expressions: keys: {%s}", n)
		}
	}
	for v := range e.values {
		if !e.used[v] {
			return invalid("Value provided in ExpressionAttributeValues unused in expressions: keys: {%s}", v)
		}
	}
	return nil
}

func (e *expressions) path() (string, error) {
	t := e.take()
	switch {
	case strings.HasPrefix(t, "#"):
		name, ok := e.names[t]
		if !ok {
			return "", invalid("Invalid expression: An expression attribute name used in the document path is not defined; attribute name: %s", t)
		}
		e.used[t] = true
		return name, nil
	case t == "" || !word(t[0]) || '0' <= t[0] && t[0] <= '9':
		return "", invalid("Invalid expression: Syntax error; token: %q", t)
	case reserved[strings.ToUpper(t)]:
		return "", invalid("Invalid expression: Attribute name is a reserved keyword; reserved keyword: %s", t)
	}
	return t, nil
}

func (e *expressions) operand() (operand, error) {
	if t := e.peek(); strings.HasPrefix(t, ":") {
		v, ok := e.values[t]
		if !ok {
			return nil, invalid("Invalid expression: An expression attribute value used in expression is not defined; attribute value: %s", t)
		}
		e.take()
		e.used[t] = true
		return func(Item) Value { return v }, nil
	}
	name, err := e.path()
	return func(i Item) Value { return i[name] }, err
}

func (e *expressions) projection(text string) (func(Item) Item, error) {
	if text == "" {
		return func(i Item) Item { return i }, nil
	}
	e.scan(text)
	var names []string
	for {
		name, err := e.path()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if !e.accept(",") {
			break
		}
	}
	if len(e.tokens) > 0 {
		return nil, invalid("Invalid ProjectionExpression: Syntax error; token: %q", e.peek())
	}
	return func(i Item) Item {
		only := Item{}
		for _, n := range names {
			if v, ok := i[n]; ok {
				only[n] = v
			}
		}
		return only
	}, nil
}

func (e *expressions) condition(text string) (func(Item) bool, error) {
	if text == "" {
		return nil, nil
	}
	e.scan(text)
	c, err := e.either()
	if err == nil && len(e.tokens) > 0 {
		err = invalid("Invalid ConditionExpression: Syntax error; token: %q", e.peek())
	}
	return c, err
}

func (e *expressions) either() (func(Item) bool, error) {
	a, err := e.both()
	for err == nil && e.accept("OR") {
		var b func(Item) bool
		one := a
		b, err = e.both()
		a = func(i Item) bool { return one(i) || b(i) }
	}
	return a, err
}

func (e *expressions) both() (func(Item) bool, error) {
	a, err := e.not()
	for err == nil && e.accept("AND") {
		var b func(Item) bool
		one := a
		b, err = e.not()
		a = func(i Item) bool { return one(i) && b(i) }
	}
	return a, err
}

func (e *expressions) not() (func(Item) bool, error) {
	if e.accept("NOT") {
		c, err := e.not()
		return func(i Item) bool { return !c(i) }, err
	}
	if e.accept("(") {
		c, err := e.either()
		if err == nil {
			err = e.expect(")")
		}
		return c, err
	}
	for function, want := range map[string]bool{"attribute_exists": true, "attribute_not_exists": false} {
		if e.peek() != function { // functions are lower case, keywords any case
			continue
		}
		e.take()
		if err := e.expect("("); err != nil {
			return nil, err
		}
		name, err := e.path()
		if err == nil {
			err = e.expect(")")
		}
		return func(i Item) bool { _, ok := i[name]; return ok == want }, err
	}
	a, err := e.operand()
	if err != nil {
		return nil, err
	}
	if e.accept("IN") {
		if err := e.expect("("); err != nil {
			return nil, err
		}
		var list []operand
		for {
			b, err := e.operand()
			if err != nil {
				return nil, err
			}
			list = append(list, b)
			if !e.accept(",") {
				break
			}
		}
		return func(i Item) bool {
			return slices.ContainsFunc(list, func(b operand) bool { return Equal(a(i), b(i)) })
		}, e.expect(")")
	}
	op := e.take()
	b, err := e.operand()
	if err != nil {
		return nil, err
	}
	switch op {
	case "=":
		return func(i Item) bool { return Equal(a(i), b(i)) }, nil
	case "<>":
		return func(i Item) bool { return !Equal(a(i), b(i)) }, nil
	case "<", "<=", ">", ">=":
		return func(i Item) bool { return ordered(op, a(i), b(i)) }, nil
	}
	return nil, invalid("Invalid expression: Syntax error; token: %q", op)
}

// Equal compares two values as DynamoDB does; a missing value equals nothing.
func Equal(a, b Value) bool {
	if a == nil || b == nil {
		return false
	}
	if x, y := number(a), number(b); x != nil && y != nil {
		return x.Cmp(y) == 0
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func ordered(op string, a, b Value) bool {
	var c int
	if x, y := number(a), number(b); x != nil && y != nil {
		c = x.Cmp(y)
	} else if x, ok := a["S"].(string); ok {
		y, ok := b["S"].(string)
		if !ok {
			return false
		}
		c = strings.Compare(x, y)
	} else {
		return false
	}
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

func number(v Value) *big.Rat {
	s, ok := v["N"].(string)
	if !ok {
		return nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil
	}
	return r
}

func (e *expressions) update(text string) (func(Item) error, error) {
	e.scan(text)
	type change struct {
		name string
		to   func(old Item) (Value, error) // nil removes
	}
	var changes []change
	seen, sections := map[string]bool{}, map[string]bool{}
	for len(e.tokens) > 0 {
		section := strings.ToUpper(e.take())
		if sections[section] {
			return nil, invalid("Invalid UpdateExpression: The %q section can only be used once in an update expression;", section)
		}
		sections[section] = true
		for {
			name, err := e.path()
			if err != nil {
				return nil, err
			}
			c := change{name: name}
			switch section {
			case "SET":
				if err := e.expect("="); err != nil {
					return nil, err
				}
				from, err := e.operand()
				if err != nil {
					return nil, err
				}
				c.to = func(old Item) (Value, error) {
					if v := from(old); v != nil {
						return v, nil
					}
					return nil, invalid("The provided expression refers to an attribute that does not exist in the item")
				}
			case "ADD":
				by, err := e.operand()
				if err != nil {
					return nil, err
				}
				c.to = func(old Item) (Value, error) {
					n := number(by(old))
					if v, ok := old[name]; ok && n != nil {
						was := number(v)
						if was == nil {
							return nil, invalid("An operand in the update expression has an incorrect data type")
						}
						n.Add(n, was)
					}
					if n == nil {
						return nil, invalid("Invalid UpdateExpression: Incorrect operand type for operator or function; operator: ADD")
					}
					return Value{"N": n.RatString()}, nil
				}
			case "REMOVE":
			default:
				return nil, invalid("Invalid UpdateExpression: Syntax error; token: %q", section)
			}
			if name == KeyName {
				return nil, invalid("One or more parameter values were invalid: Cannot update attribute %s. This attribute is part of the key", name)
			}
			if seen[name] {
				return nil, invalid("Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [%s], path two: [%s]", name, name)
			}
			seen[name] = true
			changes = append(changes, c)
			if !e.accept(",") {
				break
			}
		}
	}
	return func(i Item) error {
		old := maps.Clone(i) // each part of an update sees the item before it
		for _, c := range changes {
			if c.to == nil {
				delete(i, c.name)
				continue
			}
			v, err := c.to(old)
			if err != nil {
				return err
			}
			i[c.name] = v
		}
		return nil
	}, nil
}

// Client returns the real SDK's client, which sends its requests to do.
func Client(do func(r *http.Request, operation string, body []byte) (int, []byte, error)) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String("http://dynamodb.test"),
		Credentials:  credentials.NewStaticCredentialsProvider("key", "secret", ""),
		HTTPClient: transport(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
			status, answer, err := do(r, operation, body)
			if err != nil {
				return nil, err
			}
			return &http.Response{
				StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(answer)),
				Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(bytes.NewReader(answer)),
			}, nil
		}),
		// The SDK's rules of what is retried and how often (3), but with fixed delays, so
		// that a history can be run again.
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 100 * time.Millisecond, nil })
			o.RateLimiter = noLimit{}
		}),
	})
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(r *http.Request) (*http.Response, error) { return t(r) }

// noLimit is a rate limiter that always allows a retry.
type noLimit struct{}

func (noLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noLimit) AddTokens(uint) error { return nil }
