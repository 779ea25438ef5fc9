package transfer

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// An object that is read back for its digest, over connections that break: each read continues
// where the last one ended, and every byte counts once.
func TestReadBackInPieces(t *testing.T) {
	data := origintest.Bytes(34, 10*small)
	for title, test := range map[string]struct {
		faults []s3test.Fault // of the reads, in order
		reads  int
		code   failure.Code
	}{
		"one break":               {faults: []s3test.Fault{{Cut: 3*small + 1}}, reads: 2},
		"several":                 {faults: []s3test.Fault{{Cut: 100}, {Cut: small}, {Code: "SlowDown", Status: 503}, {Cut: 2 * small}}, reads: 5},
		"after the last byte":     {faults: []s3test.Fault{{Cut: 10 * small}}, reads: 1}, // the length was read: nothing is missing
		"refused":                 {faults: []s3test.Fault{{Code: "AccessDenied", Status: 403}}, reads: 1, code: failure.Storage},
		"refused after a break":   {faults: []s3test.Fault{{Cut: 100}, {Code: "AccessDenied", Status: 403}}, reads: 2, code: failure.Storage},
		"refused again and again": {faults: slices.Repeat([]s3test.Fault{{Code: "SlowDown", Status: 503}}, 4*storeTries), reads: 3 * storeTries, code: failure.Storage}, // the SDK's three for each
		"progress in between": {faults: slices.Concat(slices.Repeat([]s3test.Fault{{Code: "SlowDown", Status: 503}}, 3*storeTries-3), []s3test.Fault{{Cut: 100}},
			slices.Repeat([]s3test.Fault{{Code: "SlowDown", Status: 503}}, 3*storeTries-6)), reads: 6*storeTries - 7},
		"gone in the meantime": {faults: []s3test.Fault{{Code: "NoSuchKey", Status: 404}}, reads: 1, code: failure.Storage},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := newS3(t)
			reads := 0
			s.Fault = func(op string, n int, r *http.Request) s3test.Fault {
				if op != "GetObject" {
					return s3test.Fault{}
				}
				if reads++; reads > len(test.faults) {
					return s3test.Fault{}
				}
				return test.faults[reads-1]
			}
			h := origintest.New(data, `"v1"`)
			h.Header = http.Header{"Repr-Digest": {sha256Header(data)}}
			c := newCopier(t, s)
			c.storeBackoff = time.Microsecond
			out, err := job(c, newSource(t, h), "key").Start(t.Context())
			if failure.CodeOf(err) != test.code {
				t.Fatalf("got %v, want code %q", err, test.code)
			}
			if reads != test.reads {
				t.Errorf("got %d reads, want %d", reads, test.reads)
			}
			if test.code == "" && out.Result.Digest != "sha-256" {
				t.Errorf("got digest %q, want the origin's checked", out.Result.Digest)
			}
		})
	}
}

// A segment whose upload was aborted fails, unless another worker has finished the object.
func TestSegmentOfNoUpload(t *testing.T) {
	data := origintest.Bytes(35, 4*small)
	s := newS3(t)
	c := newCopier(t, s)
	c.SegmentBytes = 2 * small
	src := newSource(t, origintest.New(data, `"v1"`))
	out, err := job(c, src, "key").Start(t.Context())
	if err != nil || out.Work == nil {
		t.Fatalf("got %+v, %v, want segments", out, err)
	}
	if err := c.Abort(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	err = job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, out.Work.Segments[0])
	if failure.CodeOf(err) != failure.Storage {
		t.Errorf("got %v, want STORAGE", err)
	}
	if _, err := job(c, src, "key").Finish(t.Context(), *out.Work); failure.CodeOf(err) != failure.Storage {
		t.Errorf("finish: got %v, want STORAGE", err)
	}
	s.Put("key", data)
	if err := job(c, src, "key").CopySegment(t.Context(), out.Work.Plan, out.Work.Segments[0]); err != nil {
		t.Errorf("with the object: got %v, want nothing to do", err)
	}
}
