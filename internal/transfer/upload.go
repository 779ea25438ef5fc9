package transfer

import (
	"context"
	"io"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// part is a stored part.
type part struct {
	etag string
	size int64
	sums sums
	// Which of the sums are known: for a part of an earlier run, those that S3 lists.
	has64, has32 bool
}

// totalSize adds up the bytes of parts.
func totalSize(parts map[int32]part) int64 {
	var n int64
	for _, p := range parts {
		n += p.size
	}
	return n
}

// create makes a multipart upload and reports whether the store keeps only a
// checksum of checksums of it.
func (c *Copier) create(ctx context.Context, o description) (id string, composite bool, err error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &c.Bucket, Key: &o.key,
		ContentType: &o.contentType, ContentEncoding: optional(o.encoding), ContentDisposition: &o.disposition,
		Metadata:          o.metadata,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		ChecksumType:      types.ChecksumTypeFullObject,
	}
	out, err := c.S3.CreateMultipartUpload(ctx, in)
	if err != nil {
		return "", false, storage(ctx, err, "creating the upload")
	}
	if out.ChecksumType == types.ChecksumTypeComposite {
		if out, err = c.createComposite(ctx, in, out.UploadId); err != nil {
			return "", false, err
		}
		composite = true
	}
	return aws.ToString(out.UploadId), composite, nil
}

// putPart stores a part that is in memory.
func (c *Copier) putPart(ctx context.Context, plan Plan, n int32, r io.ReadSeeker) (part, error) {
	s := sums{with32: plan.Composite}
	size, err := rewound(r, &s)
	if err != nil {
		return part{}, err
	}
	in := &s3.UploadPartInput{Bucket: &c.Bucket, Key: &plan.Key, UploadId: &plan.UploadID, PartNumber: &n, Body: r}
	if plan.Composite {
		in.ChecksumCRC32 = aws.String(s.base64CRC32())
	} else {
		in.ChecksumCRC64NVME = aws.String(s.base64CRC64())
	}
	call, cancel := outlasting(ctx, func() bool { return true }) // it is short, and in memory
	defer cancel(errEnded)
	out, err := c.S3.UploadPart(call, in, unsigned, c.withPartRetries)
	if err != nil {
		return part{}, storage(ctx, err, "storing a part")
	}
	return part{etag: aws.ToString(out.ETag), size: size, sums: s, has64: true, has32: plan.Composite}, nil
}

// rewound writes all of r to w and seeks back to r's position. A bytes.Reader writes its
// bytes without a copy.
func rewound(r io.ReadSeeker, w io.Writer) (int64, error) {
	n, err := io.Copy(w, r)
	if err != nil {
		return n, err
	}
	_, err = r.Seek(-n, io.SeekCurrent)
	return n, err
}

// parts lists the parts of a segment that are in S3 in their full size.
func (c *Copier) parts(ctx context.Context, plan Plan, s Segment) (map[int32]part, error) {
	have := map[int32]part{}
	in := &s3.ListPartsInput{Bucket: &c.Bucket, Key: &plan.Key, UploadId: &plan.UploadID}
	if s.First > 1 {
		in.PartNumberMarker = aws.String(strconv.Itoa(int(s.First - 1)))
	}
	if n := s.Last - s.First + 1; n < 1000 {
		in.MaxParts = &n
	}
	pages := s3.NewListPartsPaginator(c.S3, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, storage(ctx, err, "listing the parts")
		}
		for _, listed := range page.Parts {
			n := aws.ToInt32(listed.PartNumber)
			if n > s.Last {
				return have, nil
			}
			p := part{etag: aws.ToString(listed.ETag), size: aws.ToInt64(listed.Size)}
			p.sums.crc64, p.has64 = parseCRC64(aws.ToString(listed.ChecksumCRC64NVME))
			p.sums.crc32, p.has32 = parseCRC32(aws.ToString(listed.ChecksumCRC32))
			if n != markerPart || plan.Parts() == markerPart {
				if start, end := plan.span(n); p.size != end-start {
					continue // belongs to another plan; it is stored again
				}
			}
			have[n] = p
		}
	}
	return have, nil
}

// missing returns the parts of a segment that aren't in have.
func missing(s Segment, have map[int32]part) []int32 {
	var out []int32
	for n := s.First; n <= s.Last; n++ {
		if _, ok := have[n]; !ok {
			out = append(out, n)
		}
	}
	return out
}
