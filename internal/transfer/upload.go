package transfer

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// part is a part that is in S3.
type part struct {
	etag string
	size int64
	sums sums
	// Which of the sums are known: a part that an earlier run stored has those
	// that S3 lists.
	has64, has32 bool
}

// object is what the finished object says of itself beside its bytes.
type object struct {
	key         string
	contentType string
	encoding    string
	disposition string
	metadata    map[string]string
}

func describe(f *origin.File, key string, meta map[string]string) object {
	m := map[string]string{MetaVerified: strconv.FormatBool(f.Framed || !f.Digest.IsZero())}
	if f.ETag != "" {
		m[MetaValidator] = header(f.ETag)
	}
	if !f.Digest.IsZero() {
		m[MetaDigest] = f.Digest.String()
	}
	for k, v := range meta {
		m[k] = v
	}
	return object{key: key, contentType: contentType(f.ContentType), encoding: contentEncoding(f.ContentEncoding), disposition: Disposition(f.Name), metadata: m}
}

// contentType returns the origin's content type if it is one, else the one for
// anything.
func contentType(s string) string {
	if _, _, err := mime.ParseMediaType(s); err != nil || len(s) > 256 || header(s) != s {
		return "application/octet-stream"
	}
	return s
}

// contentEncoding drops "identity", which says nothing.
func contentEncoding(s string) string {
	if strings.EqualFold(strings.TrimSpace(s), "identity") || len(s) > 256 || header(s) != s {
		return ""
	}
	return s
}

// header makes s fit for a metadata header: S3 takes 2 KB of them in all, and a
// signature breaks on anything but ASCII.
func header(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 512)]
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// create makes a multipart upload and says whether the store keeps only a
// checksum of checksums of it.
func (c *Copier) create(ctx context.Context, o object) (id string, composite bool, err error) {
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
		// Not S3 but one of those that stand in for it: asked for the checksum of
		// the whole object, it keeps one of the parts' checksums. With CRC-32 its
		// answer can at least be foretold.
		if err := c.abort(ctx, o.key, aws.ToString(out.UploadId)); err != nil {
			return "", false, err
		}
		in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithmCrc32, ""
		if out, err = c.S3.CreateMultipartUpload(ctx, in); err != nil {
			return "", false, storage(ctx, err, "creating the upload")
		}
		composite = true
	}
	return aws.ToString(out.UploadId), composite, nil
}

// The upload is its own state: whoever has the key finds it by
// ListMultipartUploads and its parts by ListParts. What S3 doesn't keep, or
// gives to nobody before the upload is completed, is of which version of which
// file the parts are. So the first thing stored in an upload is a marker: a tiny
// part under the last number, whose checksum can be listed and compared. It is
// never named at completion, so it isn't in the object, and its number is left
// free by the plan. (Without it, at 10,000 parts, an upload is continued by
// those who were told of it in [Work], and not found by others.)
const markerPart = MaxParts

