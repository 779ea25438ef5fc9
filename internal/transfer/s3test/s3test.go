// Package s3test is a strict in-memory S3 for tests. It checks what the service checks
// (part sizes, order, ETags, checksums, lengths, If-None-Match, the framing of a streamed
// body), and can fail as the service does, also after having applied a call.
package s3test

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/crc64nvme"
)

// Bucket is the name of the only bucket.
const Bucket = "bucket"

// Server is the S3. Set its fields before the first request.
type Server struct {
	*httptest.Server

	// MinPart is the minimum size of a part except the last: S3's 5 MiB, or less for tests
	// with many parts.
	MinPart int
	// Composite makes it keep no checksum of a whole multipart object, like some other
	// stores.
	Composite bool
	// NoTrailers makes it store the framing of a streamed body with its bytes, and accept
	// bodies without a checksum, like some other stores.
	NoTrailers bool
	// Wrong64 makes it return 32 bits as the CRC-64 of a multipart object, as moto does.
	Wrong64 bool
	// NoPartSums makes it list parts without their checksums, like some other stores.
	NoPartSums bool
	// Page is the size of a list's page; S3's is 1,000.
	Page int
	// Fault decides the fault of each call; it may be nil. n counts the calls of this
	// operation from 1.
	Fault func(op string, n int, r *http.Request) Fault

	t       reporter
	mu      sync.Mutex
	objects map[string]*Object
	uploads map[string]*upload
	calls   map[string]int
	ids     int
	active  atomic.Int64 // calls being answered
}

// Fault is how one call fails.
type Fault struct {
	// Code and Status answer with this error and do nothing.
	Code   string
	Status int
	// Drop does nothing and closes the connection, after Read bytes of the body.
	Drop bool
	Read int64
	// Lose applies the call and closes the connection without an answer.
	Lose bool
	// Cut sends this many bytes of an object and closes the connection.
	Cut int
	// Inside answers 200 with an error in the body, and does nothing.
	Inside bool
	// Flip changes a bit of the body on its way.
	Flip bool
	// Before runs before anything else: a wait, a signal.
	Before func()
	// During runs when a part has arrived and isn't stored yet.
	During func()
}

// Object is a stored object.
type Object struct {
	Data   []byte
	Header http.Header // Content-* and x-amz-meta-*
	ETag   string
	Parts  int
	CRC64  string // of the whole; "" in a composite multipart object
	CRC32  string // composite
}

type upload struct {
	key       string
	header    http.Header
	composite bool
	parts     map[int]*stored
	aborted   bool // and gone, unless a part comes late
	created   time.Time
}

type stored struct {
	data         []byte
	md5          [md5.Size]byte
	etag         string
	crc64, crc32 string
}

// New starts a server that is closed with the test.
func New(t testing.TB) *Server { return start(t, httptest.NewUnstartedServer(nil), false) }

// NewTLS starts one that speaks HTTPS.
func NewTLS(t testing.TB) *Server { return start(t, httptest.NewUnstartedServer(nil), true) }

// NewOn starts one that accepts its connections from l.
func NewOn(t testing.TB, l net.Listener) *Server {
	return start(t, &httptest.Server{Listener: l, Config: &http.Server{}}, false)
}

type reporter interface{ Errorf(format string, a ...any) }

// InProcess returns one without a network, for [Server.Do].
func InProcess(t reporter) *Server {
	return &Server{MinPart: 5 << 20, Page: 1000, t: t, objects: map[string]*Object{}, uploads: map[string]*upload{}, calls: map[string]int{}}
}

func start(t testing.TB, h *httptest.Server, tls bool) *Server {
	s := InProcess(t)
	s.Server = h
	h.Config.Handler = s
	if tls {
		h.StartTLS()
	} else {
		h.Start()
	}
	t.Cleanup(h.Close)
	return s
}

// Object returns the object with this key, nil if there is none.
func (s *Server) Object(key string) *Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[key]
}

// Put stores an object, as an earlier writer would have. Its Header may be changed.
func (s *Server) Put(key string, data []byte) *Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &Object{Data: data, ETag: etag(data), CRC64: crc64(data), Header: http.Header{}}
	s.objects[key] = o
	return o
}

