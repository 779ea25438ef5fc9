package meeting_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/socket"
)

// A world is one download with everything that takes part in it: the two deployed state
// machines, the Lambdas that call package meeting, the clients and their sockets, the
// table, and the tokens. Each process stops before each call to AWS, and the director
// decides which one continues, so that any order of calls can be run, and run again. The
// director also decides the outcome of each call: done, reply lost, throttled, or its
// function killed. Time is testing/synctest's and passes when the director lets it.
//
// The Lambdas are the deployed use cases of package download. Only fetch is written here
// again, without the copying.
type world struct {
	report
	choose func(n int) int
	// interruptions is how many are left, unless negative; see settle.
	interruptions int

	table  dynamodbtest.Table
	tokens tokens
	m      *meeting.Table
	// download has the use cases, of which the Lambdas are thin wrappers.
	download *download.Protocol

	ctx  context.Context // done when the history ends
	over context.CancelFunc

	mu        sync.Mutex
	processes []*process
	log       []string
	begun     time.Time

	object    bool // there is a file in S3
	copyFails bool
	sends     *meeting.OriginRequest // what the download sends beyond path and query; nil for a plain GET
	refuses   int                    // how often the origin answers a POST with 429
	accepts   int                    // how often it answers with 202 before it has the file
	posts     int                    // how many POSTs it executed
	sockets   []*clientSocket
	last      *clientSocket // the connection written last, which must get the answer
	links     int           // how often a client got a link
	accepted  bool          // a cancel was answered with 202
	deleted   bool          // a DELETE was answered with 200
	served    int           // requests that have their answer
	asked     int

	faulty bool // a call had a fault

	marked bool   // the cancel is in the item
	broken string // what was seen to go wrong on the way

	end    string // of the execution; "" while it runs
	stop   context.CancelFunc
	halted string // why it was stopped: ABORTED or TIMED_OUT
	wait   string // the token of the state that waits, "" when none does
	visits map[string]int
}

type report interface {
	Helper()
	Errorf(format string, a ...any)
	Fatalf(format string, a ...any)
}

// process is a Lambda, a state machine, or a client, which may stop before a call.
type process struct {
	name    string
	at      string  // the call it stops before, "" while it runs, sleeps or has ended
	may     []fault // its possible faults
	patient bool    // time may pass before it, as before a call that AWS makes at any time
	next    chan fault
	ended   bool
	born    int  // children so far
	late    bool // it read the item, or connected to it, after the cancel was noted
}

type invocation struct {
	cancel context.CancelFunc
	killed bool
}

type clientSocket struct {
	id     string
	state  string // opening, open, closed, refused
	link   int
	why    int // how often it got the reason for a failure
	silent bool
}

func (s *clientSocket) notified() bool { return s.link+s.why > 0 }

type (
	processKey    struct{}
	invocationKey struct{}
)

var errKilled = errors.New("the function was killed")

const (
	clientTimeout = time.Hour
	name          = "0123456789abcdef0123456789abcdef"
	machineARN    = "arn:aws:states:eu-central-1:123456789012:stateMachine:download"
	arn           = "arn:aws:states:eu-central-1:123456789012:execution:download:" + name
)

func newWorld(r report, choose func(int) int) *world {
	w := &world{report: r, choose: choose, interruptions: -1, begun: time.Now(), visits: map[string]int{}}
	w.ctx, w.over = context.WithCancel(context.Background())
	w.tokens.pass = func(ctx context.Context, operation string) fault {
		return w.gate(ctx, operation, false, lost, throttled)
	}
	w.m = &meeting.Table{Name: dynamodbtest.TableName, Tokens: &w.tokens, DynamoDB: dynamodbtest.Client(w.send)}
	w.download = &download.Protocol{
		Table: w.m, Metrics: &metric.Recorder{Out: io.Discard}, StateMachine: machineARN,
		Objects: w, Discard: w.discard, Executions: w, Socket: w,
	}
	w.tokens.stop = func() bool {
		w.halt("ABORTED")
		return true
	}
	w.table.Changed = func(before, after dynamodbtest.Item) {
		if why := w.lonely(); why != "" {
			w.mu.Lock()
			w.broken = why
			w.mu.Unlock()
		}
		if _, marked := after["cancelled"]; marked {
			w.mu.Lock()
			w.marked = true
			w.mu.Unlock()
		}
		id, _ := after[dynamodbtest.IndexName]["S"].(string)
		if id != "" && id != meeting.Request && (!dynamodbtest.Equal(before[dynamodbtest.IndexName], after[dynamodbtest.IndexName]) || !dynamodbtest.Equal(before["connectedAt"], after["connectedAt"])) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.last = w.client(id)
		}
	}
	return w
}

