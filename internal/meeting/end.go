package meeting

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/failure"
)

// Cancel marks the item, which the copying workers see at their next Progress,
// and ends the wait if there is one: it fails the wait for a client, and stops an
// execution that waits for its origin, which clean-up then ends. [ErrEnded] when it is
// too late, [ErrUnknown] when there is no item. After any other error, call Cancel again.
func (t *Table) Cancel(ctx context.Context, arn string) error {
	// Not after the end: nothing would stop or discard anything any more.
	item, err := t.update(ctx, arn, "SET cancelled = :true", running, values{":true": true, ":copying": Copying, ":ready": Ready})
	if errors.Is(err, errCondition) {
		return ErrEnded
	}
	if err == nil && item.Status == Copying && item.WaitsUntil > t.now().UnixMilli() {
		return t.stop(ctx, arn)
	}
	if err != nil || item.TaskToken == "" {
		return err
	}
	// A later wait fails on the mark; an earlier one has left its token here.
	_, err = t.Tokens.SendTaskFailure(ctx, &sfn.SendTaskFailureInput{
		TaskToken: &item.TaskToken,
		Error:     aws.String(string(failure.Cancelled)),
		Cause:     aws.String("cancelled by the client"),
	})
	return t.answered(ctx, item, err)
}

// stop stops an execution. One that has ended before, or of which only the item exists,
// is no error.
func (t *Table) stop(ctx context.Context, arn string) error {
	_, err := t.Tokens.StopExecution(ctx, &sfn.StopExecutionInput{
		ExecutionArn: &arn,
		Error:        aws.String(string(failure.Cancelled)),
		Cause:        aws.String("cancelled by the client"),
	})
	if err != nil && !errors.As(err, new(*sfntypes.ExecutionDoesNotExist)) {
		return fmt.Errorf("stop execution: %w", err)
	}
	return nil
}

// Revoke notes that the file of a download that has ended is deleted. The error is
// [ErrEnded] if it has no file any more, or has not ended, and [ErrUnknown] if there
// is no item.
func (t *Table) Revoke(ctx context.Context, arn string) error {
	why := failure.New(failure.Cancelled, "the file was deleted")
	_, err := t.update(ctx, arn, "SET #status = :cancelled, cancelled = :true, failure = :why REMOVE taskToken",
		"#status IN (:delivered, :expired)",
		values{":cancelled": Cancelled, ":true": true, ":why": why, ":delivered": Delivered, ":expired": Expired})
	return ifUnmet(err, ErrEnded)
}

// End notes why a download ended without a delivery, and deletes its request item. The
// item returned shows whether a client is connected and has to be notified now; one that
// connects later finds the reason, since it writes its connection into the same item. An
// item that ended before stays as it was: [ErrEnded], with the item. [ErrUnknown] when
// there is none. After any other error, call End again.
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
	err = ifUnmet(err, ErrEnded)
	if item.HasRequest && (err == nil || errors.Is(err, ErrEnded)) {
		if err := t.DropRequest(ctx, arn); err != nil {
			return item, err
		}
	}
	return item, err
}