func marker(u *url.URL, p Plan) []byte {
	at := sha256.Sum256([]byte(u.String()))
	b, err := json.Marshal(struct {
		Version  int
		Source   string
		Size     int64
		PartSize int64
		ETag     string
		Digest   string
	}{1, hex.EncodeToString(at[:]), p.Size, p.PartSize, p.ETag, p.Digest})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// notUnderstood are the answers of stores that refuse the form of a streamed body.
var notUnderstood = []string{"NotImplemented", "InvalidArgument", "InvalidRequest", "MalformedTrailerError", "XAmzContentSHA256Mismatch", "SignatureDoesNotMatch"}

// errOvertaken says that the object came after it had been looked for: another
// worker's completion was on its way.
var errOvertaken = failure.New(failure.Storage, "another worker's object came, and went")

// resume finds an upload of key that was made for this plan, and its parts. Where
// there is none the object is looked for once more: an upload that was completed
// since the first look is in no list, and its parts need no second copy.
func (c *Copier) resume(ctx context.Context, src Source, plan Plan) (Plan, map[int32]part, bool, error) {
	if plan.Parts() >= markerPart {
		return plan, nil, false, c.overtaken(ctx, plan)
	}
	ids, err := c.uploads(ctx, plan.Key)
	if err != nil {
		return plan, nil, false, err
	}
	want := marker(src.URL, plan)
	s := sums{both: true}
	_, _ = s.Write(want)
	digest := md5.Sum(want)
	for _, id := range ids {
		p := plan
		p.UploadID = id
		marks, err := c.parts(ctx, p, Segment{markerPart, markerPart})
		if isCode(err, "NoSuchUpload") {
			continue
		}
		if err != nil {
			return plan, nil, false, err
		}
		m, ok := marks[markerPart]
		switch {
		case !ok || m.size != int64(len(want)):
			continue
		case m.has64 && m.sums.crc64 == s.crc64:
		case m.has32 && m.sums.crc32 == s.crc32:
			p.Composite = true
		case !m.has64 && !m.has32 && m.etag == `"`+hex.EncodeToString(digest[:])+`"`:
		default:
			continue
		}
		have, err := c.parts(ctx, p, Segment{1, p.Parts()})
		if err == nil && c.S3.Options().BaseEndpoint != nil {
			p, err = c.mark(ctx, p, want)
		}
		if isCode(err, "NoSuchUpload") {
			continue
		}
		return p, have, true, err
	}
	return plan, nil, false, c.overtaken(ctx, plan)
}

func (c *Copier) overtaken(ctx context.Context, plan Plan) error {
	if c.Replace {
		return nil
	}
	head, err := c.head(ctx, plan.Key)
	if err == nil && head != nil {
		err = errOvertaken
	}
	return err
}

// begin makes the upload for plan and stores its marker.
func (c *Copier) begin(ctx context.Context, src Source, plan Plan, o object) (Plan, error) {
	var err error
	if plan.UploadID, plan.Composite, err = c.create(ctx, o); err != nil {
		return plan, err
	}
	if plan.Parts() < markerPart {
		return c.mark(ctx, plan, marker(src.URL, plan))
	}
	return plan, nil
}

// mark stores the marker. To a store that isn't S3 it is sent as the parts will
// be, to see whether their form is understood: some keep the framing with the
// bytes.
func (c *Copier) mark(ctx context.Context, plan Plan, m []byte) (Plan, error) {
	if c.S3.Options().BaseEndpoint != nil {
		b := newBody(int64(len(m)), plan)
		b.src, b.last = bytes.NewReader(m), func() {}
		n := int32(markerPart)
		call, cancel := b.context(ctx)
		_, err := c.S3.UploadPart(call, &s3.UploadPartInput{
			Bucket: &c.Bucket, Key: &plan.Key, UploadId: &plan.UploadID, PartNumber: &n,
			Body: b, ContentLength: aws.Int64(int64(len(m))),
		}, b.attach)
		cancel(errEnded)
		if err == nil {
			marks, err := c.parts(ctx, plan, Segment{markerPart, markerPart})
			if err != nil || marks[markerPart].size == int64(len(m)) {
				return plan, nil // one that lists no parts is given the benefit of the doubt
			}
		}
		plan.Plain = err == nil || isCode(err, notUnderstood...)
	}
	_, err := c.putPart(ctx, plan, markerPart, bytes.NewReader(m))
	return plan, err
}

// putPart stores a part that is in memory.
func (c *Copier) putPart(ctx context.Context, plan Plan, n int32, r io.ReadSeeker) (part, error) {
	s := sums{both: plan.Composite}
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
	out, err := c.S3.UploadPart(call, in, unsigned, c.patient)
	if err != nil {
		return part{}, storage(ctx, err, "storing a part")
	}
	return part{etag: aws.ToString(out.ETag), size: size, sums: s, has64: true, has32: plan.Composite}, nil
}

// rewound writes all of r to w and goes back to where r was. A bytes.Reader
// hands over its bytes without a copy.
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
				if start, end := plan.Span(n); p.size != end-start {
					continue // of another plan; it is stored again
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

// gone is the failure of an upload that S3 doesn't know any more, when no object
// came of it.
func gone(cause error) error {
	return failure.Wrap(cause, failure.Storage, "the upload was aborted while it was copied to")
}
