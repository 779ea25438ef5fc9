package meeting_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"async-download/internal/meeting/dynamodbtest"
)

// exchange is a request to DynamoDB and its answer. An exchange without an operation
// empties the table.
type exchange struct {
	Operation string          `json:"operation,omitempty"`
	Request   json.RawMessage `json:"request,omitempty"`
	Status    int             `json:"status,omitempty"`
	Answer    json.RawMessage `json:"answer,omitempty"`
}

// what returns the exchange without its values.
func (x exchange) what() string {
	var r dynamodbtest.Request
	if err := json.Unmarshal(x.Request, &r); err != nil {
		return err.Error()
	}
	what := []string{x.Operation, r.UpdateExpression, r.ConditionExpression, r.KeyConditionExpression, r.ProjectionExpression, r.ReturnValues}
	for _, write := range r.TransactItems {
		for verb, r := range write {
			what = append(what, verb, r.UpdateExpression, r.ConditionExpression)
		}
	}
	return strings.Join(what, "|")
}

// answer has the comparable part of an answer: the type of an error, not its text.
func (x exchange) answer() (map[string]any, error) {
	var a map[string]any
	if err := json.Unmarshal(x.Answer, &a); err != nil {
		return nil, err
	}
	if code, ok := a["__type"].(string); ok {
		a["__type"] = code[strings.LastIndexByte(code, '#')+1:]
	}
	for _, no := range []string{"message", "Message", "ConsumedCapacity"} { // only DynamoDB Local has the last
		delete(a, no)
	}
	return a, nil
}

var recording struct {
	sync.Mutex
	on        bool
	exchanges []exchange
}

// record stores the table's exchanges while recording.
func record(operation string, body []byte, status int, answer []byte) {
	recording.Lock()
	defer recording.Unlock()
	if recording.on {
		recording.exchanges = append(recording.exchanges, exchange{operation, body, status, answer})
	}
}

const recorded = "testdata/dynamodb.json.gz"

