package transfer

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Abort aborts all open multipart uploads of key, and returns when none is left. An
// object with this key stays.
//
// Don't call it with a context that has ended.
func (c *Copier) Abort(ctx context.Context, key string) error {
	uploads, err := c.uploads(ctx, key)
	if err != nil {
		return err
	}
	for _, id := range uploads {
		if err := c.abort(ctx, key, id); err != nil {
			return err
		}
	}
	return nil
}

// Discard removes the object with this key and its open uploads. Don't call it with a
// context that has ended.
func (c *Copier) Discard(ctx context.Context, key string) error {
	if err := c.Abort(ctx, key); err != nil {
		return err
	}
	_, err := c.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: &key})
	return storage(ctx, err, "deleting the object")
}

// uploads lists the open uploads of exactly this key.
func (c *Copier) uploads(ctx context.Context, key string) ([]string, error) {
	var ids []string
	pages := s3.NewListMultipartUploadsPaginator(c.S3, &s3.ListMultipartUploadsInput{Bucket: &c.Bucket, Prefix: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if noUploads(err) {
			return ids, nil
		}
		if err != nil {
			return nil, storage(ctx, err, "listing the open uploads")
		}
		for _, u := range page.Uploads {
			if aws.ToString(u.Key) == key {
				ids = append(ids, aws.ToString(u.UploadId))
			}
		}
	}
	return ids, nil
}

// abort aborts one upload until S3 no longer has it: a part that is in
// flight while an upload is aborted may still be stored, and the parts then
// stay until it is aborted again.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
func (c *Copier) abort(ctx context.Context, key, id string) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		_, err := c.S3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &c.Bucket, Key: &key, UploadId: &id})
		if err != nil && !isCode(err, "NoSuchUpload") {
			return storage(ctx, err, "aborting the upload")
		}
		_, err = c.S3.ListParts(ctx, &s3.ListPartsInput{Bucket: &c.Bucket, Key: &key, UploadId: &id, MaxParts: aws.Int32(1)})
		if isCode(err, "NoSuchUpload") {
			return nil
		}
		if err != nil {
			return storage(ctx, err, "listing the parts")
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
