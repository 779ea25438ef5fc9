package meeting_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"async-download/internal/copying"
	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
)

// halt ends the execution from outside: as ABORTED by an operator, or as TIMED_OUT.
func (w *world) halt(status string) {
	w.do(func() {
		w.halted = status
		w.note("execution: %s", status)
	})
	w.stop()
}

// workflow runs the download machine.
func (w *world) workflow(ctx context.Context, m machine) {
	ctx, w.stop = context.WithCancel(ctx)
	x := &execution{machine: &m, arn: arn, task: w.task, issue: w.tokens.issue, entered: func(name string) {
		w.do(func() {
			w.visits[name]++
			w.note("workflow: %s", name)
		})
	}}
	status, _, no := x.run(ctx, map[string]any{"clientTimeoutSeconds": clientTimeout.Seconds(), "maxConcurrentSegments": 1.0})
	w.do(func() {
		w.end = status
		if no != nil {
			w.end = no.name
		}
		w.note("workflow: ended as %s", w.end)
		if status == "ABORTED" {
			status = w.halted
		}
	})
	if status != "SUCCEEDED" && w.ctx.Err() == nil {
		w.start(context.Background(), "clean-up", func(ctx context.Context) { w.cleanUp(ctx, status, no) })
	}
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

func (w *world) task(ctx context.Context, s *state, parameters map[string]any, token string, limit time.Duration) (any, *mistake) {
	switch s.Resource {
	case "arn:aws:states:::lambda:invoke":
		return w.invoke(ctx, strings.Trim(parameters["FunctionName"].(string), "${}"), parameters["Payload"].(map[string]any), limit)
	case "arn:aws:states:::aws-sdk:dynamodb:updateItem":
		return w.integrated(ctx, parameters)
	case "arn:aws:states:::aws-sdk:dynamodb:updateItem.waitForTaskToken":
		return w.waitForToken(ctx, parameters, token, limit)
	case "arn:aws:states:::aws-sdk:sfn:startSyncExecution":
		f := w.gate(ctx, "StartSyncExecution", lost, throttled)
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
func (w *world) await(ctx context.Context, name string, run func(ctx context.Context)) bool {
	done := make(chan struct{})
	w.start(ctx, name, func(ctx context.Context) { defer close(done); run(ctx) })
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// ---- the table, as the state machines call it

// waitForToken calls DynamoDB and waits for the answer to the token.
func (w *world) waitForToken(ctx context.Context, parameters map[string]any, token string, limit time.Duration) (any, *mistake) {
	t := w.tokens.task(token)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	_, no := w.integrated(ctx, parameters)
	if no != nil && w.tokens.close(token) {
		return nil, no
	}
	if no == nil {
		p := ctx.Value(processKey{}).(*process)
		w.do(func() { w.wait, p.idle = token, true })
		select {
		case <-t.done:
		case <-timer.C:
		case <-ctx.Done():
		}
		w.do(func() { w.wait, p.idle = "", false })
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
}

// integrated makes a state's UpdateItem.
func (w *world) integrated(ctx context.Context, parameters map[string]any) (any, *mistake) {
	f := w.gate(ctx, fmt.Sprint("UpdateItem ", parameters["UpdateExpression"]), throttled, lost)
	if f == killed || f == throttled {
		return nil, &mistake{"DynamoDb.ProvisionedThroughputExceededException", ""}
	}
	parameters["TableName"] = dynamodbtest.TableName
	body, err := json.Marshal(parameters)
	if err != nil {
		panic(err)
	}
	status, answer := w.table.Do("UpdateItem", body)
	record("UpdateItem", body, status, answer)
	if f == lost {
		return nil, &mistake{"DynamoDb.SdkClientException", ""}
	}
	var out map[string]any
	convert(json.RawMessage(answer), &out)
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

// ---- the Lambdas

// invoke runs a Lambda for a state.
func (w *world) invoke(ctx context.Context, function string, payload map[string]any, limit time.Duration) (any, *mistake) {
	handler := map[string]func(context.Context, map[string]any) (map[string]any, *mistake){
		"FetchFunctionArn": w.fetch, "FinishFunctionArn": w.finish, "SendMessageFunctionArn": w.sendMessage,
	}[function]
	if function == "FetchFunctionArn" && w.gate(ctx, "Invoke fetch", lost) == lost {
		// Step Functions invokes it again while this one continues.
		w.start(ctx, "survivor", func(ctx context.Context) {
			_ = lambda(ctx, limit, func(ctx context.Context) error { handler(ctx, payload); return nil })
		})
		return nil, &mistake{"Lambda.SdkClientException", "connection reset"}
	}
	var out map[string]any
	var no *mistake
	if !w.await(ctx, function, func(ctx context.Context) {
		if lambda(ctx, limit, func(ctx context.Context) error { out, no = handler(ctx, payload); return nil }) != nil {
			no = &mistake{"Lambda.Unknown", "exited"}
		}
	}) || no != nil {
		return nil, no
	}
	return map[string]any{"Payload": out}, nil
}

// fetch is functions/fetch. Each invocation has its own connections to the origin.
func (w *world) fetch(ctx context.Context, _ map[string]any) (map[string]any, *mistake) {
	dial, stop := origintest.InMemory(ctx, http.HandlerFunc(w.answer))
	defer w.ending.Go(stop)
	worker := &copying.Worker{
		Table: w.m, Copier: w.copier(), Socket: w, Metrics: &metric.Recorder{Out: io.Discard},
		// Fixed delays, so that a history can be run again. A run ends with what the origin
		// wants to have repeated later.
		Origin: &origin.Client{Base: base, Dial: dial, Backoff: time.Nanosecond, MaxSleep: time.Nanosecond},
	}
	defer worker.Origin.CloseIdleConnections()
	out, err := worker.Copy(ctx, arn)
	if why := w.neglected(out, err); why != "" {
		w.do(func() {
			if !w.faulty {
				w.broken = why
			}
		})
	}
	return asState(out, failure.ToStepFunctions(err))
}

// neglected returns what a worker has left undone, which must not be if no call had a fault.
func (w *world) neglected(out copying.Output, err error) string {
	i := w.table.Get(arn)
	waits, copied := out.WaitSeconds > 20, i["copiedAt"] != nil
	switch {
	case waits && (i["waitsUntil"] == nil || i["cancelled"] != nil):
		return "a worker reported a wait in which a cancel isn't noticed"
	case err == nil && out.WaitSeconds == 0 && !copied:
		return "a worker reported a copy that isn't noted"
	case failure.CodeOf(err) == failure.Internal:
		return fmt.Sprintf("a worker failed: %v", failure.As(err).Err)
	case failure.CodeOf(err) == failure.Cancelled && !copied && w.kept():
		return "a worker that was cancelled left its file"
	}
	return ""
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

// cleanUp is functions/clean-up, which EventBridge calls, and again when it fails.
func (w *world) cleanUp(ctx context.Context, status string, no *mistake) {
	broken := download.Broken{ExecutionARN: arn, Status: status}
	if no != nil {
		broken.Error, broken.Cause = no.name, no.cause
	}
	w.gate(ctx, "Execution Status Change")
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
