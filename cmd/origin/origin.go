package main

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxDigest limits the time that digest and /_sha256 take before an answer;
// SHA-256 needs a second or two for this size.
const maxDigest = 1 << 30

// The system's MIME table would make answers differ between machines.
var contentTypes = map[string]string{
	"":      "application/octet-stream",
	".bin":  "application/octet-stream",
	".csv":  "text/csv; charset=utf-8",
	".gz":   "application/gzip",
	".html": "text/html; charset=utf-8",
	".json": "application/json",
	".mp4":  "video/mp4",
	".pdf":  "application/pdf",
	".png":  "image/png",
	".txt":  "text/plain; charset=utf-8",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".zip":  "application/zip",
}

type origin struct {
	size int64
	name string
	log  *log.Logger

	mu       sync.Mutex
	requests map[string]int // by path and query

	reports reports

	digests sync.Map // content → func() [32]byte, so that concurrent requests compute it once
}

func newOrigin(size int64, name string, stderr io.Writer) http.Handler {
	o := &origin{
		size:     size,
		name:     name,
		log:      log.New(stderr, "", log.Ltime|log.Lmicroseconds),
		requests: make(map[string]int),
	}
	return http.HandlerFunc(o.serve)
}

func (o *origin) serve(rw http.ResponseWriter, r *http.Request) {
	w := &answer{ResponseWriter: rw, ctx: r.Context(), cut: -1}
	start := time.Now()
	defer func() {
		o.log.Printf("%s %q %d %d bytes %s range=%q", r.Method, r.RequestURI, w.status, w.sent,
			time.Since(start).Round(time.Millisecond), r.Header.Get("Range"))
		if w.cutShort {
			panic(http.ErrAbortHandler) // closes the connection without ending the body
		}
	}()

	if r.URL.Path == "/_requests" {
		o.reports.serveLog(w, r)
		return
	}
	w.body = o.reports.note(r)
	if number, isJob := strings.CutPrefix(r.URL.Path, "/report/jobs/"); isJob {
		o.serveJob(w, r, number)
		return
	}
	target, isSum := strings.CutPrefix(r.URL.Path, "/_sha256")
	file, err := o.parse(target, r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if file == nil {
		http.NotFound(w, r)
		return
	}
	if isSum {
		o.serveSum(w, file, strings.TrimPrefix(r.RequestURI, "/_sha256"))
		return
	}
	if file.report == nil && r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	o.serveFile(w, r, file)
}

// file is the parsed path and query of a request.
type file struct {
	size        int64
	contentType string
	name        string // for Content-Disposition

	delay       time.Duration
	rate        int64 // bytes per second; 0 is unlimited
	cut         int64 // -1 is no cut
	status      int
	retryAfter  string
	times       int // -1 is always
	changeAfter int // -1 is never

	noRanges, chunked, close, gzip, digest, etag string // "" is absent

	report *report // nil for a plain file
}

// parse returns nil for a path without a file.
func (o *origin) parse(target, rawQuery string) (*file, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	f := &file{cut: -1, times: -1, changeAfter: -1}
	rest, underFile := strings.CutPrefix(target, "/file/")
	inReport, underReport := strings.CutPrefix(target, "/report")
	switch {
	case underReport && (inReport == "" || inReport[0] == '/'):
		if f, err = parseReport(inReport, query); err != nil {
			return nil, err
		}
		f.contentType = contentTypes[path.Ext(target)]
	case target == "/" || target == "":
		f.size, f.name, f.contentType = o.size, o.name, contentTypes[path.Ext(o.name)]
	case underFile:
		size, _, _ := strings.Cut(rest, "/")
		n, err := parseSize(size)
		if err != nil {
			return nil, err
		}
		f.size, f.contentType = n, contentTypes[path.Ext(target)]
	default:
		return nil, nil
	}
	if f.contentType == "" {
		f.contentType = contentTypes[""]
	}

	for name, values := range query {
		if err := f.set(name, values[0]); err != nil {
			return nil, fmt.Errorf("%s=%s: %w", name, values[0], err)
		}
	}
	return f, nil
}

// set ignores unknown names: tests also use the query to check that it reaches the
// origin.
func (f *file) set(name, value string) (err error) {
	word := value
	if word == "" {
		word = "yes"
	}
	switch name {
	case "cd":
		f.name = value
	case "type":
		f.contentType = value
	case "delay":
		f.delay, err = time.ParseDuration(value)
	case "rate":
		f.rate, err = parseSize(value)
	case "cut":
		f.cut, err = parseSize(value)
	case "status":
		f.status, err = strconv.Atoi(value)
		if err == nil && (f.status < 200 || f.status > 599) {
			err = fmt.Errorf("want 200 to 599")
		}
	case "retryafter":
		f.retryAfter = value
	case "times":
		f.times, err = strconv.Atoi(value)
	case "changeafter":
		f.changeAfter, err = strconv.Atoi(value)
	case "noranges":
		f.noRanges = word
	case "chunked":
		f.chunked = word
	case "close":
		f.close = word
	case "gzip":
		f.gzip = word
	case "digest":
		f.digest = word
	case "etag":
		f.etag = word
	}
	return err
}

func (f *file) content(request int) *content {
	if f.changeAfter >= 0 && request > f.changeAfter {
		return newContent(f.size, 1)
	}
	return newContent(f.size, 0)
}

// count returns the number of this request for its path and query, from 1.
func (o *origin) count(uri string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests[uri]++
	return o.requests[uri]
}

func (o *origin) serveSum(w http.ResponseWriter, f *file, uri string) {
	o.mu.Lock()
	next := o.requests[uri] + 1
	o.mu.Unlock()
	if f.size > maxDigest {
		http.Error(w, "no SHA-256 above 1 GiB", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintf(w, "%x\n", o.sum(f.content(next)))
}

func (o *origin) sum(c *content) [32]byte {
	compute, _ := o.digests.LoadOrStore(*c, sync.OnceValue(c.sha256))
	return compute.(func() [32]byte)()
}

func (o *origin) serveFile(w *answer, r *http.Request, f *file) {
	request := o.count(r.RequestURI)
	misbehaves := f.times < 0 || request <= f.times
	content := f.content(request)
	header := w.Header()

	if f.delay > 0 && misbehaves {
		select {
		case <-time.After(f.delay):
		case <-r.Context().Done():
			return
		}
	}
	if f.status != 0 && misbehaves {
		if f.retryAfter != "" {
			header.Set("Retry-After", f.retryAfter)
		}
		http.Error(w, http.StatusText(f.status), f.status)
		return
	}
	if f.report != nil && o.serveReport(w, r, f) {
		return
	}

	header.Set("Content-Type", f.contentType)
	if f.name != "" {
		header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.name}))
	}
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(content.version) * time.Hour)
	tag := fmt.Sprintf(`"%016x"`, mix(uint64(f.size))^mix(content.version+1))
	compress := f.gzip == "force" || f.gzip != "" && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
	if compress {
		tag = strings.TrimSuffix(tag, `"`) + `-gzip"` // another representation needs another tag
	}
	switch f.etag {
	case "none":
		modified = time.Time{}
	case "weak":
		header.Set("ETag", "W/"+tag)
	default:
		header.Set("ETag", tag)
	}
	if f.digest != "" && f.size <= maxDigest && !compress {
		sum := o.sum(content)
		if f.digest == "wrong" {
			sum[0] ^= 1
		}
		header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	}
	if misbehaves {
		w.cut = f.cut
	}
	w.rate = f.rate

	if !compress && f.noRanges == "" && f.chunked == "" && f.close == "" {
		http.ServeContent(w, r, "", modified, content)
		return
	}
	o.serveWhole(w, r, f, content, compress)
}

