package transfer

import (
	"cmp"
	"context"
	"io"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

const (
	// idleRounds is the number of rounds in a row without a part after which a copy is
	// given up: a large copy must survive a bad minute of S3 or the origin.
	idleRounds = 3
	// workerRun is how long a worker runs at most, where [Job.Run] isn't set.
	workerRun = 14 * time.Minute
)

// CopySegment copies the parts of segment that aren't stored yet. Reaching the
// context's deadline is no error: Finish finds what is missing.
func (j *Job) CopySegment(ctx context.Context, plan Plan, segment Segment) error {
	have, err := j.parts(ctx, plan, segment)
	if err == nil {
		j.progress.restart(j.besides(plan, segment), totalSize(have))
		var f *origin.File
		if f, err = j.Source.Client.Reopen(j.Source.Request, plan.Size, plan.Pin); err == nil {
			run := &rangeCopy{job: j, file: f, plan: plan, have: have}
			err = run.copyParts(ctx, missing(segment, have))
		}
	}
	switch {
	case outOfTime(ctx, err):
		return nil
	case isCode(err, "NoSuchUpload"):
		// Another worker finished it, or it was aborted.
		if head, headErr := j.head(ctx, plan.Key); headErr == nil && head != nil {
			return nil
		}
		return gone(err)
	}
	return err
}

// Home returns the segment of the plan, as it was first made, that s is in. What
// is left of a segment after a round is in the same one.
func (c *Copier) Home(plan Plan, s Segment) Segment {
	for _, home := range plan.Segments(c.SegmentBytes) {
		if home.First <= s.First && s.First <= home.Last {
			return home
		}
	}
	return s
}

// besides is how many bytes of s's home segment are outside of s: they were
// stored when s was described.
func (c *Copier) besides(plan Plan, s Segment) int64 {
	home := c.Home(plan, s)
	return plan.bytes(home) - plan.bytes(s)
}

// Finish completes the object if every part is there, else returns the work
// that is left. When no part came since work was made it returns the reason.
func (j *Job) Finish(ctx context.Context, work Work) (Outcome, error) {
	plan := work.Plan
	all := Segment{1, plan.Parts()}
	for try := 1; ; try++ {
		have, err := j.parts(ctx, plan, all)
		if isCode(err, "NoSuchUpload") {
			// Another worker completed it and its answer was lost, or it was aborted.
			if r, err := j.finished(ctx, plan.Key); err != nil || r != nil {
				return Outcome{Result: r}, runAgain(ctx, err)
			}
			return Outcome{}, gone(err)
		}
		if err != nil {
			return Outcome{}, runAgain(ctx, err)
		}
		if left := missing(all, have); len(left) > 0 {
			next := j.work(plan, left)
			if len(left) >= work.Missing {
				next.Idle = work.Idle + 1
				err := j.diagnose(ctx, plan, left[0])
				// An origin that fails at every range may do so because of its condition, or
				// because it is a range.
				if unprovable(err) || origin.GivenUp(err) && next.Idle == idleRounds {
					return j.otherwise(ctx, plan, err)
				}
				passing := origin.GivenUp(err) || failure.CodeOf(err) == failure.Storage
				if !passing || next.Idle == idleRounds {
					return Outcome{}, err
				}
			}
			return Outcome{Work: next}, nil
		}
		r, err := j.complete(ctx, plan, have, description{key: plan.Key})
		if isCode(err, "InvalidPart") && try < restarts {
			continue // a late worker stored a part again: list them again
		}
		if err != nil {
			return Outcome{}, runAgain(ctx, err)
		}
		return j.done(ctx, plan, r)
	}
}

// otherwise copies a file whose segments can't be completed in another way, as Start
// does.
func (j *Job) otherwise(ctx context.Context, plan Plan, cause error) (Outcome, error) {
	_ = j.abortIfStale(ctx, plan, cause)
	way := compared
	if plan.Pin.Unsent {
		way = streamed
	}
	out, err := j.from(ctx, way)
	if failure.CodeOf(err) == failure.OriginTooSlow {
		err = cause // the origin isn't slow; the segments are lost
	}
	return out, err
}

// diagnose requests a missing part from the origin and returns what is wrong with it. The
// workers' errors are lost, since the Map tolerates them.
func (j *Job) diagnose(ctx context.Context, plan Plan, n int32) error {
	start, end := plan.span(n)
	end = min(end, start+1<<20)
	f, err := j.Source.Client.Reopen(j.Source.Request, plan.Size, plan.Pin)
	if err != nil {
		return err
	}
	r := f.Range(ctx, start, end)
	defer r.Close()
	began := time.Now()
	got, err := io.Copy(io.Discard, r)
	if err != nil {
		return err
	}
	if speed := perSecond(got, time.Since(began)); speed < plan.slowestOrigin(cmp.Or(j.Run, workerRun)) {
		return failure.New(failure.OriginTooSlow, "no part of %d bytes came in the time that a worker has; the origin sends %d bytes a second", plan.PartSize, speed)
	}
	return failure.New(failure.Storage, "no part could be stored in several rounds, though the origin sends them")
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

// isFast refuses a file with parts that are too large for a worker to copy one in its
// time. It measures the second half of the first range, since a connection starts slowly.
func (j *Job) isFast(ctx context.Context, f *origin.File, plan Plan) error {
	if j.Run == 0 || plan.PartSize <= max(j.partSize(), j.largePartSize()) {
		return nil
	}
	head := f.Range(ctx, 0, j.partSize())
	defer head.Close()
	half := j.partSize() / 2
	if _, err := io.CopyN(io.Discard, head, half); err != nil {
		return err
	}
	began := time.Now()
	if _, err := io.CopyN(io.Discard, head, half); err != nil {
		return err
	}
	speed := perSecond(half, time.Since(began))
	if speed < plan.slowestOrigin(j.Run) {
		return failure.New(failure.OriginTooSlow, "a file of %d bytes needs %d bytes a second on each connection; the origin sends %d", f.Size, plan.slowestOrigin(j.Run), speed)
	}
	return nil
}

func perSecond(n int64, took time.Duration) int64 {
	return int64(float64(n) / max(took.Seconds(), 1e-6))
}
