package meeting_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"pgregory.net/rapid"

	"async-download/internal/download"
	names "async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/object"
)

// A keyWorld is a stack whose clients send requests with an Idempotency-Key. It has
// the processes, faults and time of a world, several downloads, and executions that
// end when and how the director decides. Only the requests are interrupted; what an
// execution does is one step.
type keyWorld struct {
	*world
	starter    download.Starter
	executions map[string]*keyExecution // by ARN
	objects    map[string]object.Record // by name
	vain       map[string]bool          // by ARN, whether its item was created after the execution had ended
	answers    []keyAnswer
}

type keyExecution struct {
	status           sfntypes.ExecutionStatus
	started, stopped time.Time
	path             string // the item's, or POST and the body, when the execution read it; "" until then
	cleaned          bool   // a clean-up has nothing left to do
}

// keyAnswer is the final answer to a request.
type keyAnswer struct {
	caller, key, path string
	got               download.Started
	code              failure.Code // "" for got
	asked             time.Time
}

func newKeyWorld(r report, choose func(int) int) *keyWorld {
	k := &keyWorld{world: newWorld(r, choose), executions: map[string]*keyExecution{}, objects: map[string]object.Record{}, vain: map[string]bool{}}
	k.table.Items = map[string]dynamodbtest.Item{}
	k.starter = download.Starter{
		Protocol: download.Protocol{
			Table: k.m, Objects: k, Executions: k, StateMachine: machineARN, RequireTicket: true, Metrics: &metric.Recorder{Out: io.Discard},
			Discard: func(_ context.Context, key string) error {
				delete(k.objects, names.NameFromARN("x:"+key[len("downloads/"):]))
				return nil
			},
		},
		Describer: k, Origin: &url.URL{Scheme: "https", Host: "origin.example", Path: "/"},
		Input: download.Input{ClientTimeoutSeconds: 3600, MaxConcurrentSegments: 40},
	}
	k.table.Changed = func(before, after dynamodbtest.Item) {
		if before != nil && after != nil {
			return
		}
		// A request may remove only an item that was made for nothing, since the execution
		// of that name had ended before.
		if before == nil {
			arn, _ := after[dynamodbtest.KeyName]["S"].(string)
			x := k.executions[strings.TrimSuffix(arn, "#request")]
			k.vain[arn] = x != nil && !x.stopped.IsZero()
		} else if arn, _ := before[dynamodbtest.KeyName]["S"].(string); !k.vain[arn] {
			k.broken = "a request removed the item of a download"
		}
	}
	return k
}

// ---- AWS, for the requests

func (k *keyWorld) StartExecution(ctx context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	switch f := k.gate(ctx, "StartExecution", lost, throttled); f {
	case killed:
		return nil, errKilled
	case throttled:
		return nil, &sfntypes.ExecutionLimitExceeded{}
	default:
		arn := names.ARN(*in.StateMachineArn, *in.Name)
		switch x := k.executions[arn]; {
		case x == nil:
			k.executions[arn] = &keyExecution{status: sfntypes.ExecutionStatusRunning, started: time.Now()}
		case x.status != sfntypes.ExecutionStatusRunning:
			return nil, &sfntypes.ExecutionAlreadyExists{}
		}
		if f == lost { // as often as the SDK repeats it
			return nil, errors.New("connection reset")
		}
		return &sfn.StartExecutionOutput{ExecutionArn: &arn}, nil
	}
}

func (k *keyWorld) DescribeExecution(ctx context.Context, in *sfn.DescribeExecutionInput, _ ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	if f := k.gate(ctx, "DescribeExecution", throttled); f != none {
		return nil, errors.New("Rate exceeded")
	}
	x := k.executions[*in.ExecutionArn]
	out := &sfn.DescribeExecutionOutput{ExecutionArn: in.ExecutionArn, Status: x.status, StartDate: &x.started}
	if !x.stopped.IsZero() {
		out.StopDate = &x.stopped
	}
	return out, nil
}

func (k *keyWorld) Record(ctx context.Context, name string) (object.Record, error) {
	if k.gate(ctx, "HeadObject", throttled) != none {
		return object.Record{}, errors.New("SlowDown")
	}
	if r, ok := k.objects[name]; ok {
		return r, nil
	}
	return object.Record{}, errNoFile
}

func (k *keyWorld) Sign(context.Context, string) (link.Link, error) { panic("no link is signed here") }

// ---- what the director does

