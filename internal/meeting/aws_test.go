package meeting_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/object"
	"async-download/internal/origin/origintest"
	"async-download/internal/socket"
	"async-download/internal/transfer"
	"async-download/internal/transfer/s3test"
)

// send is the network between the SDK and the table.
func (w *world) send(r *http.Request, operation string, body []byte) (int, []byte, error) {
	var what struct{ UpdateExpression string }
	if err := json.Unmarshal(body, &what); err != nil {
		return 0, nil, err
	}
	may := []fault{throttled}
	if operation != "GetItem" && operation != "Query" {
		may = append(may, lost)
	}
	f := w.gate(r.Context(), strings.TrimSpace(operation+" "+what.UpdateExpression), may...)
	switch f {
	case killed:
		return 0, nil, errKilled
	case throttled:
		return http.StatusBadRequest, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"Rate exceeded"}`), nil
	}
	status, answer := w.table.Do(operation, body)
	record(operation, body, status, answer)
	if f == lost {
		return 0, nil, syscall.ECONNRESET
	}
	wrote := func(expression string) bool { return strings.HasPrefix(what.UpdateExpression, expression) }
	read := operation == "GetItem" && !bytes.Contains(body, []byte(arn+"#request")) ||
		wrote("SET connectionId") || wrote("SET #copied") || wrote("SET uploadId") && status != http.StatusOK
	if p, ok := r.Context().Value(processKey{}).(*process); ok && read {
		w.do(func() { p.late = p.late || w.stopped })
	}
	return status, answer, nil
}

// StartExecution implements [download.Executions]: it starts a delivery.
func (w *world) StartExecution(ctx context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	f := w.gate(ctx, "StartExecution deliver", lost, throttled)
	if f == throttled || f == killed {
		return nil, errors.New("Rate exceeded")
	}
	var d map[string]any
	if err := json.Unmarshal([]byte(*in.Input), &d); err != nil {
		panic(err)
	}
	for range 1 + int(f) { // without a name, a repeated call starts another one
		w.start(ctx, "deliver", func(ctx context.Context) { w.deliver(ctx, d) })
	}
	return &sfn.StartExecutionOutput{}, nil
}

// ---- S3

// copier returns a copier into the world's S3.
func (w *world) copier() *transfer.Copier {
	c := &transfer.Copier{Bucket: s3test.Bucket, Concurrency: 1, S3: s3.New(s3.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String("http://s3.test"), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""), HTTPClient: smithyhttp.ClientDoFunc(w.store), Retryer: aws.NopRetryer{},
	})}
	if w.parts {
		c.PartSize = 1
	}
	return c
}

// store is the network between the SDK and S3. A process stops before what creates or
// deletes an object.
func (w *world) store(r *http.Request) (*http.Response, error) {
	var may []fault
	switch operation := s3test.Operation(r); operation {
	case "DeleteObject":
		may = append(may, throttled)
		fallthrough
	case "PutObject", "CompleteMultipartUpload":
		switch w.gate(r.Context(), operation, may...) {
		case killed:
			return nil, errKilled
		case throttled:
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: http.NoBody}, nil
		}
		if operation != "DeleteObject" {
			w.inTime(r.Context(), operation)
		}
	default:
		if dead(r.Context()) {
			return nil, errKilled
		}
	}
	return w.s3.Do(r)
}

// inTime checks that a worker that has read the end doesn't go on copying.
func (w *world) inTime(ctx context.Context, what string) {
	w.do(func() {
		if ctx.Value(processKey{}).(*process).late {
			w.broken = what + " by a worker that had read the end"
		}
	})
}

// kept reports whether the file is in S3.
func (w *world) kept() bool { return w.s3.Object(object.Key(name)) != nil }

// Record implements [download.Objects].
func (w *world) Record(ctx context.Context, name string) (object.Record, error) {
	_, err := w.Sign(ctx, name)
	return object.Record{}, err
}

// Sign implements [download.Objects].
func (w *world) Sign(context.Context, string) (link.Link, error) {
	if !w.kept() {
		return link.Link{}, errNoFile
	}
	return link.Link{URL: "https://link", File: object.File{Size: 2}}, nil
}

var errNoFile = object.Gone(nil)

// ---- the origin

// originServer is what the origin does with the next requests.
type originServer struct {
	fails   bool
	refuses int           // POSTs that it answers with 429
	accepts int           // requests that it answers with 202 before it has the file
	each    time.Duration // time that it takes to send one of the file's two bytes
	posts   int           // POSTs that it has executed
}

var (
	base = &url.URL{Scheme: "http", Host: "origin.example", Path: "/"}
	file = origintest.New([]byte("ab"), `"v1"`)
)

// answer is the origin's handler.
func (w *world) answer(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	f := w.gate(r.Context(), r.Method, lost)
	if f == killed {
		panic(http.ErrAbortHandler)
	}
	w.inTime(r.Context(), r.Method)
	var refused, accepted bool
	w.do(func() {
		o := &w.origin
		switch posted := r.Method == http.MethodPost; {
		case posted && o.refuses > 0:
			refused = true
			o.refuses--
		case posted:
			o.posts++
		}
		if accepted = !refused && o.accepts > 0; accepted {
			o.accepts--
		}
	})
	switch {
	case f == lost:
		panic(http.ErrAbortHandler)
	case refused:
		rw.Header().Set("Retry-After", "1")
		rw.WriteHeader(http.StatusTooManyRequests)
	case accepted:
		rw.Header().Set("Location", "/jobs/1")
		rw.Header().Set("Retry-After", "30")
		rw.WriteHeader(http.StatusAccepted)
	case w.origin.fails:
		rw.WriteHeader(http.StatusNotFound)
	default:
		origintest.Slow(file, rw, r, 1, func(int) bool {
			time.Sleep(w.origin.each)
			return r.Context().Err() == nil
		})
	}
}

// ---- API Gateway

// Post implements [download.Socket].
func (w *world) Post(ctx context.Context, c meeting.Connection, e socket.Event) error {
	text := string(e.In(""))
	if text == "" && c.Format == "" {
		return nil // progress, which clients with plain text don't get
	}
	f := w.gate(ctx, "PostToConnection "+c.ID, lost, throttled)
	if f == killed || f == throttled {
		return errors.New("post to connection: Rate exceeded")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.client(c.ID)
	if s.state != "open" {
		w.note("post to %s: 410, it is %s", c.ID, s.state)
		return meeting.ErrGone
	}
	switch {
	case text == "":
		s.progress++
	case strings.HasPrefix(text, "error: "):
		s.failures++
	default:
		s.link++
		w.links++
	}
	w.note("post to %s: %d links, %d failures, progress %d times", c.ID, s.link, s.failures, s.progress)
	if f == lost {
		return errors.New("post to connection: connection reset")
	}
	return nil
}
