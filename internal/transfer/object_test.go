package transfer

import (
	"maps"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/failure"
	"async-download/internal/object"
	"async-download/internal/origin"
	"async-download/internal/transfer/s3test"
)

// What is stored with the object.
func TestDescribe(t *testing.T) {
	digest := origin.Digest{Algorithm: "md5", Sum: []byte("0123456789abcdef")}
	for _, tt := range []struct {
		file *origin.File
		want map[string]string
	}{
		{&origin.File{}, map[string]string{object.MetaVerified: "false"}},
		{&origin.File{Framed: true}, map[string]string{object.MetaVerified: "true"}},
		{&origin.File{Digest: digest}, map[string]string{object.MetaVerified: "true", object.MetaDigest: digest.String()}},
		{&origin.File{ETag: `W/"a"`}, map[string]string{object.MetaVerified: "false", object.MetaETag: `W/"a"`}},
		{&origin.File{LastModified: "then"}, map[string]string{object.MetaVerified: "false", object.MetaLastModified: "then"}},
		{&origin.File{Pin: origin.Pin{Kind: origin.StrongETag, Value: `"a"`}}, map[string]string{object.MetaVerified: "false", object.MetaPin: "etag", object.MetaValidator: `"a"`}},
	} {
		tt.want["own"] = "1"
		if got := describe(tt.file, "key", map[string]string{"own": "1"}).metadata; !maps.Equal(got, tt.want) {
			t.Errorf("got %v, want %v", got, tt.want)
		}
	}
}

// The result has what is known here where a store keeps no metadata or checksum.
func TestResult(t *testing.T) {
	o := description{metadata: map[string]string{object.MetaVerified: "true"}}
	for _, tt := range []struct {
		head     s3.HeadObjectOutput
		verified bool
		sum      string
	}{
		{s3.HeadObjectOutput{}, true, "AAAAAAAAAAA="},
		{s3.HeadObjectOutput{Metadata: map[string]string{object.MetaVerified: "false"}, ChecksumCRC64NVME: aws.String("AAAAAAAAAAE=")}, false, "AAAAAAAAAAE="},
	} {
		got := o.result(&tt.head, Checksum{CRC64NVME: "AAAAAAAAAAA="})
		if got.Verified != tt.verified || got.Checksum.CRC64NVME != tt.sum {
			t.Errorf("got %+v, want verified %t with the checksum %s", got, tt.verified, tt.sum)
		}
	}
}

// An object is another one if its length is, or a checksum that both sides know; it is
// proven to be this one only by such a checksum.
func TestMatches(t *testing.T) {
	const a, b = "AAAAAAAAAAA=", "AAAAAAAAAAE="
	for _, tt := range []struct {
		length          int64
		got, want       Checksum
		matches, proven bool
	}{
		{10, Checksum{}, Checksum{}, true, false},
		{9, Checksum{CRC64NVME: a}, Checksum{CRC64NVME: a}, false, true},
		{10, Checksum{CRC64NVME: a}, Checksum{CRC64NVME: a}, true, true},
		{10, Checksum{CRC64NVME: a}, Checksum{CRC64NVME: b}, false, true},
		{10, Checksum{CRC64NVME: a}, Checksum{}, true, false},
		{10, Checksum{}, Checksum{CRC64NVME: a}, true, false},
		{10, Checksum{CRC64NVME: "AAAA"}, Checksum{CRC64NVME: a}, true, false},
		{10, Checksum{CRC32: "x-1"}, Checksum{CRC32: "x-1"}, true, true},
		{10, Checksum{CRC32: "x-1"}, Checksum{CRC32: "y-1"}, false, true},
		{10, Checksum{CRC32: "x-1"}, Checksum{}, true, false},
		{10, Checksum{}, Checksum{CRC32: "x-1"}, true, false},
		{10, Checksum{CRC64NVME: a}, Checksum{CRC32: "x-1"}, true, false},
	} {
		head := &s3.HeadObjectOutput{ContentLength: &tt.length, ChecksumCRC64NVME: optional(tt.got.CRC64NVME), ChecksumCRC32: optional(tt.got.CRC32)}
		if matched, proven := matches(head, 10, tt.want), proves(head, tt.want); matched != tt.matches || proven != tt.proven {
			t.Errorf("%+v: got %t, proven %t", tt, matched, proven)
		}
	}
}

// An object that must not be delivered is removed; an error of that is the failure's cause.
func TestRemove(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	s.Put("key", []byte("x"))
	deny := true
	s.Fault = func(string, int, *http.Request) s3test.Fault {
		if deny {
			return s3test.Fault{Code: "AccessDenied", Status: 403}
		}
		return s3test.Fault{}
	}
	for range 2 {
		err := c.remove(t.Context(), "key", failure.New(failure.Storage, "another object"))
		if failure.CodeOf(err) != failure.Storage || isCode(err, "AccessDenied") != deny || (s.Object("key") != nil) != deny {
			t.Errorf("denied %t: got %v", deny, err)
		}
		deny = false
	}
}

// All uploads of the key are aborted, and no other key's; a refusal is reported.
func TestAbort(t *testing.T) {
	for op, code := range map[string]failure.Code{"": "", "ListMultipartUploads": failure.Storage, "AbortMultipartUpload": failure.Storage, "ListParts": failure.Storage} {
		s := newS3(t)
		c := newCopier(t, s)
		for _, key := range []string{"key", "key", "key2"} {
			if _, _, err := c.create(t.Context(), description{key: key}); err != nil {
				t.Fatal(err)
			}
		}
		s.Fault = func(called string, _ int, _ *http.Request) s3test.Fault {
			if called == op {
				return s3test.Fault{Code: "AccessDenied", Status: 403}
			}
			return s3test.Fault{}
		}
		err := c.Abort(t.Context(), "key")
		if failure.CodeOf(err) != code || op == "" && len(s.Open()) != 1 {
			t.Errorf("%s refused: got %v and the uploads %v, want code %q", op, err, s.Open(), code)
		}
	}
}
