package meeting

import (
	"strconv"
	"time"

	"async-download/internal/failure"
)

// Status says how far a download is.
type Status string

const (
	// Copying: the file is on its way from the origin.
	Copying Status = "COPYING"
	// Ready: the object is whole; the client has not been told.
	Ready Status = "READY"
	// Delivered: a client has been given a link.
	Delivered Status = "DELIVERED"
	// Failed: there is no object; the item says why.
	Failed Status = "FAILED"
	// Cancelled: stopped by the client or an operator; there is no object.
	Cancelled Status = "CANCELLED"
	// Expired: nobody came in time; the object lives as long as its bucket keeps it.
	Expired Status = "EXPIRED"
)

// Ended says that the execution waits for nobody any more: a client that comes
// now is served by an execution of the deliver machine.
func (s Status) Ended() bool { return s != Copying && s != Ready }

// NoFile reports that the download ended without a file; the item has the reason.
func (s Status) NoFile() bool { return s == Failed || s == Cancelled }

// Item is the record of one download and the only truth about who listens.
type Item struct {
	ExecutionARN string `dynamodbav:"executionArn"`
	Status       Status `dynamodbav:"status"`

	// What to copy, as the client asked: Path percent-encoded, Query encoded.
	Path  string `dynamodbav:"path"`
	Query string `dynamodbav:"query"`

	// TicketHash is of the secret the client must show; "" where it needs none.
	TicketHash string `dynamodbav:"ticketHash"`

	// AskedBy is the address, and the principal where there is one, that asked for
	// the download; for the audit line alone.
	AskedBy string `dynamodbav:"askedBy"`

	// The client: there is one exactly as long as ConnectionID is set.
	ConnectionID string `dynamodbav:"connectionId"`
	Format       string `dynamodbav:"format"`
	ConnectedAt  int64  `dynamodbav:"connectedAt"` // Unix time, ms

	// TaskToken resumes the execution; written by the state that waits.
	TaskToken string `dynamodbav:"taskToken"`

	UploadID    string `dynamodbav:"uploadId"`
	BytesCopied int64  `dynamodbav:"bytesCopied"` // set when the copy is complete; see Copied
	BytesTotal  *int64 `dynamodbav:"bytesTotal"`  // nil: the origin didn't say
	CopiedAt    int64  `dynamodbav:"copiedAt"`    // Unix time, ms; 0: not yet
	AnnouncedAt int64  `dynamodbav:"announcedAt"` // when progress was last told, Unix time, ms

	Failure   *failure.Error `dynamodbav:"failure"`   // set when the download ended badly
	Cancelled bool           `dynamodbav:"cancelled"` // a cancel was accepted

	ExpiresAt int64 `dynamodbav:"expiresAt"` // Unix time, s: when TTL takes the item

	copied map[string]int64 // bytes by segment
}

// copiedPrefix and a segment are the name of an attribute: bytes copied of it. Each
// worker writes its own, so that its number can be set instead of added to, and
// what is written twice counts once.
const (
	copiedPrefix = "copied/"
	wholeFile    = "0"
)

// Stopped reports that nobody needs the copy any more: its workers stop.
func (i Item) Stopped() bool { return i.Cancelled || i.Status.Ended() }

// Cancelling reports that a cancel was accepted and the workflow has yet to end
// the download. Until it does, no link may be handed out.
func (i Item) Cancelling() bool { return i.Cancelled && !i.Status.Ended() }

// Asked is when the download was asked for, to the second.
func (i Item) Asked() time.Time { return time.Unix(i.ExpiresAt, 0).Add(-ItemLife) }

// Copied is how many bytes have been copied. Each counts once, however often it had
// to be sent.
func (i Item) Copied() int64 {
	var segments int64
	for segment, n := range i.copied {
		if segment != wholeFile {
			segments += n
		}
	}
	// What a run for the whole file copied before it was divided into segments is
	// in the segments' numbers too, as soon as they have begun.
	n := max(i.BytesCopied, i.copied[wholeFile], segments)
	if i.BytesTotal == nil {
		return n
	}
	return min(n, *i.BytesTotal)
}

// CopiedOf is how many bytes of a segment, named by its first part, have been
// copied, of the whole file if segment is 0.
func (i Item) CopiedOf(segment int32) int64 { return i.copied[strconv.Itoa(int(segment))] }

// Waited is how long the copied file has waited for its client, at the time when
// one came or there was none; 0 for a client that came before.
func (i Item) Waited(until time.Time) time.Duration {
	if i.CopiedAt == 0 {
		return 0
	}
	return max(until.Sub(time.UnixMilli(i.CopiedAt)), 0)
}

// Connection returns the client that is here, if one is.
func (i Item) Connection() (Connection, bool) {
	return Connection{ID: i.ConnectionID, Format: i.Format, At: time.UnixMilli(i.ConnectedAt)}, i.ConnectionID != ""
}

// Connection is a client's way to hear the answer.
type Connection struct { // travels as JSON in a [Delivery]
	// ID is API Gateway's connectionId, or [Request].
	ID string
	// Format is "json", or "" for the plain text of the original sample.
	Format string
	// At is when on-connect saw it.
	At time.Time
}

// Request is the ID of a client that has no socket: it stands in a REST request
// and is answered there, so there is nothing to post and nothing to close. No
// connectionId of API Gateway's looks like it.
const Request = "request"

// Delivery is the input of the deliver machine.
type Delivery struct {
	ExecutionARN string `json:"executionArn"`
	// Connection is the client that on-connect saw, for when the item has gone.
	Connection *Connection `json:"connection,omitempty"`
}
