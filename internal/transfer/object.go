package transfer

import (
	"cmp"
	"mime"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/origin"
)

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

// result is what S3 says of the object, filled up with what is known here: a
// store may keep no metadata, and none of the whole object's checksum.
func (o object) result(head *s3.HeadObjectOutput, want Checksum) Result {
	if len(head.Metadata) == 0 {
		head.Metadata = o.metadata
	}
	r := FromHead(head)
	r.Checksum.CRC64NVME = cmp.Or(r.Checksum.CRC64NVME, want.CRC64NVME)
	return r
}
