// Package object defines what a copied file's object in S3 keeps of its download:
// enough to describe the file, to sign a link and to admit a client after the item
// is gone.
package object

import (
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// Key returns the object key of the execution called name.
func Key(name string) string { return "downloads/" + name }

// ErrGone: there is no such object, or none any more.
var ErrGone = errors.New("no such object")

// Gone returns the failure that clients get where a file is gone. It is an [ErrGone];
// cause, which may be nil, is for the log.
func Gone(cause error) error {
	err := ErrGone
	if cause != nil {
		err = fmt.Errorf("%w: %w", ErrGone, cause)
	}
	return failure.Wrap(err, failure.Expired, "the file is no longer kept; ask for it again")
}

// PathStyle makes a client put the bucket's name into the path where an endpoint is
// configured: the local stack and other stores have no host name per bucket.
func PathStyle(o *s3.Options) { o.UsePathStyle = o.BaseEndpoint != nil }

// Metadata of the object, without S3's x-amz-meta- prefix.
const (
	// MetaVerified is "true" if the end of the origin's file was proven: by a length,
	// by chunks or by a digest.
	MetaVerified = "verified"
	// MetaValidator is what the bytes were pinned by, and MetaPin is its kind. Neither
	// is set where nothing pinned them.
	MetaValidator = "origin-validator"
	MetaPin       = "origin-pin"
	// MetaETag and MetaLastModified are what the origin sent, weak or strong.
	MetaETag         = "origin-etag"
	MetaLastModified = "origin-last-modified"
	// MetaDigest is the origin's digest, which the bytes were found to have.
	MetaDigest = "origin-digest"
	// MetaTicketHash is the hash of the ticket that opens the download, if it has one.
	MetaTicketHash = "ticket-hash"
	// MetaRequestHash identifies the request that an idempotency key belongs to.
	MetaRequestHash = "request-hash"
)

// File describes a copied file.
type File struct {
	Size        int64             `json:"size"` // bytes
	ContentType string            `json:"contentType"`
	FileName    string            `json:"fileName"`
	Checksum    map[string]string `json:"checksum"` // by algorithm, in base64, of the whole object
	Verified    bool              `json:"verified"` // whether the end of the origin's file was proven
	Pinned      bool              `json:"pinned"`   // whether every byte is proven to be of one version
	// Digest is the origin's, by algorithm and in base64, if the bytes have it.
	Digest       map[string]string `json:"digest,omitempty"`
	ETag         string            `json:"etag,omitempty"`         // the origin's
	LastModified *time.Time        `json:"lastModified,omitempty"` // the origin's
}

// Describe reads the description of a file from its HeadObject, which must have
// been sent with ChecksumMode ENABLED.
func Describe(head *s3.HeadObjectOutput) File {
	f := File{
		Size:        aws.ToInt64(head.ContentLength),
		ContentType: aws.ToString(head.ContentType),
		Checksum:    map[string]string{},
		Verified:    head.Metadata[MetaVerified] == "true",
		Pinned:      head.Metadata[MetaValidator] != "",
		ETag:        head.Metadata[MetaETag],
	}
	if _, parameters, err := mime.ParseMediaType(aws.ToString(head.ContentDisposition)); err == nil {
		f.FileName = parameters["filename"]
	}
	if head.ChecksumCRC64NVME != nil && head.ChecksumType == types.ChecksumTypeFullObject {
		f.Checksum["crc64nvme"] = *head.ChecksumCRC64NVME
	}
	if d := origin.ParseDigest(head.Metadata[MetaDigest]); !d.IsZero() {
		f.Digest = map[string]string{d.Algorithm: base64.StdEncoding.EncodeToString(d.Sum)}
	}
	if modified, err := http.ParseTime(head.Metadata[MetaLastModified]); err == nil {
		modified = modified.UTC()
		f.LastModified = &modified
	}
	return f
}

// Record is what an object keeps of its download.
type Record struct {
	TicketHash  string // "" for none
	RequestHash string // "" for none
}

// RecordOf reads the record from an object's HeadObject.
func RecordOf(head *s3.HeadObjectOutput) Record {
	return Record{head.Metadata[MetaTicketHash], head.Metadata[MetaRequestHash]}
}
