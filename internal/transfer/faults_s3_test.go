package transfer

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// S3 finds a bit that flips on the way there, and the part is sent again.
func TestBitFlipOnTheWayToS3(t *testing.T) {
	for name, tt := range map[string]struct {
		op   string
		size int
		set  func(f *origintest.File)
	}{
		"a part of ranges":   {"UploadPart", 10 * small, func(*origintest.File) {}},
		"a part of a stream": {"UploadPart", 12 * mib, func(f *origintest.File) { f.NoRanges = true }},
		"a small object":     {"PutObject", 100, func(*origintest.File) {}},
	} {
		for _, composite := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " composite=", composite), func(t *testing.T) {
				s := newS3(t)
				s.Composite = composite
				s.Fault = func(op string, n int, _ *http.Request) s3test.Fault {
					return s3test.Fault{Flip: op == tt.op && (n <= 2 || 5 <= n && n <= 7)} // the first may be the marker
				}
				data := origintest.Bytes(35, tt.size)
				h := origintest.New(data, `"v1"`)
				tt.set(h)
				mustCopy(t, newCopier(t, s), s, newSource(t, h), "key", data)
			})
		}
	}
}

// S3 refuses each call, breaks the connection, or reports an error inside of a 200, twice
// in a row.
func TestS3Fails(t *testing.T) {
	ops := []string{"HeadObject", "ListMultipartUploads", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"}
	for _, op := range ops {
		for name, fault := range map[string]s3test.Fault{
			"SlowDown":                  {Code: "SlowDown", Status: 503},
			"InternalError":             {Code: "InternalError", Status: 500},
			"RequestTimeout":            {Code: "RequestTimeout", Status: 400},
			"InternalError inside 200":  {Code: "InternalError", Inside: true},
			"connection drops":          {Drop: true, Read: 100},
			"reply lost":                {Lose: true},
			"SlowDown before the bytes": {Code: "SlowDown", Status: 503, Before: func() {}},
		} {
			if fault.Inside && op != "CompleteMultipartUpload" {
				continue // only a completion sends its status before it is done
			}
			if op == "HeadObject" && fault.Code == "RequestTimeout" {
				continue // a HEAD has no body to name it in
			}
			t.Run(op+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newS3(t)
				c := newCopier(t, s)
				s.Fault = func(called string, n int, _ *http.Request) s3test.Fault {
					if called == op && n <= 2 {
						return fault
					}
					return s3test.Fault{}
				}
				size := 10 * small
				if op == "PutObject" {
					size = 1000
				}
				data := origintest.Bytes(36, size)
				mustCopy(t, c, s, newSource(t, origintest.New(data, `"v1"`)), "key", data)
			})
		}
		for code, status := range map[string]int{"AccessDenied": 403, "NoSuchBucket": 404, "SlowDown": 503} {
			if op == "HeadObject" && code != "SlowDown" {
				continue // by S3's own words that is "no such object, or you may not know"
			}
			t.Run(op+" for ever "+code, func(t *testing.T) {
				t.Parallel()
				s := newS3(t)
				c := newCopier(t, s)
				var healed atomic.Bool
				s.Fault = func(called string, _ int, _ *http.Request) s3test.Fault {
					if called == op && !healed.Load() {
						return s3test.Fault{Code: code, Status: status}
					}
					return s3test.Fault{}
				}
				size := 10 * small
				if op == "PutObject" {
					size = 1000
				}
				_, err := job(c, newSource(t, origintest.New(origintest.Bytes(37, size), `"v1"`)), "key").Start(t.Context())
				healed.Store(true)
				wantFailure(t, c, s, "key", err, failure.Storage)
				if got := s.Calls(op); code != "SlowDown" && got > 12 {
					t.Errorf("got %d calls that were refused for good, want none repeated", got)
				}
			})
		}
	}
}

// A role that may not list the bucket gets 403 for an object that doesn't exist.
func TestMissingObjectIsForbidden(t *testing.T) {
	s := newS3(t)
	c := newCopier(t, s)
	s.Fault = func(op string, n int, r *http.Request) s3test.Fault {
		if op == "HeadObject" && s.Object("key") == nil {
			return s3test.Fault{Code: "AccessDenied", Status: 403}
		}
		return s3test.Fault{Lose: op == "CompleteMultipartUpload" && n == 1}
	}
	data := origintest.Bytes(48, 10*small)
	mustCopy(t, c, s, newSource(t, origintest.New(data, `"v1"`)), "key", data)
}

// A completion whose reply is lost has happened, also where no second look at the key
// would find that: in Finish, and where an object may be replaced.
func TestLostReplyIsSettled(t *testing.T) {
	data := origintest.Bytes(53, 10*small)
	lose := func(op string, n int, _ *http.Request) s3test.Fault {
		return s3test.Fault{Lose: n == 1 && op == "CompleteMultipartUpload"}
	}
	t.Run("replace", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		c.Replace, s.Fault = true, lose
		s.Put("key", origintest.Bytes(54, 10*small))
		h := origintest.New(data, `"v1"`)
		mustCopy(t, c, s, newSource(t, h), "key", data)
		if got := len(h.Requests()); got != 10 {
			t.Errorf("got %d ranges, want none read twice", got)
		}
	})
	t.Run("stream", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		s.Fault = lose
		data := origintest.Bytes(38, 6*mib)
		h := origintest.New(data, `"v1"`)
		h.NoRanges = true
		mustCopy(t, c, s, newSource(t, h), "key", data)
	})
	t.Run("finish", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		c.SegmentBytes, s.Fault = 5*small, lose
		src := newSource(t, origintest.New(data, `"v1"`))
		out, err := job(c, src, "key").Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		copySegments(t, c, src, out.Work)
		mustFinish(t, c, s, src, out.Work, data)
	})
}
