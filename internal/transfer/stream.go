package transfer

//lint:file-ignore SA1019 feature/s3/manager is asked for by name; see the decisions in docs/design.md

import (
	"cmp"
	"context"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

const (
	// StreamPartSize lets 10,000 parts hold 156 GiB, more than a Lambda carries
	// in one run.
	StreamPartSize = 16 << 20
	// streamConcurrency is how many parts of a stream are sent at once. With the part that
	// is being filled, they need 64 MiB of memory.
	streamConcurrency = 3
	// speedAfter is how long a stream is measured before it can be too slow: a connection
	// starts slowly, and so does an origin that generates a file.
	speedAfter = 20 * time.Second
)

// stream copies a file that is one body, with the SDK's upload manager. The manager
// divides it into parts and retries them. It makes its calls through this package, so
// that a stream's object is completed, compared and aborted like any other.
func (j *Job) stream(ctx context.Context, f *origin.File, o description) (Result, error) {
	src := f.Stream()
	defer src.Close()
	r := &streamReader{
		ctx: ctx, src: &passing{Reader: src, progress: &j.progress, furthest: new(int64)},
		size: f.Size, limit: cmp.Or(j.MaxBytes, MaxBytes), began: time.Now(), digest: f.Digest, hash: newHash(f.Digest),
	}
	// An unknown size, -1, leaves the parts as they are; the file may then be as large as
	// so many of them.
	plan, err := NewPlan(f.Size, max(cmp.Or(j.streamPartSize, StreamPartSize), j.partSize()), 0)
	if err != nil {
		return Result{}, err
	}
	r.limit = min(r.limit, plan.PartSize*MaxParts)
	s := &store{Client: j.S3, j: j, o: o, have: map[int32]part{}}
	up := manager.NewUploader(s, func(u *manager.Uploader) {
		u.PartSize = plan.PartSize
		u.Concurrency = streamConcurrency
	})
	if _, err = up.Upload(ctx, &s3.PutObjectInput{Bucket: &j.Bucket, Key: &o.key, Body: r}); err != nil {
		return Result{}, storage(ctx, err, "storing the file")
	}
	return s.result, nil
}

// streamReader watches a stream on its way to the manager.
type streamReader struct {
	ctx    context.Context
	src    io.Reader
	size   int64
	limit  int64
	n      int64
	began  time.Time
	digest origin.Digest
	hash   hash.Hash
}

func (r *streamReader) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	r.n += int64(n)
	if r.hash != nil {
		r.hash.Write(p[:n])
	}
	switch {
	case r.n > r.limit:
		err = failure.New(failure.TooLarge, "the file has more than the %d bytes that are taken", r.limit)
	case err == io.EOF && r.hash != nil && !r.digest.Matches(r.hash.Sum(nil)):
		// The last part isn't sent, so the object is never completed.
		err = mismatch(r.digest)
	case err == nil:
		err = r.fastEnough()
	}
	return n, err
}

// fastEnough gives up early on a file that can't be copied before the deadline. Another
// run couldn't continue it.
func (r *streamReader) fastEnough() error {
	deadline, ok := r.ctx.Deadline()
	elapsed := time.Since(r.began)
	if !ok || r.size == -1 || elapsed < speedAfter {
		return nil
	}
	speed := float64(r.n) / elapsed.Seconds()
	if float64(r.size-r.n)/speed > time.Until(deadline).Seconds() {
		return failure.New(failure.OriginTooSlow, "at %d bytes a second the other %d bytes don't come in the time that is left; without ranges a copy can't be continued", int64(speed), r.size-r.n)
	}
	return nil
}

// store is the S3 that the upload manager sees: its calls with our checksums,
// the object's own headers, and our way of completing and aborting.
type store struct {
	*s3.Client
	j *Job
	o description

	mu     sync.Mutex
	plan   Plan
	have   map[int32]part
	result Result
}

func (s *store) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	var err error
	if s.result, err = s.j.put(ctx, s.o, in.Body.(io.ReadSeeker)); err != nil {
		return nil, err
	}
	s.j.progress.store(s.result.Bytes)
	return &s3.PutObjectOutput{}, nil
}

func (s *store) CreateMultipartUpload(ctx context.Context, _ *s3.CreateMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	id, composite, err := s.j.create(ctx, s.o)
	if err != nil {
		return nil, err
	}
	s.plan = Plan{Key: s.o.key, UploadID: id, Composite: composite}
	if s.j.OnUpload != nil {
		if err := s.j.OnUpload(ctx, id); err != nil {
			return nil, err
		}
	}
	return &s3.CreateMultipartUploadOutput{UploadId: &id}, nil
}

func (s *store) UploadPart(ctx context.Context, in *s3.UploadPartInput, _ ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	n := aws.ToInt32(in.PartNumber)
	p, err := s.j.putPart(ctx, s.plan, n, in.Body.(io.ReadSeeker)) // the manager's buffer
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.have[n] = p
	s.mu.Unlock()
	s.j.progress.store(p.size)
	return &s3.UploadPartOutput{ETag: &p.etag}, nil
}

func (s *store) CompleteMultipartUpload(ctx context.Context, _ *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	var err error
	s.plan.PartSize = s.have[1].size
	for _, p := range s.have {
		s.plan.Size += p.size
	}
	if s.result, err = s.j.complete(ctx, s.plan, s.have, s.o); err != nil {
		return nil, err
	}
	return &s3.CompleteMultipartUploadOutput{}, nil
}

func (s *store) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, _ ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	// The manager calls this with the context whose end may be the reason.
	ctx, cancel := detached(ctx)
	defer cancel()
	return &s3.AbortMultipartUploadOutput{}, s.j.abort(ctx, s.o.key, aws.ToString(in.UploadId))
}
