package meeting_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"async-download/internal/download"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/transfer/s3test"
)

// A world is one download with everything that takes part in it: the two deployed state
// machines, the clients and their sockets, the table, the tokens, the origin, and S3. The
// Lambdas are the deployed worker of package copying and the use cases of package
// download.
type world struct {
	*director

	table  dynamodbtest.Table
	tokens tokens
	s3     *s3test.Server
	m      *meeting.Table
	// download has the use cases, of which the Lambdas are thin wrappers.
	download *download.Protocol

	sends   *meeting.OriginRequest // what the download sends beyond path and query; nil for a plain GET
	origin  originServer
	parts   bool // the file is copied in parts, and not whole
	sockets []*clientSocket
	last    *clientSocket // the connection written last, which must get the answer
	links   int           // how often a client got a link

	accepted bool   // a cancel was answered with 202
	deleted  bool   // a DELETE was answered with 200
	asked    int    // requests
	served   int    // requests that have their answer
	stopped  bool   // the item has a cancel, or the end without a file
	broken   string // what was seen to go wrong on the way

	end    string // of the execution; "" while it runs
	stop   context.CancelFunc
	halted string // why it was stopped: ABORTED or TIMED_OUT
	wait   string // the token of the state that waits, "" when none does
	visits map[string]int
}

const (
	clientTimeout = time.Hour
	name          = "0123456789abcdef0123456789abcdef"
	machineARN    = "arn:aws:states:eu-central-1:123456789012:stateMachine:download"
	arn           = "arn:aws:states:eu-central-1:123456789012:execution:download:" + name
)

func newWorld(r report, choose func(int) int) *world {
	w := &world{director: newDirector(r, choose), s3: s3test.InProcess(r), visits: map[string]int{}}
	w.s3.MinPart = 1
	w.tokens.pass = func(ctx context.Context, operation string) fault {
		return w.gate(ctx, operation, lost, throttled)
	}
	w.tokens.stop = func() bool {
		w.halt("ABORTED")
		return true
	}
	w.m = &meeting.Table{Name: dynamodbtest.TableName, Tokens: &w.tokens, DynamoDB: dynamodbtest.Client(w.send)}
	w.download = &download.Protocol{
		Table: w.m, Metrics: &metric.Recorder{Out: io.Discard}, StateMachine: machineARN,
		Objects: w, Discard: w.copier().Discard, Executions: w, Socket: w,
	}
	w.table.Changed = w.changed
	return w
}

// changed is called after each write to the table.
func (w *world) changed(before, after dynamodbtest.Item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// While a failure is noted, the request item still exists.
	status, _ := w.table.Items[arn]["status"]["S"].(string)
	if w.table.Items[arn+"#request"] != nil && meeting.Status(status) != meeting.Copying && !meeting.Status(status).NoFile() {
		w.broken = fmt.Sprintf("the request item is there, and its download is %q", status)
	}
	w.stopped = w.stopped || after["cancelled"] != nil || meeting.Status(status).NoFile()
	id, _ := after[dynamodbtest.IndexName]["S"].(string)
	if id != "" && id != meeting.Request && (!dynamodbtest.Equal(before[dynamodbtest.IndexName], after[dynamodbtest.IndexName]) || !dynamodbtest.Equal(before["connectedAt"], after["connectedAt"])) {
		w.last = w.client(id)
	}
}

// begin creates the download and starts its execution.
func (w *world) begin() {
	w.Helper()
	w.create()
	w.start(ctx, "workflow", func(ctx context.Context) { w.workflow(ctx, *machines()["download"]) })
}

// beginCopied is begin after the copy: the execution is about to wait for the client.
func (w *world) beginCopied() {
	w.Helper()
	w.create()
	w.s3.Put(object.Key(name), []byte("ab"))
	if err := w.m.Copied(ctx, arn, 2); err != nil {
		w.Fatalf("note the copy: %v", err)
	}
	m := *machines()["download"]
	m.StartAt = "Wait for the client"
	w.start(ctx, "workflow", func(ctx context.Context) { w.workflow(ctx, m) })
}

func (w *world) create() {
	w.Helper()
	if err := w.m.Create(ctx, meeting.Item{ExecutionARN: arn, Path: "report", Query: "q=1", AskedBy: "192.0.2.1"}, w.sends); err != nil {
		w.Fatalf("create: %v", err)
	}
}

// story returns what happened, for a failure's report.
func (w *world) story() string {
	return w.director.story() + fmt.Sprintf("item: %v\n", w.table.Get(arn))
}

