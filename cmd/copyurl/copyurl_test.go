package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
	"async-download/internal/progress"
	"async-download/internal/transfer/s3test"
)

const mib = 1 << 20

func newS3(t *testing.T) *s3test.Server {
	s := s3test.New(t)
	for name, value := range environment(s) {
		t.Setenv(name, value)
	}
	return s
}

func environment(s *s3test.Server) map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL_S3": s.URL, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
	}
}

func serve(t *testing.T, h http.Handler) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL + "/dir/file.bin?token=planted"
}

func target(key string) string { return "s3://" + s3test.Bucket + "/" + key }

// progressLine is written to stderr after some seconds: by a slow machine.
var progressLine = regexp.MustCompile(`(?m)^(` + strings.Join([]string{checking, progress.Copying, progress.Verifying, cleaning}, "|") + `)\b.*\n`)

// program runs it in this process and returns its line, and stderr without progress.
func program(t *testing.T, args ...string) (code int, out line, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	if code != 2 && o.Len() > 0 {
		out = parseLine(t, o.String())
	}
	return code, out, progressLine.ReplaceAllString(e.String(), "")
}

func parseLine(t *testing.T, s string) line {
	t.Helper()
	if strings.Count(s, "\n") != 1 {
		t.Fatalf("got %q, want one line", s)
	}
	var l line
	if err := json.Unmarshal([]byte(s), &l); err != nil {
		t.Fatalf("got %q: %v", s, err)
	}
	return l
}

func wantNothing(t *testing.T, s *s3test.Server, key string) {
	t.Helper()
	if s.Object(key) != nil {
		t.Error("got an object, want none")
	}
	if open := s.Open(); len(open) > 0 {
		t.Errorf("got open uploads %v, want none", open)
	}
}

func TestCopies(t *testing.T) {
	for name, tt := range map[string]struct {
		size   int
		set    func(f *origintest.File)
		args   []string
		ranges int
	}{
		"ranges":         {22 * mib, func(*origintest.File) {}, nil, 3},
		"small parts":    {22 * mib, func(*origintest.File) {}, []string{"-part-size", "5MiB", "-concurrency", "2"}, 5},
		"one part":       {22 * mib, func(*origintest.File) {}, []string{"-part-size=1GiB"}, 1},
		"known length":   {22 * mib, func(f *origintest.File) { f.NoRanges = true }, nil, 1},
		"unknown length": {22 * mib, func(f *origintest.File) { f.NoRanges, f.Chunked = true, true }, nil, 1},
		"small":          {10, func(*origintest.File) {}, nil, 1},
		"empty":          {0, func(*origintest.File) {}, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			data := origintest.Bytes(1, tt.size)
			h := origintest.New(data, `"v1"`)
			tt.set(h)
			s.Put("key", []byte("an older object")) // is replaced
			code, out, stderr := program(t, append(tt.args, serve(t, h), target("key"))...)
			if code != 0 || stderr != "" || out.Error != nil {
				t.Fatalf("got code %d, %+v, %q, want 0 and silence", code, out.Error, stderr)
			}
			if o := s.Object("key"); !bytes.Equal(o.Data, data) || out.Checksum.CRC64NVME != o.CRC64 {
				t.Errorf("got %d bytes with checksum %q, want %d with %q", len(o.Data), out.Checksum.CRC64NVME, len(data), o.CRC64)
			}
			if out.Bytes != int64(tt.size) || out.Ranges != tt.ranges || !out.Verified || out.Seconds < 0 || out.Object != target("key") {
				t.Errorf("got %+v, want %d bytes by %d ranges, verified", out, tt.size, tt.ranges)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	data := origintest.Bytes(2, 12*mib)
	for name, tt := range map[string]struct {
		h    http.Handler
		want failure.Code
		s3   func(op string, n int, r *http.Request) s3test.Fault
	}{
		"status": {http.NotFoundHandler(), failure.OriginStatus, nil},
		"cut stream": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f := origintest.New(data, "")
			f.NoRanges = true
			origintest.Cut(f, w, r, 11*mib, origintest.FIN)
		}), failure.OriginTruncated, nil},
		"wrong digest": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Repr-Digest", "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:")
			origintest.New(data, `"v1"`).ServeHTTP(w, r)
		}), failure.DigestMismatch, nil},
		"S3 refuses parts": {origintest.New(data, `"v1"`), failure.Storage, func(op string, _ int, _ *http.Request) s3test.Fault {
			if op == "UploadPart" {
				return s3test.Fault{Code: "AccessDenied", Status: 403}
			}
			return s3test.Fault{}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newS3(t)
			s.Fault = tt.s3
			code, out, stderr := program(t, "-part-size", "5MiB", serve(t, tt.h), target("key"))
			if code != 1 || out.Error == nil || out.Error.Code != tt.want {
				t.Errorf("got code %d, %+v, want 1 and %s", code, out.Error, tt.want)
			}
			if !strings.Contains(stderr, string(tt.want)) || strings.Contains(stderr, "planted") {
				t.Errorf("got %q, want %s named and no query", stderr, tt.want)
			}
			wantNothing(t, s, "key")
		})
	}
}

