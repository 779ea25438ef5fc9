package transfer

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// posts is an origin that answers a POST with answer, and serves a file at /result, both to
// callers with a token.
type posts struct {
	file   *origintest.File
	answer http.HandlerFunc
	sent   atomic.Int64 // POSTs
}

func (p *posts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch body, _ := io.ReadAll(r.Body); {
	case r.Header.Get("Authorization") != "Bearer token":
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/result":
		p.file.ServeHTTP(w, r)
	case r.Method == http.MethodPost && string(body) == "body":
		p.sent.Add(1)
		p.answer(w, r)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (p *posts) source(t testing.TB) Source {
	src := newSource(t, p)
	src.Method, src.Body, src.Header = http.MethodPost, []byte("body"), http.Header{"Authorization": {"Bearer token"}}
	return src
}

// The answer to a POST is read as one stream, even from a server of ranges. A failure during
// it is final: of the origin, of S3, and at the deadline.
func TestPost(t *testing.T) {
	data := origintest.Bytes(81, 7*mib)
	whole := func(f *origintest.File) http.HandlerFunc { return f.ServeHTTP }
	chunked := origintest.New(data, `"v1"`)
	chunked.Chunked = true
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		fault  func(op string, n int) s3test.Fault
		want   failure.Code // "" is the file
	}{
		{"length", whole(origintest.New(data, `"v1"`)), nil, ""},
		{"chunks", whole(chunked), nil, ""},
		{"cut", func(w http.ResponseWriter, r *http.Request) {
			origintest.Cut(chunked, w, r, 6*mib, origintest.RST)
		}, nil, failure.OriginTruncated},
		{"upload aborted", whole(chunked), func(op string, n int) s3test.Fault {
			if op == "UploadPart" && n > 1 {
				return s3test.Fault{Code: "NoSuchUpload", Status: 404}
			}
			return s3test.Fault{}
		}, failure.Storage},
		{"store fails", whole(chunked), func(op string, n int) s3test.Fault {
			if op == "CompleteMultipartUpload" {
				return s3test.Fault{Code: "InvalidPart", Status: 400}
			}
			return s3test.Fault{}
		}, failure.Storage},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, nil, failure.OriginStatus},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newS3(t)
			if tt.fault != nil {
				s.Fault = func(op string, n int, _ *http.Request) s3test.Fault { return tt.fault(op, n) }
			}
			c := newCopier(t, s)
			p := &posts{answer: tt.answer}
			j := job(c, p.source(t), "key")
			if tt.want == "" {
				mustRun(t, j, s, data)
			} else {
				_, err := j.Start(t.Context())
				s.Fault = nil
				wantFailure(t, c, s, "key", err, tt.want)
			}
			if n := p.sent.Load(); n != 1 {
				t.Errorf("got %d POSTs, want 1", n)
			}
		})
	}
	t.Run("out of time", func(t *testing.T) {
		s := newS3(t)
		c := newCopier(t, s)
		ctx, cancel := context.WithCancelCause(t.Context())
		p := &posts{answer: func(w http.ResponseWriter, r *http.Request) {
			origintest.Slow(origintest.New(data, `"v1"`), w, r, mib, func(sent int) bool {
				if sent == 6*mib { // the first part can be stored
					<-r.Context().Done()
				}
				return r.Context().Err() == nil
			})
		}}
		s.Fault = func(op string, _ int, _ *http.Request) s3test.Fault {
			return s3test.Fault{Before: func() {
				if op == "UploadPart" {
					cancel(context.DeadlineExceeded)
				}
			}}
		}
		_, err := job(c, p.source(t), "key").Start(ctx)
		wantFailure(t, c, s, "key", err, failure.OriginTooSlow)
		if n := p.sent.Load(); n != 1 {
			t.Errorf("got %d POSTs, want 1", n)
		}
	})
}

// A POST that leads to a file is made once; every worker of a segment reads the file at
// its place, with the caller's headers.
func TestPostInSegments(t *testing.T) {
	const size = 20*small + 1
	data := origintest.Bytes(82, size)
	s := newS3(t)
	c := newCopier(t, s)
	c.SegmentBytes = 5 * small
	p := &posts{file: origintest.New(data, `"v1"`), answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/result")
		w.WriteHeader(http.StatusSeeOther)
	}}
	src := p.source(t)
	var recorded origin.Place
	src.Record = placeOnly(func(to origin.Place) { recorded = to })
	out, err := job(c, src, "key").Start(t.Context())
	if err != nil || out.Work == nil || len(out.Work.Segments) < 4 {
		t.Fatalf("got %+v, %v, want work in segments", out, err)
	}
	src.Place = recorded
	copySegments(t, c, src, out.Work)
	mustFinish(t, c, s, src, out.Work, data)
	if n := p.sent.Load(); n != 1 {
		t.Errorf("got %d POSTs, want 1", n)
	}
}

// placeOnly is a record of the place.
type placeOnly func(to origin.Place)

func (placeOnly) Sending(context.Context) error { return nil }
func (placeOnly) Unsent(context.Context) error  { return nil }

func (p placeOnly) Moved(_ context.Context, to origin.Place) error {
	p(to)
	return nil
}
