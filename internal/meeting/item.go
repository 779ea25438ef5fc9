package meeting

import (
	"strconv"
	"time"

	"async-download/internal/failure"
)

// Status is the status of a download.
type Status string

const (
	// Copying: the file is being copied from the origin.
	Copying Status = "COPYING"
	// Ready: the object is complete; no client has a link yet.
	Ready Status = "READY"
	// Delivered: a client has a link.
	Delivered Status = "DELIVERED"
	// Failed: there is no object; the item has the reason.
	Failed Status = "FAILED"
	// Cancelled: stopped by the client or an operator, or the file was deleted; there is no
	// object.
	Cancelled Status = "CANCELLED"
	// Deleted is the answer to a client that has deleted the file. No item has it.
	Deleted Status = "DELETED"
	// Expired: the workflow ended before a client got the link; the object exists as long as
	// the bucket keeps it.
	Expired Status = "EXPIRED"
)

// Ended reports whether the execution no longer waits for a client. A client that
// connects now is served by an execution of the deliver machine.
func (s Status) Ended() bool { return s != Copying && s != Ready }

// NoFile reports whether the download ended without a file; the item has the reason.
func (s Status) NoFile() bool { return s == Failed || s == Cancelled }

// Item is the record of one download, and the only source of truth about who listens.
type Item struct {
	ExecutionARN string `dynamodbav:"executionArn"`
	Status       Status `dynamodbav:"status"`

	// What to copy, as the client requested it: Path percent-encoded, Query encoded.
	Path  string `dynamodbav:"path"`
	Query string `dynamodbav:"query"`

	// TicketHash is the hash of the client's ticket; "" if it needs none.
	TicketHash string `dynamodbav:"ticketHash"`

	// HasRequest reports that the download may have an [OriginRequest].
	HasRequest bool `dynamodbav:"hasRequest"`

	// RequestHash identifies the request that an idempotency key belongs to; "" for
	// a download without a key.
	RequestHash string `dynamodbav:"requestHash"`

	// AskedBy is the caller's address, with the principal if there is one, for the audit
	// line and the events.
	AskedBy string `dynamodbav:"askedBy"`

	// The client. One is connected if and only if ConnectionID is set.
	ConnectionID string `dynamodbav:"connectionId"`
	Format       string `dynamodbav:"format"`
	ConnectedAt  int64  `dynamodbav:"connectedAt"` // Unix time, ms

	// TaskToken resumes the execution; written by the state that waits.
	TaskToken string `dynamodbav:"taskToken"`

	UploadID    string `dynamodbav:"uploadId"`
	BytesCopied int64  `dynamodbav:"bytesCopied"` // set when the copy is complete; see Copied
	BytesTotal  *int64 `dynamodbav:"bytesTotal"`  // nil if the origin didn't send it
	CopiedAt    int64  `dynamodbav:"copiedAt"`    // Unix time, ms; 0 until then
	AnnouncedAt int64  `dynamodbav:"announcedAt"` // when progress was last posted, Unix time, ms
	WaitsUntil  int64  `dynamodbav:"waitsUntil"`  // end of the last long wait for the origin, Unix time, ms; see [Table.WaitUntil]

	Failure   *failure.Error `dynamodbav:"failure"`   // set when the download ended without a delivery
	Cancelled bool           `dynamodbav:"cancelled"` // a cancel was accepted

	ExpiresAt int64 `dynamodbav:"expiresAt"` // Unix time, s: when the item expires by TTL

	copied map[string]int64 // bytes by segment
}

// copiedPrefix and a segment form the name of an attribute with the segment's copied
// bytes. Each worker sets its own number instead of adding to a common one, so that a
// repeated write counts once.
const (
	copiedPrefix = "copied/"
	wholeFile    = "0"
)

// Stopped reports whether the copy is no longer needed, so that its workers stop.
func (i Item) Stopped() bool { return i.Cancelled || i.Status.Ended() }

// FileStays reports whether the file is complete and no cancel or failure removes it.
func (i Item) FileStays() bool { return i.CopiedAt != 0 && !i.Cancelled && !i.Status.NoFile() }

// Cancelling reports whether a cancel was accepted and the workflow hasn't ended the
// download yet. Until then, no link may be sent.
func (i Item) Cancelling() bool { return i.Cancelled && !i.Status.Ended() }

// Asked returns when the download was requested, to the second.
func (i Item) Asked() time.Time { return time.Unix(i.ExpiresAt, 0).Add(-ItemLife) }

// Copied returns how many bytes have been copied. A byte that had to be sent again
// counts once.
func (i Item) Copied() int64 {
	var segments int64
	for segment, n := range i.copied {
		if segment != wholeFile {
			segments += n
		}
	}
	// The segments' numbers include, once they have begun, what a run for the whole file
	// copied before.
	n := max(i.BytesCopied, i.copied[wholeFile], segments)
	if i.BytesTotal == nil {
		return n
	}
	return min(n, *i.BytesTotal)
}

// CopiedOf returns how many bytes of a segment, named by its first part, have been
// copied; of the whole file if segment is 0.
func (i Item) CopiedOf(segment int32) int64 { return i.copied[strconv.Itoa(int(segment))] }

// Waited returns how long the copied file waited for its client until the given time; 0
// if the client was connected before.
func (i Item) Waited(until time.Time) time.Duration {
	if i.CopiedAt == 0 {
		return 0
	}
	return max(until.Sub(time.UnixMilli(i.CopiedAt)), 0)
}

// Connection returns the connected client, if there is one.
func (i Item) Connection() (Connection, bool) {
	return Connection{ID: i.ConnectionID, Format: i.Format, At: time.UnixMilli(i.ConnectedAt)}, i.ConnectionID != ""
}

// Connection is a client's connection. It is encoded as JSON in a [Delivery].
type Connection struct {
	// ID is API Gateway's connectionId, or [Request].
	ID string
	// Format is "json", or "" for plain text.
	Format string
	// At is when on-connect ran.
	At time.Time
}

// Request is the ID of a client without a socket. It is answered by the REST request
// itself, so there is nothing to post and nothing to close. It can't be a connectionId
// of API Gateway.
const Request = "request"

// Delivery is the input of the deliver machine.
type Delivery struct {
	ExecutionARN string `json:"executionArn"`
	// Connection is the client that on-connect saw, in case the item is deleted.
	Connection *Connection `json:"connection,omitempty"`
}
