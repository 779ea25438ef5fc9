package transfer

import (
	"context"
	"time"

	"async-download/internal/origin"
)

// Source is a file at an origin. The request belongs to one run.
type Source struct {
	Client *origin.Client
	*origin.Request
}

// Job is one run of a copy: one call of [Job.Start], [Job.CopySegment] or
// [Job.Finish]. Set the exported fields before that call. Copied, Stored and
// Resumed may be called by other goroutines while it runs.
type Job struct {
	*Copier
	Source Source
	// Key is where the object is stored. One that is empty or ends in a slash is
	// completed with the origin's name for the file as soon as that is known. This
	// needs Replace, since no existing object can be looked for before that.
	Key string
	// Metadata is added to the object's own; without S3's x-amz-meta- prefix.
	Metadata map[string]string

	// Digest, if set, is checked instead of the digest that the origin offers, at any
	// size of the file.
	Digest origin.Digest

	// Run is how long this run may take: a file whose parts can't be moved in
	// that time is refused at the start. 0 is no limit.
	Run time.Duration
	// Reported is what Copied had returned at the end of an earlier run of the
	// same file or segment. Copied never returns less.
	Reported int64

	// OnSize, if set, is called with the file's size, -1 if unknown, before
	// copying begins and each time it begins again.
	OnSize func(size int64)
	// OnUpload, if set, is called when a multipart upload was created or found
	// again; its error ends the copy.
	OnUpload func(ctx context.Context, uploadID string) error

	progress progress
}

// Copied is how many bytes of the file, or of the segment, have passed from the
// origin to S3, by this and by earlier runs. Bytes that are sent again count
// once, and the number never decreases. Some of them may still be on their way.
func (j *Job) Copied() int64 {
	j.progress.mu.Lock()
	defer j.progress.mu.Unlock()
	return max(j.progress.highest, j.Reported)
}

// Stored is how many bytes this run has stored in S3.
func (j *Job) Stored() int64 {
	j.progress.mu.Lock()
	defer j.progress.mu.Unlock()
	return j.progress.stored
}

// Resumed is how many bytes this run found stored by earlier ones.
func (j *Job) Resumed() int64 {
	j.progress.mu.Lock()
	defer j.progress.mu.Unlock()
	return j.progress.resumed
}
