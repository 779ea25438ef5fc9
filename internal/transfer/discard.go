package transfer

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Discard leaves nothing under key: no open upload and no object. Call it with a
// context that is alive.
func (c *Copier) Discard(ctx context.Context, key string) error {
	if err := c.Abort(ctx, key); err != nil {
		return err
	}
	_, err := c.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: &key})
	return storage(ctx, err, "deleting the object")
}
