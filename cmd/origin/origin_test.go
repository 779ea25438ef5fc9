package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func start(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(newOrigin(32<<20, "report.bin", io.Discard))
	t.Cleanup(server.Close)
	return server.URL
}

type reply struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// get sends headers given as name, value, name, value.
func get(t *testing.T, url string, headers ...string) reply {
	t.Helper()
	return send(t, http.MethodGet, url, "", headers...)
}

// send makes one request and follows no redirect.
func send(t *testing.T, method, url, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	// The default transport would ask for gzip and hide the answer's encoding.
	res, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res, b, err}
}

func whole(t *testing.T, size int64, version uint64) []byte {
	t.Helper()
	body, err := io.ReadAll(newContent(size, version))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestContentIsTheSameHoweverItIsRead(t *testing.T) {
	const size = 3*blockSize + 4321
	want := whole(t, size, 0)
	if len(want) != size {
		t.Fatalf("got %d bytes, want %d", len(want), size)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		from := random.Int64N(size)
		length := 1 + random.Int64N(min(size-from, 9000))
		c := newContent(size, 0)
		if _, err := c.Seek(from, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, length)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want[from:from+length]) {
			t.Fatalf("bytes %d+%d differ from those of the whole file", from, length)
		}
	}
}

func TestContentHasNoTwoBlocksAlike(t *testing.T) {
	seen := make(map[[32]byte]string)
	for _, size := range []int64{16 * blockSize, 16*blockSize + 1} {
		for version := range uint64(2) {
			body := whole(t, size, version)
			for i := range 16 {
				sum := sha256.Sum256(body[i*blockSize : (i+1)*blockSize])
				here := fmt.Sprintf("size %d version %d block %d", size, version, i)
				if there, twice := seen[sum]; twice {
					t.Errorf("%s is the same as %s", here, there)
				}
				seen[sum] = here
			}
		}
	}
}

func TestFileHeaders(t *testing.T) {
	base := start(t)
	tests := []struct {
		path        string
		length      int64
		contentType string
		disposition string
	}{
		{"/", 32 << 20, "application/octet-stream", `attachment; filename=report.bin`},
		{"/file/0", 0, "application/octet-stream", ""},
		{"/file/1", 1, "application/octet-stream", ""},
		{"/file/6MB/report.pdf", 6_000_000, "application/pdf", ""},
		{"/file/1KiB/a/b.c/data.csv", 1024, "text/csv; charset=utf-8", ""},
		{"/file/1.unknown", 0, "", ""},
		{"/file/9/x.unknown", 9, "application/octet-stream", ""},
		{"/file/9/x.txt?cd=other.zip", 9, "text/plain; charset=utf-8", `attachment; filename=other.zip`},
		{"/file/9?cd=%C3%BC.txt", 9, "application/octet-stream", `attachment; filename*=utf-8''%C3%BC.txt`},
		{"/file/9?type=text/x", 9, "text/x", ""},
	}
	for _, test := range tests {
		got := get(t, base+test.path)
		if test.contentType == "" {
			if got.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: got status %d, want 400", test.path, got.StatusCode)
			}
			continue
		}
		if got.StatusCode != http.StatusOK || got.ContentLength != test.length || int64(len(got.body)) != test.length {
			t.Errorf("%s: got %d, Content-Length %d, %d bytes, want 200 and %d", test.path, got.StatusCode, got.ContentLength, len(got.body), test.length)
		}
		if g := got.Header.Get("Content-Type"); g != test.contentType {
			t.Errorf("%s: got type %q, want %q", test.path, g, test.contentType)
		}
		if g := got.Header.Get("Content-Disposition"); g != test.disposition {
			t.Errorf("%s: got disposition %q, want %q", test.path, g, test.disposition)
		}
	}
	if got := get(t, base+"/nowhere"); got.StatusCode != http.StatusNotFound {
		t.Errorf("/nowhere: got status %d, want 404", got.StatusCode)
	}
}

