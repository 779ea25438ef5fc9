package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/crc64nvme"
)

// TestChecksum checks that a file of several parts has one checksum over all its
// bytes, and that the client gets it.
func TestChecksum(t *testing.T) {
	t.Parallel()
	m := dial(t, ask(t, "/file/20MiB/sum.bin"), "json")
	var e struct {
		Type, URL string
		Checksum  map[string]string
		Verified  bool
	}
	for e.Type != "ready" {
		if err := json.Unmarshal([]byte(m.next()), &e); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.Get(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := crc64nvme.New()
	n, err := io.Copy(sum, resp.Body)
	if err != nil || n != 20<<20 {
		t.Fatalf("got %d bytes, error %v", n, err)
	}
	if want := base64.StdEncoding.EncodeToString(sum.Sum(nil)); e.Checksum["crc64nvme"] != want || !e.Verified {
		t.Errorf("got checksum %v, verified %v, want CRC64NVME %s, verified", e.Checksum, e.Verified, want)
	}
}

// TestWrongChecksum checks that the emulator compares the checksum it is given
// with its data, as S3 does. Otherwise the copies in these tests would prove
// little.
func TestWrongChecksum(t *testing.T) {
	t.Parallel()
	ctx, bucket, key := context.Background(), aws.String(stack.env["BUCKET"]), aws.String("downloads/wrong-checksum")
	upload, err := stack.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stack.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: upload.UploadId})
	part, err := stack.s3.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: bucket, Key: key, UploadId: upload.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("x")),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stack.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: key, UploadId: upload.UploadId, ChecksumType: types.ChecksumTypeFullObject, ChecksumCRC64NVME: aws.String("AAAAAAAAAAA="),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}},
	})
	var answer smithy.APIError
	if !errors.As(err, &answer) || answer.ErrorCode() != "BadDigest" {
		t.Errorf("got %v, want BadDigest", err)
	}
}
