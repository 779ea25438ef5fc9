package copying_test

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/copying"
	"async-download/internal/failure"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// post makes the download one of a POST of a caller with a token.
func (s *stack) post() {
	s.table.Items[arn]["hasRequest"] = dynamodbtest.Value{"BOOL": true}
	s.table.Items[arn+"#request"] = dynamodbtest.Item{
		"executionArn": {"S": arn + "#request"}, "method": {"S": "POST"}, "body": {"B": "Ym9keQ=="}, "contentType": {"S": "text/x"},
		"header": {"M": map[string]any{"Authorization": map[string]any{"S": "Bearer token"}}}, "sentBy": {"S": ""},
	}
}

// request returns the item of the request, nil if there is none.
func (s *stack) request() dynamodbtest.Item { return s.table.Items[arn+"#request"] }

// The workflow waits for an origin that answers 202, as long as it takes. Runs that know
// no more than the table does ask where it has led.
func TestAccepted(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			var asked []string
			s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Cookie"))
				switch {
				case len(asked) == 1:
					w.Header().Set("Location", "/jobs/1?sig=planted")
					w.Header().Set("Set-Cookie", "session=a; Path=/")
					w.Header().Set("Retry-After", "2")
					w.WriteHeader(http.StatusAccepted)
				case len(asked) < 4:
					w.WriteHeader(http.StatusAccepted)
				default:
					_, _ = w.Write([]byte("report"))
				}
			}))
			want := []string{method + " /file.bin ", "GET /jobs/1?sig=planted session=a", "GET /jobs/1?sig=planted session=a", "GET /jobs/1?sig=planted session=a"}
			if method == "POST" {
				s.post()
			}
			for i, tt := range []struct {
				ago      time.Duration
				min, max int64 // of the wait, s
				recorded bool  // so that a cancel can end it
			}{{0, 2, 2, false}, {10 * time.Second, 5, 5, false}, {5 * time.Hour, 360, 361, true}} {
				maps.Copy(s.table.Items[arn], requestedAgo(tt.ago))
				out, err := s.worker.Copy(t.Context(), arn)
				if err != nil || out.WaitSeconds < tt.min || out.WaitSeconds > tt.max {
					t.Fatalf("round %d: got %+v, %v, want a wait of %d to %d s", i, out, err, tt.min, tt.max)
				}
				if recorded := s.table.Get(arn)["waitsUntil"] != nil; recorded != tt.recorded {
					t.Errorf("round %d: got a recorded wait %v, want %v", i, recorded, tt.recorded)
				}
			}
			if out, err := s.worker.Copy(t.Context(), arn); err != nil || out.WaitSeconds != 0 {
				t.Fatalf("got %+v, %v, want the file", out, err)
			}
			if got := strings.Join(asked, "\n"); got != strings.Join(want, "\n") {
				t.Errorf("got requests %q, want %q", asked, want)
			}
			if o := s.s3.Object("downloads/" + name); o == nil || string(o.Data) != "report" {
				t.Error("got another object")
			}
			if s.request() != nil {
				t.Errorf("got request item %v after the copy, want none", s.request())
			}
		})
	}
}

// An origin that has accepted a request hours ago may still ask for a delay.
func TestAcceptedHoursAgo(t *testing.T) {
	s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	maps.Copy(s.table.Items[arn], requestedAgo(3*time.Hour))
	if _, err := s.worker.Copy(t.Context(), arn); failure.CodeOf(err) != failure.OriginStatus {
		t.Errorf("got %v from an origin that never answered otherwise, want its status", err)
	}
	s.post()
	s.request()["place"] = dynamodbtest.Value{"S": s.worker.Origin.Base.String() + "/jobs/1"}
	if out, err := s.worker.Copy(t.Context(), arn); err != nil || out.WaitSeconds < 90 {
		t.Errorf("got %+v, %v, want a wait", out, err)
	}
}

