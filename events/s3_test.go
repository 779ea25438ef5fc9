package events_test

import (
	"bytes"
	"cmp"
	"crypto/md5" //nolint:gosec // what S3 makes an ETag of
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// store implements the part of S3 that a copy uses: it stores objects, rejects
// damaged bodies, and computes the checksum of the whole object.
type store struct {
	mu      sync.Mutex
	objects map[string]*thing
	uploads map[string]*upload // by id
	made    int
	ops     []string
	// straggler opens another upload after an object was deleted, as a worker does that
	// hasn't noticed the end yet.
	straggler bool
}

// thing is a stored object.
type thing struct {
	data   []byte
	header map[string]string
	parts  int // 0 for PutObject
}

type upload struct {
	key    string
	header map[string]string
	parts  map[int][]byte
}

func newStore() *store {
	return &store{objects: map[string]*thing{}, uploads: map[string]*upload{}}
}

// open creates an upload with parts, as left by an earlier run.
func (s *store) open(id string, parts map[int][]byte) *store {
	s.uploads[id] = &upload{key: key, header: map[string]string{"Content-Type": "application/pdf"}, parts: parts}
	return s
}

// put stores an object, as left by an earlier run.
func (s *store) put(data string) *store {
	s.objects[key] = &thing{data: []byte(data), header: map[string]string{"Content-Type": "application/pdf"}}
	return s
}

var nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5) // CRC-64/NVME, reflected

func crc64NVME(b []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64.Checksum(b, nvme)))
}

