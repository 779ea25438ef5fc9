package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

const (
	// restarts is how often a copy begins again from nothing: the file changed,
	// a stream broke, or somebody aborted the upload.
	restarts = 3
	// digestReadBack is the largest file made of ranges whose digest is checked.
	// It has to be read back from S3 in one stream, in one run: at 20 MB/s.
	digestReadBack = 16 << 30
	// idleRounds is how many rounds in a row may bring no part before a copy is
	// given up: a large one must not be lost to a bad minute of S3 or the origin.
	idleRounds = 3
	// workerRun is how long a worker runs at most, where nobody says.
	workerRun = 14 * time.Minute
	// wholeBytes is the largest file that is held in memory and stored in one
	// request: no larger than one part by default.
	wholeBytes = PartSize
)

// Start copies the file at src to key, with meta as further metadata of the
// object. It returns the finished object, or the work that is left when the
// file has more than one segment or the context's deadline came first.
//
// Started again with the same key it goes on with what is there: a finished
// object is the result, an upload of the same version of the file is continued.
// An error leaves an upload open for that; see [Copier.Abort].
func (c *Copier) Start(ctx context.Context, src Source, key string, meta map[string]string) (Outcome, error) {
	// Bytes are counted again when a copy begins again; what was told to
	// Progress is not told twice.
	count := &counter{tell: c.Progress, highest: c.Told}
	ranged := true
	for try := 1; ; try++ {
		if !c.Replace {
			if r, err := c.finished(ctx, key); err != nil || r != nil {
				return Outcome{Result: r}, unfinished(ctx, err)
			}
		}
		count.restart(0)
		outcome, err := c.start(ctx, src, key, meta, ranged, count)
		switch {
		case err == nil || ctx.Err() != nil || try > restarts:
			return outcome, err
		case errors.Is(err, origin.ErrRangeRefused):
			ranged = false
		case errors.Is(err, errOvertaken): // the object is the result
		case failure.CodeOf(err) == failure.OriginChanged, origin.Temporary(err), isCode(err, "NoSuchUpload", "InvalidPart"):
			// The file is another one, a stream broke, or the upload is gone, most
			// likely because another worker of this download has finished; or parts of
			// it are gone: it was aborted, and a late part brought it back.
			if err := pause(ctx, try, c.storeBackoff); err != nil {
				return Outcome{}, err
			}
		default:
			return Outcome{}, err
		}
	}
}

// finished returns the object that is there, nil if there is none. A key is used
// for one download, and only whole objects are ever completed under it.
func (c *Copier) finished(ctx context.Context, key string) (*Result, error) {
	head, err := c.head(ctx, key)
	if err != nil || head == nil {
		return nil, err
	}
	r := FromHead(head)
	if err := c.checkDigest(ctx, key, origin.ParseDigest(head.Metadata[MetaDigest])); err != nil {
		return nil, err
	}
	c.sweep(ctx, key)
	return &r, nil
}

func (c *Copier) start(ctx context.Context, src Source, key string, meta map[string]string, ranged bool, count *counter) (Outcome, error) {
	first := c.partSize()
	if !ranged {
		first = 0
	}
	f, err := src.Client.Open(ctx, src.URL, first)
	if outOfTime(ctx, err) {
		return Outcome{}, failure.New(failure.OriginUnreachable, "the origin gave no answer in the time that a copy has")
	}
	if err != nil {
		return Outcome{}, err
	}
	defer f.Close()
	if limit := cmp.Or(c.MaxBytes, MaxBytes); f.Size > limit {
		return Outcome{}, failure.New(failure.TooLarge, "the file has %d bytes; at most %d are taken", f.Size, limit)
	}
	if c.OnSize != nil {
		c.OnSize(f.Size)
	}
	var r Result
	switch {
	case f.Size >= 0 && f.Size <= min(wholeBytes, c.partSize()):
		r, err = c.whole(ctx, f, describe(f, key, meta), count)
	case f.Ranged:
		if f.Size > cmp.Or(c.digestReadBack, digestReadBack) {
			f.Digest = origin.Digest{}
		}
		return c.ranges(ctx, src, f, describe(f, key, meta), count)
	default:
		r, err = c.stream(ctx, f, describe(f, key, meta), count)
	}
	if outOfTime(ctx, err) {
		return Outcome{}, failure.New(failure.OriginTooSlow, "the file didn't come in the time that a copy has; without ranges it can't be continued")
	}
	if err != nil {
		return Outcome{}, err
	}
	r.Ranges = f.Requests()
	c.sweep(ctx, key)
	return Outcome{Result: &r}, nil
}