// TestTableAsDynamoDB compares the fake table with DynamoDB's own answers, which are
// recorded in testdata from hundreds of histories and from requests that it rejects.
// Record again when the package sends a new expression. DynamoDB Local, AWS's own
// emulator, is on Maven Central as
// software.amazon.dynamodb:DynamoDBLocal (3.3.1 was used) and needs Java 17:
//
//	mvn dependency:copy-dependencies -DoutputDirectory=lib    (a pom.xml with that one dependency)
//	java -Dsqlite4java.library.path=lib -cp 'lib/*' software.amazon.dynamodb.services.local.main.ServerRunner -inMemory -port 8000
//	DYNAMODB=http://127.0.0.1:8000 go test ./internal/meeting -run TestTableAsDynamoDB
func TestTableAsDynamoDB(t *testing.T) {
	histories := times(40)
	live := os.Getenv("DYNAMODB")
	if live != "" {
		histories = 300
	}
	recording.Lock()
	recording.on, recording.exchanges = true, nil
	recording.Unlock()
	sent := []exchange{}
	for seed := range int64(histories) {
		var w *world
		bubble(t, func() { w = history(t, seeded(seed)) })
		recording.Lock()
		for _, x := range recording.exchanges {
			if x.Operation != "Query" || !w.table.Behind { // a lagging index can't be compared
				sent = append(sent, x)
			}
		}
		recording.exchanges = nil
		recording.Unlock()
		sent = append(sent, exchange{})
	}
	recording.Lock()
	recording.on = false
	recording.Unlock()

	if live != "" {
		sendLive(t, live, "CreateTable", []byte(`{"TableName":"`+dynamodbtest.TableName+`","BillingMode":"PAY_PER_REQUEST",
			"AttributeDefinitions":[{"AttributeName":"executionArn","AttributeType":"S"},{"AttributeName":"connectionId","AttributeType":"S"}],
			"KeySchema":[{"AttributeName":"executionArn","KeyType":"HASH"}],
			"GlobalSecondaryIndexes":[{"IndexName":"connectionId","KeySchema":[{"AttributeName":"connectionId","KeyType":"HASH"}],"Projection":{"ProjectionType":"KEYS_ONLY"}}]}`))
		var text bytes.Buffer
		zip := gzip.NewWriter(&text)
		for _, x := range append(refusals(), sent...) {
			if x.Operation == "" {
				for _, key := range []string{arn, arn + "#request"} {
					sendLive(t, live, "DeleteItem", []byte(`{"TableName":"`+dynamodbtest.TableName+`","Key":{"executionArn":{"S":"`+key+`"}}}`))
				}
			} else {
				x.Status, x.Answer = sendLive(t, live, x.Operation, x.Request)
			}
			line, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(zip, "%s\n", line)
		}
		if err := zip.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(recorded, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	f, err := os.Open(recorded)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	known, compared, refused := map[string]bool{}, 0, 0
	mine := &dynamodbtest.Table{}
	for lines := bufio.NewReader(unzip); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		var x exchange
		if err == nil {
			err = json.Unmarshal(line, &x)
		}
		if err != nil {
			t.Fatal(err)
		}
		if x.Operation == "" {
			mine = &dynamodbtest.Table{}
			continue
		}
		known[x.what()] = true
		got := x
		got.Status, got.Answer = mine.Do(x.Operation, x.Request)
		g, err := got.answer()
		if err != nil {
			t.Fatal(err)
		}
		w, err := x.answer()
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != x.Status || !reflect.DeepEqual(g, w) {
			t.Errorf("%s: got %d %v, want DynamoDB's %d %v\nrequest: %s", x.what(), got.Status, g, x.Status, w, x.Request)
		}
		if compared++; x.Status != http.StatusOK {
			refused++
		}
	}
	if compared < 5000 || refused < 300 {
		t.Errorf("got %d answers, %d of them refusals, want at least 5000 and 300", compared, refused)
	}
	t.Logf("%d answers compared, %d of them refusals, %d different requests", compared, refused, len(known))
	for _, x := range sent {
		if w := x.what(); x.Operation != "" && !known[w] {
			known[w] = true
			t.Errorf("DynamoDB's answer to this is not recorded; record again as this test's comment says: %s", w)
		}
	}
}

// refusals are requests with mistakes in an expression, and some that show how
// conditions evaluate missing values.
func refusals() []exchange {
	key := `"TableName":"` + dynamodbtest.TableName + `","Key":{"executionArn":{"S":"` + arn + `"}}`
	update := func(rest string) exchange {
		return exchange{Operation: "UpdateItem", Request: json.RawMessage("{" + key + "," + rest + "}")}
	}
	var all []exchange
	for _, rest := range []string{
		`"UpdateExpression":"SET status = :s","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET #status = :s","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = :s"`,
		`"UpdateExpression":"SET a = :s","ExpressionAttributeValues":{":s":{"S":"x"},":t":{"S":"y"}}`,
		`"UpdateExpression":"SET a = :s","ExpressionAttributeNames":{"#b":"b"},"ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET connectionId = :s","ExpressionAttributeValues":{":s":{"S":""}}`,
		`"UpdateExpression":"SET connectionId = :s","ExpressionAttributeValues":{":s":{"N":"1"}}`,
		`"UpdateExpression":"SET executionArn = :s","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = :s REMOVE a","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = :s SET b = :s","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = b"`,
		`"UpdateExpression":"FIND a"`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"attribute_exists(executionArn","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"ATTRIBUTE_EXISTS(executionArn)","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"attribute_exists(executionArn)","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		// From here on there is an item, since an update creates one.
		`"UpdateExpression":"SET a = :s","ConditionExpression":"missing1 <> :s","ExpressionAttributeValues":{":s":{"S":"x"}},"ReturnValues":"ALL_NEW"`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"missing1 = :s","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"NOT missing1 IN (:s)","ExpressionAttributeValues":{":s":{"S":"x"}},"ReturnValues":"ALL_NEW"`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"missing1 IN (:s)","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"missing1 < :s","ExpressionAttributeValues":{":s":{"S":"x"}}`,
		`"UpdateExpression":"set b = :n","ConditionExpression":"a = :s and not (a < :s or attribute_not_exists(a))","ExpressionAttributeValues":{":s":{"S":"x"},":n":{"N":"15"}},"ReturnValues":"ALL_NEW"`,
		`"UpdateExpression":"ADD b :n, c1 :n","ConditionExpression":"b = :b AND b <= :b AND b > :n","ExpressionAttributeValues":{":b":{"N":"15"},":n":{"N":"-2"}},"ReturnValues":"ALL_NEW"`,
		`"UpdateExpression":"ADD a :n","ExpressionAttributeValues":{":n":{"N":"1"}}`,
		`"UpdateExpression":"SET d1 = a, a = :s REMOVE b","ExpressionAttributeValues":{":s":{"S":"y"}},"ReturnValues":"ALL_NEW"`,
		`"UpdateExpression":"REMOVE missing1, a","ReturnValues":"ALL_NEW"`,
		`"UpdateExpression":"REMOVE connectionId"`,
		`"UpdateExpression":"SET a = :s","ConditionExpression":"a = :s OR d1 = :s AND a = :s","ExpressionAttributeValues":{":s":{"S":"x"}}`,
	} {
		all = append(all, update(rest))
	}
	transact := func(writes ...string) exchange {
		return exchange{Operation: "TransactWriteItems", Request: json.RawMessage(`{"TransactItems":[` + strings.Join(writes, ",") + "]}")}
	}
	where := func(verb, key, rest string) string {
		return `{"` + verb + `":{"TableName":"` + dynamodbtest.TableName + `","Key":{"executionArn":{"S":"` + key + `"}},` + rest + "}}"
	}
	exists, missing := `"ConditionExpression":"attribute_exists(executionArn)"`, `"ConditionExpression":"attribute_exists(missing1)"`
	set, old := `"UpdateExpression":"SET e1 = :e","ExpressionAttributeValues":{":e":{"S":"x"}}`, `"ReturnValuesOnConditionCheckFailure":"ALL_OLD"`
	second := arn + "#request"
	return append(all,
		transact(where("Update", arn, set+","+exists), where("Update", second, set)),
		transact(where("Update", arn, set+","+missing+","+old), where("Delete", second, exists)),
		transact(where("Update", arn, set+","+exists), where("Delete", second, missing+","+old)),
		transact(where("Update", arn, set+","+missing), where("Delete", second, missing)),
		transact(where("Update", arn, set), where("Delete", arn, exists)),
		transact(where("Update", arn, `"UpdateExpression":"SET status = :e","ExpressionAttributeValues":{":e":{"S":"x"}}`), where("Delete", second, exists)),
		transact(where("Delete", second, exists), where("Update", arn, set)),
		transact(where("Delete", second, exists+","+old), where("Update", arn, set)),
		exchange{Operation: "PutItem", Request: json.RawMessage(`{"TableName":"` + dynamodbtest.TableName + `","Item":{"executionArn":{"S":"` + arn + `"}},"ConditionExpression":"attribute_not_exists(executionArn)","ReturnValuesOnConditionCheckFailure":"ALL_OLD"}`)},
		exchange{Operation: "GetItem", Request: json.RawMessage(`{` + key + `,"ConsistentRead":true,"ProjectionExpression":"executionArn, status"}`)},
		exchange{Operation: "GetItem", Request: json.RawMessage(`{` + key + `,"ConsistentRead":true,"ProjectionExpression":"executionArn, d1, missing1"}`)},
		exchange{Operation: "DeleteItem", Request: json.RawMessage(`{` + key + `,"ConditionExpression":"attribute_exists(missing1)"}`)},
		exchange{Operation: "DeleteItem", Request: json.RawMessage(`{` + key + `,"ConditionExpression":"attribute_not_exists(missing1)"}`)},
		exchange{Operation: "DeleteItem", Request: json.RawMessage(`{` + key + `,"ConditionExpression":"attribute_not_exists(missing1)"}`)},
		exchange{Operation: "DeleteItem", Request: json.RawMessage(`{` + key + `,"ConditionExpression":"attribute_exists(executionArn)"}`)},
		exchange{Operation: "GetItem", Request: json.RawMessage(`{` + key + `,"ConsistentRead":true}`)},
		exchange{Operation: "Query", Request: json.RawMessage(`{"TableName":"` + dynamodbtest.TableName + `","IndexName":"connectionId","ConsistentRead":true,"KeyConditionExpression":"connectionId = :id","ExpressionAttributeValues":{":id":{"S":"x"}}}`)},
		exchange{Operation: "Query", Request: json.RawMessage(`{"TableName":"` + dynamodbtest.TableName + `","IndexName":"other","KeyConditionExpression":"connectionId = :id","ExpressionAttributeValues":{":id":{"S":"x"}}}`)},
		exchange{})
}

// sendLive sends a request to a DynamoDB that accepts any signature.
func sendLive(t *testing.T, url, operation string, body []byte) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810." + operation,
		"X-Amz-Date":    time.Now().UTC().Format("20060102T150405Z"),
		"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=x",
	} {
		r.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, slices.Clip(answer)
}
