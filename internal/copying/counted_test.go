package copying_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// counted returns the metrics that were recorded since the last call.
func (s *stack) counted(t *testing.T) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for text := range strings.Lines(s.metrics.String()) {
		var members map[string]any
		if err := json.Unmarshal([]byte(text), &members); err != nil {
			t.Fatal(err)
		}
		if members["Stack"] != "stack" || members["execution"] != name {
			t.Errorf("got %s, want the names of the stack and of the execution", text)
		}
		for member, value := range members {
			if n, ok := value.(float64); ok {
				values[member] = n
			}
		}
	}
	s.metrics.Reset()
	return values
}

// requestedAgo is the attribute of a download that was asked for some time ago.
func requestedAgo(ago time.Duration) dynamodbtest.Item {
	return dynamodbtest.Item{"expiresAt": {"N": fmt.Sprint(time.Now().Add(meeting.ItemLife - ago).Unix())}}
}

func TestCopyIsCounted(t *testing.T) {
	data := origintest.Bytes(4, 300_000)
	good, requests := origintest.New(data, `"v1"`), atomic.Int32{}
	busy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "later", http.StatusServiceUnavailable)
	})
	for title, test := range map[string]struct {
		origin  http.Handler
		prepare func(s *stack)
		want    []string // metrics
		check   func(map[string]float64) bool
		code    failure.Code
	}{
		"whole":  {origin: good, want: []string{"Bytes", "CopySeconds", "MegabytesPerSecond"}, check: func(v map[string]float64) bool { return v["Bytes"] == 300_000 }},
		"empty":  {origin: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), want: []string{"Bytes", "CopySeconds"}, check: func(v map[string]float64) bool { return v["Bytes"] == 0 }},
		"no one": {origin: good, prepare: func(s *stack) { s.table.Items = nil }, code: failure.Cancelled},
		"asked the origin twice": {origin: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 1 { // the first request is alone
				http.Error(w, "once", http.StatusBadGateway)
				return
			}
			good.ServeHTTP(w, r)
		}), want: []string{"Bytes", "CopySeconds", "MegabytesPerSecond", "Retries"}, check: func(v map[string]float64) bool { return v["Retries"] == 1 }},
		"copied by an earlier run": {origin: good, prepare: func(s *stack) { s.s3.Put("downloads/"+name, data); s.item(requestedAgo(time.Minute)) }, want: []string{"Bytes", "CopySeconds"},
			check: func(v map[string]float64) bool { return v["CopySeconds"] >= 60 }},
		"asked to wait":           {origin: busy, want: []string{"Retries"}},
		"asked to wait for hours": {origin: busy, prepare: func(s *stack) { s.item(requestedAgo(3 * time.Hour)) }, want: []string{"Retries"}, code: failure.OriginStatus},
		"asked to wait for hours, with parts": {origin: busy, prepare: func(s *stack) {
			i := requestedAgo(3 * time.Hour)
			i["copied/0"] = dynamodbtest.Value{"N": "4096"}
			s.item(i)
		}, want: []string{"Retries"}},
		"cancelled before": {origin: good, prepare: func(s *stack) { s.item(dynamodbtest.Item{"cancelled": {"BOOL": true}, "copiedAt": {"N": "1"}}) }, code: failure.Cancelled},
		"ended before":     {origin: good, prepare: func(s *stack) { s.item(dynamodbtest.Item{"status": {"S": "FAILED"}, "copiedAt": {"N": "1"}}) }, code: failure.Cancelled},
	} {
		t.Run(title, func(t *testing.T) {
			s := newStack(t, test.origin)
			if test.prepare != nil {
				test.prepare(s)
			}
			_, err := s.worker.Copy(t.Context(), arn)
			if test.code != "" && failure.CodeOf(err) != test.code || test.code == "" && err != nil {
				t.Fatalf("got %v, want code %q", err, test.code)
			}
			got := s.counted(t)
			var names []string
			for n := range got {
				names = append(names, n)
			}
			if slices.Sort(names); !slices.Equal(names, test.want) || test.check != nil && !test.check(got) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A segment counts its rate; the end of the copy counts the bytes and the time since the
// request, and each further round one retry.
func TestSegmentsAreCounted(t *testing.T) {
	const partSize = 5 * mib
	data := origintest.Bytes(5, 2*partSize)
	s := newStack(t, origintest.New(data, `"v1"`))
	s.worker.Copier.PartSize, s.worker.Copier.SegmentBytes = partSize, partSize
	s.item(requestedAgo(time.Minute))
	out, err := s.worker.Copy(t.Context(), arn)
	if err != nil || len(out.Work.Segments) != 2 {
		t.Fatalf("got %+v, %v, want two segments", out, err)
	}
	s.counted(t)
	segment := func(i int) {
		t.Helper()
		if _, err := s.worker.CopySegment(t.Context(), arn, out.Work.Plan, out.Work.Segments[i]); err != nil {
			t.Fatal(err)
		}
		if got := s.counted(t); len(got) != 1 || got["MegabytesPerSecond"] <= 0 {
			t.Errorf("a segment: got %v, want its rate", got)
		}
	}
	segment(0)
	left, err := s.worker.Finish(t.Context(), arn, out.Work)
	if got := s.counted(t); err != nil || len(left.Work.Segments) != 1 || len(got) != 1 || got["Retries"] != 1 {
		t.Fatalf("a part is missing: got %+v, %v and %v, want one retry", left, err, got)
	}
	segment(1)
	_, err = s.worker.Finish(t.Context(), arn, left.Work)
	if got := s.counted(t); err != nil || len(got) != 2 || got["Bytes"] != 2*partSize || got["CopySeconds"] < 60 {
		t.Errorf("the end: got %v, %v, want the bytes and a minute", got, err)
	}
}

// cancel marks the item as cancelled, as DELETE does.
func (s *stack) cancel() {
	_, _ = s.table.Do("UpdateItem", []byte(`{"TableName":"connections","Key":{"executionArn":{"S":"`+arn+`"}},
		"UpdateExpression":"SET cancelled = :true","ExpressionAttributeValues":{":true":{"BOOL":true}}}`))
}

// A copy that was cancelled during its last bytes leaves no file.
func TestCancelledAtTheEnd(t *testing.T) {
	s := newStack(t, origintest.New(origintest.Bytes(6, 300_000), `"v1"`))
	s.s3.Fault = func(op string, _ int, _ *http.Request) s3test.Fault {
		if op == "PutObject" || op == "CompleteMultipartUpload" {
			s.cancel()
		}
		return s3test.Fault{}
	}
	_, err := s.worker.Copy(t.Context(), arn)
	if failure.CodeOf(err) != failure.Cancelled || s.s3.Object("downloads/"+name) != nil || len(s.s3.Open()) > 0 {
		t.Errorf("got %v, object %v, want CANCELLED and nothing left", err, s.s3.Object("downloads/"+name) != nil)
	}
}

// A worker that is cancelled while the origin hangs stops by the next look at the item.
func TestCancelledWhileItCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reached := make(chan struct{})
		s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "300000")
			_, _ = w.Write(bytes.Repeat([]byte("x"), 150_000))
			w.(http.Flusher).Flush()
			close(reached)
			<-r.Context().Done()
		}))
		go func() {
			<-reached
			s.cancel()
		}()
		_, err := s.worker.Copy(t.Context(), arn)
		if failure.CodeOf(err) != failure.Cancelled || s.s3.Object("downloads/"+name) != nil || len(s.s3.Open()) > 0 {
			t.Errorf("got %v, want CANCELLED and nothing left", err)
		}
	})
}

// A worker doesn't try to post where another has just posted, or where the client doesn't
// get progress.
func TestQuietWorker(t *testing.T) {
	for title, more := range map[string]func() dynamodbtest.Item{
		"another has posted": func() dynamodbtest.Item {
			return dynamodbtest.Item{"announcedAt": {"N": fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())}}
		},
		"client with plain text": func() dynamodbtest.Item { return dynamodbtest.Item{"format": {"S": ""}} },
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := origintest.New(origintest.Bytes(7, 300_000), `"v1"`)
				s := newStack(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					origintest.Slow(file, w, r, 100_000, func(int) bool { time.Sleep(2 * time.Second); return true })
				}))
				s.item(more())
				if _, err := s.worker.Copy(t.Context(), arn); err != nil {
					t.Fatal(err)
				}
				if len(s.posts) > 0 || s.announced > 0 {
					t.Errorf("got %d posts and %d tries, want none", len(s.posts), s.announced)
				}
			})
		})
	}
}
