package main

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/crc64nvme"

	"async-download/internal/transfer"
)

// putDelay is added to the answer to each PUT.
var putDelay time.Duration

// sink is an S3 that keeps the size and the checksum of each object, not its bytes.
type sink struct {
	mu      sync.Mutex
	objects map[string]piece
	uploads map[string]map[int]piece
	keys    map[string]string // of the uploads
}

type piece struct {
	size int64
	crc  uint64
	etag string
}

func serveSink(args []string) error {
	return listen("sink", args, &sink{objects: map[string]piece{}, uploads: map[string]map[int]piece{}, keys: map[string]string{}})
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	id := q.Get("uploadId")
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := token()
		s.mu.Lock()
		s.uploads[id], s.keys[id] = map[int]piece{}, key
		s.mu.Unlock()
		w.Header().Set("X-Amz-Checksum-Algorithm", r.Header.Get("X-Amz-Checksum-Algorithm"))
		w.Header().Set("X-Amz-Checksum-Type", r.Header.Get("X-Amz-Checksum-Type"))
		reply(w, `<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>%s</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, key, id)
	case r.Method == http.MethodPut:
		p, err := take(r)
		if err != nil {
			fail(w, 400, "IncompleteBody")
			return
		}
		time.Sleep(putDelay)
		s.mu.Lock()
		defer s.mu.Unlock()
		if id == "" {
			s.objects[key] = p
		} else if parts := s.uploads[id]; parts != nil {
			n, _ := strconv.Atoi(q.Get("partNumber"))
			if n < 1 || n > 10_000 {
				fail(w, 400, "InvalidArgument")
				return
			}
			parts[n] = p
		} else {
			fail(w, 404, "NoSuchUpload")
			return
		}
		w.Header().Set("ETag", p.etag)
	case r.Method == http.MethodPost && id != "":
		s.complete(w, r, key, id)
	case r.Method == http.MethodDelete:
		s.mu.Lock()
		delete(s.uploads, id)
		if id == "" {
			delete(s.objects, key)
		}
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet && id != "":
		fail(w, 404, "NoSuchUpload") // ListParts: no upload is resumed here
	case r.Method == http.MethodGet && q.Has("uploads"):
		reply(w, `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
	case key == "": // ListObjects, HeadBucket
		reply(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
	default:
		s.mu.Lock()
		o, ok := s.objects[key]
		s.mu.Unlock()
		if !ok {
			fail(w, 404, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", o.etag)
		w.Header().Set("Content-Length", strconv.FormatInt(o.size, 10))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("X-Amz-Checksum-Crc64nvme", base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, o.crc)))
		w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
}

func (s *sink) complete(w http.ResponseWriter, r *http.Request, key, id string) {
	var in struct {
		Part []struct{ PartNumber int }
	}
	if err := xml.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(w, 400, "MalformedXML")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := s.uploads[id]
	o := piece{etag: fmt.Sprintf("\"%s-%d\"", token(), len(in.Part))} // not an MD5, and doesn't look like one
	for _, p := range in.Part {
		have, ok := parts[p.PartNumber]
		if !ok {
			fail(w, 400, "InvalidPart")
			return
		}
		o.crc = transfer.CombineCRC64(o.crc, have.crc, have.size)
		o.size += have.size
	}
	s.objects[key] = o
	delete(s.uploads, id)
	reply(w, `<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>%s</Key><ETag>%s</ETag></CompleteMultipartUploadResult>`, key, o.etag)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// take reads a body, plain or aws-chunked.
func take(r *http.Request) (piece, error) {
	p := piece{etag: `"` + token() + `"`}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	read := func(from io.Reader) error {
		for {
			n, err := from.Read(*buf)
			p.crc = crc64nvme.Update(p.crc, (*buf)[:n])
			p.size += int64(n)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") && !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return p, read(r.Body)
	}
	in := bufio.NewReader(r.Body)
	for {
		head, err := in.ReadString('\n')
		if err != nil {
			return p, err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(head), ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil {
			return p, err
		}
		if n == 0 {
			_, err := io.Copy(io.Discard, in)
			return p, err
		}
		if err := read(io.LimitReader(in, n)); err != nil {
			return p, err
		}
		if _, err := in.Discard(2); err != nil {
			return p, err
		}
	}
}

func token() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func reply(w http.ResponseWriter, format string, args ...any) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprintf(w, format, args...)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}
