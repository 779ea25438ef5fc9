package transfer

import (
	"context"
	"errors"

	"async-download/internal/failure"
)

// Start copies the file at src to key, with meta as further metadata of the
// object. It returns the finished object, or the work that is left when the
// file has more than one segment or the context's deadline came first.
//
// Started again, with the same key, it goes on with what is there: a finished
// object is the result, an upload of the same version of the file is continued.
func (c *Copier) Start(ctx context.Context, src Source, key string, meta map[string]string) (Outcome, error) {
	f, err := src.Client.Open(ctx, src.URL, c.partSize())
	if err != nil {
		return Outcome{}, err
	}
	defer f.Close()
	if c.MaxBytes > 0 && f.Size > c.MaxBytes {
		return Outcome{}, failure.New(failure.TooLarge, "the file has %d bytes; this stack takes %d", f.Size, c.MaxBytes)
	}
	if c.OnSize != nil {
		c.OnSize(f.Size)
	}
	return c.stream(ctx, f, key, meta)
}

// CopySegment copies the parts of segment that aren't there yet. Reaching the
// context's deadline is no error: what is missing is found by Finish.
func (c *Copier) CopySegment(ctx context.Context, src Source, plan Plan, segment Segment) error {
	return failure.New(failure.Internal, "no segments yet")
}

// Finish completes the object if every part is there, else returns the work
// that is left. Without progress since work was made it returns why.
func (c *Copier) Finish(ctx context.Context, src Source, work Work) (Outcome, error) {
	return Outcome{}, failure.New(failure.Internal, "no segments yet")
}

func (c *Copier) partSize() int64 {
	if c.PartSize > 0 {
		return c.PartSize
	}
	return PartSize
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
