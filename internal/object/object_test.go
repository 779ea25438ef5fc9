package object

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestDescribe(t *testing.T) {
	full := &s3.HeadObjectOutput{
		ContentLength: aws.Int64(7), ContentType: aws.String("text/csv"), ContentDisposition: aws.String(`attachment; filename*=UTF-8''%C3%A4.csv`),
		ChecksumCRC64NVME: aws.String("AAAAAAAAAAA="), ChecksumType: types.ChecksumTypeFullObject,
		Metadata: map[string]string{
			MetaVerified: "true", MetaValidator: `"v1"`, MetaPin: "etag", MetaETag: `"v1"`,
			MetaLastModified: "Tue, 24 Nov 2026 11:00:00 GMT", MetaDigest: "md5=:AAAAAAAAAAAAAAAAAAAAAA==:",
			MetaTicketHash: "t", MetaRequestHash: "r",
		},
	}
	composite := &s3.HeadObjectOutput{
		ContentLength: aws.Int64(7), ContentDisposition: aws.String(";"), ChecksumCRC64NVME: aws.String("AA=="), ChecksumType: types.ChecksumTypeComposite,
		Metadata: map[string]string{MetaVerified: "false", MetaLastModified: "yesterday", MetaDigest: "md5=x"},
	}
	tests := []struct {
		head *s3.HeadObjectOutput
		want string
	}{
		{full, `{"size":7,"contentType":"text/csv","fileName":"ä.csv","checksum":{"crc64nvme":"AAAAAAAAAAA="},"verified":true,"pinned":true,` +
			`"digest":{"md5":"AAAAAAAAAAAAAAAAAAAAAA=="},"etag":"\"v1\"","lastModified":"2026-11-24T11:00:00Z"}`},
		{composite, `{"size":7,"contentType":"","fileName":"","checksum":{},"verified":false,"pinned":false}`},
	}
	for _, test := range tests {
		if got, err := json.Marshal(Describe(test.head)); err != nil || string(got) != test.want {
			t.Errorf("got %s, %v, want %s", got, err, test.want)
		}
	}
	if got, want := RecordOf(full), (Record{"t", "r"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
