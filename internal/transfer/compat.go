package transfer

import (
	"bytes"
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// This file handles differences of S3-compatible stores: MinIO, moto, gofakes3 and
// others. With Amazon S3, none of it runs.

// otherStore reports whether the store may not be Amazon S3: its endpoint is configured.
func (c *Copier) otherStore() bool { return c.S3.Options().BaseEndpoint != nil }

// createComposite replaces an upload for which a store keeps only a checksum of
// the parts' checksums, though it was asked for one of the whole object. With
// CRC-32 that checksum can be predicted.
func (c *Copier) createComposite(ctx context.Context, in *s3.CreateMultipartUploadInput, uploadID *string) (*s3.CreateMultipartUploadOutput, error) {
	if err := c.abort(ctx, aws.ToString(in.Key), aws.ToString(uploadID)); err != nil {
		return nil, err
	}
	in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32, ""
	out, err := c.S3.CreateMultipartUpload(ctx, in)
	return out, storage(ctx, err, "creating the upload")
}

// notUnderstood are the errors of stores that reject the encoding of a streamed body.
var notUnderstood = []string{"NotImplemented", "InvalidArgument", "InvalidRequest", "MalformedTrailerError", "XAmzContentSHA256Mismatch", "SignatureDoesNotMatch"}

// markAsPart stores the marker in the same encoding as the parts, to find out whether the
// store supports it: some store the framing with the bytes. If it doesn't, the plan's
// Plain is set and the marker isn't stored.
func (c *Copier) markAsPart(ctx context.Context, plan Plan, m []byte) (Plan, error) {
	size := int64(len(m))
	b := newBody(size, plan)
	b.src, b.last = bytes.NewReader(m), func() {}
	call, cancel := b.context(ctx)
	_, err := c.S3.UploadPart(call, &s3.UploadPartInput{
		Bucket: &c.Bucket, Key: &plan.Key, UploadId: &plan.UploadID, PartNumber: aws.Int32(markerPart),
		Body: b, ContentLength: &size,
	}, b.attach)
	cancel(errEnded)
	if err != nil {
		plan.Plain = isCode(err, notUnderstood...)
		return plan, err
	}
	marks, err := c.parts(ctx, plan, Segment{markerPart, markerPart})
	// A store that fails to list parts is trusted.
	plan.Plain = err == nil && marks[markerPart].size != size
	return plan, nil
}

// checksums returns the checksums that the store keeps. A CRC-64 of another length is
// ignored (moto 5.2 returns 32 bits for a multipart object).
func checksums(head *s3.HeadObjectOutput) Checksum {
	c := Checksum{CRC64NVME: aws.ToString(head.ChecksumCRC64NVME), CRC32: aws.ToString(head.ChecksumCRC32)}
	if _, ok := parseCRC64(c.CRC64NVME); !ok {
		c.CRC64NVME = ""
	}
	return c
}

// noUploads reports whether err is how gofakes3 lists the uploads of a bucket
// that has none.
func noUploads(err error) bool { return isCode(err, "NoSuchUpload") }
