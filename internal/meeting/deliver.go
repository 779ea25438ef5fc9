package meeting

import (
	"context"
	"errors"
	"time"

	"async-download/internal/failure"
)

const (
	// Handshake is how long after [Table.Connect] a socket may still be opening: the
	// time-out of on-connect, 10 s, and API Gateway's own share. A 410 is final after it.
	Handshake = 12 * time.Second

	// openingTries and openingPause are how Deliver waits for a socket to open: 0.6 s,
	// which is more than on-connect usually takes after it has written the connection.
	// The client then has its answer a fifth of a second after its socket is open. The
	// deliver machine's own attempts are for what takes longer: it can wait without
	// paying for a Lambda.
	openingTries = 4
	openingPause = 200 * time.Millisecond
)

// Deliver posts the answer to the client that is connected. Where on-connect
// started the delivery, fallback is the client it saw: the one that is meant, and
// the only record of it once the item is gone. Its ID is "" otherwise. post gets the
// item as it is now; it returns [ErrGone] for API Gateway's 410 and may be called
// again with the same connection.
//
// Deliver returns nil once the client was answered or there is no answer left to give,
// [ErrOpening] to be called again in a second, [ErrGone] when no client is connected, and
// [failure.ErrCancelled] while the download is being cancelled.
func (t *Table) Deliver(ctx context.Context, arn string, fallback Connection, post func(context.Context, Item, Connection) error) error {
	begun := t.now()
	for try := 1; ; try++ {
		err := t.deliver(ctx, arn, fallback, post)
		// Where AWS is slow the tries are fewer: a Lambda that waits is paid for.
		if !errors.Is(err, ErrOpening) || try == openingTries || t.now().Sub(begun) > openingTries*openingPause {
			return err
		}
		select {
		case <-time.After(openingPause):
		case <-ctx.Done():
			return err
		}
	}
}

// deliver is one try, which reads the item again: another connection may have come
// in between.
func (t *Table) deliver(ctx context.Context, arn string, fallback Connection, post func(context.Context, Item, Connection) error) error {
	item, err := t.Current(ctx, arn)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	known := err == nil
	if known && item.Cancelling() {
		return failure.ErrCancelled // no link any more; the workflow ends
	}
	c, here := item.Connection()
	if !known {
		c, here = fallback, fallback.ID != ""
	}
	if !here && !known {
		// Only a delivery removes an item: another one of this client, or an earlier try
		// of this one whose answer was lost.
		return nil
	}
	if !here && item.Status.NoFile() {
		// Nobody is left to notify, and there is no file to wait with: after ErrGone, the
		// workflow would fail on the wait's condition and deliver again, without end. A client
		// can delete its file while the workflow repeats a call whose reply was lost.
		return nil
	}
	if !here {
		return ErrGone
	}
	if known && fallback.ID != "" && c.ID != fallback.ID {
		// Another connection replaced the one that on-connect saw. It found that the
		// execution had ended, too, so it has its own delivery and would get its answer
		// twice.
		return nil
	}
	if known && fallback.ID == "" && item.Status == Delivered {
		// The workflow's delivery has nothing left to do: the client was answered, or
		// connected after the mark and has its own delivery. That happens when the mark's
		// reply was lost, and the client left and returned before the mark was repeated.
		return nil
	}

	if c.ID != Request { // a request is answered by the function that holds it
		err = post(ctx, item, c)
	}
	if errors.Is(err, ErrGone) {
		// Guard 2: API Gateway answers 410 as well until on-connect has returned.
		if t.now().Sub(c.At) < Handshake {
			return ErrOpening
		}
		if !known {
			return ErrGone
		}
		// Guard 3: remove it, so that the wait's condition holds again. If another
		// connection took its place, that one is owed the answer. An item that was
		// marked as delivered goes with it, as at a disconnect.
		return deliveryResult(t.leave(ctx, arn, c.ID))
	}
	if err != nil || !known {
		return err
	}
	if item.Status.NoFile() {
		return nil // answered; the item stays for others that ask
	}
	return t.delivered(ctx, arn, c)
}

// delivered marks the item, but only while there is a file: a cancel that was
// accepted while the link was on its way is a promise that nothing is left, and
// clean-up may have ended the item of an execution that was stopped.
func (t *Table) delivered(ctx context.Context, arn string, c Connection) error {
	v := values{":id": c.ID, ":ready": Ready, ":delivered": Delivered, ":expired": Expired}
	var item Item
	var err error
	if c.ID == Request {
		// Nobody will close it, so the item goes at once, as it does at a disconnect.
		item, err = t.remove(ctx, arn, "connectionId = :id AND "+fileKept, v)
	} else {
		item, err = t.update(ctx, arn, "SET #status = :delivered REMOVE taskToken", "connectionId = :id AND "+fileKept, v)
		if errors.Is(err, errCondition) {
			// The client took the link and closed before this write: the item would stay
			// for nobody. But a connection that came in between is owed the link too.
			delete(v, ":id")
			item, err = t.remove(ctx, arn, "attribute_not_exists(connectionId) AND "+fileKept, v)
		}
	}
	if err == nil {
		return nil
	}
	return deliveryResult(item, err)
}

// deliveryResult returns what Deliver still owes to the client in the item, as a
// write that may have failed on its condition returned it.
func deliveryResult(item Item, err error) error {
	switch {
	case errors.Is(err, ErrUnknown): // delivered, and removed
		return nil
	case err != nil && !errors.Is(err, errCondition):
		return err
	case item.Cancelling():
		return failure.ErrCancelled
	case item.ConnectionID == "":
		return ErrGone
	}
	return ErrOpening
}
