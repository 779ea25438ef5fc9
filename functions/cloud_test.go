package functions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/runtimeapi"
	"async-download/internal/transfer/s3test"
)

const (
	account = "123456789012"
	region  = "us-east-1"

	functionKey     = "ASIAFUNCTIONFUNCTION"
	functionSession = "session-of-the-function"
	signerRole      = "arn:aws:iam::" + account + ":role/signer"
	signerKey       = "ASIASIGNERSIGNERSIGN"
	signerSession   = "session-of-the-signer"
)

// cloud is a fake of the services behind AWS_ENDPOINT_URL: the connections table, S3, Step
// Functions, the sockets, STS and EventBridge. It checks each request against its
// service's protocol: method, path, target, media type, and a signature of the function
// for that service.
type cloud struct {
	*httptest.Server
	t     *testing.T
	table dynamodbtest.Table
	s3    *s3test.Server
	// trace is the X-Ray trace that all requests must have. In Lambda, the SDK forwards it.
	trace string
	// fault, if set, may replace the answer to a call; n counts the calls of op from 1.
	fault func(op string, n int) *answer

	mu    sync.Mutex
	calls []request
	count map[string]int
	gone  map[string]bool // connections that are closed
}

type answer struct {
	status int // 0 is 200
	header map[string]string
	body   string
}

// request is a parsed request; op is the service and operation, such as
// "DynamoDB.UpdateItem".
type request struct {
	op     string
	params map[string]any
	body   []byte
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, s3: s3test.New(t), trace: runtimeapi.TraceID, count: map[string]int{}, gone: map[string]bool{}}
	c.table.Items = map[string]dynamodbtest.Item{}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if got := r.Header.Get("X-Amzn-Trace-Id"); got != c.trace {
		c.t.Errorf("got trace %q, want %q", got, c.trace)
	}
	if r.Header.Get("X-Amz-Target") == "" && r.URL.Path != "/" && !strings.Contains(r.URL.Path, "/@connections/") {
		if err := signed(r, "s3"); err != nil {
			c.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		if a := c.next(request{op: "S3." + s3test.Operation(r)}); a != nil {
			a.write(w)
			return
		}
		c.s3.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off, like a part of a copy that ends
	}
	got, err := take(r, body)
	if err != nil {
		c.t.Errorf("got %s %s: %v", r.Method, r.URL, err)
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	}
	a := c.next(got)
	if a == nil {
		a = c.carryOut(got)
	}
	if strings.HasPrefix(got.op, "DynamoDB.") {
		w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(a.body))), 10))
	}
	a.write(w)
}

// next records a call and returns the answer that replaces its own, if there is one.
func (c *cloud) next(r request) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, r)
	c.count[r.op]++
	if c.fault == nil {
		return nil
	}
	return c.fault(r.op, c.count[r.op])
}

func (c *cloud) carryOut(r request) *answer {
	if operation, ok := strings.CutPrefix(r.op, "DynamoDB."); ok {
		status, body := c.table.Do(operation, r.body)
		return &answer{status: status, header: map[string]string{"Content-Type": "application/x-amz-json-1.0"}, body: string(body)}
	}
	switch r.op {
	case "StepFunctions.StartExecution":
		return &answer{body: asJSON(map[string]any{"executionArn": execution, "startDate": 1764165906.321})}
	case "StepFunctions.SendTaskSuccess", "StepFunctions.SendTaskFailure":
		return &answer{body: "{}"}
	case "EventBridge.PutEvents":
		return &answer{body: `{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}`}
	case "STS.AssumeRole":
		return assumed()
	case "Connections.Post":
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.gone[r.params["ConnectionId"].(string)] {
			// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
			return &answer{status: http.StatusGone, header: map[string]string{"X-Amzn-Errortype": "GoneException"}, body: "{}"}
		}
		return &answer{body: "{}"}
	}
	c.t.Errorf("got %s %s, which is not known here", r.op, asJSON(r.params))
	return &answer{status: http.StatusNotImplemented}
}

func (a *answer) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.Header().Set("X-Amzn-Requestid", "4a1ee6d3-0b61-4f0c-8f44-5a3f4a0f3a57")
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	_, _ = io.WriteString(w, a.body)
}

// made returns the calls of an operation.
func (c *cloud) made(op string) []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var made []request
	for _, r := range c.calls {
		if r.op == op {
			made = append(made, r)
		}
	}
	return made
}

// posts returns what was sent to the sockets, each as connectionId and data.
func (c *cloud) posts() []string {
	var posts []string
	for _, r := range c.made("Connections.Post") {
		if r.params["Stage"] != "/dev" {
			c.t.Errorf("got stage %s, want /dev", r.params["Stage"])
		}
		posts = append(posts, fmt.Sprintf("%s %s", r.params["ConnectionId"], r.params["Data"]))
	}
	return posts
}

// item stores the execution's item as the download function writes it, with further
// attributes.
func (c *cloud) item(more map[string]any) {
	attributes := map[string]any{
		"executionArn": execution, "status": "COPYING", "path": "reports/2025/Q3%20summary.pdf", "query": originQuery, "askedBy": "203.0.113.25",
		"bytesCopied": 0, "expiresAt": time.Now().Add(48 * time.Hour).Unix(),
	}
	for name, v := range more {
		attributes[name] = v
	}
	item := dynamodbtest.Item{}
	for name, v := range attributes {
		item[name] = encode(v)
	}
	c.table.Items[execution] = item
	c.table.CatchUp()
}

