// Package copying runs the copy of a download in a Lambda function: it reads what to
// copy, posts progress to the client, stops when the download is cancelled, ends before
// the function times out, and records metrics.
package copying

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"async-download/internal/event"
	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/object"
	"async-download/internal/origin"
	"async-download/internal/socket"
	"async-download/internal/transfer"
)

const (
	// margin is what is left of the function's time for the parts in flight and for
	// the result: a function that reaches its time-out is killed and returns nothing.
	margin = 20 * time.Second
	// patience is how long an origin may delay a copy before it sends the first
	// part. Later, what was copied is worth waiting for, and so is a report that the
	// origin has accepted.
	patience = 2 * time.Hour
	// shortWait is the longest wait that a cancel doesn't end.
	shortWait = 20 * time.Second
	// acceptedShare is the least part of the time since the download was asked for that
	// is waited before an origin that has accepted the request is asked again. In a day
	// that makes at most 450 rounds, of 9 events each; an execution has 25,000.
	acceptedShare = 0.02
)

// Worker copies downloads, one at a time. Finish needs no Socket.
type Worker struct {
	Table   *meeting.Table
	Copier  *transfer.Copier
	Origin  *origin.Client
	Metrics *metric.Recorder

	Socket interface {
		// Post sends an event to a client.
		Post(ctx context.Context, c meeting.Connection, e socket.Event) error
	}
	Events  *event.Bus // nil for none
	Objects interface {
		// Describe returns what the finished object called name is.
		Describe(ctx context.Context, name string) (object.File, error)
	}
}

// Input is the event of the fetch function. It names what to copy: the file of an
// execution or, with a plan, one segment of it.
type Input struct {
	ExecutionARN string           `json:"executionArn"`
	Plan         *transfer.Plan   `json:"plan,omitempty"`
	Segment      transfer.Segment `json:"segment,omitzero"`
}

// FinishInput is the event of the finish function: the work that was done in segments.
type FinishInput struct {
	ExecutionARN string        `json:"executionArn"`
	Work         transfer.Work `json:"work"`
}

// Output is what the state machine continues with: the segments that are left, and
// how many seconds to wait first.
type Output struct {
	Work        transfer.Work `json:"work"`
	WaitSeconds int64         `json:"waitSeconds"`
}

// Copy copies the file of an execution. The output has the work that is left. The error
// is a [failure.Error] or wraps one.
func (w *Worker) Copy(ctx context.Context, arn string) (Output, error) {
	return w.run(ctx, arn, nil, transfer.Segment{})
}

// CopySegment copies one segment of a file. Reaching the end of the function's
// time is no error: Finish finds what is missing.
func (w *Worker) CopySegment(ctx context.Context, arn string, plan transfer.Plan, segment transfer.Segment) (Output, error) {
	return w.run(ctx, arn, &plan, segment)
}

func (w *Worker) run(ctx context.Context, arn string, plan *transfer.Plan, segment transfer.Segment) (Output, error) {
	log := slog.With("execution", execution.NameFromARN(arn), "segment", segment)
	s := runStats{began: time.Now()}
	out, err := w.copy(ctx, arn, plan, segment, &s)
	w.recordMetrics(arn, s.values(out.Result, err))
	seconds := time.Since(s.began).Seconds()
	var later *origin.Later
	switch {
	case errors.As(err, &later) && !s.continued && time.Since(s.asked) > patience:
		log.WarnContext(ctx, "giving up: origin kept asking for delays", "error", later.Err)
		return Output{}, later.Err
	case err == nil && out.Work != nil:
		log.InfoContext(ctx, "planned", "segments", len(out.Work.Segments), "seconds", seconds)
		return Output{Work: *out.Work}, nil
	case err == nil:
		log.InfoContext(ctx, "copied", "result", out.Result, "seconds", seconds)
		return Output{}, nil
	}
	return w.ended(ctx, log, arn, s.asked, err)
}