func TestRangesAndConditions(t *testing.T) {
	base := start(t)
	url := base + "/file/200000"
	want := whole(t, 200000, 0)
	first := get(t, url)
	tag := first.Header.Get("ETag")
	if tag == "" || strings.HasPrefix(tag, "W/") {
		t.Fatalf("got ETag %q, want a strong one", tag)
	}
	if other := get(t, base+"/file/200001").Header.Get("ETag"); other == tag {
		t.Errorf("two files have the ETag %s", tag)
	}
	tests := []struct {
		name    string
		headers []string
		status  int
		body    []byte
	}{
		{"range", []string{"Range", "bytes=70000-140000"}, 206, want[70000:140001]},
		{"suffix", []string{"Range", "bytes=-5"}, 206, want[199995:]},
		{"past the end", []string{"Range", "bytes=200000-"}, 416, nil},
		{"If-Match, same", []string{"Range", "bytes=1-2", "If-Match", tag}, 206, want[1:3]},
		{"If-Match, other", []string{"Range", "bytes=1-2", "If-Match", `"x"`}, 412, nil},
		{"If-Range, same", []string{"Range", "bytes=1-2", "If-Range", tag}, 206, want[1:3]},
		{"If-Range, other", []string{"Range", "bytes=1-2", "If-Range", `"x"`}, 200, want},
	}
	for _, test := range tests {
		got := get(t, url, test.headers...)
		if got.StatusCode != test.status {
			t.Errorf("%s: got status %d, want %d", test.name, got.StatusCode, test.status)
		}
		if test.body != nil && !bytes.Equal(got.body, test.body) {
			t.Errorf("%s: got %d wrong bytes", test.name, len(got.body))
		}
	}
}