// Open returns the ids of the open uploads.
func (s *Server) Open() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, u := range s.uploads {
		if !u.aborted {
			ids = append(ids, id)
		}
	}
	return ids
}

// Parts returns the part numbers that an upload has.
func (s *Server) Parts(id string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uploads[id]; u != nil {
		return slices.Sorted(maps.Keys(u.parts))
	}
	return nil
}

// Calls returns the number of calls of an operation.
func (s *Server) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Operation returns the name of the operation that a request calls.
func Operation(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	switch {
	case key == "" && q.Has("uploads"):
		return "ListMultipartUploads"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return "UploadPart"
	case r.Method == http.MethodPut:
		return "PutObject"
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return "ListParts"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	case r.Method == http.MethodHead && key == "":
		return "HeadBucket"
	case r.Method == http.MethodHead:
		return "HeadObject"
	}
	return "GetObject"
}

// Do answers one call, as the HTTPClient of an SDK's client.
func (s *Server) Do(r *http.Request) (reply *http.Response, err error) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			reply, err = nil, io.ErrUnexpectedEOF
		} else if v != nil {
			panic(v)
		}
	}()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if r.Method == http.MethodHead {
		w.Body = nil
	}
	return w.Result(), nil
}

// Idle waits until no call is being answered: a client that has given one up doesn't
// know when its part is stored.
func (s *Server) Idle() {
	for s.active.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.Add(1)
	defer s.active.Add(-1)
	path, ok := strings.CutPrefix(r.URL.Path, "/"+Bucket)
	key := strings.TrimPrefix(path, "/")
	if !ok {
		fail(w, 404, "NoSuchBucket")
		return
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		fail(w, 403, "AccessDenied")
		return
	}
	op := Operation(r)
	s.mu.Lock()
	s.calls[op]++
	n := s.calls[op]
	s.mu.Unlock()
	var f Fault
	if s.Fault != nil {
		f = s.Fault(op, n, r)
	}
	if f.Before != nil {
		f.Before()
	}
	if f.Drop {
		_, _ = io.CopyN(io.Discard, r.Body, f.Read)
		panic(http.ErrAbortHandler)
	}
	if f.Code != "" && !f.Inside {
		fail(w, f.Status, f.Code)
		return
	}
	if f.Inside {
		w.WriteHeader(200)
		writeXML(w, problem{Code: f.Code, Message: "inside a 200"})
		return
	}
	if f.Lose {
		w = &lost{header: http.Header{}}
		defer panic(http.ErrAbortHandler)
	}
	if f.Cut > 0 {
		w = &cut{w, f.Cut}
	}
	switch op {
	case "HeadBucket":
	case "ListMultipartUploads":
		s.listUploads(w, r)
	case "CreateMultipartUpload":
		s.create(w, r, key)
	case "UploadPart":
		s.uploadPart(w, r, key, f)
	case "PutObject":
		s.put(w, r, key, f)
	case "ListParts":
		s.listParts(w, r, key)
	case "CompleteMultipartUpload":
		s.complete(w, r, key)
	case "AbortMultipartUpload":
		s.abort(w, r, key)
	case "DeleteObject":
		s.mu.Lock()
		delete(s.objects, key)
		s.mu.Unlock()
		w.WriteHeader(204)
	case "HeadObject", "GetObject":
		s.get(w, r, key)
	}
}

// lost is an answer that is not sent.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) Write(p []byte) (int, error) { return len(p), nil }
func (l *lost) WriteHeader(int)             {}

// cut is an answer whose connection breaks after some bytes of the body.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n, _ := c.ResponseWriter.Write(p[:min(c.left, len(p))])
	if c.left -= n; c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

type problem struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	writeXML(w, problem{Code: code, Message: "as " + code})
}

func writeXML(w io.Writer, v any) {
	b, err := xml.Marshal(v)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(b)
}

func etag(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func crc64(b []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(b)))
}

func crc(b []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)))
}