// request is a client that repeats its request until it has a final answer.
func (k *keyWorld) request(caller, key, path string) {
	k.mu.Lock()
	n := len(k.processes) + 1
	k.asked++
	k.mu.Unlock()
	k.start(context.Background(), fmt.Sprintf("GET %d %s %s %s", n, caller, key[:3], path), func(ctx context.Context) {
		a := keyAnswer{caller: caller, key: key, path: path}
		for ctx.Err() == nil {
			a.asked = time.Now()
			r := download.Request{Method: http.MethodGet, Path: path, Caller: caller, Key: key, AskedBy: "192.0.2.1"}
			if body, posted := strings.CutPrefix(path, "POST "); posted {
				r.Method, r.Path, r.Body = http.MethodPost, "x.bin", []byte(body)
			}
			err := lambda(ctx, 29*time.Second, func(ctx context.Context) (err error) {
				a.got, err = k.starter.Start(ctx, r)
				return err
			})
			a.code = failure.CodeOf(err)
			if final := err == nil || a.code == failure.KeyReused || a.code == failure.Expired; final && ctx.Err() == nil {
				k.answered(a)
				return
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// answered checks a final answer at the moment of it.
func (k *keyWorld) answered(a keyAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.served++
	k.answers = append(k.answers, a)
	name := names.NameFor(a.caller, a.key)
	x := k.executions[names.ARN(machineARN, name)]
	_, kept := k.objects[name]
	k.note("%s %s %s: answered %s %s", a.caller, a.key[:3], a.path, a.got.Name, a.code)
	switch {
	case a.code == failure.Expired && (x == nil || x.stopped.IsZero() || x.stopped.After(a.asked)):
		k.broken = "EXPIRED for a download that had not ended"
	case a.code == failure.Expired && kept:
		k.broken = "EXPIRED, and the file is kept"
	case a.code == "" && x == nil:
		k.broken = "an answer, and no execution was started"
	}
}

// read is the execution's first read of its item, which has what to copy.
func (k *keyWorld) read(arn string) {
	x, i := k.executions[arn], k.table.Get(arn)
	if x.path == "" && i != nil {
		x.path, _ = i["path"]["S"].(string)
		if sent := k.table.Get(arn + "#request"); sent != nil {
			body, _ := base64.StdEncoding.DecodeString(sent["body"]["B"].(string))
			x.path = "POST " + string(body)
		}
	}
}

// finish ends an execution: delivered, nobody came, failed, or aborted.
func (k *keyWorld) finish(arn, how string) {
	k.note("%s: %s", names.NameFromARN(arn)[:3], how)
	k.read(arn)
	x, i := k.executions[arn], k.table.Get(arn)
	if i == nil {
		k.broken = "an execution without an item"
		return
	}
	text := func(name string) string { s, _ := i[name]["S"].(string); return s }
	set := func(status meeting.Status) { i["status"] = dynamodbtest.Value{"S": string(status)} }
	x.status, x.stopped = sfntypes.ExecutionStatusFailed, time.Now()
	delete(k.table.Items, arn+"#request")
	switch how {
	case "delivered": // and the client has closed its socket: the object is the record
		x.status, x.cleaned = sfntypes.ExecutionStatusSucceeded, true
		k.objects[names.NameFromARN(arn)] = object.Record{TicketHash: text("ticketHash"), RequestHash: text("requestHash")}
		delete(k.table.Items, arn)
		return
	case "nobody came":
		k.objects[names.NameFromARN(arn)] = object.Record{TicketHash: text("ticketHash"), RequestHash: text("requestHash")}
		set(meeting.Expired)
	case "failed":
		set(meeting.Failed)
	case "aborted": // its clean-up comes later
		x.status = sfntypes.ExecutionStatusAborted
		k.table.Items[arn] = i
		return
	}
	x.cleaned = true
	k.table.Items[arn] = i
}

// cleanUp is what functions/clean-up does after an execution was aborted.
func (k *keyWorld) cleanUpKey(arn string) {
	k.note("%s: clean-up", names.NameFromARN(arn)[:3])
	i := k.table.Get(arn)
	if i == nil {
		k.broken = "clean-up doesn't find the item of a download that was aborted"
		return
	}
	i["status"] = dynamodbtest.Value{"S": string(meeting.Cancelled)}
	k.table.Items[arn] = i
	k.executions[arn].cleaned = true
}

// twoDays is when TTL has removed the items of ended executions, and S3 their files.
func (k *keyWorld) twoDays() {
	k.note("two days pass")
	for arn, x := range k.executions {
		if x.cleaned {
			delete(k.table.Items, arn)
			delete(k.objects, names.NameFromARN(arn))
		}
	}
	time.Sleep(meeting.ItemLife)
}

// TestHistoriesOfKeys runs random histories of requests with Idempotency-Keys: three
// requests and more for the same key and for others, by two callers, for two paths or a
// POST with two bodies, at once and after each other, with and without tickets; each
// call lost, throttled, or its function killed; the executions delivered, failed,
// aborted, or left without a client; files that expire. The same key never copies
// twice, never hands out another caller's download, and every client gets its answer.
func TestHistoriesOfKeys(t *testing.T) {
	outcomes := map[failure.Code]int{}
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func() {
			k := newKeyWorld(rt, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "") })
			defer k.finally()
			k.history()
			for _, a := range k.answers {
				outcomes[a.code]++
			}
		})
	})
	t.Logf("answers: %v", outcomes)
	if testing.Short() {
		return // rapid makes a fifth of the histories, in which one of them may be missing
	}
	for _, code := range []failure.Code{"", failure.KeyReused, failure.Expired} {
		if outcomes[code] == 0 {
			t.Errorf("no request was answered with %q", code)
		}
	}
}