// ended converts the error of a run of a download that was asked for at asked.
func (w *Worker) ended(ctx context.Context, log *slog.Logger, arn string, asked time.Time, err error) (Output, error) {
	var accepted *origin.Accepted
	var later *origin.Later
	var outOfTime *transfer.OutOfTime
	switch {
	case errors.As(err, &accepted):
		after := max(accepted.After, time.Duration(acceptedShare*float64(time.Since(asked))))
		log.InfoContext(ctx, "origin accepted the request and has no file yet", "after", after.String())
		return w.wait(ctx, log, arn, after)
	case errors.As(err, &later):
		log.InfoContext(ctx, "origin asked to retry later", "code", later.Err.Code, "after", later.After.String())
		return w.wait(ctx, log, arn, later.After)
	case errors.As(err, &outOfTime):
		log.InfoContext(ctx, "out of time; it is run again", "error", failure.As(err))
		return Output{WaitSeconds: 1}, nil
	}
	if w.copiedMeanwhile(ctx, arn) {
		log.InfoContext(ctx, "copied by another worker", "error", failure.As(err))
		return Output{}, nil
	}
	log.WarnContext(ctx, "not copied", "error", failure.As(err))
	return Output{}, err
}

// copiedMeanwhile reports whether another worker has completed the file. One whose reply
// was lost continues, and its end makes the next one fail: the request item is deleted.
func (w *Worker) copiedMeanwhile(ctx context.Context, arn string) bool {
	item, err := w.Table.Current(ctx, arn)
	return err == nil && item.FileStays()
}

// wait returns an output that makes the workflow wait. It records a wait that a cancel
// should end.
func (w *Worker) wait(ctx context.Context, log *slog.Logger, arn string, d time.Duration) (Output, error) {
	if d > shortWait {
		switch err := cancelledIfEnded(w.Table.WaitUntil(ctx, arn, time.Now().Add(d))); {
		case errors.Is(err, failure.ErrCancelled):
			return Output{}, err
		case err != nil:
			log.WarnContext(ctx, "wait not recorded; a cancel takes effect after it", "error", failure.As(err))
		}
	}
	return Output{WaitSeconds: int64(math.Ceil(d.Seconds()))}, nil
}

func (w *Worker) copy(ctx context.Context, arn string, plan *transfer.Plan, segment transfer.Segment, s *runStats) (transfer.Outcome, error) {
	item, source, err := w.source(ctx, arn)
	if err != nil {
		return transfer.Outcome{}, err
	}
	s.asked, s.continued = item.Asked(), item.Copied() > 0 || source.Place.URL != ""

	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	working, run, cancel := inTime(working)
	defer cancel()
	var home int32 // the segment that is reported; 0 is the whole file
	var segments int
	if plan != nil {
		home, segments = w.Copier.Home(*plan, segment).First, len(plan.Segments(w.Copier.SegmentBytes))
	}
	job := &transfer.Job{
		Copier: w.Copier, Source: source, Key: object.Key(execution.NameFromARN(arn)), Metadata: map[string]string{},
		Run: run, Reported: item.CopiedOf(home),
		OnUpload: func(ctx context.Context, id string) error { return cancelledIfEnded(w.Table.Uploading(ctx, arn, id)) },
	}
	if item.TicketHash != "" {
		job.Metadata[object.MetaTicketHash] = item.TicketHash
	}
	if item.RequestHash != "" {
		job.Metadata[object.MetaRequestHash] = item.RequestHash
	}
	s.job = job
	p := reporter{worker: w, arn: arn, segment: home, segments: segments, job: job, stop: stop}
	job.OnSize = p.setTotal
	finish := p.start(working)

	if plan != nil {
		err := stopped(working, job.CopySegment(working, *plan, segment))
		finish()
		p.report(ctx)
		return transfer.Outcome{}, err
	}
	out, err := job.Start(working)
	err = stopped(working, err)
	finish()
	if err != nil || out.Result == nil {
		p.report(ctx)
		return out, credentialsRefused(err, source.Request, job.Copied(), cmp.Or(p.total.Load(), item.BytesTotal))
	}
	return out, w.markCopied(ctx, arn, out.Result)
}