// lonely returns why the request item must not exist beside its download's item as that
// is; "" if it may, or doesn't. While a failure is noted, it still does.
func (w *world) lonely() string {
	i, request := w.table.Items[arn], w.table.Items[arn+"#request"]
	status, _ := i["status"]["S"].(string)
	if request == nil || meeting.Status(status) == meeting.Copying || meeting.Status(status).NoFile() {
		return ""
	}
	return fmt.Sprintf("the request item is there, and its download is %q", status)
}

func (w *world) note(format string, a ...any) {
	w.log = append(w.log, fmt.Sprintf("%9.1f s  ", time.Since(w.begun).Seconds())+fmt.Sprintf(format, a...))
}

// story returns what happened, for a failure's report.
func (w *world) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return "\n" + strings.Join(w.log, "\n") + fmt.Sprintf("\nitem: %v\n", w.table.Items[arn])
}

// start starts a process; by is the process that starts it, or nil.
func (w *world) start(by context.Context, name string, do func(ctx context.Context)) {
	w.mu.Lock()
	if p, ok := by.Value(processKey{}).(*process); ok {
		p.born++
		name = fmt.Sprintf("%s/%s%d", p.name, name, p.born)
	}
	p := &process{name: name, next: make(chan fault)}
	w.processes = append(w.processes, p)
	w.mu.Unlock()
	go func() {
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			p.ended, p.at = true, ""
		}()
		do(context.WithValue(w.ctx, processKey{}, p))
	}()
}

