package transfer

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"

	"async-download/internal/failure"
	"async-download/internal/origin"
)

// The upload is the state of a copy: ListMultipartUploads finds it by its key, and
// ListParts lists its parts. S3 returns no metadata of an upload that isn't complete, so
// nothing would show which version of which file the parts are of. The first thing stored
// in an upload is therefore a marker: a tiny part with the last number, whose checksum can
// be listed and compared. A completion doesn't name it, so it isn't in the object, and
// the plan leaves its number free. (An upload of 10,000 parts has none: workers that have
// it in their [Work] continue it, and no others find it.)
const markerPart = MaxParts

func marker(u *url.URL, p Plan) []byte {
	p.Pin.Unsent = false // the parts are the same, however they are asked for
	at := sha256.Sum256([]byte(u.String()))
	b, err := json.Marshal(struct {
		Version  int
		Source   string
		Size     int64
		PartSize int64
		Pin      origin.Pin
		Digest   string
	}{2, hex.EncodeToString(at[:]), p.Size, p.PartSize, p.Pin, p.Digest})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// errOvertaken: the object appeared after it had been looked for, since another worker's
// completion was on its way.
var errOvertaken = failure.New(failure.Storage, "another worker's object came, and went")

// resume finds an upload that was made for this plan, and its parts. If there is none, it looks for the object again: an upload that was completed since the
// first look is not listed, and its parts need not be copied again.
func (j *Job) resume(ctx context.Context, plan Plan) (Plan, map[int32]part, bool, error) {
	if plan.Parts() >= markerPart {
		return plan, nil, false, j.overtaken(ctx, plan)
	}
	ids, err := j.uploads(ctx, plan.Key)
	if err != nil {
		return plan, nil, false, err
	}
	want := marker(j.Source.Current(), plan)
	s := sums{with32: true}
	_, _ = s.Write(want)
	digest := md5.Sum(want)
	for _, id := range ids {
		p := plan
		p.UploadID = id
		marks, err := j.parts(ctx, p, Segment{markerPart, markerPart})
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
		have, err := j.parts(ctx, p, Segment{1, p.Parts()})
		if err == nil && j.otherStore() {
			p, err = j.mark(ctx, p, want)
		}
		if isCode(err, "NoSuchUpload") {
			continue
		}
		return p, have, true, err
	}
	return plan, nil, false, j.overtaken(ctx, plan)
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

// begin creates the upload for plan and stores its marker.
func (j *Job) begin(ctx context.Context, plan Plan, o description) (Plan, error) {
	var err error
	if plan.UploadID, plan.Composite, err = j.create(ctx, o); err != nil {
		return plan, err
	}
	if plan.Parts() < markerPart {
		return j.mark(ctx, plan, marker(j.Source.Current(), plan))
	}
	return plan, nil
}

// mark stores the marker.
func (c *Copier) mark(ctx context.Context, plan Plan, m []byte) (Plan, error) {
	if c.otherStore() {
		marked, err := c.markAsPart(ctx, plan, m)
		if plan = marked; err == nil && !plan.Plain {
			return plan, nil
		}
	}
	_, err := c.putPart(ctx, plan, markerPart, bytes.NewReader(m))
	return plan, err
}
