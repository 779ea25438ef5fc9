package meeting

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/failure"
)

// Cancel marks the item, which the copying workers see on their next Progress,
// and fails the wait if there is one. [ErrEnded] when it is too late,
// [ErrUnknown] when there is no item.
func (t *Table) Cancel(ctx context.Context, arn string) error {
	// Not after the end: nothing would keep the promise.
	item, err := t.update(ctx, arn, "SET cancelled = :true", running, values{":true": true, ":copying": Copying, ":ready": Ready})
	if errors.Is(err, errCondition) {
		return ErrEnded
	}
	if err != nil || item.TaskToken == "" {
		return err
	}
	// The wait's condition fails on the mark; a wait that was first has left its token here.
	_, err = t.Tokens.SendTaskFailure(ctx, &sfn.SendTaskFailureInput{
		TaskToken: &item.TaskToken,
		Error:     aws.String(string(failure.Cancelled)),
		Cause:     aws.String("cancelled by the client"),
	})
	return t.answered(ctx, item, err)
}

// Revoke notes that the file of a download that has ended is deleted. The error is
// [ErrEnded] if it has no file any more, or has not ended, and [ErrUnknown] if there
// is no item.
func (t *Table) Revoke(ctx context.Context, arn string) error {
	why := failure.New(failure.Cancelled, "the file was deleted")
	_, err := t.update(ctx, arn, "SET #status = :cancelled, cancelled = :true, failure = :why REMOVE taskToken",
		"#status IN (:delivered, :expired)",
		values{":cancelled": Cancelled, ":true": true, ":why": why, ":delivered": Delivered, ":expired": Expired})
	if errors.Is(err, errCondition) {
		return ErrEnded
	}
	return err
}

// End notes why a download ended without a delivery. The item returned shows whether
// a client is connected and has to be notified now; one that connects later finds
// the reason, since it writes its connection into the same item. An item that has
// ended before stays as it was: [ErrEnded], with the item. [ErrUnknown] when there is
// none.
func (t *Table) End(ctx context.Context, arn string, why *failure.Error) (Item, error) {
	status := Failed
	switch why.Code {
	case failure.Cancelled:
		status = Cancelled
	case failure.Expired:
		status = Expired
	}
	item, err := t.update(ctx, arn, "SET #status = :status, failure = :why REMOVE taskToken, uploadId", running,
		values{":status": status, ":why": why, ":copying": Copying, ":ready": Ready})
	if errors.Is(err, errCondition) {
		err = ErrEnded
	}
	return item, err
}