// attribute returns a string, number or flag of the item, "" if it has none.
func (c *cloud) attribute(name string) string {
	for _, v := range c.table.Get(execution)[name] {
		return fmt.Sprint(v)
	}
	return ""
}

// file stores the execution's object as a copy leaves it.
func (c *cloud) file(header ...string) {
	o := c.s3.Put(key, bytes.Repeat([]byte("x"), 1<<20))
	for _, h := range append(header, "Content-Type: application/pdf", `Content-Disposition: attachment; filename="Q3 summary.pdf"`, "X-Amz-Meta-Verified: true") {
		name, value, _ := strings.Cut(h, ": ")
		o.Header.Set(name, value)
	}
}

// encode encodes a value as a DynamoDB attribute.
func encode(v any) dynamodbtest.Value {
	switch v := v.(type) {
	case string:
		return dynamodbtest.Value{"S": v}
	case int, int64:
		return dynamodbtest.Value{"N": fmt.Sprint(v)}
	case bool:
		return dynamodbtest.Value{"BOOL": v}
	case map[string]any:
		m := map[string]any{}
		for name, value := range v {
			m[name] = encode(value)
		}
		return dynamodbtest.Value{"M": m}
	}
	panic(fmt.Sprintf("no type for %T", v))
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// take parses a request.
func take(r *http.Request, body []byte) (request, error) {
	service, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch {
	case service == "DynamoDB_20120810":
		return takeJSON(r, body, "DynamoDB", op, "1.0", "dynamodb")
	case service == "AWSStepFunctions":
		return takeJSON(r, body, "StepFunctions", op, "1.0", "states")
	case service == "AWSEvents":
		return takeJSON(r, body, "EventBridge", op, "1.1", "events")
	case service == "secretsmanager":
		return takeJSON(r, body, "SecretsManager", op, "1.1", "secretsmanager")
	case service != "":
		return request{}, fmt.Errorf("no such service: %s", service)
	case strings.Contains(r.URL.EscapedPath(), "/@connections/"):
		return takePost(r, body)
	case r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return takeForm(r, body)
	}
	return request{}, fmt.Errorf("no such call")
}

var credential = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=[^,]*host[^,]*, ?Signature=[0-9a-f]{64}$`)

// signed checks that a request is signed by the function for a service. It doesn't
// verify the signature; the local stack does.
func signed(r *http.Request, service string) error {
	m := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil || m[1] != functionKey || m[3] != region || m[4] != service {
		return fmt.Errorf("got Authorization %q, want one by %s for %s in %s", r.Header.Get("Authorization"), functionKey, service, region)
	}
	if got := r.Header.Get("X-Amz-Security-Token"); got != functionSession {
		return fmt.Errorf("got security token %q, want the function's", got)
	}
	return nil
}

func takeJSON(r *http.Request, body []byte, service, op, version, signedFor string) (request, error) {
	if want := "application/x-amz-json-" + version; r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != want {
		return request{}, fmt.Errorf("got %s %s of type %q, want POST / of %s", r.Method, r.URL.Path, r.Header.Get("Content-Type"), want)
	}
	var params map[string]any
	if err := json.Unmarshal(body, &params); err != nil {
		return request{}, err
	}
	return request{service + "." + op, params, body}, signed(r, signedFor)
}

// takePost takes https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
func takePost(r *http.Request, body []byte) (request, error) {
	stage, id, _ := strings.Cut(r.URL.EscapedPath(), "/@connections/")
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || strings.ContainsAny(id, "/=+") {
		return request{}, fmt.Errorf("want POST with the connection escaped")
	}
	id, err := url.PathUnescape(id)
	if err != nil {
		return request{}, err
	}
	return request{"Connections.Post", map[string]any{"Stage": stage, "ConnectionId": id, "Data": string(body)}, body}, signed(r, "execute-api")
}

func takeForm(r *http.Request, body []byte) (request, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return request{}, err
	}
	if form.Get("Version") != "2011-06-15" {
		return request{}, fmt.Errorf("got version %q of STS", form.Get("Version"))
	}
	params := map[string]any{}
	for name := range form {
		params[name] = form.Get(name)
	}
	return request{"STS." + form.Get("Action"), params, body}, signed(r, "sts")
}

// failing replaces the answer to the first calls of an operation, n of them.
func failing(op string, n int, a answer) func(*cloud) {
	return func(c *cloud) {
		c.fault = func(called string, i int) *answer {
			if called == op && i <= n {
				return &a
			}
			return nil
		}
	}
}

// refused is an error of DynamoDB or Step Functions.
// https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html
func refused(name string) answer {
	return answer{
		status: http.StatusBadRequest,
		header: map[string]string{"Content-Type": "application/x-amz-json-1.0"},
		body:   asJSON(map[string]any{"__type": name, "message": "the reason why"}),
	}
}

// assumed is https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func assumed() *answer {
	return &answer{header: map[string]string{"Content-Type": "text/xml"}, body: `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>` +
		`<AssumedRoleUser><Arn>arn:aws:sts::` + account + `:assumed-role/signer/links</Arn><AssumedRoleId>AROA3XFRBF535PLBIFPI4:links</AssumedRoleId></AssumedRoleUser>` +
		`<Credentials><AccessKeyId>` + signerKey + `</AccessKeyId><SecretAccessKey>signer-secret</SecretAccessKey><SessionToken>` + signerSession + `</SessionToken>` +
		`<Expiration>` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `</Expiration></Credentials>` +
		`</AssumeRoleResult><ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata></AssumeRoleResponse>`}
}