// Finish completes the object of a file that was copied in segments, or returns
// the segments that have gaps.
func (w *Worker) Finish(ctx context.Context, arn string, work transfer.Work) (Output, error) {
	log := slog.With("execution", execution.NameFromARN(arn))
	s := runStats{began: time.Now()}
	out, err := w.finish(ctx, arn, work, &s)
	switch {
	case err == nil && out.Work != nil:
		w.recordMetrics(arn, map[metric.Name]float64{metric.Retries: 1})
		log.InfoContext(ctx, "segments are missing", "segments", len(out.Work.Segments))
		return Output{Work: *out.Work}, nil
	case err == nil:
		w.recordMetrics(arn, map[metric.Name]float64{metric.Bytes: float64(out.Result.Bytes), metric.CopySeconds: time.Since(s.asked).Seconds()})
		log.InfoContext(ctx, "finished", "result", out.Result)
		return Output{}, nil
	}
	return w.ended(ctx, log, arn, s.asked, err)
}

func (w *Worker) finish(ctx context.Context, arn string, work transfer.Work, s *runStats) (transfer.Outcome, error) {
	item, source, err := w.source(ctx, arn)
	if err != nil {
		return transfer.Outcome{}, err
	}
	s.asked = item.Asked()
	job := &transfer.Job{Copier: w.Copier, Source: source, Key: work.Plan.Key}
	working, run, cancel := inTime(ctx)
	defer cancel()
	job.Run = run
	out, err := job.Finish(working, work)
	if err != nil || out.Result == nil {
		return out, credentialsRefused(err, source.Request, item.Copied(), &work.Plan.Size)
	}
	return out, w.markCopied(ctx, arn, out.Result)
}

// source returns what an execution copies. A download that has ended or been
// cancelled is [failure.Cancelled].
func (w *Worker) source(ctx context.Context, arn string) (meeting.Item, transfer.Source, error) {
	item, err := w.Table.Current(ctx, arn)
	if err == nil && item.Stopped() {
		err = meeting.ErrEnded
	}
	var r *origin.Request
	if err == nil {
		r, err = w.request(ctx, item)
	}
	return item, transfer.Source{Client: w.Origin, Request: r}, cancelledIfEnded(err)
}

// markCopied records in the item that the object is complete.
func (w *Worker) markCopied(ctx context.Context, arn string, r *transfer.Result) error {
	err := w.Table.Copied(ctx, arn, r.Bytes)
	if errors.Is(err, meeting.ErrEnded) {
		// The download was ended during the last bytes, and its file isn't needed. Without an
		// item the file stays: it was delivered.
		return errors.Join(failure.ErrCancelled, w.Copier.Discard(ctx, object.Key(execution.NameFromARN(arn))))
	}
	if err == nil && w.Events != nil {
		w.announceReady(ctx, arn)
	}
	return cancelledIfEnded(err)
}

// announceReady puts the event of a file that is ready. The event has the caller's
// path and address, which the item has, and the file's description.
func (w *Worker) announceReady(ctx context.Context, arn string) {
	item, err := w.Table.Current(ctx, arn)
	var f object.File
	if err == nil {
		f, err = w.Objects.Describe(ctx, execution.NameFromARN(arn))
	}
	if err != nil {
		slog.ErrorContext(ctx, "event not sent", "execution", execution.NameFromARN(arn), "type", event.Ready, "error", failure.As(err))
		return
	}
	w.Events.Ready(ctx, item, f)
}

func (w *Worker) recordMetrics(arn string, values map[metric.Name]float64) {
	w.Metrics.Record(metric.Line{Message: "metrics", Execution: execution.NameFromARN(arn), Values: values})
}

// inTime returns a context that ends margin before ctx does, and how long that is
// from now: 0 for a context without a deadline.
func inTime(ctx context.Context) (context.Context, time.Duration, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, 0, func() {}
	}
	deadline = deadline.Add(-margin)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	return ctx, time.Until(deadline), cancel
}

// stopped returns the error of a copy in ctx: the cancel, if that ended ctx. A call to the
// table or to S3 reports only that its context was canceled.
func stopped(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), failure.ErrCancelled) {
		return failure.ErrCancelled
	}
	return err
}

// cancelledIfEnded returns the cancel if err is of an item that has ended or is gone, and
// so doesn't take a worker's write.
func cancelledIfEnded(err error) error {
	if errors.Is(err, meeting.ErrEnded) || errors.Is(err, meeting.ErrUnknown) {
		return failure.ErrCancelled
	}
	return err
}
