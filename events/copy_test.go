package events_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	path     = "/files/reports/2025/Q3%20summary.pdf"
	fileETag = `"5f2a7c19e3b44d60"` // as in the samples
)

// source is an origin with one file, on loopback. Requests must be for the item's
// path and query, below the base and with the base's query.
type source struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func newSource(t *testing.T, serve http.HandlerFunc) *source {
	t.Helper()
	s := &source{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.mu.Unlock()
		if got, want := r.URL.EscapedPath()+"?"+r.URL.RawQuery, path+"?"+baseQuery+"&"+originQuery; r.Method != http.MethodGet || got != want {
			t.Errorf("origin: got %s %s, want GET %s", r.Method, got, want)
		}
		serve(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// asked returns a header of all requests.
func (s *source) asked(header string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var values []string
	for _, r := range s.requests {
		values = append(values, r.Header.Get(header))
	}
	slices.Sort(values)
	return values
}

// env makes it a function's origin, with the local stack's setting that allows
// loopback.
func (s *source) env(more ...string) map[string]string {
	env := map[string]string{"ORIGIN_URL": s.URL + "/files?" + baseQuery, "LOCAL_ENDPOINT": "http://127.0.0.1:4566"}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

// ranged serves data as a correct origin.
func ranged(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", fileETag)
		w.Header().Set("Content-Type", "application/pdf")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// pattern returns n bytes that differ at every position.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16*7)
	}
	return b
}

// Writes of a copy to the item.
var (
	getItem = func(more map[string]any) call {
		return call{op: "DynamoDB.GetItem", with: with(map[string]string{"ConsistentRead": "true"}), answer: item("Item", stored(more))}
	}
	copied = func(size int, a answer) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"UpdateExpression": "~SET #status = :ready", "ConditionExpression": "~attribute_not_exists(cancelled)",
			"ExpressionAttributeValues.:ready.S": "READY", "ExpressionAttributeValues.:size.N": strconv.Itoa(size),
		}), answer: a}
	}
	progress = func(more map[string]any) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"UpdateExpression": "~SET #copied = :copied", "ConditionExpression": "~attribute_exists(executionArn) AND",
		}), answer: item("Attributes", stored(more))}
	}
	// waiting records a wait that a cancel has to end.
	waiting   = call{op: "DynamoDB.UpdateItem", with: with(map[string]string{"UpdateExpression": "SET waitsUntil = :until"}), answer: item("Attributes", stored(nil))}
	uploading = call{op: "DynamoDB.UpdateItem", with: with(map[string]string{"UpdateExpression": "SET uploadId = :id", "ConditionExpression": "#status IN (:copying, :ready)"}),
		answer: item("Attributes", stored(nil))}
	isReady = item("Attributes", stored(map[string]any{"status": "READY"}))
)

// keeps expects only the file in the store.
func keeps(s *store, data []byte, header map[string]string) func(*testing.T, invocation) {
	return func(t *testing.T, _ invocation) {
		t.Helper()
		got := s.objects[key]
		if got == nil || len(s.objects) != 1 || len(s.uploads) != 0 {
			t.Fatalf("got %d objects and %d open uploads after %v, want the file", len(s.objects), len(s.uploads), s.ops)
		}
		if !bytes.Equal(got.data, data) {
			t.Errorf("got an object of %d bytes, want the origin's %d", len(got.data), len(data))
		}
		for name, want := range header {
			if got.header[name] != want {
				t.Errorf("got %s %q, want %q", name, got.header[name], want)
			}
		}
	}
}

// empties expects an empty store.
func empties(s *store) func(*testing.T, invocation) {
	return func(t *testing.T, _ invocation) {
		t.Helper()
		if len(s.objects) != 0 || len(s.uploads) != 0 {
			t.Errorf("got %d objects and %d open uploads after %v, want none", len(s.objects), len(s.uploads), s.ops)
		}
	}
}

