package transfer

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/failure"
)

// complete creates the object from the plan's parts, and returns the stored object after
// comparing it with what was read. have must have all parts.
//
// o has the object's properties, as far as they are known here.
func (c *Copier) complete(ctx context.Context, plan Plan, have map[int32]part, o description) (Result, error) {
	n := plan.Parts()
	var whole uint64
	var total int64
	var crc32s []uint32
	know64, know32 := true, true
	parts := make([]types.CompletedPart, 0, n)
	for i := int32(1); i <= n; i++ {
		p, ok := have[i]
		if !ok {
			return Result{}, failure.New(failure.Internal, "part %d is missing", i)
		}
		total += p.size
		whole = CombineCRC64(whole, p.sums.crc64, p.size)
		crc32s = append(crc32s, p.sums.crc32)
		know64, know32 = know64 && p.has64, know32 && p.has32
		done := types.CompletedPart{PartNumber: aws.Int32(i), ETag: aws.String(p.etag)}
		switch {
		case plan.Composite && p.has32:
			done.ChecksumCRC32 = aws.String(p.sums.base64CRC32())
		case !plan.Composite && p.has64:
			done.ChecksumCRC64NVME = aws.String(p.sums.base64CRC64())
		}
		parts = append(parts, done)
	}
	if total != plan.Size {
		return Result{}, failure.New(failure.OriginTruncated, "%d of %d bytes were copied", total, plan.Size)
	}

	in := &s3.CompleteMultipartUploadInput{
		Bucket: &c.Bucket, Key: &plan.Key, UploadId: &plan.UploadID,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		MpuObjectSize:   aws.Int64(total),
	}
	if !c.Replace {
		in.IfNoneMatch = aws.String("*")
	}
	var want Checksum
	if know64 {
		s := sums{crc64: whole}
		want.CRC64NVME = s.base64CRC64()
	}
	switch {
	case plan.Composite && know32:
		want.CRC32 = composite(crc32s)
		in.ChecksumCRC32 = aws.String(want.CRC32)
	case !plan.Composite && know64:
		in.ChecksumCRC64NVME = aws.String(want.CRC64NVME)
		in.ChecksumType = types.ChecksumTypeFullObject
	}
	if _, err := c.S3.CompleteMultipartUpload(ctx, in); err != nil {
		return c.settle(ctx, o, total, want, err)
	}
	r, err := c.readBack(ctx, o, total, want)
	if err != nil {
		return Result{}, err
	}
	r.Parts = int(n)
	return r, nil
}

// settle finds out what a completion (or a put) did that returned an error: its reply may
// be lost although the object exists, the SDK's second try then gets NoSuchUpload, or
// another worker may have been first.
func (c *Copier) settle(ctx context.Context, o description, size int64, want Checksum, cause error) (Result, error) {
	living, cancel := detached(ctx)
	defer cancel()
	head, err := c.head(living, o.key)
	switch {
	case err != nil:
		return Result{}, err
	case head == nil && isCode(cause, "NoSuchUpload"):
		return Result{}, gone(cause)
	case head == nil:
		return Result{}, storage(ctx, cause, "completing the object")
	case matches(head, size, want) && (proves(head, want) || !c.Replace):
		return o.result(head, want), nil
	case c.Replace:
		return Result{}, storage(ctx, cause, "completing the object")
	}
	// An object of another version of the file: another worker of this download has
	// completed it.
	return fromHead(head), nil
}

// head returns the object's head, nil if there is no object. Without permission to list
// the bucket, S3 answers 403 for that, without a body. If the 403 is about the permission
// to read, the next call fails, too.
func (c *Copier) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	out, err := c.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err == nil {
		return out, nil
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && (answer.HTTPStatusCode() == 404 || answer.HTTPStatusCode() == 403) {
		return nil, nil
	}
	return nil, storage(ctx, err, "looking for the object")
}

// matches compares an object with what was read, by its length and by the
// checksum that S3 keeps of it.
func matches(head *s3.HeadObjectOutput, size int64, want Checksum) bool {
	if aws.ToInt64(head.ContentLength) != size {
		return false
	}
	got := checksums(head)
	if got.CRC64NVME != "" && want.CRC64NVME != "" && got.CRC64NVME != want.CRC64NVME {
		return false
	}
	return got.CRC32 == "" || want.CRC32 == "" || got.CRC32 == want.CRC32
}

// proves reports whether a checksum was compared: an older object of the same length must
// not be regarded as the new one.
func proves(head *s3.HeadObjectOutput, want Checksum) bool {
	got := checksums(head)
	return want.CRC64NVME != "" && got.CRC64NVME != "" || want.CRC32 != "" && got.CRC32 != ""
}

// readBack compares the new object with what was read, and removes it if it differs.
func (c *Copier) readBack(ctx context.Context, o description, size int64, want Checksum) (Result, error) {
	head, err := c.head(ctx, o.key)
	if err != nil {
		return Result{}, err
	}
	if head == nil {
		return Result{}, failure.New(failure.Storage, "the object can't be found right after it was completed")
	}
	if !matches(head, size, want) {
		return Result{}, c.remove(ctx, o.key, failure.New(failure.Storage, "the object isn't what was copied"))
	}
	return o.result(head, want), nil
}

// remove deletes an object that must not be delivered, and returns the reason. Its cause
// is then the error of the deletion, if there was one.
func (c *Copier) remove(ctx context.Context, key string, reason *failure.Error) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	if _, err := c.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: &key}); err != nil {
		reason.Err = err
	}
	return reason
}

// sweep aborts the uploads of a key whose object is complete: those of a worker that was
// killed, or whose reply was lost. A failed sweep is ignored, since a lifecycle rule
// aborts them later.
func (c *Copier) sweep(ctx context.Context, key string) {
	ctx, cancel := detached(ctx)
	defer cancel()
	_ = c.Abort(ctx, key)
}
