package transfer

import (
	"cmp"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/object"
)

const (
	// PartSize is the minimum size of a part.
	PartSize = 8 << 20
	// LargePartSize is the size up to which parts grow with the file, to save
	// requests. At 64 MiB a file of 625 GiB fits into S3's 10,000 parts; parts of a
	// larger file are larger.
	LargePartSize = 64 << 20
	// Concurrency is how many ranges are read at once.
	Concurrency = 8
	// SegmentBytes is the minimum size of a segment: about 40 s of work for a Lambda, so
	// that its start doesn't matter.
	SegmentBytes = 4 << 30
	// MaxBytes is the largest object S3 takes: 10,000 parts of 5 GiB.
	MaxBytes = MaxParts * MaxPartSize
)

// Copier is the configuration of copies into one bucket. It is safe for
// concurrent use; a [Job] is one run of one copy.
type Copier struct {
	S3     *s3.Client
	Bucket string

	// PartSize is the minimum size of a part, at least 5 MiB; default [PartSize].
	PartSize int64
	// Concurrency is how many ranges are read at once; default [Concurrency].
	Concurrency int
	// MaxBytes is the largest file that is copied; 0 is S3's limit.
	MaxBytes int64
	// SegmentBytes is the minimum size of a segment. Start itself copies a file of one
	// segment; 0 makes every file one segment.
	SegmentBytes int64
	// Replace lets a copy replace an existing object. Without it, an object with the key
	// is regarded as the finished copy, so a key must be used for one download only.
	Replace bool

	// These replace the constants of the same name in tests.
	storeBackoff   time.Duration
	largeParts     int64 // for LargePartSize
	streamPartSize int64
	digestReadBack int64
}

func (c *Copier) partSize() int64      { return cmp.Or(c.PartSize, PartSize) }
func (c *Copier) largePartSize() int64 { return cmp.Or(c.largeParts, LargePartSize) }

func (c *Copier) concurrency() int { return cmp.Or(c.Concurrency, Concurrency) }

// Result describes a complete copy. It has no secrets.
type Result struct {
	Bytes    int64    `json:"bytes"`
	Checksum Checksum `json:"checksum"`
	// Verified reports whether the end of the file was proven: by a length, by chunks or
	// by a digest.
	Verified bool `json:"verified"`
	// Pinned: every byte is of one version of the file, by its ETag or by a date
	// that counts as strong; see [origin.Pin].
	Pinned bool `json:"pinned"`
	// Digest is the algorithm of the origin's digest that was verified, such as
	// "sha-256"; "" if it sent none, or the ranges were too large to be read back.
	Digest      string `json:"digest,omitempty"`
	ContentType string `json:"contentType,omitempty"`
	// Parts is the number of parts of the object, 0 for PutObject; Ranges is the number of
	// requests of this run to the origin.
	Parts  int `json:"parts"`
	Ranges int `json:"ranges"`
	// Retries is how many of these were more than the file would have needed.
	Retries int `json:"-"`
}

// Checksum is what S3 keeps with an object, base64.
type Checksum struct {
	// CRC64NVME is of the whole object.
	CRC64NVME string `json:"crc64nvme,omitempty"`
	// CRC32 is S3's checksum of the parts' checksums ("value-parts"), from a
	// store that keeps none of the whole object.
	CRC32 string `json:"crc32,omitempty"`
}

// Outcome is the result of Start and Finish; one of the two is set.
type Outcome struct {
	Result *Result `json:"result,omitempty"`
	Work   *Work   `json:"work,omitempty"`
}

// Work is a copy that isn't complete.
type Work struct {
	Plan     Plan      `json:"plan"`
	Segments []Segment `json:"segments"`
	// Missing is the number of parts that were missing at that time. A round that doesn't
	// lower it made no progress; Idle counts such rounds in a row.
	Missing int `json:"missing"`
	Idle    int `json:"idle,omitempty"`
}

// fromHead returns what a HeadObject with ChecksumMode ENABLED has about a finished copy.
func fromHead(head *s3.HeadObjectOutput) Result {
	f := object.Describe(head)
	r := Result{Bytes: f.Size, Checksum: checksums(head), Verified: f.Verified, Pinned: f.Pinned, ContentType: f.ContentType}
	for algorithm := range f.Digest {
		r.Digest = algorithm
	}
	return r
}