func (k *keyWorld) history() {
	keys := []string{"aaa-5f0c3b1e9a7d4c62", "bbb-5f0c3b1e9a7d4c62"}
	k.starter.RequireTicket = k.choose(2) == 0
	requests, faults, ends := 3+k.choose(4), k.choose(5), k.choose(5)
	for range 20 + k.choose(40) {
		all, _ := k.standing()
		var options []func()
		for _, p := range all {
			for range 3 {
				options = append(options, func() { k.proceed(p, none) })
			}
			for _, f := range p.may {
				if faults > 0 {
					options = append(options, func() { faults--; k.proceed(p, f) })
				}
			}
		}
		if requests > 0 {
			options = append(options, func() {
				requests--
				k.request([]string{"ann", "ann", "bob"}[k.choose(3)], keys[min(k.choose(4), 1)], []string{"x.bin", "x.bin", "y.bin", "POST a", "POST b"}[k.choose(5)])
			})
		}
		cleaned := true
		for _, arn := range slices.Sorted(maps.Keys(k.executions)) {
			x := k.executions[arn]
			if x.status == sfntypes.ExecutionStatusRunning {
				options = append(options, func() { k.read(arn) })
				if ends > 0 {
					options = append(options, func() {
						ends--
						k.finish(arn, []string{"delivered", "nobody came", "failed", "aborted"}[k.choose(4)])
					})
				}
			} else if !x.cleaned {
				cleaned = false
				options = append(options, func() { k.cleanUpKey(arn) })
			}
		}
		if cleaned && !k.busy() {
			options = append(options, func() { k.twoDays() })
		}
		options = append(options, func() { k.sleep(time.Duration(1+k.choose(20)) * 500 * time.Millisecond) })
		options[k.choose(len(options))]()
	}
	k.settle()
	for arn, x := range k.executions {
		if x.status == sfntypes.ExecutionStatusRunning {
			k.finish(arn, "delivered")
		} else if !x.cleaned {
			k.cleanUpKey(arn)
		}
	}
	k.judgeKeys()
}

func (k *keyWorld) judgeKeys() {
	k.mu.Lock()
	defer k.mu.Unlock()
	wrong := func(format string, a ...any) {
		k.mu.Unlock()
		defer k.mu.Lock()
		k.Fatalf(format+"%s", append(a, k.story())...)
	}
	if k.broken != "" {
		wrong("%s", k.broken)
	}
	if k.served != k.asked {
		wrong("%d of %d requests were answered", k.served, k.asked)
	}
	type owner struct{ caller, key string }
	given, owners := map[owner]keyAnswer{}, map[string]owner{}
	for _, a := range k.answers {
		if a.code != "" {
			continue
		}
		who := owner{a.caller, a.key}
		if first, again := given[who]; again && (first.got != a.got || first.path != a.path) {
			wrong("the same key was answered %+v and %+v", first, a)
		}
		if other, taken := owners[a.got.ExecutionARN]; taken && other != who {
			wrong("%v was given the download of %v", who, other)
		}
		if (a.got.Ticket != "") != k.starter.RequireTicket {
			wrong("tickets are required: %v, got %+v", k.starter.RequireTicket, a)
		}
		for _, first := range given {
			if a.got.Ticket != "" && first.got.Ticket == a.got.Ticket && first.got.Name != a.got.Name {
				wrong("two downloads have the same ticket: %+v, %+v", first, a)
			}
		}
		given[who], owners[a.got.ExecutionARN] = a, who
		if x := k.executions[a.got.ExecutionARN]; x.path != a.path {
			wrong("%+v was answered, and %q was copied", a, x.path)
		}
	}
	asked := map[string]bool{}
	for _, a := range k.answers {
		asked[names.ARN(machineARN, names.NameFor(a.caller, a.key))] = true
	}
	if len(k.executions) > len(asked) {
		wrong("%d executions for %d keys", len(k.executions), len(asked))
	}
	for arn := range k.table.Items {
		if i := k.table.Items[arn]; i["status"]["S"] == string(meeting.Copying) {
			wrong("an item is left that nothing will end: %v", i)
		}
	}
}