// gate is where a process stops before a call.
func (w *world) gate(ctx context.Context, call string, patient bool, may ...fault) fault {
	p := ctx.Value(processKey{}).(*process)
	inv, _ := ctx.Value(invocationKey{}).(*invocation)
	if ctx.Err() != nil || inv != nil && inv.killed {
		return killed
	}
	if inv != nil {
		may = append(may, killed)
	}
	w.mu.Lock()
	p.at, p.may, p.patient = call, may, patient
	w.mu.Unlock()
	f := killed
	select {
	case f = <-p.next:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.at = ""
	w.faulty = w.faulty || f != none
	if f == killed && inv != nil {
		inv.killed = true
		inv.cancel()
	}
	return f
}

// lambda runs a function for at most limit, and reports whether it was killed or took
// longer.
func lambda(ctx context.Context, limit time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	inv := &invocation{cancel: cancel}
	err := do(context.WithValue(ctx, invocationKey{}, inv))
	if inv.killed || ctx.Err() != nil {
		return errKilled
	}
	return err
}

// send is the network between the SDK and the table.
func (w *world) send(r *http.Request, operation string, body []byte) (int, []byte, error) {
	var what struct{ UpdateExpression, ConditionExpression string }
	if err := json.Unmarshal(body, &what); err != nil {
		return 0, nil, err
	}
	may := []fault{throttled}
	if operation != "GetItem" && operation != "Query" {
		may = append(may, lost)
	}
	f := w.gate(r.Context(), strings.TrimSpace(operation+" "+what.UpdateExpression), false, may...)
	switch f {
	case killed:
		return 0, nil, errKilled
	case throttled:
		return http.StatusBadRequest, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"Rate exceeded"}`), nil
	}
	status, answer := w.table.Do(operation, body)
	record(operation, body, status, answer)
	w.mu.Lock()
	if p := r.Context().Value(processKey{}).(*process); operation == "GetItem" || strings.HasPrefix(what.UpdateExpression, "SET connectionId") {
		p.late = p.late || w.marked
	}
	w.mu.Unlock()
	if f == lost {
		return 0, nil, syscall.ECONNRESET
	}
	return status, answer, nil
}

// ---- the state machines

// halt ends the execution from outside: as ABORTED by an operator, or as TIMED_OUT.
func (w *world) halt(status string) {
	w.mu.Lock()
	w.halted = status
	w.note("execution: %s", status)
	w.mu.Unlock()
	w.stop()
}

// workflow starts the download.
func (w *world) workflow(ctx context.Context) {
	ctx, w.stop = context.WithCancel(ctx)
	x := &execution{machine: machines()["download"], arn: arn, task: w.task, issue: w.tokens.issue, entered: func(name string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.visits[name]++
		w.note("workflow: %s", name)
	}}
	status, _, no := x.run(ctx, map[string]any{"clientTimeoutSeconds": clientTimeout.Seconds(), "maxConcurrentSegments": 1.0})
	w.mu.Lock()
	w.end = status
	if no != nil {
		w.end = no.name
	}
	w.note("workflow: ended as %s", w.end)
	w.mu.Unlock()
	if status == "ABORTED" {
		status = w.halted
	}
	if status != "SUCCEEDED" && w.ctx.Err() == nil {
		w.start(context.Background(), "clean-up", func(ctx context.Context) { w.cleanUp(ctx, status, no) })
	}
}

func (w *world) task(ctx context.Context, s *state, parameters map[string]any, token string, limit time.Duration) (any, *mistake) {
	switch s.Resource {
	case "arn:aws:states:::lambda:invoke":
		payload := parameters["Payload"].(map[string]any)
		function := map[string]func(context.Context, map[string]any) (map[string]any, *mistake){
			"${FetchFunctionArn}": w.fetch, "${FinishFunctionArn}": w.finish, "${SendMessageFunctionArn}": w.sendMessage,
		}[parameters["FunctionName"].(string)]
		var out map[string]any
		var no *mistake
		if function := parameters["FunctionName"].(string); function == "${FetchFunctionArn}" && w.gate(ctx, "Invoke fetch", false, lost) == lost {
			// Step Functions invokes it again while this one continues.
			w.start(ctx, "survivor", func(ctx context.Context) {
				_ = lambda(ctx, limit, func(ctx context.Context) error { w.fetch(ctx, payload); return nil })
			})
			return nil, &mistake{"Lambda.SdkClientException", "connection reset"}
		}
		if !w.await(ctx, strings.Trim(parameters["FunctionName"].(string), "${}"), func(ctx context.Context) {
			err := lambda(ctx, limit, func(ctx context.Context) error {
				out, no = function(ctx, payload)
				return nil
			})
			if err != nil {
				no = &mistake{"Lambda.Unknown", "exited"}
			}
		}) || no != nil {
			return nil, no
		}
		return map[string]any{"Payload": out}, nil
	case "arn:aws:states:::aws-sdk:dynamodb:updateItem":
		return w.integrated(ctx, "UpdateItem", parameters)
	case "arn:aws:states:::aws-sdk:dynamodb:updateItem.waitForTaskToken":
		t := w.tokens.task(token)
		timer := time.NewTimer(limit)
		defer timer.Stop()
		_, no := w.integrated(ctx, "UpdateItem", parameters)
		if no != nil && w.tokens.close(token) {
			return nil, no
		}
		if no == nil {
			w.mu.Lock()
			w.wait = token
			w.mu.Unlock()
			select {
			case <-t.done:
			case <-timer.C:
			case <-ctx.Done():
			}
			w.mu.Lock()
			w.wait = ""
			w.mu.Unlock()
			if w.tokens.close(token) {
				return nil, &mistake{"States.Timeout", ""}
			}
		}
		if t.err != "" {
			return nil, &mistake{t.err, t.cause}
		}
		var out any
		if err := json.Unmarshal([]byte(t.output), &out); err != nil {
			panic(err)
		}
		return out, nil
	case "arn:aws:states:::aws-sdk:sfn:startSyncExecution":
		f := w.gate(ctx, "StartSyncExecution", false, lost, throttled)
		if f == throttled || f == killed {
			return nil, &mistake{"Sfn.SfnException", "Rate exceeded"}
		}
		var d map[string]any
		if err := json.Unmarshal([]byte(parameters["Input"].(string)), &d); err != nil {
			panic(err)
		}
		out := map[string]any{}
		if f == lost { // it runs, and its result is lost
			w.start(ctx, "deliver", func(ctx context.Context) { w.deliver(ctx, d) })
			return nil, &mistake{"Sfn.SdkClientException", "connection reset"}
		}
		w.await(ctx, "deliver", func(ctx context.Context) {
			status, no := w.deliver(ctx, d)
			out["Status"] = status
			if no != nil {
				out["Error"], out["Cause"] = no.name, no.cause
			}
		})
		return out, nil
	}
	panic("resource " + s.Resource + " is not known here")
}

// await runs a process that continues when the execution is stopped; false if it was.
func (w *world) await(ctx context.Context, name string, do func(ctx context.Context)) bool {
	done := make(chan struct{})
	w.start(ctx, name, func(ctx context.Context) { defer close(done); do(ctx) })
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// integrated calls DynamoDB for a state.
func (w *world) integrated(ctx context.Context, operation string, parameters map[string]any) (any, *mistake) {
	p := map[string]any{}
	for k, v := range parameters {
		p[k] = v
	}
	p["TableName"] = dynamodbtest.TableName
	body, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	call := strings.TrimSpace(fmt.Sprint(operation, " ", parameters["UpdateExpression"]))
	may := []fault{throttled}
	if operation != "GetItem" {
		may = append(may, lost)
	}
	f := w.gate(ctx, call, false, may...)
	if f == killed || f == throttled {
		return nil, &mistake{"DynamoDb.ProvisionedThroughputExceededException", ""}
	}
	out, no := w.ask(operation, body)
	if f == lost {
		return nil, &mistake{"DynamoDb.SdkClientException", ""}
	}
	return out, no
}

// direct makes a state's UpdateItem without stopping at the gate.
func (w *world) direct(parameters map[string]any) (any, *mistake) {
	parameters["TableName"] = dynamodbtest.TableName
	body, err := json.Marshal(parameters)
	if err != nil {
		panic(err)
	}
	return w.ask("UpdateItem", body)
}

func (w *world) ask(operation string, body []byte) (any, *mistake) {
	status, answer := w.table.Do(operation, body)
	record(operation, body, status, answer)
	var out map[string]any
	if err := json.Unmarshal(answer, &out); err != nil {
		panic(err)
	}
	if status != http.StatusOK {
		code := out["__type"].(string)
		code = code[strings.LastIndexByte(code, '#')+1:]
		if code != "ConditionalCheckFailedException" {
			panic(string(answer)) // an expression that DynamoDB rejects
		}
		return nil, &mistake{"DynamoDb." + code, ""}
	}
	return out, nil
}

// deliver runs the deliver machine to its end, or to its time-out.
func (w *world) deliver(ctx context.Context, d map[string]any) (string, *mistake) {
	m := machines()["deliver"]
	ctx, cancel := context.WithTimeout(ctx, time.Duration(m.TimeoutSeconds)*time.Second)
	defer cancel()
	x := &execution{machine: m, arn: "deliver", task: w.task}
	status, _, no := x.run(ctx, d)
	if status == "ABORTED" {
		status = "TIMED_OUT"
	}
	return status, no
}

// ---- the Lambdas

// workerLife is how long a worker continues at most after it last read the item: it reads
// it every second, and its last call to S3 takes no longer.
const workerLife = 10 * time.Second

func (w *world) fetch(ctx context.Context, _ map[string]any) (map[string]any, *mistake) {
	cancelled, internal := &mistake{"CANCELLED", ""}, &mistake{"INTERNAL", ""}
	item, err := w.m.Current(ctx, arn)
	if errors.Is(err, meeting.ErrUnknown) || err == nil && item.Stopped() {
		return nil, cancelled
	}
	if err == nil && (item.HasRequest || w.acceptsMore()) {
		if out, no := w.askOrigin(ctx, item); out != nil || no != nil {
			return out, no
		}
	}
	if err == nil {
		err = w.m.Uploading(ctx, arn, "upload")
	}
	if errors.Is(err, meeting.ErrEnded) || errors.Is(err, meeting.ErrUnknown) {
		return nil, cancelled
	}
	working := ctx
	for i := range 2 {
		if err != nil {
			return nil, internal
		}
		total := int64(2)
		item, err = w.m.Progress(ctx, arn, 0, int64(i)+1, &total)
		if errors.Is(err, meeting.ErrUnknown) || err == nil && item.Stopped() {
			return nil, cancelled
		}
		if err != nil {
			return nil, internal
		}
		var cancel context.CancelFunc
		working, cancel = context.WithTimeout(ctx, workerLife)
		defer cancel()
		if _, err = w.m.Announce(working, arn); errors.Is(err, meeting.ErrNotDue) || errors.Is(err, meeting.ErrUnknown) {
			err = nil
		}
		if i == 0 && w.copyFails {
			return nil, &mistake{"ORIGIN_STATUS", ""}
		}
	}
	if err != nil {
		return nil, internal
	}
	if w.gate(working, "CompleteMultipartUpload", false) == killed {
		return nil, internal
	}
	w.keep(true)
	switch err = w.m.Copied(ctx, arn, 2); {
	case errors.Is(err, meeting.ErrEnded):
		w.keep(false)
		return nil, cancelled
	case errors.Is(err, meeting.ErrUnknown):
		return nil, cancelled
	case err != nil:
		return nil, internal
	}
	return map[string]any{"work": map[string]any{"segments": []any{}, "missing": 0.0}, "waitSeconds": 0.0}, nil
}

// acceptsMore reports whether the origin answers 202 the next time.
func (w *world) acceptsMore() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accepts > 0
}

// askOrigin sends what the download's request item has to the origin, and is done if the
// origin answers with the file: with nil.
func (w *world) askOrigin(ctx context.Context, item meeting.Item) (map[string]any, *mistake) {
	var r meeting.OriginRequest
	var err error
	if item.HasRequest {
		r, err = w.m.Request(ctx, arn)
	}
	run := ctx.Value(processKey{}).(*process).name
	post := r.Method == "POST" && r.Place == ""
	refused := false
	switch {
	case w.kept(): // nothing is left to ask for
		return nil, nil
	case err == nil && post:
		if err = w.m.MarkSent(ctx, arn, run); err != nil {
			break
		}
		if w.gate(ctx, "POST", false) == killed {
			return nil, &mistake{"INTERNAL", ""}
		}
		w.mu.Lock()
		if refused = w.refuses > 0; refused {
			w.refuses--
		} else {
			w.posts++
		}
		w.mu.Unlock()
	case err == nil:
		if w.gate(ctx, "GET", false) == killed {
			return nil, &mistake{"INTERNAL", ""}
		}
	}
	w.mu.Lock()
	accepted := err == nil && !refused && w.accepts > 0
	if accepted {
		w.accepts--
	}
	w.mu.Unlock()
	seconds := 0.0
	switch {
	case refused:
		seconds, err = 1, w.m.ClearSent(ctx, arn, run)
	case accepted:
		seconds = 30
		if err = w.m.SetPlace(ctx, item, "https://origin.example/jobs/1", false, nil); err == nil {
			err = w.m.WaitUntil(ctx, arn, time.Now().Add(30*time.Second))
		}
	}
	switch {
	case errors.Is(err, meeting.ErrSent):
		return nil, &mistake{"ORIGIN_UNREACHABLE", ""}
	case errors.Is(err, meeting.ErrEnded), errors.Is(err, meeting.ErrUnknown):
		return nil, &mistake{"CANCELLED", ""}
	case err != nil:
		return nil, &mistake{"INTERNAL", ""}
	case seconds == 0:
		return nil, nil
	}
	return map[string]any{"work": map[string]any{"segments": []any{}, "missing": 0.0}, "waitSeconds": seconds}, nil
}

func (w *world) keep(object bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.object = object
}

func (w *world) kept() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.object
}

// finish is the failure half of functions/finish.
func (w *world) finish(ctx context.Context, payload map[string]any) (map[string]any, *mistake) {
	f := payload["failure"].(map[string]any)
	noted, err := w.download.NoteFailure(ctx, arn, failure.FromStepFunctions(f["Error"].(string), f["Cause"].(string)))
	return asState(noted, failure.ToStepFunctions(err))
}

func (w *world) sendMessage(ctx context.Context, payload map[string]any) (map[string]any, *mistake) {
	var d meeting.Delivery
	convert(payload, &d)
	err := w.download.Deliver(ctx, d)
	return asState(struct{}{}, download.ToStepFunctions(err))
}

// asState returns a function's answer as its state sees it.
func asState(answer any, err error) (map[string]any, *mistake) {
	if err != nil {
		return nil, &mistake{err.(messages.InvokeResponse_Error).Type, ""}
	}
	var out map[string]any
	convert(answer, &out)
	return out, nil
}

// convert passes a value on as JSON.
func convert(from, to any) {
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		panic(err)
	}
}

// ---- what the use cases call in addition to the table and the tokens

// Record implements [download.Objects].
func (w *world) Record(context.Context, string) (object.Record, error) {
	if !w.kept() {
		return object.Record{}, errNoFile
	}
	return object.Record{}, nil
}

// Sign implements [download.Objects].
func (w *world) Sign(context.Context, string) (link.Link, error) {
	if !w.kept() {
		return link.Link{}, errNoFile
	}
	return link.Link{URL: "https://link", File: object.File{Size: 2}}, nil
}

var errNoFile = object.Gone(nil)

// discard is for [download.Protocol.Discard].
func (w *world) discard(ctx context.Context, _ string) error {
	if f := w.gate(ctx, "DeleteObject", false, throttled); f != none {
		return errors.New("delete object: " + [...]string{throttled: "SlowDown", killed: "killed"}[f])
	}
	w.keep(false)
	return nil
}

// StartExecution implements [download.Executions]: it starts a delivery.
func (w *world) StartExecution(ctx context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	f := w.gate(ctx, "StartExecution deliver", false, lost, throttled)
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

// Post implements [download.Socket].
func (w *world) Post(ctx context.Context, c meeting.Connection, e socket.Event) error {
	text := string(e.In(c.Format))
	if text == "" {
		return nil // progress, which clients with plain text don't get
	}
	f := w.gate(ctx, "PostToConnection "+c.ID, false, lost, throttled)
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
	if strings.HasPrefix(text, "error: ") {
		s.why++
	} else {
		s.link++
		w.links++
	}
	w.note("post to %s: %d links, %d reasons", c.ID, s.link, s.why)
	if f == lost {
		return errors.New("post to connection: connection reset")
	}
	return nil
}

// ---- the clients

func (w *world) client(id string) *clientSocket {
	i := slices.IndexFunc(w.sockets, func(s *clientSocket) bool { return s.id == id })
	if i < 0 {
		panic("no connection " + id)
	}
	return w.sockets[i]
}

// connect is a client that opens a socket.
func (w *world) connect() *clientSocket {
	w.mu.Lock()
	s := &clientSocket{id: fmt.Sprintf("c%d", len(w.sockets)+1), state: "opening"}
	w.sockets = append(w.sockets, s)
	w.note("client: opens %s", s.id)
	w.mu.Unlock()
	w.start(context.Background(), "on-connect "+s.id, func(ctx context.Context) {
		err := lambda(ctx, 10*time.Second, func(ctx context.Context) error { return w.onConnect(ctx, s) })
		// API Gateway opens the socket shortly after that.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		w.gate(ctx, "101 Switching Protocols", false)
		w.mu.Lock()
		defer w.mu.Unlock()
		if s.state == "opening" {
			if s.state = "open"; err != nil {
				s.state = "refused"
			}
			w.note("client: %s is %s (%v)", s.id, s.state, err)
		}
	})
	return s
}

func (w *world) onConnect(ctx context.Context, s *clientSocket) error {
	item, err := w.download.Connect(ctx, arn, "", meeting.Connection{ID: s.id, At: time.Now()})
	if err == nil && item.ExecutionARN == "" {
		w.mu.Lock()
		w.last = s // it is in no item, and has its own delivery
		w.mu.Unlock()
	}
	return err
}

// drop closes a socket; $disconnect comes later, or never.
func (w *world) drop(s *clientSocket, never bool) {
	w.mu.Lock()
	s.state, s.silent = "closed", never
	w.note("client: closes %s, without $disconnect: %v", s.id, never)
	w.mu.Unlock()
	if never {
		return
	}
	w.start(context.Background(), "on-disconnect "+s.id, func(ctx context.Context) {
		w.gate(ctx, "$disconnect", true)
		if lambda(ctx, 30*time.Second, func(ctx context.Context) error { return w.m.Disconnect(ctx, s.id) }) != nil {
			w.mu.Lock()
			s.silent = true // as if it had never connected
			w.mu.Unlock()
		}
	})
}

// request is GET /executions/{name}, repeated until it is answered.
func (w *world) request() {
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	w.start(context.Background(), fmt.Sprintf("executions GET %d", w.asked), func(ctx context.Context) {
		for {
			answered := false
			p := ctx.Value(processKey{}).(*process)
			err := lambda(ctx, 29*time.Second, func(ctx context.Context) error {
				w.mu.Lock()
				p.late = false
				w.mu.Unlock()
				state, err := w.download.Status(ctx, name, "")
				if code := failure.CodeOf(err); code == failure.NotFound || code == failure.Expired {
					answered = true
					return nil
				}
				if err == nil && state.Link != nil {
					w.mu.Lock()
					w.links++
					if p.late {
						w.broken = "a request was given a link after the cancel"
					}
					w.mu.Unlock()
				}
				answered = err == nil && state.Status != meeting.Copying
				return err
			})
			if ctx.Err() != nil {
				return
			}
			if err == nil && answered {
				w.mu.Lock()
				w.served++
				w.note("executions: GET is answered")
				w.mu.Unlock()
				return
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// cancel is DELETE /executions/{name}, repeated until it is answered.
func (w *world) cancel() {
	w.start(context.Background(), "executions DELETE", func(ctx context.Context) {
		for {
			err := lambda(ctx, 29*time.Second, func(ctx context.Context) error {
				state, err := w.download.Delete(ctx, name, "")
				if err == nil && state.Status == meeting.Deleted {
					w.mu.Lock()
					w.deleted = true
					w.mu.Unlock()
				}
				return err
			})
			w.mu.Lock()
			w.note("executions: DELETE: %v", err)
			w.accepted = w.accepted || err == nil && !w.deleted
			w.mu.Unlock()
			if code := failure.CodeOf(err); ctx.Err() != nil || err == nil || code == failure.Conflict || code == failure.NotFound {
				return
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// cleanUp is called by EventBridge, and again when it fails.
func (w *world) cleanUp(ctx context.Context, status string, no *mistake) {
	broken := download.Broken{ExecutionARN: arn, Status: status}
	if no != nil {
		broken.Error, broken.Cause = no.name, no.cause
	}
	w.gate(ctx, "Execution Status Change", false)
	for range 6 {
		if lambda(ctx, time.Minute, func(ctx context.Context) error {
			_, err := w.download.CleanUp(ctx, broken)
			return err
		}) == nil {
			return
		}
		time.Sleep(time.Minute)
	}
}

// ---- the director

// standing returns the processes that have stopped before a call, in a fixed order.
func (w *world) standing() (all []*process, hurry bool) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		if p.at != "" {
			all = append(all, p)
			hurry = hurry || !p.patient
		}
	}
	slices.SortFunc(all, func(a, b *process) int { return strings.Compare(a.name, b.name) })
	return all, hurry
}

// busy reports whether a process has more to do than to wait for the answer to a token.
func (w *world) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		if !p.ended && (p.name != "workflow" || w.wait == "") {
			return true
		}
	}
	return false
}

func (w *world) proceed(p *process, f fault) {
	w.mu.Lock()
	w.note("%s: %s%s", p.name, p.at, [...]string{"", " (reply lost)", " (throttled)", " (killed)"}[f])
	w.mu.Unlock()
	p.next <- f
	synctest.Wait()
	w.sync()
}

// sleep lets time pass.
func (w *world) sleep(d time.Duration) {
	w.sync()
	time.Sleep(d)
	synctest.Wait()
	w.sync()
}

// sync makes an order visible to the race detector that synctest.Wait doesn't: the
// director reads the world only while all processes are stopped.
func (w *world) sync() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

// say is note for the director.
func (w *world) say(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(format, a...)
}

// settle runs everything to its end, without further faults, in the order that w.choose
// gives. A process that could continue is interrupted at most as often as interruptions
// allows, unless that is negative.
func (w *world) settle() {
	w.Helper()
	var going *process
	for range 5000 {
		all, _ := w.standing()
		if len(all) > 0 {
			n := len(all)
			if i := slices.Index(all, going); i >= 0 && w.interruptions >= 0 {
				all[0], all[i] = all[i], all[0]
				if w.interruptions == 0 {
					n = 1
				}
			} else {
				going = nil
			}
			i := w.choose(n)
			if going != nil && i > 0 {
				w.interruptions--
			}
			going = all[i]
			w.proceed(going, none)
			continue
		}
		if !w.busy() {
			return
		}
		w.sleep(500 * time.Millisecond)
	}
	w.Fatalf("the history doesn't end%s", w.story())
}

// finally stops what still runs.
func (w *world) finally() {
	w.over()
	for w.busyStill() {
		w.sleep(time.Hour)
	}
}

func (w *world) busyStill() bool {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.processes, func(p *process) bool { return !p.ended })
}

// judge checks the outcome once nothing runs any more.
func (w *world) judge() {
	w.Helper()
	w.mu.Lock()
	last, end, wait, object, accepted, deleted := w.last, w.end, w.wait, w.object, w.accepted, w.deleted
	broken, links, served, asked, faulty, posts := w.broken, w.links, w.served, w.asked, w.faulty, w.posts
	w.mu.Unlock()
	i := w.table.Get(arn)
	is := func(name string) string { s, _ := i[name]["S"].(string); return s }
	status, connection := meeting.Status(is("status")), is(dynamodbtest.IndexName)
	_, flagged := i["cancelled"]

	wrong := func(format string, a ...any) { w.Helper(); w.Fatalf(format+"%s", append(a, w.story())...) }
	if broken != "" {
		wrong("%s", broken)
	}
	if last != nil && last.state == "open" && !last.notified() {
		wrong("%s is connected and got no answer", last.id)
	}
	if end == "" && wait == "" {
		wrong("the execution neither waits nor has ended")
	}
	var there *clientSocket
	if connection != "" && connection != meeting.Request {
		w.mu.Lock()
		there = w.client(connection)
		w.mu.Unlock()
	}
	gone := there == nil || there.state == "refused" || there.silent
	if wait != "" && i != nil && !status.Ended() {
		if is("taskToken") != wait || !w.tokens.open(wait) || flagged {
			wrong("the execution waits where nobody finds it: token %q, want %q; cancelled %v", is("taskToken"), wait, flagged)
		}
		if connection == meeting.Request || !gone {
			wrong("the execution waits for a client that is here: %s", connection)
		}
	}
	if end == "SUCCEEDED" && links == 0 {
		wrong("delivered to nobody")
	}
	if end == "SUCCEEDED" && !object && !deleted {
		wrong("delivered, and the file is gone")
	}
	if end == "INTERNAL" && !faulty {
		wrong("ended as INTERNAL, and nothing failed")
	}
	if accepted && end != "" && (end == "SUCCEEDED" || end == "EXPIRED" || object) {
		wrong("cancelled, and ended as %s with a file left: %v", end, object)
	}
	if accepted && end == "" {
		wrong("cancelled, and still waiting")
	}
	if deleted && (object || end == "" || status == meeting.Delivered) {
		wrong("deleted, and a file is left: %v, or somebody waits for one: %q, %s", object, end, status)
	}
	if served != asked {
		wrong("%d of %d requests were answered", served, asked)
	}
	if status.NoFile() && object {
		wrong("%s, and there is a file", status)
	}
	if status == meeting.Delivered && (!object || gone && connection == "") {
		wrong("a row is left for nobody: %s, connection %q, file %v", status, connection, object)
	}
	if status == meeting.Delivered && there != nil && there.state == "closed" && !there.silent && !w.table.Behind {
		wrong("a row is left for %s, which said goodbye", there.id)
	}
	if end != "" && i != nil && !status.Ended() {
		wrong("ended as %s, and the item says %s", end, status)
	}
	if posts > 1 {
		wrong("the origin executed %d POSTs", posts)
	}
	request := w.table.Get(arn + "#request")
	if request != nil && (end != "" || status != meeting.Copying) {
		wrong("the request item is left: the execution ended as %q, and the download is %q", end, status)
	}
	n := len(w.table.Items)
	if request != nil {
		n--
	}
	if n > 1 || n == 1 && i == nil {
		wrong("got %d items", n)
	}
	for token, t := range w.tokens.tasks {
		if t.acceptances > 1 {
			wrong("%s was answered %d times", token, t.acceptances)
		}
	}
}

// runOut lets the wait time out, as often as it is entered again.
func (w *world) runOut() {
	w.Helper()
	for range 6 {
		w.mu.Lock()
		end := w.end
		w.mu.Unlock()
		if end != "" {
			return
		}
		w.sleep(clientTimeout)
		w.settle()
	}
	w.Fatalf("the execution never ends%s", w.story())
}