// unfinished turns a deadline that came while S3 was asked, before the first part
// or behind the last, into the advice to come again.
func unfinished(ctx context.Context, err error) error {
	if !outOfTime(ctx, err) {
		return err
	}
	return &origin.Later{After: time.Second, Err: failure.New(failure.Storage, "S3 wasn't done in the time that a copy has")}
}

// whole copies a small file in one request, from memory.
func (c *Copier) whole(ctx context.Context, f *origin.File, o object, count *counter) (Result, error) {
	b := make([]byte, f.Size)
	src := io.ReadCloser(f.Range(ctx, 0, f.Size))
	if !f.Ranged {
		src = f.Stream()
	}
	defer src.Close()
	if _, err := io.ReadFull(src, b); err != nil {
		return Result{}, err
	}
	if h := newHash(f.Digest); h != nil {
		h.Write(b)
		if !f.Digest.Matches(h.Sum(nil)) {
			return Result{}, mismatch(f.Digest)
		}
	}
	r, err := c.put(ctx, o, bytes.NewReader(b))
	if err == nil {
		count.add(r.Bytes)
	}
	return r, err
}

// put stores an object that is in memory.
func (c *Copier) put(ctx context.Context, o object, r io.ReadSeeker) (Result, error) {
	var s sums
	size, err := rewound(r, &s)
	if err != nil {
		return Result{}, err
	}
	want := Checksum{CRC64NVME: s.base64CRC64()}
	in := &s3.PutObjectInput{
		Bucket: &c.Bucket, Key: &o.key, Body: r,
		ContentType: &o.contentType, ContentEncoding: optional(o.encoding), ContentDisposition: &o.disposition,
		Metadata:          o.metadata,
		ChecksumCRC64NVME: &want.CRC64NVME,
	}
	if !c.Replace {
		in.IfNoneMatch = aws.String("*")
	}
	if _, err := c.S3.PutObject(ctx, in, unsigned, c.patient); err != nil {
		return c.settle(ctx, o, size, want, err)
	}
	return c.readBack(ctx, o, size, want)
}

// ranges copies a file by ranges in parallel: all of it, or, when it has more
// than one segment, only as far as to make the work that is left.
func (c *Copier) ranges(ctx context.Context, src Source, f *origin.File, o object, count *counter) (Outcome, error) {
	plan, err := NewPlan(f.Size, c.partSize())
	if err != nil {
		return Outcome{}, err
	}
	plan.Key, plan.ETag, plan.Digest = o.key, f.ETag, f.Digest.String()
	plan, have, found, err := c.resume(ctx, src, plan)
	if err != nil {
		return Outcome{}, unfinished(ctx, err)
	}
	if !found {
		have = map[int32]part{}
		if c.SegmentBytes > 0 && f.Size > c.SegmentBytes {
			if err := c.fastEnough(ctx, f, plan); err != nil {
				return Outcome{}, err
			}
		}
		if plan, err = c.begin(ctx, src, plan, o); err != nil {
			return Outcome{}, unfinished(ctx, err)
		}
	}
	if c.OnUpload != nil {
		if err := c.OnUpload(ctx, plan.UploadID); err != nil {
			return Outcome{}, err
		}
	}
	all := Segment{1, plan.Parts()}
	left := missing(all, have)
	if len(left) == 0 || left[0] != 1 {
		_ = f.Close() // nobody will read it
	}
	if c.SegmentBytes > 0 && f.Size > c.SegmentBytes && len(left) > 0 {
		return Outcome{Work: c.work(plan, left)}, nil
	}
	if len(have) > 0 {
		var n int64
		for _, p := range have {
			n += p.size
		}
		count.restart(n)
		if c.Resumed != nil {
			c.Resumed(n)
		}
	}

	run := &copying{c: c, f: f, plan: plan, have: have, report: count.add}
	err = run.copyParts(ctx, left)
	if outOfTime(ctx, err) && c.SegmentBytes > 0 {
		return Outcome{Work: c.work(plan, missing(all, have))}, nil
	}
	if err != nil {
		return Outcome{}, c.given(ctx, plan, err)
	}
	r, err := c.complete(ctx, plan, have, o)
	if err != nil {
		return Outcome{}, unfinished(ctx, err)
	}
	r.Ranges = f.Requests()
	return c.done(ctx, plan, r)
}