// What another try can't fix is reported without one.
func TestMistake(t *testing.T) {
	newS3(t)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	plain := strings.Replace(serve(t, http.NotFoundHandler()), "http:", "https:", 1)
	for url, want := range map[string]string{
		server.URL + "/x": "copyurl: ORIGIN_UNREACHABLE: the origin's certificate isn't valid: signed by an unknown authority\n",
		plain:             "copyurl: ORIGIN_UNREACHABLE: the origin doesn't speak HTTPS at this address; is its URL http://?\ncopyurl: the cause: it isn't TLS\n",
	} {
		if code, _, stderr := program(t, url, target("key")); code != 1 || stderr != want {
			t.Errorf("got code %d and %q, want 1 and %q", code, stderr, want)
		}
	}
}

// Problems with the bucket are reported before the first request to the origin.
func TestBucket(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "eu-west-1")
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	defer elsewhere.Close()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer bad.Close()
	for name, tt := range map[string]struct{ endpoint, target, want string }{
		"expired":        {bad.URL, "s3://bucket/key", "STORAGE: bucket isn't a valid bucket name, or the AWS credentials have expired\n"},
		"none":           {"", "s3://other/key", "STORAGE: there is no bucket other\n"},
		"another region": {elsewhere.URL, "s3://bucket/key", "STORAGE: the bucket bucket is in eu-west-1, not in us-east-1; see AWS_REGION\n"},
		"nobody there":   {"http://127.0.0.1:1", "s3://bucket/key", "STORAGE: S3 can't be reached\n"},
		"no URL":         {"nonsense", "s3://bucket/key", "STORAGE: S3 can't be reached\n"},
	} {
		t.Run(name, func(t *testing.T) {
			newS3(t)
			t.Setenv("AWS_MAX_ATTEMPTS", "1")
			if tt.endpoint != "" {
				t.Setenv("AWS_ENDPOINT_URL_S3", tt.endpoint)
			}
			h := origintest.New([]byte("x"), `"v1"`)
			code, out, stderr := program(t, serve(t, h), tt.target)
			if code != 1 || out.Error == nil || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "upload") {
				t.Errorf("got code %d, %q, want %q", code, stderr, tt.want)
			}
			if n := len(h.Requests()); n > 0 {
				t.Errorf("got %d requests to the origin, want none", n)
			}
		})
	}
	// Permission to write doesn't imply permission to read.
	for code, status := range map[string]int{"AccessDenied": 403, "InternalError": 500} {
		s := newS3(t)
		t.Setenv("AWS_MAX_ATTEMPTS", "1")
		s.Fault = func(op string, _ int, _ *http.Request) s3test.Fault {
			if op == "HeadBucket" {
				return s3test.Fault{Code: code, Status: status}
			}
			return s3test.Fault{}
		}
		if got, _, stderr := program(t, serve(t, origintest.New([]byte("x"), `"v1"`)), target("key")); got != 0 {
			t.Errorf("HeadBucket answers %d: got code %d, %q, want a copy", status, got, stderr)
		}
		if s.Calls("HeadBucket") == 0 {
			t.Error("HeadBucket wasn't asked for")
		}
	}
}

