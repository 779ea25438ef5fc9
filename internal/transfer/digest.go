package transfer

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// newHash returns the hash that d is checked with, nil for no digest.
func newHash(d origin.Digest) hash.Hash {
	switch d.Algorithm {
	case "sha-256":
		return sha256.New()
	case "sha-512":
		return sha512.New()
	case "md5":
		return md5.New()
	}
	return nil
}

func mismatch(d origin.Digest) *failure.Error {
	return failure.New(failure.DigestMismatch, "the bytes don't have the %s digest that was given for the file", d.Algorithm)
}

// checkDigest reads the object from S3 and compares its digest with the origin's. A
// digest needs the bytes in order, which parallel ranges don't have. This happens only if
// the origin sent a digest.
func (c *Copier) checkDigest(ctx context.Context, key string, d origin.Digest) error {
	h := newHash(d)
	if h == nil {
		return nil
	}
	var off int64
	for try := 1; ; try++ {
		n, err := c.hashFrom(ctx, key, off, h)
		off += n
		if err == nil {
			break
		}
		if n > 0 {
			try = 1
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if try == storeTries || !retryable(err) {
			return storage(ctx, err, "reading the object back")
		}
		if err := pause(ctx, try, c.storeBackoff); err != nil {
			return err
		}
	}
	if !d.Matches(h.Sum(nil)) {
		return c.remove(ctx, key, mismatch(d))
	}
	return nil
}

func (c *Copier) hashFrom(ctx context.Context, key string, off int64, h hash.Hash) (int64, error) {
	in := &s3.GetObjectInput{Bucket: &c.Bucket, Key: &key, Range: aws.String(fmt.Sprintf("bytes=%d-", off))}
	out, err := c.S3.GetObject(ctx, in, func(o *s3.Options) {
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	if err != nil {
		if isCode(err, "InvalidRange") {
			return 0, nil // the connection broke after the last byte, or there is none
		}
		return 0, err
	}
	defer out.Body.Close()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(h, out.Body, *buf)
}