// body reads a request's body, plain or aws-chunked, and checks its checksum. It
// has answered with an error when it isn't ok.
func (s *Server) body(w http.ResponseWriter, r *http.Request, flip bool) (data []byte, ok bool) {
	trailer := http.Header{}
	hash := r.Header.Get("X-Amz-Content-Sha256")
	if hash == "STREAMING-UNSIGNED-PAYLOAD-TRAILER" && !s.NoTrailers {
		if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") || r.ContentLength <= 0 {
			s.t.Errorf("a streamed body without Content-Encoding aws-chunked or length")
		}
		var err error
		if data, err = chunks(r.Body, trailer); err != nil {
			fail(w, 400, "IncompleteBody")
			return nil, false
		}
		if want := r.Header.Get("X-Amz-Decoded-Content-Length"); want != strconv.Itoa(len(data)) {
			fail(w, 400, "IncompleteBody")
			return nil, false
		}
		if name := r.Header.Get("X-Amz-Trailer"); name == "" || trailer.Get(name) == "" {
			fail(w, 400, "MalformedTrailerError")
			return nil, false
		}
	} else {
		in := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength, 0)+bytes.MinRead))
		if _, err := in.ReadFrom(r.Body); err != nil {
			fail(w, 400, "IncompleteBody")
			return nil, false
		}
		data = in.Bytes()
	}
	if flip && len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	checked := false
	for name, sum := range map[string]func([]byte) string{"X-Amz-Checksum-Crc64nvme": crc64, "X-Amz-Checksum-Crc32": crc} {
		want := r.Header.Get(name)
		if want == "" {
			want = trailer.Get(name)
		}
		if want == "" {
			continue
		}
		checked = true
		if want != sum(data) {
			fail(w, 400, "BadDigest")
			return nil, false
		}
	}
	if !checked && !s.NoTrailers {
		s.t.Errorf("%s %s has no checksum", r.Method, r.URL.Path)
	}
	return data, true
}

// chunks decodes aws-chunked without signatures.
func chunks(r io.Reader, trailer http.Header) ([]byte, error) {
	in := bufio.NewReader(r)
	var data []byte
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(line, "\r\n"), 16, 64)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		before := len(data)
		data = append(data, make([]byte, n+2)...)
		if _, err := io.ReadFull(in, data[before:]); err != nil {
			return nil, err
		}
		end := len(data) - 2
		if string(data[end:]) != "\r\n" {
			return nil, fmt.Errorf("no line end behind a chunk")
		}
		data = data[:end]
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" {
			_, err := in.ReadByte()
			if err != io.EOF {
				return nil, fmt.Errorf("bytes behind the trailer")
			}
			return data, nil
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), ":")
		trailer.Set(name, value)
	}
}

func kept(r *http.Request) http.Header {
	h := http.Header{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == "Content-Type" || name == "Content-Disposition" {
			h[name] = values
		}
	}
	var encodings []string
	for _, e := range r.Header.Values("Content-Encoding") {
		if e != "aws-chunked" {
			encodings = append(encodings, e)
		}
	}
	if len(encodings) > 0 {
		h.Set("Content-Encoding", strings.Join(encodings, ","))
	}
	return h
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string, f Fault) {
	data, ok := s.body(w, r, f.Flip)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("If-None-Match") == "*" && s.objects[key] != nil {
		fail(w, 412, "PreconditionFailed")
		return
	}
	s.objects[key] = &Object{Data: data, Header: kept(r), ETag: etag(data), CRC64: crc64(data)}
	w.Header().Set("ETag", etag(data))
	w.WriteHeader(200)
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	algorithm, kind := r.Header.Get("X-Amz-Checksum-Algorithm"), r.Header.Get("X-Amz-Checksum-Type")
	composite := algorithm == "CRC32" && kind != "FULL_OBJECT" || s.Composite
	if algorithm == "" {
		s.t.Errorf("an upload without a checksum algorithm")
	}
	s.ids++
	id := fmt.Sprintf("upload-%d", s.ids)
	s.uploads[id] = &upload{key: key, header: kept(r), composite: composite, parts: map[int]*stored{}, created: time.Now()}
	w.Header().Set("X-Amz-Checksum-Algorithm", algorithm)
	w.Header().Set("X-Amz-Checksum-Type", map[bool]string{true: "COMPOSITE", false: "FULL_OBJECT"}[composite])
	w.WriteHeader(200)
	writeXML(w, struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket   string
		Key      string
		UploadId string
	}{Bucket: Bucket, Key: key, UploadId: id})
}

