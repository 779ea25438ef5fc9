package transfer

import (
	"cmp"
	"mime"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/object"
	"async-download/internal/origin"
)

// description is what the finished object has besides its bytes.
type description struct {
	key         string
	contentType string
	encoding    string
	disposition string
	metadata    map[string]string
}

func describe(f *origin.File, key string, meta map[string]string) description {
	m := map[string]string{object.MetaVerified: strconv.FormatBool(f.Framed || !f.Digest.IsZero())}
	if !f.Pin.IsZero() {
		m[object.MetaPin], m[object.MetaValidator] = string(f.Pin.Kind), header(f.Pin.Value)
	}
	if f.ETag != "" {
		m[object.MetaETag] = header(f.ETag)
	}
	if f.LastModified != "" {
		m[object.MetaLastModified] = header(f.LastModified)
	}
	if !f.Digest.IsZero() {
		m[object.MetaDigest] = f.Digest.String()
	}
	for k, v := range meta {
		m[k] = v
	}
	return description{key: key, contentType: contentType(f.ContentType), encoding: contentEncoding(f.ContentEncoding), disposition: Disposition(f.Name), metadata: m}
}

// contentType returns the origin's content type, without its parameters if they
// can't be read, or the type for anything if it has none.
func contentType(s string) string {
	kind, _, _ := strings.Cut(s, ";")
	kind = strings.TrimSpace(kind)
	main, sub, found := strings.Cut(kind, "/")
	if !found || !token.MatchString(main) || !token.MatchString(sub) || main == "*" || sub == "*" || len(kind) > 256 {
		return "application/octet-stream"
	}
	if _, _, err := mime.ParseMediaType(s); err != nil || len(s) > 256 || header(s) != s {
		return kind
	}
	return s
}

var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110, section 5.6.2

// contentEncoding drops "identity", which means none, and "aws-chunked", which
// is how S3-like origins frame a body and no encoding of the file.
func contentEncoding(s string) string {
	if len(s) > 256 || header(s) != s {
		return ""
	}
	var kept []string
	for _, encoding := range strings.Split(s, ",") {
		switch encoding = strings.TrimSpace(encoding); strings.ToLower(encoding) {
		case "", "identity", "aws-chunked":
		default:
			kept = append(kept, encoding)
		}
	}
	return strings.Join(kept, ", ")
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

// result returns what S3 returned about the object, and what else is known here: other
// stores may keep no metadata, and no checksum of the whole object.
func (o description) result(head *s3.HeadObjectOutput, want Checksum) Result {
	if len(head.Metadata) == 0 {
		head.Metadata = o.metadata
	}
	r := fromHead(head)
	r.Checksum.CRC64NVME = cmp.Or(r.Checksum.CRC64NVME, want.CRC64NVME)
	return r
}