// done is what follows the completion of an object made of parts.
func (c *Copier) done(ctx context.Context, plan Plan, r Result) (Outcome, error) {
	if err := c.checkDigest(ctx, plan.Key, origin.ParseDigest(plan.Digest)); err != nil {
		return Outcome{}, unfinished(ctx, err)
	}
	c.sweep(ctx, plan.Key)
	return Outcome{Result: &r}, nil
}

// given passes on the error of the parts, after aborting an upload that nobody
// can continue: its file is there no more, or not by ranges.
func (c *Copier) given(ctx context.Context, plan Plan, err error) error {
	if failure.CodeOf(err) == failure.OriginChanged || errors.Is(err, origin.ErrRangeRefused) {
		ctx, cancel := alive(ctx)
		defer cancel()
		_ = c.abort(ctx, plan.Key, plan.UploadID) // the sweep at the end comes by again
	}
	return err
}

// work is what is left of a plan when the numbered parts are missing.
func (c *Copier) work(plan Plan, left []int32) *Work {
	w := &Work{Plan: plan, Missing: len(left)}
	i := 0
	for _, s := range plan.Segments(c.SegmentBytes) {
		n := i
		for i < len(left) && left[i] <= s.Last {
			i++
		}
		if i > n {
			w.Segments = append(w.Segments, Segment{left[n], left[i-1]})
		}
	}
	return w
}

// fastEnough refuses a file whose parts are so large that a worker couldn't move
// one in its time. The speed is that of the second half of the first range: a
// connection starts slowly.
func (c *Copier) fastEnough(ctx context.Context, f *origin.File, plan Plan) error {
	if c.Run == 0 || plan.PartSize <= c.partSize() {
		return nil
	}
	head := f.Range(ctx, 0, c.partSize())
	defer head.Close()
	half := c.partSize() / 2
	if _, err := io.CopyN(io.Discard, head, half); err != nil {
		return err
	}
	began := time.Now()
	if _, err := io.CopyN(io.Discard, head, half); err != nil {
		return err
	}
	speed := perSecond(half, time.Since(began))
	if speed < plan.SlowestOrigin(c.Run) {
		return failure.New(failure.OriginTooSlow, "a file of %d bytes needs %d bytes a second on each connection; the origin sends %d", f.Size, plan.SlowestOrigin(c.Run), speed)
	}
	return nil
}

// CopySegment copies the parts of segment that aren't there yet. Reaching the
// context's deadline is no error: what is missing is found by Finish.
func (c *Copier) CopySegment(ctx context.Context, src Source, plan Plan, segment Segment) error {
	have, err := c.parts(ctx, plan, segment)
	if err == nil {
		count := &counter{tell: c.Progress}
		f := src.Client.Reopen(src.URL, plan.Size, plan.ETag)
		run := &copying{c: c, f: f, plan: plan, have: have, report: count.add}
		err = run.copyParts(ctx, missing(segment, have))
	}
	switch {
	case outOfTime(ctx, err):
		return nil
	case isCode(err, "NoSuchUpload"):
		// Finished by another worker while this one came late, or aborted.
		if head, headErr := c.head(ctx, plan.Key); headErr == nil && head != nil {
			return nil
		}
		return gone(err)
	}
	return err
}