func TestHeaderIsSent(t *testing.T) {
	newS3(t)
	h := origintest.New([]byte("x"), `"v1"`)
	if code, _, stderr := program(t, "-H", "Authorization: planted", "-H", "X-A: 1", serve(t, h), target("key")); code != 0 {
		t.Fatal(stderr)
	}
	if r := h.Requests()[0]; r.Header.Get("Authorization") != "planted" || r.Header.Get("X-A") != "1" {
		t.Errorf("got headers %v", r.Header)
	}
}

func TestNameOfTheServer(t *testing.T) {
	s := newS3(t)
	for _, size := range []int{10, 12 * mib} {
		data := origintest.Bytes(5, size)
		h := origintest.New(data, `"v1"`)
		url := serve(t, h)
		for _, tt := range []struct{ disposition, target, want string }{
			{"", "in/", "in/file.bin"},
			{`attachment; filename="../a b.pdf"`, "in/", "in/a b.pdf"},
			{"", "", "file.bin"},
			{`attachment; filename="a.pdf"`, "in/b", "in/b"},
		} {
			if h.Header = nil; tt.disposition != "" {
				h.Header = http.Header{"Content-Disposition": {tt.disposition}}
			}
			code, out, stderr := program(t, url, target(tt.target))
			if code != 0 || out.Object != target(tt.want) || s.Object(tt.want) == nil {
				t.Errorf("%q to %q: got code %d, object %s, %q, want %s", tt.disposition, tt.target, code, out.Object, stderr, tt.want)
			}
		}
	}
}

func TestChecksum(t *testing.T) {
	for _, size := range []int{10, 12 * mib} {
		for _, ranges := range []bool{true, false} {
			s := newS3(t)
			data := origintest.Bytes(6, size)
			sum := sha256.Sum256(data)
			h := origintest.New(data, `"v1"`)
			h.NoRanges = !ranges
			url := serve(t, h)
			for _, good := range []string{"sha-256=" + hex.EncodeToString(sum[:]), "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:])} {
				if code, out, stderr := program(t, url, target("key"), "-checksum", good); code != 0 || out.Digest != "sha-256" {
					t.Errorf("%d bytes: got code %d, digest %q, %q", size, code, out.Digest, stderr)
				}
			}
			sum[5] ^= 1
			code, out, _ := program(t, "-checksum", "sha-256="+hex.EncodeToString(sum[:]), url, target("other"))
			if code != 1 || out.Error == nil || out.Error.Code != failure.DigestMismatch {
				t.Errorf("%d bytes with another digest: got code %d, %+v, want %s", size, code, out.Error, failure.DigestMismatch)
			}
			wantNothing(t, s, "other")
		}
	}
}