// nothingLeft expects an outcome without work and without a wait.
func nothingLeft(t *testing.T, got invocation) {
	t.Helper()
	var out struct {
		Work        struct{ Segments []any }
		WaitSeconds *int64
	}
	if err := json.Unmarshal(got.body, &out); err != nil || got.errorType != "" || len(out.Work.Segments) != 0 || out.WaitSeconds == nil || *out.WaitSeconds != 0 {
		t.Errorf("got %s (%v), want no segments and 0 waitSeconds", got.body, err)
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	file := pattern(300_000)
	pdf := map[string]string{
		"Content-Type": "application/pdf", "Content-Disposition": `attachment; filename="Q3 summary.pdf"`, "X-Amz-Meta-Verified": "true",
	}
	usual := []call{progress(nil), uploading}
	var runs []run
	add := func(r run) {
		r.sample = "fetch"
		if r.repeats == nil {
			r.repeats = usual
		}
		runs = append(runs, r)
	}

	good, s, tickets := newSource(t, ranged(file)), newStore(), newStore()
	add(run{title: "ranges", env: good.env(), s3: s, calls: []call{getItem(nil), copied(len(file), isReady)},
		check: both(nothingLeft, keeps(s, file, pdf), logged(name), logged("copied"), func(t *testing.T, _ invocation) {
			if got := good.asked("Range"); !strings.HasPrefix(got[0], "bytes=0-") {
				t.Errorf("got ranges %q, want the first to be the probe", got)
			}
			for _, got := range good.asked("Accept-Encoding") {
				if got != "identity" {
					t.Errorf("got Accept-Encoding %q, want identity", got)
				}
			}
		})})
	add(run{title: "a ticket goes along", env: newSource(t, ranged(file)).env(), s3: tickets, calls: []call{getItem(map[string]any{"ticketHash": ticketHash}), copied(len(file), isReady)},
		check: both(nothingLeft, keeps(tickets, file, map[string]string{"X-Amz-Meta-Ticket-Hash": ticketHash}))})
	plain, s := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/pdf")
		_, _ = w.Write(file[:1000])
		w.(http.Flusher).Flush() // so that the answer is chunked, without a length
		_, _ = w.Write(file[1000:])
	}), newStore()
	add(run{title: "one stream without a length", env: plain.env(), s3: s, calls: []call{getItem(nil), copied(len(file), isReady)},
		check: both(nothingLeft, keeps(s, file, pdf))})
	none, s := newSource(t, ranged(nil)), newStore()
	add(run{title: "0 bytes", env: none.env(), s3: s, calls: []call{getItem(nil), copied(0, isReady)}, check: both(nothingLeft, keeps(s, nil, pdf))})

	missing, s := newSource(t, http.NotFound), newStore()
	add(run{title: "origin 404", env: missing.env(), s3: s, calls: []call{getItem(nil)}, check: both(taskError("ORIGIN_STATUS", "404"), empties(s), logged("ORIGIN_STATUS"))})
	short, s := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "300000")
		_, _ = w.Write(file[:1000])
	}), newStore()
	add(run{title: "origin breaks off", env: short.env(), s3: s, calls: []call{getItem(nil)}, check: both(taskError("ORIGIN_TRUNCATED", ""), empties(s))})
	for title, reply := range map[string]string{
		"header line": "HTTP/1.1 200 OK\r\n{echo}\r\n\r\n", "status line": "HTTP/1.1 {echo}\r\n\r\n",
		"length": "HTTP/1.1 200 OK\r\nContent-Length: {echo}\r\n\r\n",
	} {
		echo, s := newSource(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, strings.ReplaceAll(reply, "{echo}", r.URL.RequestURI()))
		}), newStore()
		add(run{title: "origin sends the request back as a " + title, env: echo.env(), s3: s, calls: []call{getItem(nil)},
			check: both(taskError("ORIGIN_UNREACHABLE", "can't be read"), empties(s), logged("malformed"))})
	}
	busy, s := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "later", http.StatusServiceUnavailable)
	}), newStore()
	add(run{title: "origin asks to retry later", env: busy.env(), s3: s, calls: []call{getItem(nil), waiting}, check: both(empties(s), func(t *testing.T, got invocation) {
		var out struct{ WaitSeconds int }
		if err := json.Unmarshal(got.body, &out); err != nil || out.WaitSeconds < 120 || out.WaitSeconds > 150 || got.errorType != "" {
			t.Errorf("got %s, want a wait of 120 s and a little", got.body)
		}
	})})
	hoursAgo := time.Now().Add(48*time.Hour - 3*time.Hour).Unix()
	add(run{title: "origin has wanted time for hours", env: busy.env(), s3: newStore(), calls: []call{getItem(map[string]any{"expiresAt": hoursAgo})},
		check: taskError("ORIGIN_STATUS", "503")})
	add(run{title: "origin asks to retry later, in the middle", env: busy.env(), s3: newStore(), calls: []call{getItem(map[string]any{"expiresAt": hoursAgo, "bytesCopied": 4096}), waiting},
		check: func(t *testing.T, got invocation) {
			if got.errorType != "" {
				t.Errorf("got %s, want a wait", got.body)
			}
		}})
	elsewhere, s := newSource(t, ranged(file)), newStore()
	other := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1) // another host by name
	away := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other+r.URL.RequestURI(), http.StatusFound)
	})
	add(run{title: "redirect to another host", env: away.env(), s3: newStore(), calls: []call{getItem(nil)}, check: taskError("BLOCKED_ADDRESS", "OriginRedirectHosts")})
	add(run{title: "redirect to a host that is allowed", env: away.env("ORIGIN_REDIRECT_HOSTS", "cdn.example,"+strings.TrimPrefix(other, "http://")), s3: s,
		calls: []call{getItem(nil), copied(len(file), isReady)}, check: both(nothingLeft, keeps(s, file, nil))})
	large, s := newSource(t, ranged(file)), newStore()
	add(run{title: "too large", env: large.env("MAX_FILE_BYTES", "299999"), s3: s, calls: []call{getItem(nil)}, check: both(taskError("TOO_LARGE", "299999"), empties(s))})
	here, s := newSource(t, ranged(file)), newStore()
	add(run{title: "loopback on AWS", env: here.env("LOCAL_ENDPOINT", ""), s3: s, calls: []call{getItem(nil)}, check: both(taskError("BLOCKED_ADDRESS", ""), empties(s), func(t *testing.T, _ invocation) {
		if n := len(here.asked("Host")); n != 0 {
			t.Errorf("got %d requests, want none", n)
		}
	})})
	add(run{title: "loopback on AWS, private origin", env: here.env("LOCAL_ENDPOINT", "", "ORIGIN_IS_PRIVATE", "true"), s3: newStore(), calls: []call{getItem(nil)}, check: taskError("BLOCKED_ADDRESS", "")})

	for title, more := range map[string]map[string]any{"cancelled before": {"cancelled": true}, "ended before": {"status": "FAILED"}} {
		add(run{title: title, s3: newStore(), calls: []call{getItem(more)}, check: taskError("CANCELLED", "")})
	}
	add(run{title: "item gone", s3: newStore(), calls: []call{{op: "DynamoDB.GetItem", with: theItem, answer: empty}}, check: taskError("CANCELLED", "")})
	late, s := newSource(t, ranged(file)), newStore()
	add(run{title: "ended as the last byte came", env: late.env(), s3: s, calls: []call{getItem(nil), copied(len(file), conditionFails(stored(map[string]any{"cancelled": true})))}, check: both(taskError("CANCELLED", ""), empties(s))})
	add(run{title: "table out of order", s3: newStore(), calls: []call{{op: "DynamoDB.GetItem", answer: dynamoError("AccessDeniedException")}},
		check: both(taskError("INTERNAL", "unexpected"), logged("AccessDeniedException"))})

	// halting sends half of the file, and the other half when the test continues.
	halting := func(goOn <-chan struct{}) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(file)))
			_, _ = w.Write(file[:150_000])
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-goOn:
				_, _ = w.Write(file[150_000:])
			}
		}
	}
	stuck, s := newSource(t, halting(nil)), newStore()
	add(run{title: "cancelled while it copies", env: stuck.env(), s3: s, calls: []call{getItem(nil)}, repeats: []call{progress(map[string]any{"cancelled": true}), uploading},
		check: both(taskError("CANCELLED", ""), empties(s))})
	listening := connected(map[string]any{"format": "json", "bytesCopied": 4096, "bytesTotal": len(file)})
	said, turns := make(chan struct{}), 0 // announcements that were allowed and not made yet
	hush := sync.OnceFunc(func() { close(said) })
	told, s := newSource(t, halting(said)), newStore()
	tell := call{op: "Connections.Post", with: map[string]string{"ConnectionId": connection, "Data": fmt.Sprintf(`{"type":"progress","bytesCopied":4096,"bytesTotal":%d}`, len(file))}, answer: empty, then: func(map[string]any) { turns--; hush() }}
	announce := call{op: "DynamoDB.UpdateItem", with: with(map[string]string{"UpdateExpression": "SET announcedAt = :now", "ConditionExpression": "~attribute_exists(connectionId)"}), answer: item("Attributes", stored(listening)), then: func(map[string]any) { turns++ }}
	// The origin continues after the client got progress. A post that a slow machine drops is followed by the next one.
	add(run{title: "a client hears how far it is", env: told.env(), s3: s, calls: []call{getItem(nil), copied(len(file), isReady)},
		repeats: []call{progress(listening), uploading, announce, tell},
		check: both(nothingLeft, keeps(s, file, nil), func(t *testing.T, _ invocation) {
			if turns < 0 {
				t.Errorf("told %d times more than it was its turn", -turns)
			}
		})})
	// Another worker has just posted progress, so this one doesn't.
	looked := make(chan struct{})
	look := sync.OnceFunc(func() { close(looked) })
	quiet, s := newSource(t, halting(looked)), newStore()
	justTold := progress(connected(map[string]any{"format": "json", "announcedAt": time.Now().Add(time.Hour).UnixMilli()}))
	justTold.then = func(map[string]any) { time.AfterFunc(200*time.Millisecond, look) } // time for a post that should not happen
	add(run{title: "another worker has posted progress", env: quiet.env(), s3: s, calls: []call{getItem(nil), copied(len(file), isReady)},
		repeats: []call{justTold, uploading}, check: both(nothingLeft, keeps(s, file, nil))})
	runAll(t, "fetch", runs)
}