// Finish completes the object if every part is there, else returns the work
// that is left. When no part came since work was made it returns why.
func (c *Copier) Finish(ctx context.Context, src Source, work Work) (Outcome, error) {
	plan := work.Plan
	all := Segment{1, plan.Parts()}
	for try := 1; ; try++ {
		have, err := c.parts(ctx, plan, all)
		if isCode(err, "NoSuchUpload") {
			// Another worker completed it and its answer was lost, or it was aborted.
			if r, err := c.finished(ctx, plan.Key); err != nil || r != nil {
				return Outcome{Result: r}, unfinished(ctx, err)
			}
			return Outcome{}, gone(err)
		}
		if err != nil {
			return Outcome{}, unfinished(ctx, err)
		}
		if left := missing(all, have); len(left) > 0 {
			next := c.work(plan, left)
			if len(left) >= work.Missing {
				next.Idle = work.Idle + 1
				err := c.why(ctx, src, plan, left[0])
				passing := origin.GivenUp(err) || failure.CodeOf(err) == failure.Storage
				if !passing || next.Idle == idleRounds {
					return Outcome{}, err
				}
			}
			return Outcome{Work: next}, nil
		}
		r, err := c.complete(ctx, plan, have, object{key: plan.Key})
		if isCode(err, "InvalidPart") && try < restarts {
			continue // a late worker stored a part once more; list them again
		}
		if err != nil {
			return Outcome{}, unfinished(ctx, err)
		}
		return c.done(ctx, plan, r)
	}
}

// why asks the origin for a part that no worker brought. The workers' own errors
// were theirs to lose: a Map tolerates them.
func (c *Copier) why(ctx context.Context, src Source, plan Plan, n int32) error {
	start, end := plan.Span(n)
	end = min(end, start+1<<20)
	r := src.Client.Reopen(src.URL, plan.Size, plan.ETag).Range(ctx, start, end)
	defer r.Close()
	began := time.Now()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if speed := perSecond(end-start, time.Since(began)); speed < plan.SlowestOrigin(cmp.Or(c.Run, workerRun)) {
		return failure.New(failure.OriginTooSlow, "no part of %d bytes came in the time that a worker has; the origin sends %d bytes a second", plan.PartSize, speed)
	}
	return failure.New(failure.Storage, "no part could be stored in several rounds, though the origin sends them")
}

func perSecond(n int64, took time.Duration) int64 {
	return int64(float64(n) / max(took.Seconds(), 1e-6))
}

// counter adds up what is told to Progress.
type counter struct {
	tell func(int64)

	mu         sync.Mutex
	n, highest int64
}

func (c *counter) add(n int64) {
	c.mu.Lock()
	c.n += n
	fresh := max(c.n-c.highest, 0)
	c.highest += fresh
	c.mu.Unlock()
	if c.tell != nil && fresh > 0 {
		c.tell(fresh)
	}
}

// restart begins to count again at n bytes that are there, and known to be.
func (c *counter) restart(n int64) {
	c.mu.Lock()
	c.n, c.highest = n, max(c.highest, n)
	c.mu.Unlock()
}

// storage turns an error of S3 into a failure, and the end of a context into
// its cause.
func storage(ctx context.Context, err error, doing string) error {
	if err == nil {
		return nil
	}
	var f *failure.Error
	if errors.As(err, &f) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return failure.Wrap(err, failure.Storage, "%s failed", doing)
}

// outOfTime reports whether err is the end of ctx's time. The time-outs of net and
// net/http are context.DeadlineExceeded to errors.Is too.
func outOfTime(ctx context.Context, err error) bool {
	return errors.Is(err, errLate) || ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded)
}