// HTTP_PROXY isn't used for the URL.
func TestNoProxy(t *testing.T) {
	newS3(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("NO_PROXY", "")
	url := strings.Replace(serve(t, origintest.New([]byte("x"), `"v1"`)), "127.0.0.1", "localhost", 1)
	if code, _, stderr := program(t, url, target("key")); code != 0 {
		t.Errorf("got code %d, %q, want a direct connection", code, stderr)
	}
}

func TestNoCredentials(t *testing.T) {
	newS3(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	h := origintest.New([]byte("x"), `"v1"`)
	code, out, stderr := program(t, serve(t, h), target("key"))
	if code != 1 || out.Error == nil || !strings.Contains(stderr, "no AWS credentials") || len(h.Requests()) > 0 {
		t.Errorf("got code %d, %q and %d requests, want the problem reported before the first request", code, stderr, len(h.Requests()))
	}
}

func TestPublicOnly(t *testing.T) {
	newS3(t)
	var seen atomic.Int64
	url := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	code, out, _ := program(t, "-public-only", url, target("key"))
	if code != 1 || out.Error == nil || out.Error.Code != failure.BlockedAddress || seen.Load() > 0 {
		t.Errorf("got code %d, %+v and %d requests, want %s and none", code, out.Error, seen.Load(), failure.BlockedAddress)
	}
}

// A cancel ends a wait that the server asked for.
func TestCancelledWhileWaiting(t *testing.T) {
	s := newS3(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(503)
	}))
	var o, e bytes.Buffer
	stderr := writerFunc(func(p []byte) (int, error) {
		time.AfterFunc(50*time.Millisecond, func() { cancel(failure.New(failure.Cancelled, "interrupted")) })
		return e.Write(p)
	})
	if code := run(ctx, []string{url, target("key")}, &o, stderr); code != 130 {
		t.Errorf("got code %d, want 130", code)
	}
	if out := parseLine(t, o.String()); out.Error == nil || out.Error.Code != failure.Cancelled || !strings.Contains(e.String(), "trying again in 1") {
		t.Errorf("got %s, %s, want a message about the wait and %s", &o, &e, failure.Cancelled)
	}
	wantNothing(t, s, "key")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Repeated requests are reported, once for all ranges; with -q, they aren't.
func TestTriedAgain(t *testing.T) {
	newS3(t)
	h := origintest.New(origintest.Bytes(2, 20*mib), `"v1"`)
	url := serve(t, origintest.Count(func(w http.ResponseWriter, r *http.Request, n int) {
		if n <= 2 {
			http.Error(w, "planted", http.StatusBadGateway)
			return
		}
		h.ServeHTTP(w, r)
	}))
	code, _, stderr := program(t, url, target("key"))
	if line := regexp.MustCompile(`^(copyurl: the origin answered 502 Bad Gateway; trying again( in [0-9.]+m?s)?\n){1,2}$`); code != 0 || !line.MatchString(stderr) {
		t.Errorf("got code %d and %q, want a line of what is waited for, or two more than 2 s apart", code, stderr)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	fails := serve(t, origintest.Count(func(w http.ResponseWriter, _ *http.Request, n int) {
		if n == 2 {
			cancel(failure.New(failure.Cancelled, "interrupted"))
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	var o, e bytes.Buffer
	if code := run(ctx, []string{"-q", fails, target("other")}, &o, &e); code != 130 || e.String() != "copyurl: CANCELLED: interrupted\n" {
		t.Errorf("got code %d and %q, want nothing but the error", code, &e)
	}
}

// A POST is sent once, with its body and its headers; a server that makes the file is
// asked until it has it.
func TestPost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "query.json")
	if err := os.WriteFile(file, []byte(`{"query":"{ rows }"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newS3(t)
	var asked []string
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type")+" "+r.Header.Get("Authorization")+" "+string(body))
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "/job")
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusAccepted)
		case len(asked) < 3:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusAccepted)
		default:
			_, _ = io.WriteString(w, "report")
		}
	}))
	code, out, stderr := program(t, "-X", "POST", "-d", "@"+file, "-H", "Content-Type: application/json", "-H", "Authorization: Bearer token", url, target("key"))
	if code != 0 || out.Bytes != 6 {
		t.Fatalf("got exit code %d, %+v, %s, want 0", code, out, stderr)
	}
	want := []string{`POST /dir/file.bin application/json Bearer token {"query":"{ rows }"}`, "GET /job  Bearer token ", "GET /job  Bearer token "}
	if !slices.Equal(asked, want) {
		t.Errorf("got requests %q, want %q", asked, want)
	}
	if o := s.Object("key"); o == nil || string(o.Data) != "report" {
		t.Error("got another object")
	}
	var failed atomic.Int32 // the abort isn't ordered before what the program reads
	fails := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		failed.Add(1)
		panic(http.ErrAbortHandler)
	}))
	if code, out, _ := program(t, "-d", "a=b", fails, target("other")); code != 1 || out.Error.Code != "ORIGIN_UNREACHABLE" || failed.Load() != 1 {
		t.Errorf("got exit code %d, %+v after %d requests, want 1 after one", code, out.Error, failed.Load())
	}
}