// plan changes the sample to a small file of three parts.
func plan(id string, partSize, size int) func(map[string]any) {
	return func(e map[string]any) {
		p := e["plan"].(map[string]any)
		p["uploadId"], p["partSize"], p["size"] = id, partSize, size
		e["segment"] = map[string]any{"first": 2, "last": 3}
	}
}

func TestFetchSegment(t *testing.T) {
	t.Parallel()
	const partSize = 100_000
	file := pattern(2*partSize + 5)
	good := newSource(t, ranged(file))
	s := newStore().open("upload-of-before", map[int][]byte{1: file[:partSize]})
	changed := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Match") == fileETag {
			http.Error(w, "another one", http.StatusPreconditionFailed)
			return
		}
		http.Error(w, "without If-Match", http.StatusTeapot)
	})
	runAll(t, "fetch", []run{
		{title: "parts", sample: "fetch-segment", env: good.env(), s3: s, change: plan("upload-of-before", partSize, len(file)), calls: []call{getItem(nil)}, repeats: []call{progress(nil), uploading},
			check: both(nothingLeft, func(t *testing.T, _ invocation) {
				u := s.uploads["upload-of-before"]
				if u == nil || !bytes.Equal(u.parts[1], file[:partSize]) || !bytes.Equal(u.parts[2], file[partSize:2*partSize]) || !bytes.Equal(u.parts[3], file[2*partSize:]) {
					t.Errorf("got not the parts of the file after %v", s.ops)
				}
				if got, want := good.asked("Range"), []string{"bytes=100000-199999", "bytes=200000-200004"}; !slices.Equal(got, want) {
					t.Errorf("got ranges %q, want %q", got, want)
				}
				if got, want := good.asked("If-Match"), []string{fileETag, fileETag}; !slices.Equal(got, want) {
					t.Errorf("got If-Match %q, want %q", got, want)
				}
			})},
		{title: "the file changed", sample: "fetch-segment", env: changed.env(), s3: newStore().open("upload-of-before", map[int][]byte{}), change: plan("upload-of-before", partSize, len(file)),
			calls: []call{getItem(nil)}, repeats: []call{progress(nil), uploading}, check: taskError("ORIGIN_CHANGED", "")},
		{title: "cancelled before", sample: "fetch-segment", s3: newStore(), change: plan("upload-of-before", partSize, len(file)), calls: []call{getItem(map[string]any{"cancelled": true})},
			check: taskError("CANCELLED", "")},
	})
}

