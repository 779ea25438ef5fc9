package transfer

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	kib = 1 << 10
	mib = 1 << 20
)

// small makes parts of 4 KiB, so that a test has many at little cost.
const small = 4 * kib

// newS3 returns an S3 that takes small parts.
func newS3(t testing.TB) *s3test.Server {
	s := s3test.New(t)
	s.MinPart = small
	return s
}

// inVirtualTime makes f a parallel test in virtual time.
func inVirtualTime(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, f)
	}
}

// newMemoryS3 is newS3 with connections in memory, which virtual time needs: a wait for
// the kernel would hold the clock.
func newMemoryS3(t testing.TB) *s3test.Server {
	s := s3test.NewOn(t, origintest.NewPipes("s3.example:80"))
	s.MinPart = small
	return s
}

// newMemorySource is newSource with connections in memory, which hold nothing that isn't
// read yet.
func newMemorySource(t testing.TB, h http.Handler) Source {
	dial, stop := origintest.InMemory(context.Background(), h)
	t.Cleanup(stop)
	src := sourceOf(t, "http://files.example/dir/file.bin?token=planted")
	src.Client.Dial = dial
	return src
}

// newCopier returns a copier of small parts that doesn't wait long for a retry.
func newCopier(t testing.TB, s *s3test.Server) *Copier {
	cfg := aws.Config{
		BaseEndpoint: aws.String(s.URL), Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 5 * time.Millisecond })
		},
	}
	if s.Certificate() != nil {
		cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
			tr.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
		})
	}
	client := S3(cfg)
	h := client.Options().HTTPClient.(*http.Client)
	t.Cleanup(h.CloseIdleConnections)
	if pipes, ok := s.Listener.(*origintest.Pipes); ok {
		h.Transport.(*http.Transport).DialContext = pipes.Dial
	}
	return &Copier{
		S3:     client,
		Bucket: s3test.Bucket, PartSize: small, Concurrency: 4,
		storeBackoff: time.Millisecond, largeParts: small, streamPartSize: 5 * mib,
	}
}

// newSource returns a source whose server is h.
func newSource(t testing.TB, h http.Handler) Source {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return sourceOf(t, server.URL+"/dir/file.bin?token=planted")
}

func sourceOf(t testing.TB, raw string) Source {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	client := &origin.Client{Base: &url.URL{Scheme: u.Scheme, Host: u.Host}, AllowLoopback: true, Backoff: time.Millisecond, Connections: 8}
	t.Cleanup(client.CloseIdleConnections)
	return Source{client, &origin.Request{URL: u}}
}

// job is one run that copies src to key. It remembers nothing of other runs.
func job(c *Copier, src Source, key string) *Job {
	r := *src.Request
	return &Job{Copier: c, Source: Source{src.Client, &r}, Key: key}
}

// mustCopy copies and compares the object with want.
func mustCopy(t testing.TB, c *Copier, s *s3test.Server, src Source, key string, want []byte) Result {
	t.Helper()
	return mustRun(t, job(c, src, key), s, want)
}

// mustRun runs j and compares the object with want.
func mustRun(t testing.TB, j *Job, s *s3test.Server, want []byte) Result {
	t.Helper()
	out, err := j.Start(t.Context())
	if err != nil {
		t.Fatalf("got error %v (%v)", err, errors.Unwrap(failure.As(err)))
	}
	if out.Result == nil {
		t.Fatalf("got work %+v, want a result", out.Work)
	}
	wantObject(t, s, j.Key, want, *out.Result)
	return *out.Result
}

func wantObject(t testing.TB, s *s3test.Server, key string, want []byte, r Result) {
	t.Helper()
	o := s.Object(key)
	if o == nil {
		t.Fatal("got no object")
	}
	if got := sha256.Sum256(o.Data); got != sha256.Sum256(want) {
		t.Fatalf("got %d other bytes, want %d (first difference at %d)", len(o.Data), len(want), difference(o.Data, want))
	}
	if r.Bytes != int64(len(want)) {
		t.Errorf("got a result of %d bytes, want %d", r.Bytes, len(want))
	}
	var whole sums
	_, _ = whole.Write(want)
	if got := whole.base64CRC64(); r.Checksum.CRC64NVME != "" && r.Checksum.CRC64NVME != got {
		t.Errorf("got checksum %q, want %q", r.Checksum.CRC64NVME, got)
	}
	if o.CRC64 != "" && r.Checksum.CRC64NVME != o.CRC64 {
		t.Errorf("got checksum %q, S3 has %q", r.Checksum.CRC64NVME, o.CRC64)
	}
	wantNoUpload(t, s)
}

func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func wantNoUpload(t testing.TB, s *s3test.Server) {
	t.Helper()
	if open := s.Open(); len(open) > 0 {
		t.Errorf("got open uploads %v, want none", open)
	}
}

// wantFailure checks the code of err, that there is no object, and that Abort leaves no
// upload.
func wantFailure(t testing.TB, c *Copier, s *s3test.Server, key string, err error, want failure.Code) {
	t.Helper()
	if got := failure.CodeOf(err); got != want {
		t.Fatalf("got %v, want code %s", err, want)
	}
	if s.Object(key) != nil {
		t.Errorf("got an object, want none")
	}
	s.Idle() // a part that is stored after the abort is what no client can see
	if err := c.Abort(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	wantNoUpload(t, s)
}

func isOneOf(b []byte, versions ...[]byte) bool {
	for _, v := range versions {
		if bytes.Equal(b, v) {
			return true
		}
	}
	return false
}

// newTLSOrigin is a source over HTTPS whose certificate is trusted.
func newTLSOrigin(t testing.TB, h http.Handler) Source {
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	src := sourceOf(t, server.URL+"/dir/file.bin")
	src.Client.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return src
}

// digestHeaders are the ways to offer a digest.
var digestHeaders = map[string]func(data []byte) http.Header{
	"Repr-Digest": func(data []byte) http.Header { return http.Header{"Repr-Digest": {sha256Header(data)}} },
	"Repr-Digest sha-512 among others": func(data []byte) http.Header {
		sum := sha512.Sum512(data)
		return http.Header{"Repr-Digest": {"unixsum=:AAA=:, sha-512=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"}}
	},
	"Digest": func(data []byte) http.Header {
		sum := sha256.Sum256(data)
		return http.Header{"Digest": {"SHA-256=" + base64.StdEncoding.EncodeToString(sum[:]) + ",crc32c=AAAAAA=="}}
	},
	"Content-MD5": func(data []byte) http.Header {
		sum := md5.Sum(data)
		return http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}
	},
	"Content-Digest": func(data []byte) http.Header { return http.Header{"Content-Digest": {sha256Header(data)}} },
}

// copySegments copies all segments of work, one after the other.
func copySegments(t *testing.T, c *Copier, src Source, work *Work) {
	t.Helper()
	for _, segment := range work.Segments {
		if err := job(c, src, "key").CopySegment(t.Context(), work.Plan, segment); err != nil {
			t.Fatal(err)
		}
	}
}

// mustFinish completes the object of work, whose parts are all stored, and compares it with
// want.
func mustFinish(t *testing.T, c *Copier, s *s3test.Server, src Source, work *Work, want []byte) {
	t.Helper()
	out, err := job(c, src, "key").Finish(t.Context(), *work)
	if err != nil || out.Result == nil {
		t.Fatalf("got %+v, %v, want a result", out, err)
	}
	wantObject(t, s, "key", want, *out.Result)
}

// rangeOf returns the first and the last byte that r asks for.
func rangeOf(r *http.Request) (first, last int, ok bool) {
	_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
	return first, last, err == nil
}
