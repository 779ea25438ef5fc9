package transfer

import (
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// S3's limits on multipart uploads.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const (
	MaxParts    = 10_000
	MaxPartSize = 5 << 30
	MinPartSize = 5 << 20 // except the last part
)

// maxSegments keeps the workflow's state small: 400 segments are 16 KB of the
// 256 KiB that Step Functions takes.
const maxSegments = 400

// Plan defines which part has which bytes. It is fixed when the upload is created: part
// n (from 1) is the bytes from (n-1)*PartSize, in every run.
type Plan struct {
	Key      string `json:"key"`
	UploadID string `json:"uploadId"`
	Size     int64  `json:"size"`
	PartSize int64  `json:"partSize"`
	// Pin is what every range must repeat.
	Pin origin.Pin `json:"pin"`
	// Digest is the origin's digest of the whole file, as in a Repr-Digest, or "".
	Digest string `json:"digest,omitempty"`
	// Composite: of this upload, the store keeps only a checksum of checksums.
	Composite bool `json:"composite,omitempty"`
	// Plain: the store doesn't support checksums as trailers of a body (see [body]).
	Plain bool `json:"plain,omitempty"`
}

// Segment is a run of parts, First to Last inclusive.
type Segment struct {
	First int32 `json:"first"`
	Last  int32 `json:"last"`
}

// partsPerFile is about how many parts a file has while that makes them neither
// smaller nor larger than wanted: S3 charges by the request, and larger parts cost
// no memory. Fewer would leave connections idle at the end of the file.
const partsPerFile = 32

// NewPlan returns the parts for a file of size bytes: about partsPerFile, of least
// to most bytes each, or as much more as S3's limit on their number demands. Parts
// of more than least have whole MiB.
//
// The last part number is left free where that is possible: the upload's marker
// is kept there (see marker.go).
func NewPlan(size, least, most int64) (Plan, error) {
	if size > MaxBytes {
		return Plan{}, failure.New(failure.TooLarge, "the file has %d bytes; S3 takes %d", size, int64(MaxBytes))
	}
	wanted := max(least, 1, min(wholeMiB((size+partsPerFile-1)/partsPerFile), most))
	partSize := wanted
	for _, parts := range []int64{MaxParts - 1, MaxParts} {
		if need := (size + parts - 1) / parts; need > partSize {
			partSize = wholeMiB(need)
		}
		if partSize <= MaxPartSize {
			return Plan{Size: size, PartSize: partSize}, nil
		}
		partSize = wanted
	}
	return Plan{}, failure.New(failure.TooLarge, "the file needs parts larger than S3 takes")
}

func wholeMiB(n int64) int64 {
	const mib = 1 << 20
	return (n + mib - 1) / mib * mib
}

// Parts is how many parts there are.
func (p Plan) Parts() int32 {
	return int32((p.Size + p.PartSize - 1) / p.PartSize)
}

// span returns the bytes of part n: start inclusive, end exclusive.
func (p Plan) span(n int32) (start, end int64) {
	start = int64(n-1) * p.PartSize
	return start, min(start+p.PartSize, p.Size)
}

// bytes is how many bytes the parts of s have.
func (p Plan) bytes(s Segment) int64 {
	start, _ := p.span(s.First)
	_, end := p.span(s.Last)
	return end - start
}

// Segments cuts the plan into runs of parts of at least segmentBytes, the last
// one excepted, and at most a few hundred of them.
func (p Plan) Segments(segmentBytes int64) []Segment {
	parts := p.Parts()
	each := max((segmentBytes+p.PartSize-1)/p.PartSize, (int64(parts)+maxSegments-1)/maxSegments, 1)
	var out []Segment
	for first := int64(1); first <= int64(parts); first += each {
		out = append(out, Segment{First: int32(first), Last: int32(min(first+each-1, int64(parts)))})
	}
	return out
}

// slowestOrigin is the speed in bytes per second and connection below which a
// worker that runs for run can't move a single part.
func (p Plan) slowestOrigin(run time.Duration) int64 {
	return int64(float64(min(p.PartSize, p.Size)) / run.Seconds())
}
