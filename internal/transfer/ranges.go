package transfer

import (
	"context"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// ranges copies a file by ranges in parallel: all of it or, when it has more
// than one segment, only as far as is needed to describe the work that is left.
func (j *Job) ranges(ctx context.Context, f *origin.File, o description) (Outcome, error) {
	plan, err := NewPlan(f.Size, j.partSize(), j.largePartSize())
	if err != nil {
		return Outcome{}, err
	}
	plan.Key, plan.Pin, plan.Digest = o.key, f.Pin, f.Digest.String()
	plan, have, found, err := j.resume(ctx, plan)
	if err != nil {
		return Outcome{}, runAgain(ctx, err)
	}
	segmented := j.SegmentBytes > 0 && f.Size > j.SegmentBytes
	if !found {
		have = map[int32]part{}
		if segmented {
			if err := j.isFast(ctx, f, plan); err != nil {
				return Outcome{}, err
			}
		}
		if plan, err = j.begin(ctx, plan, o); err != nil {
			return Outcome{}, runAgain(ctx, err)
		}
	}
	if j.OnUpload != nil {
		if err := j.OnUpload(ctx, plan.UploadID); err != nil {
			return Outcome{}, err
		}
	}
	all := Segment{1, plan.Parts()}
	left := missing(all, have)
	if len(left) == 0 || left[0] != 1 {
		_ = f.Close() // no part reads it
	}
	j.progress.restart(0, totalSize(have))
	if segmented && len(left) > 0 {
		return Outcome{Work: j.work(plan, left)}, nil
	}

	run := &rangeCopy{job: j, file: f, plan: plan, have: have}
	err = run.copyParts(ctx, left)
	if outOfTime(ctx, err) && j.SegmentBytes > 0 {
		return Outcome{Work: j.work(plan, missing(all, have))}, nil
	}
	if err != nil {
		return Outcome{}, j.abortIfStale(ctx, plan, err)
	}
	r, err := j.complete(ctx, plan, have, o)
	if err != nil {
		return Outcome{}, runAgain(ctx, err)
	}
	r.Ranges = f.Requests()
	needed := len(left)
	if len(left) == 0 || left[0] != 1 || plan.PartSize > j.partSize() {
		needed++ // the first reply is of no part, or of a piece of one
	}
	r.Retries = max(r.Ranges-needed, 0)
	return j.done(ctx, plan, r)
}

// done is what follows the completion of an object made of parts.
func (c *Copier) done(ctx context.Context, plan Plan, r Result) (Outcome, error) {
	if err := c.checkDigest(ctx, plan.Key, origin.ParseDigest(plan.Digest)); err != nil {
		return Outcome{}, runAgain(ctx, err)
	}
	c.sweep(ctx, plan.Key)
	return Outcome{Result: &r}, nil
}

// abortIfStale returns err, the error of the parts, after aborting an upload that
// nobody can continue: its version of the file is gone.
func (c *Copier) abortIfStale(ctx context.Context, plan Plan, err error) error {
	if failure.CodeOf(err) == failure.OriginChanged {
		ctx, cancel := detached(ctx)
		defer cancel()
		_ = c.abort(ctx, plan.Key, plan.UploadID) // the sweep at the end tries again
	}
	return err
}
