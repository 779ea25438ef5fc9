// Command fetch copies a file, or one segment of it, from the origin into S3.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"async-download/internal/execution"
	"async-download/internal/failure"
	"async-download/internal/link"
	"async-download/internal/meeting"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/setting"
	"async-download/internal/socket"
	"async-download/internal/ticket"
	"async-download/internal/transfer"
)

const (
	// margin is what is left of the function's time for the parts in flight to
	// end and for the answer: a function at its time-out is killed, and says nothing.
	margin = 20 * time.Second
	// tick is how often bytes copied are written and a cancel is looked for.
	tick = time.Second
	// patience is how long an origin may put a copy off before it sends the first
	// part. Later, what was copied is worth waiting for.
	patience = 2 * time.Hour
	// postTimeout drops a message about progress before the next worker may send
	// one, so that none is overtaken.
	postTimeout = 900 * time.Millisecond
)

type function struct {
	meeting *meeting.Meeting
	copier  transfer.Copier // copied for each run
	origin  *origin.Client
	socket  *socket.Socket
	metrics *metric.Recorder
}

// task is the file of an execution or, with a plan, one segment of it.
type task struct {
	ExecutionARN string           `json:"executionArn"`
	Plan         *transfer.Plan   `json:"plan"`
	Segment      transfer.Segment `json:"segment"`
}

// outcome is what the state machine goes on with: the work that is left, and how
// long the origin wants to be left alone before.
type outcome struct {
	Work        transfer.Work `json:"work"`
	WaitSeconds int64         `json:"waitSeconds"`
}

func main() {
	slog.SetDefault(slog.New(lambdacontext.NewLogHandler()))
	env := setting.Reader{Lookup: os.LookupEnv}
	local := env.Optional("LOCAL_ENDPOINT") != ""
	f := function{
		meeting: &meeting.Meeting{Table: env.String("CONNECTIONS_TABLE")},
		copier:  transfer.Copier{Bucket: env.String("BUCKET"), MaxBytes: env.Number("MAX_FILE_BYTES"), SegmentBytes: env.Number("SEGMENT_BYTES")},
		origin:  &origin.Client{Private: env.Bool("ORIGIN_IS_PRIVATE"), AllowLoopback: local, RedirectHosts: env.List("ORIGIN_REDIRECT_HOSTS"), AllowedPaths: env.List("ALLOWED_PATHS")},
		metrics: &metric.Recorder{Stack: env.String("STACK_NAME"), Out: os.Stdout},
	}
	webSocket := env.String("WEBSOCKET_API")
	var err error
	f.origin.Base, err = origin.ParseBase(env.String("ORIGIN_URL"))
	env.Add("ORIGIN_URL", err)
	cfg, err := config.LoadDefaultConfig(context.Background())
	env.Add("AWS", err)
	if err := env.Err(); err != nil {
		slog.Error("can't start", "error", err)
		os.Exit(1)
	}
	if secret := env.Optional("ORIGIN_SECRET_ARN"); secret != "" {
		f.origin.Header, err = setting.Headers(context.Background(), secretsmanager.NewFromConfig(cfg), secret)
		if err != nil {
			slog.Error("can't start", "error", err)
			os.Exit(1)
		}
	}
	f.meeting.DynamoDB = dynamodb.NewFromConfig(cfg)
	f.copier.S3 = transfer.S3(cfg)
	f.socket = &socket.Socket{API: apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = aws.String(webSocket) })}
	lambda.Start(f.handle)
}

func (f *function) handle(ctx context.Context, t task) (outcome, error) {
	name := execution.NameOf(t.ExecutionARN)
	log := slog.With("execution", name, "segment", t.Segment)
	var did work
	start := time.Now()
	out, err := f.copy(ctx, t, &did)
	seconds := time.Since(start).Seconds()
	var later *origin.Later
	f.metrics.Record(metric.Line{Message: "measured", Execution: name, Values: did.measure(out.Result, seconds, errors.As(err, &later))})
	switch {
	case errors.As(err, &later) && !did.began && time.Since(did.asked) > patience:
		log.WarnContext(ctx, "told to wait for too long", "error", later.Err)
		return outcome{}, failure.ToStepFunctions(later.Err)
	case errors.As(err, &later):
		log.InfoContext(ctx, "told to wait", "code", later.Err.Code, "after", later.After.String())
		return outcome{WaitSeconds: int64(later.After.Seconds()) + 1}, nil
	case err != nil:
		log.WarnContext(ctx, "not copied", "error", failure.As(err), "seconds", seconds)
		return outcome{}, failure.ToStepFunctions(err)
	case out.Work != nil:
		log.InfoContext(ctx, "planned", "segments", len(out.Work.Segments), "seconds", seconds)
		return outcome{Work: *out.Work}, nil
	}
	log.InfoContext(ctx, "copied", "result", out.Result, "seconds", seconds)
	return outcome{}, nil
}

// work is what one run did.
type work struct {
	asked   time.Time    // when the download was asked for
	began   bool         // some of it was there before
	moved   atomic.Int64 // bytes
	resumed atomic.Bool  // an earlier run had stored some
}

