package copying_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/copying"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/metric"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
	"async-download/internal/socket"
	"async-download/internal/transfer"
	"async-download/internal/transfer/s3test"
)

const (
	mib  = 1 << 20
	arn  = "arn:aws:states:us-east-1:123456789012:execution:download:0123456789abcdef0123456789abcdef"
	name = "0123456789abcdef0123456789abcdef"
)

// stack is what a worker talks to, except the origin: the table with an item whose
// client listens, and maybe one of its request, S3, and the client's socket.
type stack struct {
	s3     *s3test.Server
	worker *copying.Worker
	table  dynamodbtest.Table
	reads  atomic.Int32 // of the request's item
	// overtaken makes another worker finish the copy before the next such read.
	overtaken bool
	announced int    // tries to post progress
	before    func() // if set, is called before each call of the table
	metrics   strings.Builder
	posts     chan progress
}

type progress struct {
	Type        string
	BytesCopied int64
	BytesTotal  *int64
}

func newStack(t *testing.T, h http.Handler) *stack {
	s := &stack{s3: s3test.InProcess(t), posts: make(chan progress, 1000)}
	s.item(nil)
	dial, stop := origintest.InMemory(context.Background(), h)
	files := &origin.Client{Base: &url.URL{Scheme: "http", Host: "files.example"}, Dial: dial}
	t.Cleanup(stop)
	t.Cleanup(files.CloseIdleConnections)
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://s3.example"), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""), HTTPClient: s.s3,
	})
	s.worker = &copying.Worker{
		Table: &meeting.Table{Name: dynamodbtest.TableName, DynamoDB: dynamodbtest.Client(func(_ *http.Request, operation string, body []byte) (int, []byte, error) {
			if s.before != nil {
				s.before()
			}
			if bytes.Contains(body, []byte("SET announcedAt")) {
				s.announced++
			}
			if operation == "GetItem" && bytes.Contains(body, []byte(arn+"#request")) {
				if s.reads.Add(1); s.overtaken {
					s.overtaken = false
					delete(s.table.Items, arn+"#request")
					s.table.Items[arn]["status"] = dynamodbtest.Value{"S": "READY"}
				}
			}
			status, answer := s.table.Do(operation, body)
			return status, answer, nil
		})},
		Copier:  &transfer.Copier{S3: client, Bucket: s3test.Bucket},
		Origin:  files,
		Socket:  s,
		Metrics: &metric.Recorder{Stack: "stack", Out: &s.metrics},
	}
	return s
}

// Post is the client's socket.
func (s *stack) Post(_ context.Context, c meeting.Connection, e socket.Event) error {
	var p progress
	err := json.Unmarshal(e.In(c.Format), &p)
	s.posts <- p
	return err
}

// item stores the item of a download that was asked for just now.
func (s *stack) item(more dynamodbtest.Item) {
	i := dynamodbtest.Item{
		"executionArn": {"S": arn}, "status": {"S": "COPYING"}, "path": {"S": "file.bin"}, "query": {"S": ""}, "bytesCopied": {"N": "0"},
		"connectionId": {"S": "client"}, "format": {"S": "json"}, "connectedAt": {"N": "1"},
		"expiresAt": {"N": strconv.FormatInt(time.Now().Add(meeting.ItemLife).Unix(), 10)},
	}
	maps.Copy(i, more)
	s.table.Items = map[string]dynamodbtest.Item{arn: i}
}

// The client gets progress while the first part is still on its way, never less than
// before.
func TestProgressWithinAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := origintest.Bytes(1, 11*mib)
		file := origintest.New(data, `"v1"`)
		s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origintest.Slow(file, w, r, 64<<10, func(int) bool { time.Sleep(60 * time.Millisecond); return true }) // 1 MB/s
		}))
		s.worker.Copier.PartSize = 10 * mib
		if _, err := s.worker.Copy(t.Context(), arn); err != nil {
			t.Fatal(err)
		}
		if o := s.s3.Object("downloads/" + name); o == nil || !bytes.Equal(o.Data, data) {
			t.Error("got another object")
		}
		if s.announced == 0 {
			t.Error("got no tries to post, which other tests count")
		}
		within := 0 // the first part
		for last := int64(0); len(s.posts) > 0; {
			p := <-s.posts
			if p.Type != "progress" || p.BytesCopied <= last || p.BytesTotal == nil || *p.BytesTotal != int64(len(data)) {
				t.Errorf("got %+v after %d bytes of %d, want more", p, last, len(data))
			}
			if last = p.BytesCopied; last < 10*mib {
				within++
			}
		}
		if within < 8 {
			t.Errorf("got %d events of a part that took 10 s, want at least 8", within)
		}
	})
}

// A worker that continues a segment reports what the one before it did, and the
// segments' numbers add up.
func TestProgressOfSegments(t *testing.T) {
	const partSize = 5 * mib
	data := origintest.Bytes(2, 4*partSize-1)
	s := newStack(t, origintest.New(data, `"v1"`))
	s.worker.Copier.PartSize, s.worker.Copier.SegmentBytes = partSize, 2*partSize
	out, err := s.worker.Copy(t.Context(), arn)
	if err != nil || len(out.Work.Segments) != 2 {
		t.Fatalf("got %+v, %v, want two segments", out, err)
	}
	s.s3.Fault = func(op string, n int, r *http.Request) s3test.Fault {
		if op == "UploadPart" && r.URL.Query().Get("partNumber") == "2" && n < 6 {
			return s3test.Fault{Code: "AccessDenied", Status: 403}
		}
		return s3test.Fault{}
	}
	copied := func() int64 {
		item, err := s.worker.Table.Current(t.Context(), arn)
		if err != nil {
			t.Fatal(err)
		}
		return item.Copied()
	}
	var last int64
	for round := 1; len(out.Work.Segments) > 0; round++ {
		for _, segment := range out.Work.Segments {
			_, err := s.worker.CopySegment(t.Context(), arn, out.Work.Plan, segment)
			if err == nil != (round > 1 || segment.First != 1) {
				t.Errorf("round %d, segment %v: got %v", round, segment, err)
			}
			if n := copied(); n < last || n > int64(len(data)) {
				t.Errorf("round %d, segment %v: got %d bytes copied after %d", round, segment, n, last)
			} else {
				last = n
			}
		}
		if out, err = s.worker.Finish(t.Context(), arn, out.Work); err != nil {
			t.Fatal(err)
		}
	}
	if n := copied(); n != int64(len(data)) || last != n {
		t.Errorf("got %d bytes copied at the end and %d before, want %d", n, last, len(data))
	}
}

// Where S3 is slow at the end of a run, the run is repeated. It doesn't count as a retry
// that the origin asked for.
func TestOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, origintest.New(origintest.Bytes(3, 9*mib), `"v1"`))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.s3.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
			if op == "CompleteMultipartUpload" && n == 1 {
				return s3test.Fault{Drop: true, Before: func() { time.Sleep(50 * time.Second) }} // into the margin
			}
			return s3test.Fault{}
		}
		out, err := s.worker.Copy(ctx, arn)
		if err != nil || out.WaitSeconds != 1 {
			t.Fatalf("got %+v, %v, want to be run again after a second", out, err)
		}
		if strings.Contains(s.metrics.String(), `"Retries"`) {
			t.Errorf("got metrics %s, want no retry", s.metrics.String())
		}
		if _, err := s.worker.Copy(t.Context(), arn); err != nil {
			t.Fatal(err)
		}
		if s.s3.Object("downloads/"+name) == nil {
			t.Error("got no object")
		}
	})
}
