package transfer

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"async-download/internal/failure"
	"async-download/internal/object"
	"async-download/internal/origin"
)

const (
	// restarts is how often a copy begins again: a stream broke, or the upload was aborted.
	restarts = 3
	// digestReadBack is the largest file made of ranges whose digest is checked.
	// It has to be read back from S3 in one stream, in one run: at 20 MB/s.
	digestReadBack = 16 << 30
)

// Start copies the file. It returns the finished object, or the work that is
// left when the file has more than one segment or the context's deadline came
// first.
//
// Another Start with the same key continues with what is stored: a finished object is
// the result, and an upload of the same version of the file is continued. An error leaves
// the upload open for that; see [Copier.Abort]. The answer to a POST is copied once: every
// error during it is final.
func (j *Job) Start(ctx context.Context) (Outcome, error) { return j.from(ctx, pinned) }

// way is how a file is copied. If one way fails because of how it works, the next is
// tried: some servers answer a condition with an error, have different ETags on each node
// or in each reply, or serve ranges only sometimes. No way can mix two versions of a
// file.
type way int

const (
	// pinned uses ranges with a condition in the request.
	pinned way = iota
	// compared uses ranges without a condition: only the replies are compared.
	compared
	// streamed uses one reply, which always has one version.
	streamed
)

// unprovable reports whether ranges failed because replies could not be proven to
// be of one version, or were refused.
func unprovable(err error) bool {
	return failure.CodeOf(err) == failure.OriginChanged || errors.Is(err, origin.ErrRangeRefused)
}

// lost reports whether every try of a range failed: some servers close the connection
// where others refuse the range.
func lost(err error) bool {
	var ofPart *fromOrigin
	return errors.As(err, &ofPart) && origin.GivenUp(err)
}

func (j *Job) from(ctx context.Context, w way) (Outcome, error) {
	for try := 1; ; try++ {
		if !j.Replace {
			if r, err := j.finished(ctx, j.Key); err != nil || r != nil {
				return Outcome{Result: r}, runAgain(ctx, err)
			}
		}
		j.progress.restart(0, 0)
		outcome, err := j.start(ctx, w)
		switch {
		case err == nil || ctx.Err() != nil:
			return outcome, err
		case j.Source.Spent() && !errors.Is(err, errOvertaken):
			return outcome, err
		case (unprovable(err) || lost(err)) && w < streamed:
			w++
			try = 0
		case try > restarts:
			return outcome, err
		case errors.Is(err, errOvertaken): // the object is the result
		case origin.Temporary(err), isCode(err, "NoSuchUpload", "InvalidPart"):
			// A stream broke, or the upload is gone, most likely because another worker of
			// this download has finished; or parts of it are gone: it was aborted, and a
			// late part brought it back.
			if err := pause(ctx, try, j.storeBackoff); err != nil {
				return Outcome{}, err
			}
		default:
			return Outcome{}, err
		}
	}
}

// finished returns the object under key, nil if there is none. A key is used
// for one download, and only whole objects are ever completed under it.
func (c *Copier) finished(ctx context.Context, key string) (*Result, error) {
	head, err := c.head(ctx, key)
	if err != nil || head == nil {
		return nil, err
	}
	r := fromHead(head)
	if err := c.checkDigest(ctx, key, origin.ParseDigest(head.Metadata[object.MetaDigest])); err != nil {
		return nil, err
	}
	c.sweep(ctx, key)
	return &r, nil
}

func (j *Job) start(ctx context.Context, w way) (Outcome, error) {
	first := j.partSize()
	if w == streamed {
		first = 0
	}
	f, err := j.Source.Client.Open(ctx, j.Source.Request, first)
	if outOfTime(ctx, err) {
		return Outcome{}, failure.New(failure.OriginUnreachable, "the origin gave no answer in the time that a copy has")
	}
	if err != nil {
		return Outcome{}, err
	}
	defer f.Close()
	if j.Key == "" || strings.HasSuffix(j.Key, "/") {
		j.Key += FileName(f.Name)
	}
	if f.Size > cmp.Or(j.digestReadBack, digestReadBack) && f.Ranged {
		f.Digest = origin.Digest{}
	}
	if !j.Digest.IsZero() {
		f.Digest = j.Digest
	}
	f.Pin.Unsent = f.Pin.Unsent || w == compared
	if limit := cmp.Or(j.MaxBytes, MaxBytes); f.Size > limit {
		return Outcome{}, failure.New(failure.TooLarge, "the file has %d bytes; at most %d are taken", f.Size, limit)
	}
	if j.OnSize != nil {
		j.OnSize(f.Size)
	}
	var r Result
	switch {
	case f.Size != -1 && f.Size <= min(wholeBytes, j.partSize()):
		r, err = j.whole(ctx, f, describe(f, j.Key, j.Metadata))
	case f.Ranged:
		return j.ranges(ctx, f, describe(f, j.Key, j.Metadata))
	default:
		r, err = j.stream(ctx, f, describe(f, j.Key, j.Metadata))
	}
	if outOfTime(ctx, err) {
		return Outcome{}, failure.New(failure.OriginTooSlow, "the file didn't come in the time that a copy has; without ranges it can't be continued")
	}
	if err != nil {
		return Outcome{}, err
	}
	r.Ranges, r.Retries = f.Requests(), f.Requests()-1
	j.sweep(ctx, j.Key)
	return Outcome{Result: &r}, nil
}