func etag(b []byte) string {
	sum := md5.Sum(b) //nolint:gosec // as above
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// damaged compares a body with its checksums.
func damaged(params map[string]any, body []byte) bool {
	crc := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
	for name, want := range map[string]string{"X-Amz-Checksum-Crc64nvme": crc64NVME(body), "X-Amz-Checksum-Crc32": crc} {
		if got, there := params[name]; there && got != want {
			return true
		}
	}
	return false
}

func (s *store) serve(r request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := strings.TrimPrefix(r.op, "S3.")
	s.ops = append(s.ops, op)
	text := func(name string) string { v, _ := r.params[name].(string); return v }
	number := func(name string) int { n, _ := strconv.Atoi(text(name)); return n }
	if text("Bucket") != bucket {
		return s3Error(http.StatusNotFound, "NoSuchBucket")
	}
	key, body := text("Key"), []byte(text("Body"))
	object := s.objects[key]
	u := s.uploads[text("uploadId")]
	if u != nil && u.key != key {
		u = nil
	}
	switch op {
	case "PutObject", "UploadPart":
		if damaged(r.params, body) {
			return s3Error(http.StatusBadRequest, "BadDigest")
		}
		if want, there := r.params["X-Amz-Decoded-Content-Length"]; there && want != strconv.Itoa(len(body)) {
			return s3Error(http.StatusBadRequest, "IncompleteBody")
		}
	}
	if object != nil && (op == "PutObject" || op == "CompleteMultipartUpload") && text("If-None-Match") == "*" {
		return s3Error(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	if u == nil && slices.Contains([]string{"UploadPart", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"}, op) {
		return s3Error(http.StatusNotFound, "NoSuchUpload")
	}

	switch op {
	case "HeadObject", "GetObject":
		if object == nil && op == "HeadObject" {
			return notFound
		}
		if object == nil {
			return s3Error(http.StatusNotFound, "NoSuchKey")
		}
		h := maps.Clone(object.header)
		h["Content-Length"], h["Etag"] = strconv.Itoa(len(object.data)), etag(object.data)
		if text("X-Amz-Checksum-Mode") == "ENABLED" {
			h["X-Amz-Checksum-Crc64nvme"], h["X-Amz-Checksum-Type"] = crc64NVME(object.data), "FULL_OBJECT"
		}
		return answer{header: h, body: string(object.data)}
	case "PutObject":
		s.objects[key] = &thing{data: body, header: kept(r.params)}
		return answer{header: map[string]string{"Etag": etag(body), "X-Amz-Checksum-Crc64nvme": crc64NVME(body), "X-Amz-Checksum-Type": "FULL_OBJECT"}}
	case "DeleteObject":
		delete(s.objects, key)
		if s.straggler {
			s.straggler = false
			s.open("upload-of-a-straggler", map[int][]byte{1: body})
		}
		return answer{status: http.StatusNoContent}
	case "CreateMultipartUpload":
		s.made++
		id := "upload-" + strconv.Itoa(s.made)
		s.uploads[id] = &upload{key: key, header: kept(r.params), parts: map[int][]byte{}}
		a := s3XML(element("InitiateMultipartUploadResult", element("Bucket", bucket), element("Key", key), element("UploadId", id)))
		a.header["X-Amz-Checksum-Algorithm"], a.header["X-Amz-Checksum-Type"] = "CRC64NVME", "FULL_OBJECT"
		return a
	case "UploadPart":
		u.parts[number("partNumber")] = body
		return answer{header: map[string]string{"Etag": etag(body), "X-Amz-Checksum-Crc64nvme": crc64NVME(body)}}
	case "ListParts":
		limit := cmp.Or(number("max-parts"), 1000)
		var parts []string
		truncated, last := false, 0
		for _, n := range slices.Sorted(maps.Keys(u.parts)) {
			if n <= number("part-number-marker") {
				continue
			}
			if truncated = len(parts) == limit; truncated {
				break
			}
			last = n
			parts = append(parts, element("Part", element("PartNumber", strconv.Itoa(n)), element("Size", strconv.Itoa(len(u.parts[n]))),
				element("ETag", xmlQuote(etag(u.parts[n]))), element("ChecksumCRC64NVME", crc64NVME(u.parts[n]))))
		}
		return s3XML(element("ListPartsResult", element("Bucket", bucket), element("Key", key), element("UploadId", text("uploadId")),
			element("MaxParts", strconv.Itoa(limit)), element("IsTruncated", strconv.FormatBool(truncated)), element("NextPartNumberMarker", strconv.Itoa(last)),
			element("ChecksumAlgorithm", "CRC64NVME"), element("ChecksumType", "FULL_OBJECT"), strings.Join(parts, "")))
	case "ListMultipartUploads":
		var open []string
		for _, id := range slices.Sorted(maps.Keys(s.uploads)) {
			if strings.HasPrefix(s.uploads[id].key, text("prefix")) {
				open = append(open, element("Upload", element("Key", s.uploads[id].key), element("UploadId", id)))
			}
		}
		return s3XML(element("ListMultipartUploadsResult", element("Bucket", bucket), element("IsTruncated", "false"), strings.Join(open, "")))
	case "AbortMultipartUpload":
		delete(s.uploads, text("uploadId"))
		return answer{status: http.StatusNoContent}
	case "CompleteMultipartUpload":
		return s.complete(r, text("uploadId"), u, body)
	}
	return s3Error(http.StatusNotImplemented, "NotImplemented")
}

func (s *store) complete(r request, id string, u *upload, body []byte) answer {
	var named struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(body, &named); err != nil || len(named.Part) == 0 {
		return s3Error(http.StatusBadRequest, "MalformedXML")
	}
	var data []byte
	before := 0
	for _, p := range named.Part {
		part, there := u.parts[p.PartNumber]
		if p.PartNumber <= before {
			return s3Error(http.StatusBadRequest, "InvalidPartOrder")
		}
		if !there || p.ETag != etag(part) {
			return s3Error(http.StatusBadRequest, "InvalidPart")
		}
		before = p.PartNumber
		data = append(data, part...)
	}
	if damaged(r.params, data) {
		return s3Error(http.StatusBadRequest, "BadDigest")
	}
	delete(s.uploads, id)
	s.objects[u.key] = &thing{data: data, header: u.header, parts: len(named.Part)}
	return s3XML(element("CompleteMultipartUploadResult", element("Bucket", bucket), element("Key", u.key), element("ETag", xmlQuote(etag(data))),
		element("ChecksumCRC64NVME", crc64NVME(data)), element("ChecksumType", "FULL_OBJECT")))
}

// kept are the headers that S3 returns with an object.
func kept(params map[string]any) map[string]string {
	h := map[string]string{}
	for name, v := range params {
		s, _ := v.(string)
		switch {
		case name == "Content-Encoding":
			if s = strings.Trim(strings.Replace(s, "aws-chunked", "", 1), ", "); s == "" {
				continue
			}
		case name != "Content-Type" && name != "Content-Disposition" && !strings.HasPrefix(name, "X-Amz-Meta-"):
			continue
		}
		h[name] = s
	}
	return h
}

// unchunk decodes an aws-chunked body, with the checksum in its trailer if there is
// one:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
func unchunk(body []byte) (data []byte, trailers map[string]string, err error) {
	for {
		line, rest, found := bytes.Cut(body, []byte("\r\n"))
		size, err := strconv.ParseInt(string(bytes.SplitN(line, []byte(";"), 2)[0]), 16, 64)
		if !found || err != nil || size > int64(len(rest)) {
			return nil, nil, fmt.Errorf("broken aws-chunked body at %.40q", line)
		}
		if size == 0 {
			body = rest
			break
		}
		data = append(data, rest[:size]...)
		if body, found = bytes.CutPrefix(rest[size:], []byte("\r\n")); !found {
			return nil, nil, fmt.Errorf("no line break behind a chunk of %d", size)
		}
	}
	trailers = map[string]string{}
	for line := range strings.SplitSeq(string(body), "\r\n") {
		if name, value, found := strings.Cut(line, ":"); found {
			trailers[textproto.CanonicalMIMEHeaderKey(name)] = strings.TrimSpace(value)
		}
	}
	return data, trailers, nil
}

func element(name string, content ...string) string {
	return "<" + name + ">" + strings.Join(content, "") + "</" + name + ">"
}

func xmlQuote(s string) string { return strings.ReplaceAll(s, `"`, "&quot;") }

func s3Error(status int, code string) answer {
	a := s3XML(element("Error", element("Code", code), element("Message", "the reason why"), element("RequestId", "4442587FB7D0A2F9")))
	a.status = status
	return a
}

func s3XML(content string) answer {
	return answer{header: map[string]string{"Content-Type": "application/xml"}, body: xml.Header + content}
}