func TestBodiesThatMisbehave(t *testing.T) {
	base := start(t)
	want := whole(t, 100000, 0)

	t.Run("cut", func(t *testing.T) {
		got := get(t, base+"/file/100000?cut=70001")
		if got.ContentLength != 100000 || len(got.body) != 70001 || !errors.Is(got.err, io.ErrUnexpectedEOF) {
			t.Errorf("got length %d, %d bytes, error %v, want 100000, 70001, unexpected EOF", got.ContentLength, len(got.body), got.err)
		}
	})
	t.Run("cut once", func(t *testing.T) {
		if got := get(t, base+"/file/100000?cut=5&times=1"); got.err == nil {
			t.Error("first: got no error, want a cut")
		}
		if got := get(t, base+"/file/100000?cut=5&times=1"); got.err != nil || !bytes.Equal(got.body, want) {
			t.Errorf("second: got %d bytes, error %v, want the file", len(got.body), got.err)
		}
	})
	t.Run("cut in a range", func(t *testing.T) {
		got := get(t, base+"/file/100000?cut=10", "Range", "bytes=50-99")
		if got.ContentLength != 50 || !bytes.Equal(got.body, want[50:60]) || got.err == nil {
			t.Errorf("got length %d, %d bytes, error %v, want 50, 10, a cut", got.ContentLength, len(got.body), got.err)
		}
	})
	t.Run("cut without a length", func(t *testing.T) {
		got := get(t, base+"/file/100000?chunked&cut=10")
		if !bytes.Equal(got.body, want[:10]) || !errors.Is(got.err, io.ErrUnexpectedEOF) {
			t.Errorf("got %d bytes, error %v, want 10, unexpected EOF", len(got.body), got.err)
		}
	})
	t.Run("noranges", func(t *testing.T) {
		for value, advertised := range map[string]string{"": "none", "=lie": "bytes"} {
			got := get(t, base+"/file/100000?noranges"+value, "Range", "bytes=1-2")
			if got.StatusCode != 200 || got.ContentLength != 100000 || !bytes.Equal(got.body, want) {
				t.Errorf("noranges%s: got %d, length %d, want 200 and the file", value, got.StatusCode, got.ContentLength)
			}
			if g := got.Header.Get("Accept-Ranges"); g != advertised {
				t.Errorf("noranges%s: got Accept-Ranges %q, want %q", value, g, advertised)
			}
		}
	})
	t.Run("chunked", func(t *testing.T) {
		for _, size := range []int{0, 1, 100000} { // short ones get a length unless flushed
			got := get(t, fmt.Sprintf("%s/file/%d?chunked", base, size))
			if got.ContentLength != -1 || fmt.Sprint(got.TransferEncoding) != "[chunked]" || len(got.body) != size {
				t.Errorf("size %d: got length %d, encoding %v, %d bytes", size, got.ContentLength, got.TransferEncoding, len(got.body))
			}
		}
	})
	t.Run("close", func(t *testing.T) {
		got := get(t, base+"/file/100000?close")
		if got.ContentLength != -1 || len(got.TransferEncoding) > 0 || !got.Close || !bytes.Equal(got.body, want) {
			t.Errorf("got length %d, encoding %v, close %v, %d bytes", got.ContentLength, got.TransferEncoding, got.Close, len(got.body))
		}
	})
	t.Run("gzip", func(t *testing.T) {
		plain := get(t, base+"/file/100000?gzip", "Accept-Encoding", "identity")
		if !bytes.Equal(plain.body, want) || plain.Header.Get("Content-Encoding") != "" {
			t.Errorf("not accepted: got encoding %q", plain.Header.Get("Content-Encoding"))
		}
		for _, url := range []string{"?gzip", "?gzip=force"} {
			accept := map[string]string{"?gzip": "gzip", "?gzip=force": "identity"}[url]
			got := get(t, base+"/file/100000"+url, "Accept-Encoding", accept, "Range", "bytes=0-9")
			if got.Header.Get("ETag") == plain.Header.Get("ETag") {
				t.Errorf("%s: the ETag is that of the plain file", url)
			}
			z, err := gzip.NewReader(bytes.NewReader(got.body))
			if err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			if body, err := io.ReadAll(z); err != nil || !bytes.Equal(body, want) {
				t.Errorf("%s: got %d bytes, error %v, want the file", url, len(body), err)
			}
		}
	})
}

func TestStatus(t *testing.T) {
	base := start(t)
	got := get(t, base+"/file/9?status=503&retryafter=7&times=2")
	if got.StatusCode != 503 || got.Header.Get("Retry-After") != "7" || got.Header.Get("ETag") != "" {
		t.Errorf("got %d %v, want 503 with Retry-After: 7 and no ETag", got.StatusCode, got.Header)
	}
	if got := get(t, base+"/file/9?status=503&retryafter=7&times=2"); got.StatusCode != 503 {
		t.Errorf("second: got %d, want 503", got.StatusCode)
	}
	if got := get(t, base+"/file/9?status=503&retryafter=7&times=2"); got.StatusCode != 200 || got.Header.Get("Retry-After") != "" {
		t.Errorf("third: got %d, want 200", got.StatusCode)
	}
	for _, bad := range []string{"status=99", "delay=x", "cut=-1", "rate=quick", "times=x", "changeafter=x"} {
		if got := get(t, base+"/file/9?"+bad); got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", bad, got.StatusCode)
		}
	}
}

func TestDigest(t *testing.T) {
	base := start(t)
	sum := sha256.Sum256(whole(t, 5000, 0))
	honest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	if got := get(t, base+"/file/5000?digest", "Range", "bytes=1-2"); got.Header.Get("Repr-Digest") != honest {
		t.Errorf("got Repr-Digest %q, want %q", got.Header.Get("Repr-Digest"), honest)
	}
	if got := get(t, base+"/file/5000?digest=wrong").Header.Get("Repr-Digest"); got == honest || !strings.HasPrefix(got, "sha-256=:") {
		t.Errorf("wrong: got Repr-Digest %q", got)
	}
	if got := get(t, base+"/file/5000").Header.Get("Repr-Digest"); got != "" {
		t.Errorf("not asked for: got Repr-Digest %q", got)
	}
}