// serveWhole answers as an origin without ranges does: always 200.
func (o *origin) serveWhole(w *answer, r *http.Request, f *file, content *content, compress bool) {
	header := w.Header()
	switch f.noRanges {
	case "":
	case "lie":
		header.Set("Accept-Ranges", "bytes")
	default:
		header.Set("Accept-Ranges", "none")
	}
	switch {
	case f.close != "":
		header.Set("Transfer-Encoding", "identity") // how net/http is asked to delimit by close
	case f.chunked == "" && !compress:
		header.Set("Content-Length", strconv.FormatInt(f.size, 10))
	}
	if compress {
		header.Set("Content-Encoding", "gzip")
		header.Add("Vary", "Accept-Encoding")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if f.chunked != "" {
		// Without the flush, net/http would send a length with a short answer.
		http.NewResponseController(w).Flush()
	}
	if !compress {
		io.Copy(w, content) // an error means that the client has gone
		return
	}
	// No level compresses noise, so the fastest one will do.
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	io.Copy(z, content)
	z.Close()
}

// answer counts the bytes sent, limits their rate, and cuts the answer.
type answer struct {
	http.ResponseWriter
	ctx  context.Context
	body []byte // the request's
	rate int64
	cut  int64

	status   int
	sent     int64
	started  time.Time
	cutShort bool
}

// Unwrap supports [http.ResponseController].
func (w *answer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	total := 0
	for len(p) > 0 {
		piece := p
		if w.rate > 0 {
			// Twenty writes per second look like a slow connection, not like bursts.
			piece = p[:min(int64(len(p)), max(1, w.rate/20))]
		}
		if w.cut >= 0 {
			piece = piece[:min(int64(len(piece)), w.cut-w.sent)]
		}
		n, err := w.ResponseWriter.Write(piece)
		total += n
		w.sent += int64(n)
		if err != nil {
			return total, err
		}
		p = p[n:]
		if w.cut >= 0 && w.sent >= w.cut && len(p) > 0 {
			// Flush, because the panic would discard what was written so far.
			http.NewResponseController(w.ResponseWriter).Flush()
			w.cutShort = true
			return total, io.ErrShortWrite
		}
		if err := w.pace(); err != nil {
			return total, err
		}
	}
	return total, nil
}

// pace sleeps until the rate allows the bytes sent so far.
func (w *answer) pace() error {
	if w.rate <= 0 {
		return nil
	}
	if w.started.IsZero() {
		w.started = time.Now()
	}
	due := w.started.Add(time.Duration(float64(w.sent) / float64(w.rate) * float64(time.Second)))
	wait := time.Until(due)
	if wait < 10*time.Millisecond {
		return nil
	}
	http.NewResponseController(w.ResponseWriter).Flush()
	select {
	case <-time.After(wait):
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}