// measure returns what there is to count. whole is a copy that is complete, nil
// for one that isn't and for a segment.
func (w *work) measure(whole *transfer.Result, seconds float64, told bool) map[metric.Name]float64 {
	values := map[metric.Name]float64{}
	moved := w.moved.Load()
	if moved > 0 && seconds > 0 {
		values[metric.MegabytesPerSecond] = float64(moved) / 1e6 / seconds
	}
	retries := 0
	if w.resumed.Load() {
		retries++
	}
	if told {
		retries++
	}
	if whole != nil {
		values[metric.Bytes], values[metric.CopySeconds] = float64(whole.Bytes), seconds
		if moved < whole.Bytes { // an earlier run did the rest
			values[metric.CopySeconds] = time.Since(w.asked).Seconds()
		} else {
			retries += max(whole.Ranges-max(whole.Parts, 1), 0)
		}
	}
	if retries > 0 {
		values[metric.Retries] = float64(retries)
	}
	return values
}

func (f *function) copy(ctx context.Context, t task, did *work) (transfer.Outcome, error) {
	item, err := f.meeting.Current(ctx, t.ExecutionARN)
	if errors.Is(err, meeting.ErrUnknown) || err == nil && stopped(item) {
		return transfer.Outcome{}, cancelled()
	}
	if err != nil {
		return transfer.Outcome{}, err
	}
	did.asked, did.began = item.Asked(), item.BytesCopied > 0
	target, err := origin.Join(f.origin.Base, f.origin.AllowedPaths, item.Path, item.Query)
	if err != nil {
		return transfer.Outcome{}, err
	}
	meta := map[string]string{}
	if item.TicketHash != "" {
		meta[ticket.Meta] = item.TicketHash
	}
	return f.run(ctx, t, item, target, meta, did)
}

// run copies while a second goroutine tells how far it is and watches for a cancel.
func (f *function) run(ctx context.Context, t task, item meeting.Item, target *url.URL, meta map[string]string, did *work) (transfer.Outcome, error) {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	copier := f.copier
	copier.Told = item.BytesCopied
	key := link.Key(execution.NameOf(t.ExecutionARN))
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		working, cancel = context.WithDeadline(working, deadline.Add(-margin))
		defer cancel()
		copier.Run = time.Until(deadline) - margin
	}
	p := progress{function: f, arn: t.ExecutionARN, stop: stop}
	copier.Progress = func(n int64) { p.added.Add(n); did.moved.Add(n) }
	copier.Resumed = func(int64) { did.resumed.Store(true) }
	copier.OnSize = p.size
	copier.OnUpload = func(ctx context.Context, id string) error { return ended(f.meeting.Uploading(ctx, t.ExecutionARN, id)) }

	var telling sync.WaitGroup
	telling.Go(func() { p.tell(working) })
	source := transfer.Source{Client: f.origin, URL: target}
	if t.Plan != nil {
		err := copier.CopySegment(working, source, *t.Plan, t.Segment)
		stop(nil)
		telling.Wait()
		p.write(ctx)
		return transfer.Outcome{}, err
	}
	out, err := copier.Start(working, source, key, meta)
	stop(nil)
	telling.Wait()
	if err != nil || out.Result == nil {
		p.write(ctx)
		return out, err
	}
	if err := f.meeting.Copied(ctx, t.ExecutionARN, out.Result.Bytes); err != nil {
		// It was ended while the last bytes went through; nobody will ask for them.
		if errors.Is(err, meeting.ErrEnded) {
			err = errors.Join(cancelled(), copier.Discard(ctx, key))
		}
		return out, err
	}
	return out, nil
}

// progress writes what a worker has copied into the item, and what all of them
// have to the client.
type progress struct {
	*function
	arn   string
	stop  context.CancelCauseFunc
	added atomic.Int64          // since the last write
	total atomic.Pointer[int64] // nil: not known
}

func (p *progress) size(n int64) {
	if n >= 0 {
		p.total.Store(&n)
	}
}

// tell goes on until ctx ends.
func (p *progress) tell(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// Among many workers most see that another has just told it, and spare the
		// item, which bears 1,000 writes a second, an attempt of theirs.
		if item, ok := p.write(ctx); ok && item.Format == socket.JSON && p.meeting.Due(item) {
			p.post(ctx)
		}
	}
}

// write adds to the item and stops the copy if it was cancelled. A write that
// fails is made up for by the next: the copy is not held up.
func (p *progress) write(ctx context.Context) (meeting.Item, bool) {
	n := p.added.Swap(0)
	item, err := p.meeting.Progress(ctx, p.arn, n, p.total.Load())
	switch {
	case errors.Is(err, meeting.ErrUnknown) || err == nil && stopped(item):
		p.stop(cancelled())
		return item, false
	case err != nil:
		p.added.Add(n)
		return item, false
	}
	return item, true
}

func (p *progress) post(ctx context.Context) {
	item, err := p.meeting.Announce(ctx, p.arn)
	if err != nil {
		return
	}
	c, _ := item.Connection()
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	// A client that is gone is met by the delivery, which knows what to do.
	_ = p.socket.Post(ctx, c, socket.Progress(item.Copied(), item.BytesTotal))
}

func stopped(item meeting.Item) bool { return item.Cancelled || item.Status.Ended() }

func cancelled() error { return failure.New(failure.Cancelled, "the download was cancelled") }

func ended(err error) error {
	if errors.Is(err, meeting.ErrEnded) {
		return cancelled()
	}
	return err
}
