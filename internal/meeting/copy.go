package meeting

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// Progress notes how many bytes of a segment, named by its first part, have been
// copied, of the whole file if segment is 0. It returns the item, in which the
// caller looks for Cancelled. total is the file's size, nil if unknown.
func (t *Table) Progress(ctx context.Context, arn string, segment int32, copied int64, total *int64) (Item, error) {
	expression, v := "SET #copied = :copied", values{"#copied": copiedPrefix + strconv.Itoa(int(segment)), ":copied": copied}
	if total != nil {
		expression, v[":total"] = expression+", bytesTotal = :total", *total
	}
	// Never make an item, and never go back: a worker that was thought dead may still
	// be writing.
	item, err := t.update(ctx, arn, expression, "attribute_exists(executionArn) AND (attribute_not_exists(#copied) OR #copied < :copied)", v)
	if errors.Is(err, errCondition) {
		return item, nil
	}
	return item, err
}

// Uploading notes the multipart upload of a copy, for an operator who reads the
// item; what has to be aborted is found by the object's key. [ErrEnded] when the
// download has ended, [ErrUnknown] when there is no item.
func (t *Table) Uploading(ctx context.Context, arn, uploadID string) error {
	_, err := t.update(ctx, arn, "SET uploadId = :id", running, values{":id": uploadID, ":copying": Copying, ":ready": Ready})
	return ifUnmet(err, ErrEnded)
}

// Due reports whether progress may be announced again, as far as item shows.
func (t *Table) Due(item Item) bool {
	return item.AnnouncedAt <= t.now().UnixMilli()-announceEvery.Milliseconds()
}

// announceEvery is the time between two messages about progress, at least.
const announceEvery = time.Second

// Announce claims the right to post progress to the client, for one worker at a
// time and once a second, however many of them copy. It returns the item as it was
// claimed, so that what is posted never goes backwards; [ErrNotDue] when it isn't
// this worker's turn or nobody listens.
func (t *Table) Announce(ctx context.Context, arn string) (Item, error) {
	now := t.now().UnixMilli()
	item, err := t.update(ctx, arn, "SET announcedAt = :now",
		"attribute_exists(connectionId) AND #status = :copying AND (attribute_not_exists(announcedAt) OR announcedAt <= :before)",
		values{":now": now, ":before": now - announceEvery.Milliseconds(), ":copying": Copying})
	return item, ifUnmet(err, ErrNotDue)
}

// Copied notes that the object is whole, and deletes the request item in the same
// transaction, if there is one: from now on the download's own item may go at any time,
// and nobody would find the other one. [ErrEnded] when the download was cancelled or
// has ended without a file, which nobody will ask for; [ErrUnknown] when there is no
// item: another worker finished the copy, and the client has its link.
func (t *Table) Copied(ctx context.Context, arn string, size int64) error {
	const set = "SET #status = :ready, bytesCopied = :size, bytesTotal = :size, copiedAt = :now REMOVE uploadId"
	const condition = running + " AND attribute_not_exists(cancelled)"
	v := values{":copying": Copying, ":ready": Ready, ":size": size, ":now": t.now().UnixMilli()}
	item, err := t.update(ctx, arn, set, condition+" AND attribute_not_exists(hasRequest)", v)
	if errors.Is(err, errCondition) && item.HasRequest && item.CopiedAt == 0 {
		item, err = t.transact(ctx, t.change(arn, set, condition, v), t.deleteRequest(arn))
	}
	if errors.Is(err, errCondition) {
		if item.FileStays() {
			return nil // noted before, by another worker or a call whose reply was lost
		}
		return ErrEnded
	}
	return err
}