// runOut lets the wait time out, as often as it is entered again.
func (w *world) runOut() {
	w.Helper()
	for range 6 {
		if w.sync(); w.end != "" {
			return
		}
		w.sleep(clientTimeout)
		w.settle()
	}
	w.Fatalf("the execution never ends%s", w.story())
}

// judge checks the outcome once nothing runs any more.
func (w *world) judge() {
	w.Helper()
	w.sync()
	i, request := w.table.Get(arn), w.table.Get(arn+"#request")
	is := func(name string) string { s, _ := i[name]["S"].(string); return s }
	status, connection := meeting.Status(is("status")), is(dynamodbtest.IndexName)
	_, flagged := i["cancelled"]
	file := w.kept()
	var there *clientSocket
	if connection != "" && connection != meeting.Request {
		there = w.client(connection)
	}
	gone := there == nil || there.state == "refused" || there.silent
	waiting := w.wait != "" && i != nil && !status.Ended()

	rule := func(broken bool, format string, a ...any) {
		w.Helper()
		if broken {
			w.Fatalf(format+"%s", append(a, w.story())...)
		}
	}
	rule(w.broken != "", "%s", w.broken)
	rule(w.last != nil && w.last.state == "open" && !w.last.notified(), "the last client is connected and got no answer: %+v", w.last)
	rule(w.end == "" && w.wait == "", "the execution neither waits nor has ended")
	rule(waiting && (is("taskToken") != w.wait || !w.tokens.open(w.wait) || flagged), "the execution waits where nobody finds it: token %q, want %q; cancelled %v", is("taskToken"), w.wait, flagged)
	rule(waiting && (connection == meeting.Request || !gone), "the execution waits for a client that is here: %s", connection)
	rule(w.end == "SUCCEEDED" && w.links == 0 && !w.deleted, "delivered to nobody")
	rule(w.end == "SUCCEEDED" && !file && !w.deleted, "delivered, and the file is gone")
	unexplained := w.end == "INTERNAL" || w.end == "STORAGE" || w.end == "ORIGIN_UNREACHABLE"
	rule(unexplained && !w.faulty, "ended as %s, and nothing failed", w.end)
	rule(w.end == "ORIGIN_STATUS" && !w.origin.fails, "ended as ORIGIN_STATUS, and the origin has the file")
	rule(w.end == "CANCELLED" && !w.accepted && !flagged && w.halted == "", "the execution ended as CANCELLED, and nobody cancelled it")
	rule(status == meeting.Cancelled && !flagged && w.halted == "", "ended as CANCELLED, and nobody cancelled it")
	rule(w.accepted && w.end != "" && (w.end == "SUCCEEDED" || w.end == "EXPIRED" || file), "cancelled, and ended as %s with a file left: %v", w.end, file)
	rule(w.accepted && w.end == "", "cancelled, and still waiting")
	rule(w.deleted && (file || w.end == "" || status == meeting.Delivered), "deleted, and a file is left: %v, or somebody waits for one: %q, %s", file, w.end, status)
	rule(w.served != w.asked, "%d of %d requests were answered", w.served, w.asked)
	rule(status.NoFile() && (file || len(w.s3.Open()) > 0), "%s, and there is a file: %v, or an upload: %v", status, file, w.s3.Open())
	rule(status == meeting.Delivered && (!file || gone && connection == ""), "a row is left for nobody: %s, connection %q, file %v", status, connection, file)
	rule(status == meeting.Delivered && there != nil && there.state == "closed" && !there.silent && !w.table.Behind, "a row is left for %q, whose $disconnect came", connection)
	rule(w.end != "" && i != nil && !status.Ended(), "ended as %s, and the item is %s", w.end, status)
	rule(w.origin.posts > 1, "the origin executed %d POSTs", w.origin.posts)
	rule(file && w.sends != nil && w.sends.Method == "POST" && w.origin.posts == 0, "there is a file, and the POST was not sent")
	rule(request != nil && (w.end != "" || status != meeting.Copying), "the request item is left: the execution ended as %q, and the download is %q", w.end, status)
	for key := range w.table.Items {
		rule(key != arn && key != arn+"#request", "got the item %q", key)
	}
	for token, t := range w.tokens.tasks {
		rule(t.acceptances > 1, "%s was answered %d times", token, t.acceptances)
	}
}

func (w *world) client(id string) *clientSocket {
	i := slices.IndexFunc(w.sockets, func(s *clientSocket) bool { return s.id == id })
	if i < 0 {
		panic("no connection " + id)
	}
	return w.sockets[i]
}