// A POST that another run has sent is not made again. The file that it may have stored
// is the result.
func TestSentByAnotherRun(t *testing.T) {
	posts := 0
	s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts++
		_, _ = w.Write([]byte("report"))
	}))
	s.post()
	s.request()["sentBy"] = dynamodbtest.Value{"S": "another"}
	_, err := s.worker.Copy(t.Context(), arn)
	if want := "ORIGIN_UNREACHABLE: the request was sent before and its answer was lost; the origin may have executed it"; err == nil || err.Error() != want || posts > 0 {
		t.Errorf("got %v after %d POSTs, want %s after none", err, posts, want)
	}
	s.post()
	for range 2 { // the second run finds what the first one stored
		if _, err := s.worker.Copy(t.Context(), arn); err != nil || posts != 1 {
			t.Fatalf("got %v after %d POSTs, want the file after one", err, posts)
		}
		s.post()
		s.request()["sentBy"] = dynamodbtest.Value{"S": "another"}
		s.table.Items[arn]["status"] = dynamodbtest.Value{"S": "COPYING"}
	}
}

// A run whose reply was lost is repeated when the file is ready and its request item is
// gone.
func TestRepeatedWhenReady(t *testing.T) {
	requests := 0
	s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		_, _ = w.Write([]byte("report"))
	}))
	s.post()
	for run := range 2 {
		if _, err := s.worker.Copy(t.Context(), arn); err != nil || requests != 1 || s.request() != nil {
			t.Errorf("run %d: got %v after %d requests, request item %v, want the file after one, and no item", run, err, requests, s.request())
		}
	}
	// The first run may still be at work when the second one reads the item.
	s.post()
	s.table.Items[arn]["status"], s.overtaken = dynamodbtest.Value{"S": "COPYING"}, true
	if _, err := s.worker.Copy(t.Context(), arn); err != nil || requests != 1 || s.overtaken {
		t.Errorf("overtaken: got %v after %d requests, want the file after one", err, requests)
	}
}