func TestFinish(t *testing.T) {
	t.Parallel()
	const partSize = 100_000
	file := pattern(2*partSize + 5)
	work := func(e map[string]any) {
		w := e["work"].(map[string]any)
		p := w["plan"].(map[string]any)
		p["uploadId"], p["partSize"], p["size"] = "upload-of-before", partSize, len(file)
		w["segments"], w["missing"] = []any{map[string]any{"first": 1, "last": 2}, map[string]any{"first": 3, "last": 3}}, 3
	}
	parts := func(numbers ...int) *store {
		have := map[int][]byte{}
		for _, n := range numbers {
			have[n] = file[(n-1)*partSize : min(n*partSize, len(file))]
		}
		return newStore().open("upload-of-before", have)
	}
	src := newSource(t, ranged(file))
	whole, late, gap, stuck := parts(1, 2, 3), parts(1, 2, 3), parts(1, 3), parts()
	runs := []run{
		{title: "all parts", sample: "finish", env: src.env(), s3: whole, change: work, calls: []call{getItem(nil), copied(len(file), isReady)},
			check: both(nothingLeft, keeps(whole, file, map[string]string{"Content-Type": "application/pdf"}), logged(name))},
		{title: "ended as it was completed", sample: "finish", env: src.env(), s3: late, change: work, calls: []call{getItem(nil), copied(len(file), conditionFails(stored(map[string]any{"cancelled": true})))},
			check: both(taskError("CANCELLED", ""), empties(late))},
		{title: "a part missing", sample: "finish", env: src.env(), s3: gap, change: work, calls: []call{getItem(nil)}, check: func(t *testing.T, got invocation) {
			var out struct {
				Work struct {
					Plan     struct{ UploadID string }
					Segments []struct{ First, Last int }
					Missing  int
				}
			}
			if err := json.Unmarshal(got.body, &out); err != nil || got.errorType != "" || out.Work.Plan.UploadID != "upload-of-before" || out.Work.Missing != 1 ||
				len(out.Work.Segments) != 1 || out.Work.Segments[0].First > 2 || out.Work.Segments[0].Last < 2 {
				t.Errorf("got %s, want the work of part 2", got.body)
			}
			if gap.uploads["upload-of-before"] == nil {
				t.Errorf("got no upload any more after %v", gap.ops)
			}
		}},
		{title: "no part stored in a whole round", sample: "finish", env: src.env(), s3: stuck, change: work, calls: []call{getItem(nil)}, check: func(t *testing.T, got invocation) {
			if !strings.Contains(string(got.body), `"idle":1`) {
				t.Errorf("got %s, want another round that knows of this one", got.body)
			}
		}},
		{title: "no part stored in the third round", sample: "finish", env: src.env(), s3: stuck, change: func(e map[string]any) {
			work(e)
			e["work"].(map[string]any)["idle"] = 2
		}, calls: []call{getItem(nil)}, check: taskError("STORAGE", "several rounds")},
		{title: "cancelled", sample: "finish", s3: parts(1), change: work, calls: []call{getItem(map[string]any{"cancelled": true})}, check: taskError("CANCELLED", "")},
	}

	end := func(code, message string, a answer) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"UpdateExpression": "~SET #status = :status, failure = :why REMOVE taskToken", "ConditionExpression": "#status IN (:copying, :ready)",
			"ExpressionAttributeValues.:status.S": "FAILED", "ExpressionAttributeValues.:why.M.code.S": code, "ExpressionAttributeValues.:why.M.message.S": message,
		}), answer: a}
	}
	const notFound = "the origin answered 404 Not Found"
	failed := map[string]any{"status": "FAILED", "failure": map[string]any{"code": "ORIGIN_STATUS", "message": notFound}}
	says := func(code, message string, connected bool) func(*testing.T, invocation) {
		return func(t *testing.T, got invocation) {
			t.Helper()
			var out struct {
				Code, Message string
				Connected     *bool
			}
			if err := json.Unmarshal(got.body, &out); err != nil || got.errorType != "" || out.Code != code || !strings.Contains(out.Message, message) || out.Connected == nil || *out.Connected != connected {
				t.Errorf("got %s, want code %s with %q and connected %v", got.body, code, message, connected)
			}
		}
	}
	caught := func(name, cause string) func(map[string]any) {
		return func(e map[string]any) { e["failure"] = map[string]any{"Error": name, "Cause": cause} }
	}
	left, again := parts(1), newStore().put("half")
	runs = append(runs,
		run{title: "failure, client here", sample: "finish-failure", s3: left, calls: []call{end("ORIGIN_STATUS", notFound, item("Attributes", stored(connected(failed))))},
			check: both(says("ORIGIN_STATUS", notFound, true), empties(left), logged("ORIGIN_STATUS"))},
		run{title: "failure, nobody here", sample: "finish-failure", s3: newStore(), calls: []call{end("ORIGIN_STATUS", notFound, item("Attributes", stored(failed)))},
			check: says("ORIGIN_STATUS", notFound, false)},
		run{title: "failure noted before", sample: "finish-failure", s3: again, calls: []call{end("ORIGIN_STATUS", notFound, conditionFails(stored(failed)))},
			check: both(says("ORIGIN_STATUS", notFound, false), empties(again))},
		run{title: "failure, item gone", sample: "finish-failure", s3: newStore(), calls: []call{end("ORIGIN_STATUS", notFound, conditionFailed)},
			check: says("ORIGIN_STATUS", notFound, false)},
		run{title: "failure of the engine", sample: "finish-failure", change: caught("States.Timeout", "arn:aws:lambda and more that is nobody's business"), s3: newStore(),
			calls: []call{end("INTERNAL", "~unexpected", item("Attributes", stored(failed)))}, check: both(says("INTERNAL", "unexpected", false), func(t *testing.T, got invocation) {
				if bytes.Contains(got.body, []byte("nobody's business")) {
					t.Errorf("got the cause in the answer: %s", got.body)
				}
			})},
		run{title: "failure, bucket closed", sample: "finish-failure", calls: []call{
			end("ORIGIN_STATUS", notFound, item("Attributes", stored(connected(failed)))), {op: "S3.ListMultipartUploads", answer: s3Error(http.StatusForbidden, "AccessDenied")}},
			check: both(says("ORIGIN_STATUS", notFound, true), logged("AccessDenied"))},
		run{title: "failure that can't be noted", sample: "finish-failure", s3: newStore(), calls: []call{end("ORIGIN_STATUS", notFound, dynamoError("AccessDeniedException"))},
			check: both(taskError("INTERNAL", ""), logged("AccessDeniedException"))},
	)
	runAll(t, "finish", runs)
}

