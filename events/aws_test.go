package events_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	account = "123456789012"
	region  = "us-east-1"
	table   = "connections"
	bucket  = "copied-files"

	functionKey     = "ASIAFUNCTIONFUNCTION"
	functionSession = "session-of-the-function"
	signerRole      = "arn:aws:iam::" + account + ":role/signer"
	signerKey       = "ASIASIGNERSIGNERSIGN"
	signerSession   = "session-of-the-signer"
)

// call is a request that a function is expected to send to AWS, and its canned
// answer. Conditions are not evaluated.
type call struct {
	// op is the service and operation, such as "DynamoDB.UpdateItem".
	op string
	// with has the values that the request must have, by path, such as
	// "Key.executionArn.S". "~x" requires x to be contained, "*" any value, and "!" no
	// value.
	with   map[string]string
	answer answer
	then   func(params map[string]any) // called after the request; may be nil
}

type answer struct {
	status int // 0 is 200
	header map[string]string
	body   string
}

// request is a parsed request.
type request struct {
	op     string
	params map[string]any
}

// aws is a fake of the services behind AWS_ENDPOINT_URL. It accepts only the expected
// calls, in order, and checks each against its service's protocol: method, path,
// target, media type, and a signature of the function for that service.
type aws struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	expected []call
	// repeats may be made any number of times between the others, such as calls that
	// are made every few seconds.
	repeats []call
	made    []request
	// s3, if not nil, answers all calls to S3, in any order.
	s3 *store
}

func newAWS(t *testing.T, expected, repeats []call, s3 *store) *aws {
	t.Helper()
	a := &aws{t: t, expected: expected, repeats: repeats, s3: s3}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *aws) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off, like a part of a copy that ends
	}
	got, err := take(r, body)
	if err != nil {
		a.t.Errorf("got %s %s: %v", r.Method, r.URL, err)
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	}
	// In Lambda, the SDK forwards the trace header, which joins Step Functions'
	// segments to the function's.
	if got := r.Header.Get("X-Amzn-Trace-Id"); got != traceID {
		a.t.Errorf("got trace %q, want %q", got, traceID)
	}
	reply := a.match(got)
	for name, value := range reply.header {
		w.Header().Set(name, value)
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	if strings.HasPrefix(got.op, "DynamoDB.") {
		w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(reply.body))), 10))
	}
	w.Header().Set("X-Amzn-Requestid", "4a1ee6d3-0b61-4f0c-8f44-5a3f4a0f3a57")
	if reply.status == 0 {
		reply.status = http.StatusOK
	}
	w.WriteHeader(reply.status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, reply.body)
	}
}

func (a *aws) match(got request) answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made = append(a.made, got)
	if a.s3 != nil && strings.HasPrefix(got.op, "S3.") {
		return a.s3.serve(got)
	}
	var next call
	var wrong []string
	if len(a.expected) > 0 {
		next = a.expected[0]
		wrong = differences(got.params, next.with)
	}
	if next.op != got.op || len(wrong) > 0 {
		for _, c := range a.repeats {
			if c.op == got.op && len(differences(got.params, c.with)) == 0 {
				if c.then != nil {
					c.then(got.params)
				}
				return c.answer
			}
		}
	}
	if next.op != got.op {
		a.t.Errorf("call %d: got %s %s, want %s", len(a.made), got.op, asJSON(got.params), cmp.Or(next.op, "no call"))
		return answer{status: http.StatusNotImplemented}
	}
	a.expected = a.expected[1:]
	for _, d := range wrong {
		a.t.Errorf("call %d, %s: %s in %s", len(a.made), got.op, d, asJSON(got.params))
	}
	if next.then != nil {
		next.then(got.params)
	}
	return next.answer
}

// left returns the number of calls that were not made.
func (a *aws) left() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.expected)
}

// finish reports the calls that were not made.
func (a *aws) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.expected {
		a.t.Errorf("got no %s, want one", c.op)
	}
}

func differences(params map[string]any, with map[string]string) []string {
	var d []string
	for path, want := range with {
		got, there := at(params, path)
		s := got
		ok := false
		switch {
		case want == "!":
			ok = !there
		case want == "*":
			ok = there && s != ""
		case strings.HasPrefix(want, "~"):
			ok = strings.Contains(s, want[1:])
		default:
			ok = there && s == want
		}
		if !ok {
			d = append(d, fmt.Sprintf("got %s %q, want %q", path, s, want))
		}
	}
	slices.Sort(d)
	return d
}

// at returns the value at a dotted path; values other than strings as JSON.
func at(v any, path string) (string, bool) {
	for _, name := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		if v, ok = m[name]; !ok {
			return "", false
		}
	}
	if s, ok := v.(string); ok {
		return s, true
	}
	return asJSON(v), true
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// take returns the call that a request makes.
func take(r *http.Request, body []byte) (request, error) {
	switch target := r.Header.Get("X-Amz-Target"); {
	case strings.HasPrefix(target, "DynamoDB_20120810."):
		return takeJSON(r, body, "DynamoDB", strings.TrimPrefix(target, "DynamoDB_20120810."), "dynamodb")
	case strings.HasPrefix(target, "AWSStepFunctions."):
		return takeJSON(r, body, "StepFunctions", strings.TrimPrefix(target, "AWSStepFunctions."), "states")
	case target != "":
		return request{}, fmt.Errorf("no such target: %s", target)
	case strings.Contains(r.URL.EscapedPath(), "/@connections/"):
		return takePost(r, body)
	case r.Method == http.MethodPost && r.URL.Path == "/" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return takeForm(r, body)
	}
	return takeS3(r, body)
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

func takeJSON(r *http.Request, body []byte, service, op, signedFor string) (request, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.0" {
		return request{}, fmt.Errorf("got %s %s of type %q, want POST / of JSON 1.0", r.Method, r.URL.Path, r.Header.Get("Content-Type"))
	}
	var params map[string]any
	if err := json.Unmarshal(body, &params); err != nil {
		return request{}, err
	}
	return request{service + "." + op, params}, signed(r, signedFor)
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
	return request{"Connections.Post", map[string]any{"Stage": stage, "ConnectionId": id, "Data": string(body)}}, signed(r, "execute-api")
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
	return request{"STS." + form.Get("Action"), params}, signed(r, "sts")
}