func TestChangeAfterAndItsSum(t *testing.T) {
	base := start(t)
	const path = "/file/3000?changeafter=2"
	sumNow := func() string { return strings.TrimSpace(string(get(t, base+"/_sha256"+path).body)) }
	var tags, sums []string
	for range 4 {
		announced := sumNow()
		got := get(t, base+path)
		sum := sha256.Sum256(got.body)
		if hex.EncodeToString(sum[:]) != announced {
			t.Errorf("got SHA-256 %x, /_sha256 said %s", sum, announced)
		}
		tags, sums = append(tags, got.Header.Get("ETag")), append(sums, announced)
	}
	if tags[0] != tags[1] || tags[1] == tags[2] || tags[2] != tags[3] {
		t.Errorf("got ETags %v, want one change after the second", tags)
	}
	if sums[0] != sums[1] || sums[1] == sums[2] {
		t.Errorf("got sums %v, want one change after the second", sums)
	}
	if other := get(t, base+path+"&id=7").Header.Get("ETag"); other != tags[0] {
		t.Errorf("another query shares the count: got ETag %s, want %s", other, tags[0])
	}
}

func TestDelayAndRate(t *testing.T) {
	const delay = 300 * time.Millisecond
	for query, want := range map[string][]time.Duration{ // of the first request and the second
		"?delay=300ms":         {delay, delay},
		"?delay=300ms&times=1": {delay, 0},
		"?rate=200000":         {500 * time.Millisecond, 500 * time.Millisecond}, // for 100,000 bytes
	} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(0, "", io.Discard)
			for n, want := range want {
				began := time.Now()
				answer := httptest.NewRecorder()
				o.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/file/100000"+query, nil))
				if answer.Body.Len() != 100000 {
					t.Errorf("%s: got %d bytes, want 100000", query, answer.Body.Len())
				}
				if took := time.Since(began); took < want*4/5 || took > want*6/5 {
					t.Errorf("%s: request %d took %v, want about %v", query, n+1, took, want)
				}
			}
		})
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	addrFile := filepath.Join(t.TempDir(), "addr")
	var stdout, stderr lines
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-addr-file", addrFile, "-size", "1KiB", "-name", "a.txt"}, &stdout, &stderr)
	}()
	var addr string
	for addr == "" {
		select {
		case err := <-ended:
			t.Fatalf("ended with %v, want an address file", err)
		case <-time.After(5 * time.Millisecond):
		}
		text, _ := os.ReadFile(addrFile)
		addr = strings.TrimSpace(string(text))
	}
	if got := strings.TrimSpace(stdout.String()); got != addr {
		t.Errorf("got %q on stdout, want %q", got, addr)
	}
	if got := get(t, "http://"+addr+"/?x=1"); len(got.body) != 1024 || got.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("got %d bytes of %s", len(got.body), got.Header.Get("Content-Type"))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if got := stderr.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `GET "/?x=1" 200 1024 bytes`) {
		t.Errorf("got log %q, want one line for the request", got)
	}
	for _, args := range [][]string{{"-size", "much"}, {"extra"}, {"-listen", "nowhere:x"}} {
		if err := run(context.Background(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
}

func BenchmarkContent(b *testing.B) {
	c := newContent(1<<40, 0)
	buffer := make([]byte, 32<<10)
	b.SetBytes(int64(len(buffer)))
	for b.Loop() {
		c.Read(buffer)
	}
}

func TestReport(t *testing.T) {
	base := start(t)
	// A job answers 202 until there were as many as asked for, then leads to the file.
	r := send(t, "POST", base+"/report/1MiB/a.bin?accepted=3&then=303&retryafter=1", "x")
	place := r.Header.Get("Location")
	for i := range 2 {
		if r.StatusCode != 202 || r.Header.Get("Retry-After") != "1" || place == "" {
			t.Fatalf("answer %d: got %d %v, want 202 with a place", i, r.StatusCode, r.Header)
		}
		r = get(t, base+place)
	}
	if r.StatusCode != 202 {
		t.Errorf("got %d for the third answer, want 202", r.StatusCode)
	}
	if r = get(t, base+place); r.StatusCode != 303 || r.Header.Get("Location") != "/file/1048576/report.bin" {
		t.Errorf("got %d %v, want 303 to the file", r.StatusCode, r.Header)
	}
	// Without a place, the same URL is asked.
	for i, want := range []int{202, 202, 200} {
		if r := get(t, base+"/report/1MiB/b.bin?accepted=2&nolocation"); r.StatusCode != want || r.Header.Get("Location") != "" || want == 200 && len(r.body) != 1<<20 {
			t.Errorf("request %d: got %d, %d bytes, want %d", i, r.StatusCode, len(r.body), want)
		}
	}
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		status             int
		want               string // in the body
	}{
		{"POST", "/report", "a=b", []string{"Content-Type", "text/x"}, 200, `{"body":"a=b","contentType":"text/x","method":"POST","uri":"/report"}`},
		{"POST", "/report", `{"query":"{ rows }","variables":{"n":1}}`, nil, 200, `{"data":{"query":"{ rows }","variables":{"n":1}}}`},
		{"GET", "/report?caller=X-Caller", "", []string{"X-Caller", "alice"}, 200, `"caller":"alice"`},
		{"GET", "/report?token=t", "", nil, 401, ""},
		{"GET", "/report?token=t", "", []string{"Authorization", "Bearer t"}, 200, `"method":"GET"`},
		{"GET", "/report?accepted=x", "", nil, 400, ""},
		{"GET", "/report?then=500", "", nil, 400, ""},
		{"POST", "/report?redirect=307&to=/report", "", nil, 307, ""},
		{"POST", "/report?status=503&retryafter=2&times=1", "", nil, 503, ""},
		{"GET", "/report/jobs/99", "", nil, 404, ""},
		{"GET", "/reports", "", nil, 404, ""},
		{"POST", "/file/1", "", nil, 405, ""},
	} {
		if r := send(t, tt.method, base+tt.path, tt.body, tt.headers...); r.StatusCode != tt.status || !strings.Contains(string(r.body), tt.want) {
			t.Errorf("%s %s: got %d %s, want %d with %s", tt.method, tt.path, r.StatusCode, r.body, tt.status, tt.want)
		}
	}
}

// The log of requests is for programs of this machine.
func TestRequestLog(t *testing.T) {
	base := start(t)
	send(t, "POST", base+"/report?id=1", "body", "Authorization", "Bearer planted")
	get(t, base+"/report?id=2")
	log := string(get(t, base+"/_requests?contains=id=1").body)
	if !strings.Contains(log, `"Authorization":["Bearer planted"]`) || !strings.Contains(log, `"body":"body"`) || strings.Contains(log, "id=2") {
		t.Errorf("got %s, want the first request", log)
	}
	if r := get(t, base+"/_requests", "Sec-Fetch-Site", "same-origin"); r.StatusCode != 403 {
		t.Errorf("got %d for a page, want 403", r.StatusCode)
	}
	req, _ := http.NewRequest("GET", base+"/_requests", nil)
	req.Host = "rebound.example:80"
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 403 {
		t.Errorf("got %v, %v for another host, want 403", res, err)
	}
	other := httptest.NewRequest("GET", base+"/_requests", nil) // from 192.0.2.1, and any client can name any host
	answer := httptest.NewRecorder()
	if newOrigin(1, "name", io.Discard).ServeHTTP(answer, other); answer.Code != 403 {
		t.Errorf("got %d for another machine, want 403", answer.Code)
	}
}
