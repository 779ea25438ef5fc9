package transfer

import (
	"bytes"
	"context"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/origin"
)

// wholeBytes is the largest file that is held in memory and stored in one
// request: no larger than one part by default.
const wholeBytes = PartSize

// whole copies a small file in one request, from memory.
func (j *Job) whole(ctx context.Context, f *origin.File, o description) (Result, error) {
	b := make([]byte, f.Size)
	src := io.ReadCloser(f.Range(ctx, 0, f.Size))
	if !f.Ranged {
		src = f.Stream()
	}
	defer src.Close()
	if _, err := io.ReadFull(&passing{Reader: src, progress: &j.progress, furthest: new(int64)}, b); err != nil {
		return Result{}, err
	}
	if h := newHash(f.Digest); h != nil {
		h.Write(b)
		if !f.Digest.Matches(h.Sum(nil)) {
			return Result{}, mismatch(f.Digest)
		}
	}
	r, err := j.put(ctx, o, bytes.NewReader(b))
	if err == nil {
		j.progress.store(r.Bytes)
	}
	return r, err
}

// put stores an object that is in memory.
func (c *Copier) put(ctx context.Context, o description, r io.ReadSeeker) (Result, error) {
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
	if _, err := c.S3.PutObject(ctx, in, unsigned, c.withPartRetries); err != nil {
		return c.settle(ctx, o, size, want, err)
	}
	return c.readBack(ctx, o, size, want)
}