// A caller's token that expires in the middle of a file is named as the reason, with how
// far the copy had come: in one run, in another one, and in segments.
func TestCredentialsExpire(t *testing.T) {
	const partSize = 5 * mib
	data := origintest.Bytes(4, 4*partSize)
	served := 0
	file := origintest.New(data, `"v1"`)
	s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" || served >= 2 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		served++
		file.ServeHTTP(w, r)
	}))
	s.worker.Copier.PartSize, s.worker.Copier.Concurrency = partSize, 1
	forward := func() {
		s.post()
		s.request()["method"] = dynamodbtest.Value{"S": "GET"}
		delete(s.request(), "body")
		delete(s.request(), "contentType")
	}
	const want = "the caller's credentials were refused after 10485760 of 20971520 bytes"
	forward()
	for run := range 2 {
		if _, err := s.worker.Copy(t.Context(), arn); failure.CodeOf(err) != failure.OriginStatus || failure.As(err).Message != want {
			t.Errorf("run %d: got %v, want %s", run, err, want)
		}
	}
	// In segments, Finish finds out.
	t.Run("segments", func(t *testing.T) {
		served = 0
		s.worker.Copier.SegmentBytes = 2 * partSize
		if err := s.worker.Copier.Discard(t.Context(), "downloads/"+name); err != nil {
			t.Fatal(err)
		}
		for attribute := range s.table.Items[arn] {
			if strings.HasPrefix(attribute, "copied/") || attribute == "bytesTotal" {
				delete(s.table.Items[arn], attribute)
			}
		}
		out, err := s.worker.Copy(t.Context(), arn)
		if err != nil || len(out.Work.Segments) != 2 {
			t.Fatalf("got %+v, %v, want two segments", out, err)
		}
		for range 3 { // rounds; the first stores one part
			for _, segment := range out.Work.Segments {
				_, _ = s.worker.CopySegment(t.Context(), arn, out.Work.Plan, segment)
			}
			var next copying.Output
			if next, err = s.worker.Finish(t.Context(), arn, out.Work); err != nil {
				break
			}
			out = next
		}
		if want := "the caller's credentials were refused after 5242880 of 20971520 bytes"; failure.As(err) == nil || failure.As(err).Message != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	// Without a caller's header, it is as any other status.
	s2 := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	if _, err := s2.worker.Copy(t.Context(), arn); failure.As(err).Message != "the origin answered 401 Unauthorized" {
		t.Errorf("got %v, want the status", err)
	}
}

// A plain GET reads and writes nothing about a request.
func TestPlainGet(t *testing.T) {
	s := newStack(t, origintest.New([]byte("file"), `"v1"`))
	if _, err := s.worker.Copy(t.Context(), arn); err != nil {
		t.Fatal(err)
	}
	if s.reads.Load() > 0 || s.request() != nil || s.table.Items[arn]["hasRequest"] != nil {
		t.Errorf("got %d reads and item %v, want none", s.reads.Load(), s.request())
	}
}

// A worker that is killed at one of its first ten calls while it copies the answer to a
// POST, and those that the workflow starts then, never send the POST twice.
func TestKilledAroundAPost(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"stream": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(origintest.Bytes(6, 100)) },
		"303": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/result")
			w.WriteHeader(http.StatusSeeOther)
		},
		"202": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/result")
			w.WriteHeader(http.StatusAccepted)
		},
		"dropped": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	file := origintest.New(origintest.Bytes(6, 100), `"v1"`)
	for title, answer := range answers {
		t.Run(title, func(t *testing.T) {
			var killed, lost int
			for i := range 20 {
				var calls, posts atomic.Int64
				var kill atomic.Pointer[context.CancelFunc]
				at := int64(1 + i%10) // the call that the first worker is killed at
				step := func() {
					if calls.Add(1) == at {
						(*kill.Load())()
					}
				}
				s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPost {
						file.ServeHTTP(w, r)
						return
					}
					posts.Add(1)
					step()
					answer(w, r)
				}))
				s.post()
				s.before = step
				s.s3.Fault = func(string, int, *http.Request) s3test.Fault { return s3test.Fault{Before: step} }
				var out copying.Output
				var err error
				for over := false; !over; {
					ctx, cancel := context.WithCancel(t.Context())
					kill.Store(&cancel)
					out, err = s.worker.Copy(ctx, arn)
					over = ctx.Err() == nil && (err != nil || out.WaitSeconds == 0)
					if ctx.Err() != nil {
						killed++
					}
					cancel()
				}
				o := s.s3.Object("downloads/" + name)
				if n := posts.Load(); n > 1 || err == nil && (n == 0 || o == nil) {
					t.Errorf("killed at call %d: got %d POSTs and error %v, want one POST and the file, or an error", at, n, err)
				}
				if err != nil {
					lost++
					if failure.CodeOf(err) != failure.OriginUnreachable || !strings.Contains(err.Error(), "may have executed it") {
						t.Errorf("killed at call %d: got %v, want that the request may have been executed", at, err)
					}
				}
			}
			t.Logf("killed %d, and %d lost", killed, lost)
			if killed < 5 || lost == 0 {
				t.Errorf("got %d killed and %d lost, want some of each", killed, lost)
			}
		})
	}
}

// An origin that puts a POST off has not executed it, so it may be sent again: in this run
// after a short wait, and by another run after a long one.
func TestPostPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		posts, after := 0, "1"
		s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if posts++; posts%2 == 1 {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write([]byte("report"))
		}))
		s.post()
		if out, err := s.worker.Copy(t.Context(), arn); err != nil || out.WaitSeconds > 0 || posts != 2 {
			t.Fatalf("a short wait: got %+v, %v after %d POSTs, want the file after two", out, err, posts)
		}
		if err := s.worker.Copier.Discard(t.Context(), "downloads/"+name); err != nil {
			t.Fatal(err)
		}
		s.item(nil)
		s.post()
		after = "300"
		out, err := s.worker.Copy(t.Context(), arn)
		if err != nil || out.WaitSeconds < 300 || s.request()["sentBy"] != nil && s.request()["sentBy"]["S"] != "" {
			t.Fatalf("a long wait: got %+v, %v and request %v, want to be run again, and nothing sent", out, err, s.request())
		}
		if out, err = s.worker.Copy(t.Context(), arn); err != nil || out.WaitSeconds > 0 || posts != 4 {
			t.Errorf("another run: got %+v, %v after %d POSTs, want the file", out, err, posts)
		}
	})
}