func takeS3(r *http.Request, body []byte) (request, error) {
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	op := q.Get("x-id") // the SDK's name for some of its calls
	switch {
	case r.Method == http.MethodHead && key != "":
		op = "HeadObject"
	case r.Method == http.MethodPut && key != "" && q.Has("partNumber"):
		op = "UploadPart"
	case r.Method == http.MethodPut && key != "":
		op = "PutObject"
	case r.Method == http.MethodPost && key != "" && q.Has("uploads"):
		op = "CreateMultipartUpload"
	case r.Method == http.MethodPost && key != "" && q.Has("uploadId"):
		op = "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && key != "" && q.Has("uploadId"):
		op = "AbortMultipartUpload"
	case r.Method == http.MethodDelete && key != "":
		op = "DeleteObject"
	case r.Method == http.MethodGet && key != "" && q.Has("uploadId"):
		op = "ListParts"
	case r.Method == http.MethodGet && key == "" && q.Has("uploads"):
		op = "ListMultipartUploads"
	case op == "":
		return request{}, fmt.Errorf("no such call of S3")
	}
	params := map[string]any{"Bucket": name}
	if key != "" {
		params["Key"] = key
	}
	for p := range q {
		params[p] = q.Get(p)
	}
	for h := range r.Header {
		params[h] = r.Header.Get(h)
	}
	if strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		data, trailers, err := unchunk(body)
		if err != nil {
			return request{}, err
		}
		for name, value := range trailers {
			params[name] = value
		}
		body = data
	}
	if len(body) > 0 {
		params["Body"] = string(body)
	}
	return request{"S3." + op, params}, signed(r, "s3")
}

// Answers of the services.

// empty is the answer to a call without a result.
var empty = answer{body: "{}"}

// item is DynamoDB's answer with an item: Item of GetItem, Attributes of UpdateItem.
func item(kind string, attributes map[string]any) answer {
	return answer{body: asJSON(map[string]any{kind: encode(attributes).(map[string]any)["M"]})}
}

// encode encodes a value as a DynamoDB attribute.
func encode(v any) any {
	switch v := v.(type) {
	case string:
		return map[string]any{"S": v}
	case int, int64:
		return map[string]any{"N": fmt.Sprint(v)}
	case bool:
		return map[string]any{"BOOL": v}
	case map[string]any:
		m := map[string]any{}
		for name, value := range v {
			m[name] = encode(value)
		}
		return map[string]any{"M": m}
	}
	panic(fmt.Sprintf("no type for %T", v))
}

func dynamoError(name string) answer {
	return answer{
		status: http.StatusBadRequest,
		header: map[string]string{"Content-Type": "application/x-amz-json-1.0"},
		body:   asJSON(map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + name, "message": "the reason why"}),
	}
}

// conditionFailed is https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
var conditionFailed = dynamoError("ConditionalCheckFailedException")

// conditionFails is conditionFailed with the item as it is, which
// ReturnValuesOnConditionCheckFailure asks for.
func conditionFails(of map[string]any) answer {
	a := conditionFailed
	a.body = strings.TrimSuffix(a.body, "}") + `,"Item":` + strings.TrimPrefix(item("Item", of).body, `{"Item":`)
	return a
}

// statesError is https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html
func statesError(name string) answer {
	return answer{
		status: http.StatusBadRequest,
		header: map[string]string{"Content-Type": "application/x-amz-json-1.0"},
		body:   asJSON(map[string]any{"__type": name, "message": "the reason why"}),
	}
}

func started(arn string) answer {
	return answer{body: asJSON(map[string]any{"executionArn": arn, "startDate": 1764165906.321})}
}

// gone is https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
var gone = answer{status: http.StatusGone, header: map[string]string{"X-Amzn-Errortype": "GoneException"}, body: "{}"}

// notFound is S3's answer to a HEAD, which has no body.
var notFound = answer{status: http.StatusNotFound, header: map[string]string{"Content-Type": "application/xml"}}

// object is S3's answer to a HEAD of a copied file.
var object = answer{header: map[string]string{
	"Content-Length": "1048576", "Content-Type": "application/pdf", "Etag": `"d41d8cd98f00b204e9800998ecf8427e-1"`,
	"Content-Disposition":      `attachment; filename="Q3 summary.pdf"`,
	"X-Amz-Checksum-Crc64nvme": "AAAAAAAAAAA=", "X-Amz-Checksum-Type": "FULL_OBJECT", "X-Amz-Meta-Verified": "true",
}}

// assumed is https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func assumed() answer {
	return answer{header: map[string]string{"Content-Type": "text/xml"}, body: `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>` +
		`<AssumedRoleUser><Arn>arn:aws:sts::` + account + `:assumed-role/signer/links</Arn><AssumedRoleId>AROA3XFRBF535PLBIFPI4:links</AssumedRoleId></AssumedRoleUser>` +
		`<Credentials><AccessKeyId>` + signerKey + `</AccessKeyId><SecretAccessKey>signer-secret</SecretAccessKey><SessionToken>` + signerSession + `</SessionToken>` +
		`<Expiration>` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `</Expiration></Credentials>` +
		`</AssumeRoleResult><ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata></AssumeRoleResponse>`}
}
