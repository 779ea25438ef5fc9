package transfer

import (
	"context"
	"errors"
	"io"
	"mime"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// streamPartSize lets 10,000 parts hold 156 GiB, more than a Lambda carries in
// one run, and four of them fit a small Lambda's memory.
const streamPartSize = 16 << 20

func (c *Copier) stream(ctx context.Context, f *origin.File, key string, meta map[string]string) (Outcome, error) {
	body := f.Stream()
	defer body.Close()
	counted := &counter{r: body, c: c}
	up := manager.NewUploader(c.S3, func(u *manager.Uploader) { //nolint:staticcheck // SA1019: asked for by name; see the README's decisions
		u.PartSize = streamPartSize
		u.Concurrency = 3
	})
	_, err := up.Upload(ctx, &s3.PutObjectInput{ //nolint:staticcheck // SA1019, as above
		Bucket: &c.Bucket, Key: &key, Body: counted,
		ContentType:        aws.String(contentType(f.ContentType)),
		ContentEncoding:    optional(f.ContentEncoding),
		ContentDisposition: aws.String(Disposition(f.Name)),
		Metadata:           metadata(f, meta),
	})
	if err != nil {
		return Outcome{}, storage(ctx, err, "storing the file")
	}
	head, err := c.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return Outcome{}, storage(ctx, err, "reading the object back")
	}
	r := FromHead(head)
	r.Ranges = f.Requests()
	if r.Bytes != counted.n {
		return Outcome{}, failure.New(failure.Storage, "the object has %d bytes, %d were copied", r.Bytes, counted.n)
	}
	return Outcome{Result: &r}, nil
}

type counter struct {
	r io.Reader
	c *Copier
	n int64
}

func (r *counter) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if r.c.Progress != nil && n > 0 {
		r.c.Progress(int64(n))
	}
	if r.c.MaxBytes > 0 && r.n > r.c.MaxBytes {
		return n, failure.New(failure.TooLarge, "the file has more than %d bytes", r.c.MaxBytes)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	return n, err
}

// metadata is what the object remembers of its origin.
func metadata(f *origin.File, meta map[string]string) map[string]string {
	m := map[string]string{MetaVerified: "false"}
	if f.Framed || !f.Digest.IsZero() {
		m[MetaVerified] = "true"
	}
	if f.ETag != "" {
		m[MetaValidator] = f.ETag
	}
	if !f.Digest.IsZero() {
		m[MetaDigest] = f.Digest.String()
	}
	for k, v := range meta {
		m[k] = v
	}
	return m
}

// contentType returns the origin's content type if it is one, else the one for
// anything.
func contentType(s string) string {
	if _, _, err := mime.ParseMediaType(s); err != nil {
		return "application/octet-stream"
	}
	return s
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