func TestCleanUp(t *testing.T) {
	t.Parallel()
	end := func(status, code string, a answer) call {
		return call{op: "DynamoDB.UpdateItem", with: with(map[string]string{
			"UpdateExpression": "~SET #status = :status, failure = :why REMOVE taskToken", "ConditionExpression": "#status IN (:copying, :ready)",
			"ExpressionAttributeValues.:status.S": status, "ExpressionAttributeValues.:why.M.code.S": code,
		}), answer: a}
	}
	tell := call{op: "StepFunctions.StartExecution", with: map[string]string{"stateMachineArn": deliver, "input": `{"executionArn":"` + execution + `"}`}, answer: started(deliver)}
	ended := func(status string, here bool) answer {
		more := map[string]any{"status": status, "failure": map[string]any{"code": "INTERNAL", "message": "why"}}
		if here {
			more = connected(more)
		}
		return item("Attributes", stored(more))
	}
	noted := map[string]any{"status": "FAILED", "failure": map[string]any{"code": "ORIGIN_STATUS", "message": "why"}}
	half := func() *store { return newStore().open("upload-of-before", map[int][]byte{1: []byte("half")}) }
	done := both(taskResult("null"), logged(name), logged("cleaned up"))
	broken, stopped, late, told, kept := half(), half(), half(), half(), newStore().put("whole")
	stopped.straggler, late.straggler = true, true
	runAll(t, "clean-up", []run{
		{title: "failed without a word", sample: "clean-up", s3: broken, calls: []call{getItem(connected(nil)), end("FAILED", "ORIGIN_STATUS", ended("FAILED", true)), tell}, check: both(done, empties(broken))},
		{title: "failed and told", sample: "clean-up", s3: told, calls: []call{getItem(noted), end("FAILED", "ORIGIN_STATUS", conditionFails(stored(noted)))},
			check: both(done, empties(told))},
		{title: "delivered and gone", sample: "clean-up", s3: newStore(), calls: []call{{op: "DynamoDB.GetItem", with: theItem, answer: empty}}, check: done},
		{title: "stopped", sample: "clean-up-aborted", s3: stopped, calls: []call{getItem(connected(nil)), end("CANCELLED", "CANCELLED", ended("CANCELLED", true)), tell}, check: both(done, empties(stopped))},
		{title: "timed out while it copied", sample: "clean-up-timed-out", s3: late, calls: []call{getItem(nil), end("FAILED", "ORIGIN_TOO_SLOW", ended("FAILED", false))}, check: both(done, empties(late))},
		{title: "timed out while it waited", sample: "clean-up-timed-out", s3: kept, calls: []call{getItem(map[string]any{"status": "READY", "taskToken": taskToken}), end("EXPIRED", "EXPIRED", ended("EXPIRED", false))},
			check: both(done, keeps(kept, []byte("whole"), nil))},
		{title: "table out of order", sample: "clean-up", s3: newStore(), calls: []call{{op: "DynamoDB.GetItem", answer: dynamoError("AccessDeniedException")}}, check: func(t *testing.T, got invocation) {
			if got.errorType == "" {
				t.Errorf("got %s, want an error, for EventBridge to try again", got.body)
			}
		}},
	})
}