// find returns the open upload that r is about, else it has answered.
func (s *Server) find(w http.ResponseWriter, r *http.Request, key string) *upload {
	u := s.uploads[r.URL.Query().Get("uploadId")]
	if u == nil || u.key != key || u.aborted {
		fail(w, 404, "NoSuchUpload")
		return nil
	}
	return u
}

func (s *Server) uploadPart(w http.ResponseWriter, r *http.Request, key string, f Fault) {
	n, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil || n < 1 || n > 10_000 {
		fail(w, 400, "InvalidArgument")
		return
	}
	s.mu.Lock()
	u := s.find(w, r, key)
	if u == nil {
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	data, ok := s.body(w, r, f.Flip)
	if !ok {
		return
	}
	if f.During != nil {
		f.During()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &stored{data: data, md5: md5.Sum(data), crc64: crc64(data), crc32: crc(data)}
	p.etag = fmt.Sprintf("\"%x\"", p.md5)
	u.parts[n] = p
	// As S3's documentation warns, a part in flight during an abort may still be stored,
	// and the upload then exists again.
	u.aborted = false
	w.Header().Set("ETag", p.etag)
	w.WriteHeader(200)
}

func (s *Server) abort(w http.ResponseWriter, r *http.Request, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.find(w, r, key)
	if u == nil {
		return
	}
	u.parts = map[int]*stored{}
	u.aborted = true
	w.WriteHeader(204)
}

func (s *Server) listUploads(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Key       string
		UploadId  string
		Initiated string
	}
	out := struct {
		XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
		Bucket             string
		IsTruncated        bool
		NextKeyMarker      string
		NextUploadIdMarker string
		Upload             []entry
	}{Bucket: Bucket}
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []entry
	for id, u := range s.uploads {
		if !u.aborted && strings.HasPrefix(u.key, q.Get("prefix")) {
			all = append(all, entry{u.key, id, u.created.UTC().Format(time.RFC3339)})
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return strings.Compare(a.Key+"\x00"+a.UploadId, b.Key+"\x00"+b.UploadId)
	})
	after := q.Get("key-marker") + "\x00" + q.Get("upload-id-marker")
	for _, e := range all {
		if after != "\x00" && e.Key+"\x00"+e.UploadId <= after {
			continue
		}
		if len(out.Upload) == s.Page {
			out.IsTruncated = true
			break
		}
		out.Upload = append(out.Upload, e)
		out.NextKeyMarker, out.NextUploadIdMarker = e.Key, e.UploadId
	}
	writeXML(w, out)
}

func (s *Server) listParts(w http.ResponseWriter, r *http.Request, key string) {
	type entry struct {
		PartNumber        int
		ETag              string
		Size              int
		ChecksumCRC64NVME string `xml:",omitempty"`
		ChecksumCRC32     string `xml:",omitempty"`
	}
	out := struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		IsTruncated          bool
		NextPartNumberMarker int
		Part                 []entry
	}{}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.find(w, r, key)
	if u == nil {
		return
	}
	after, _ := strconv.Atoi(r.URL.Query().Get("part-number-marker"))
	page := s.Page
	if n, err := strconv.Atoi(r.URL.Query().Get("max-parts")); err == nil {
		page = min(page, n)
	}
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		if n <= after {
			continue
		}
		if len(out.Part) == page {
			out.IsTruncated = true
			break
		}
		p := u.parts[n]
		e := entry{PartNumber: n, ETag: p.etag, Size: len(p.data)}
		switch {
		case s.NoPartSums:
		case u.composite:
			e.ChecksumCRC32 = p.crc32
		default:
			e.ChecksumCRC64NVME = p.crc64
		}
		out.Part = append(out.Part, e)
		out.NextPartNumberMarker = n
	}
	writeXML(w, out)
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request, key string) {
	var in struct {
		Part []struct {
			PartNumber        int
			ETag              string
			ChecksumCRC64NVME string
			ChecksumCRC32     string
		}
	}
	if err := xml.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Part) == 0 {
		fail(w, 400, "MalformedXML")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.URL.Query().Get("uploadId")
	u := s.find(w, r, key)
	if u == nil {
		return
	}
	if r.Header.Get("If-None-Match") == "*" && s.objects[key] != nil {
		fail(w, 412, "PreconditionFailed")
		return
	}
	var parts [][]byte
	var md5s, crc32s []byte
	last := 0
	for i, p := range in.Part {
		have := u.parts[p.PartNumber]
		switch {
		case p.PartNumber <= last:
			fail(w, 400, "InvalidPartOrder")
			return
		case have == nil, have.etag != p.ETag,
			p.ChecksumCRC64NVME != "" && p.ChecksumCRC64NVME != have.crc64,
			p.ChecksumCRC32 != "" && p.ChecksumCRC32 != have.crc32:
			fail(w, 400, "InvalidPart")
			return
		case u.composite && p.ChecksumCRC32 == "":
			fail(w, 400, "InvalidRequest")
			return
		case i < len(in.Part)-1 && len(have.data) < s.MinPart:
			fail(w, 400, "EntityTooSmall")
			return
		}
		last = p.PartNumber
		parts = append(parts, have.data)
		md5s = append(md5s, have.md5[:]...)
		crc32s = binary.BigEndian.AppendUint32(crc32s, crc32.ChecksumIEEE(have.data))
	}
	whole := bytes.Join(parts, nil)
	o := &Object{Data: whole, Header: u.header, Parts: len(in.Part), ETag: strings.TrimSuffix(etag(md5s), `"`) + fmt.Sprintf(`-%d"`, len(in.Part))}
	sum, kind := r.Header.Get("X-Amz-Checksum-Crc64nvme"), r.Header.Get("X-Amz-Checksum-Type")
	if u.composite {
		o.CRC32 = crc(crc32s) + fmt.Sprintf("-%d", len(in.Part))
		sum, kind = r.Header.Get("X-Amz-Checksum-Crc32"), "FULL_OBJECT"
		if sum != "" && sum != o.CRC32 {
			fail(w, 400, "BadDigest")
			return
		}
	} else if o.CRC64 = crc64(whole); sum != "" && sum != o.CRC64 || sum != "" && kind != "FULL_OBJECT" {
		fail(w, 400, "BadDigest")
		return
	}
	if sum == "" && !s.NoPartSums {
		s.t.Errorf("CompleteMultipartUpload without the checksum of the object")
	}
	if size := r.Header.Get("X-Amz-Mp-Object-Size"); size != strconv.Itoa(len(whole)) {
		s.t.Errorf("CompleteMultipartUpload of %d bytes says %q", len(whole), size)
		fail(w, 400, "InvalidRequest")
		return
	}
	s.objects[key] = o
	delete(s.uploads, id)
	w.WriteHeader(200)
	writeXML(w, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket  string
		Key     string
		ETag    string
	}{Bucket: Bucket, Key: key, ETag: o.ETag})
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, key string) {
	o := s.Object(key)
	if o == nil {
		fail(w, 404, "NoSuchKey")
		return
	}
	maps.Copy(w.Header(), o.Header)
	w.Header().Set("ETag", o.ETag)
	if r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" && r.Header.Get("Range") == "" {
		if s.Wrong64 && o.Parts > 0 {
			w.Header().Set("X-Amz-Checksum-Crc64nvme", crc(o.Data))
			w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		} else if o.CRC64 != "" {
			w.Header().Set("X-Amz-Checksum-Crc64nvme", o.CRC64)
			w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		} else {
			w.Header().Set("X-Amz-Checksum-Crc32", o.CRC32)
			w.Header().Set("X-Amz-Checksum-Type", "COMPOSITE")
		}
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(o.Data))) // which ServeContent leaves out beside a Content-Encoding
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.Data))
}
