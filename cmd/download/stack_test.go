package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	crc "github.com/minio/crc64nvme"
)

// Secrets in links, tickets and queries. Whatever the program prints
// in any test is searched for them.
const (
	secretSignature = "SECRETSIGNATURE"
	secretTicket    = "SECRETTICKET"
	secretQuery     = "SECRETQUERY"
	secretHeader    = "SECRETHEADER"
)

// stack is a REST API, a WebSocket API and a storage in process, with one file.
// It is strict: what a real one would refuse fails the test.
type stack struct {
	t       *testing.T
	api     *httptest.Server
	storage *httptest.Server
	content []byte

	mu sync.Mutex
	// The fields of a link.
	fileName   string
	checksum   map[string]string
	digest     map[string]string
	unverified bool
	size       int64 // of the content; another value is a lie
	etag       string
	linkURL    string // "" is the storage's own

	// Behaviour; nil or zero is the ordinary one.
	onRequest func(r *http.Request, body []byte)                  // looks at every one that the API gets
	copyTime  chan struct{}                                       // closed when the copy is done
	onAsk     func(w http.ResponseWriter, n int) bool             // true: answered
	onSocket  func(ctx context.Context, c *websocket.Conn, n int) // speaks instead of the stack
	noSockets bool
	onStatus  func(w http.ResponseWriter, n int) bool
	onStore   func(w *storeReply, r *http.Request, n int) bool
	// loseAnswers is how many of the first questions get no answer, though their
	// copies began.
	loseAnswers int
	// refusedDeletes is how many of the first cancels are refused for now.
	refusedDeletes int
	maxLink        int // links above this number are refused as expired, 0: none are
	minLink        int // links below it are too
	earlier        int // links up to this number were an earlier start's: what asks with them counts for nothing

	// What was seen.
	asks        []*http.Request
	sockets     []*http.Request
	statuses    []time.Time
	preferences []string // of the status questions
	deletes     int
	stores      []*http.Request
	sent        int64 // bytes that the storage sent
	links       int
	keys        map[string]keyed // by Idempotency-Key: a copy each
	expired     map[int]bool     // copies whose file is no longer kept
	cancelled   bool
	messages    []string // of the client, on sockets

	active int // requests being answered
}

func setUp(t *testing.T, size int) (*stack, *client) {
	t.Helper()
	s := newStack(t, size)
	return s, newClient(t, s)
}

func newStack(t *testing.T, size int) *stack {
	t.Helper()
	return newStackOn(t, size, httptest.NewServer)
}

// random returns the bytes of every content. A test that changes some clones them.
var random = sync.OnceValue(func() []byte {
	b := make([]byte, 40*MiB)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

func newStackOn(t *testing.T, size int, serve func(http.Handler) *httptest.Server) *stack {
	t.Helper()
	s := &stack{
		t:        t,
		content:  random()[:size:size],
		size:     int64(size),
		fileName: "report.bin",
		etag:     `"etag-1"`,
		copyTime: make(chan struct{}),
		keys:     make(map[string]keyed),
		expired:  make(map[int]bool),
	}
	close(s.copyTime)
	s.checksum = map[string]string{"crc64nvme": crcText(s.content)}

	// No ServeMux: it would clean the path that is to arrive as it was sent.
	s.api = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.locked(func() { s.active++ })
		defer s.locked(func() { s.active-- })
		if s.onRequest != nil {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			s.onRequest(r, body)
		}
		switch {
		case r.URL.Path == "/dev/download", strings.HasPrefix(r.URL.Path, "/dev/download/"):
			s.serveAsk(w, r)
		case strings.HasPrefix(r.URL.Path, "/dev/executions/"):
			s.serveStatus(w, r)
		case r.URL.Path == "/socket":
			s.serveSocket(w, r)
		default:
			t.Errorf("%s was asked for", r.URL.Path)
		}
	}))
	s.storage = serve(http.HandlerFunc(s.serveStore))
	t.Cleanup(func() {
		// A client that was killed leaves its connections open.
		s.api.CloseClientConnections()
		s.storage.CloseClientConnections()
		s.api.Close()
		s.storage.Close()
	})
	return s
}

func crcText(b []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc.Checksum(b)))
}

func (s *stack) url() string { return s.api.URL + "/dev" }

// locked changes the stack while it runs.
func (s *stack) locked(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// publishSettings makes what a test has set before visible to the goroutines that answer.
func (s *stack) publishSettings() { s.locked(func() {}) }

// waitFor waits until something was seen.
func (s *stack) waitFor(what string, condition func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(hang); ; time.Sleep(2 * time.Millisecond) {
		s.mu.Lock()
		seen := condition()
		s.mu.Unlock()
		if seen {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not seen after %v: %s", hang, what)
		}
	}
}

func (s *stack) arn(n int) string {
	return fmt.Sprintf("arn:aws:states:eu-west-1:000000000000:execution:machine:%032d", n)
}

func (s *stack) serveAsk(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asks = append(s.asks, r)
	n := len(s.asks)
	onAsk := s.onAsk
	s.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if len(key) < 16 {
		s.t.Errorf("the API was asked with the Idempotency-Key %q", key)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	if onAsk != nil && onAsk(w, n) {
		return
	}
	s.mu.Lock()
	asked := r.Method + " " + r.RequestURI + " " + r.Header.Get("Content-Type") + " " + string(body)
	first, known := s.keys[key]
	if !known {
		first = keyed{len(s.keys) + 1, asked}
		s.keys[key] = first
	}
	expired := s.expired[first.number]
	s.mu.Unlock()
	if n <= s.loseAnswers {
		panic(http.ErrAbortHandler)
	}
	switch {
	case first.asked != asked:
		writeJSON(w, 422, apiProblem("KEY_REUSED", "the key was used for another request"))
		return
	case expired:
		writeJSON(w, 410, apiProblem("EXPIRED", "no longer kept"))
		return
	}
	arn, status := s.arn(first.number), 200
	if r.Method == http.MethodPost {
		status = 202
	}
	writeJSON(w, status, map[string]any{
		"executionArn":      arn,
		"webSocketEndpoint": "ws" + strings.TrimPrefix(s.api.URL, "http") + "/socket",
		"webSocketUrl":      "ws" + strings.TrimPrefix(s.api.URL, "http") + "/socket?executionArn=" + url.QueryEscape(arn),
		"statusUrl":         s.url() + "/executions/" + arn[strings.LastIndexByte(arn, ':')+1:],
		"ticket":            secretTicket,
	})
}

// keyed is the download of an Idempotency-Key.
type keyed struct {
	number int
	asked  string
}

func apiProblem(code, message string) map[string]any {
	return map[string]any{"error": map[string]string{"code": code, "message": message}}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func (s *stack) newLink() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links++
	link := s.linkURL
	if link == "" {
		link = fmt.Sprintf("%s/bucket/object?link=%d&X-Amz-Signature=%s", s.storage.URL, s.links, secretSignature)
	}
	return map[string]any{
		"url":          link,
		"expiresAt":    time.Now().Add(time.Minute).UTC().Format(time.RFC3339),
		"size":         s.size,
		"contentType":  "application/octet-stream",
		"fileName":     s.fileName,
		"checksum":     s.checksum,
		"verified":     !s.unverified,
		"pinned":       true,
		"digest":       s.digest,
		"etag":         `"v1"`,
		"lastModified": "2026-11-01T00:00:00Z",
	}
}

func (s *stack) copied() bool {
	select {
	case <-s.copyTime:
		return true
	default:
		return false
	}
}

func (s *stack) checkTicket(r *http.Request) {
	if got := r.Header.Get("X-Download-Ticket"); got != secretTicket {
		s.t.Errorf("%s %s came with ticket %q", r.Method, r.URL.Path, got)
	}
}

func (s *stack) serveStatus(w http.ResponseWriter, r *http.Request) {
	s.checkTicket(r)
	if r.Method == http.MethodDelete {
		s.mu.Lock()
		s.deletes++
		n, done := s.deletes, s.copied()
		s.cancelled = !done && n > s.refusedDeletes
		s.mu.Unlock()
		switch {
		case n <= s.refusedDeletes:
			writeJSON(w, 503, apiProblem("THROTTLED", "later"))
			return
		case done:
			writeJSON(w, 409, apiProblem("CONFLICT", "the download has ended"))
			return
		}
		writeJSON(w, 202, map[string]any{"status": "CANCELLED"})
		return
	}
	s.mu.Lock()
	s.statuses = append(s.statuses, time.Now())
	s.preferences = append(s.preferences, r.Header.Get("Prefer"))
	n, onStatus := len(s.statuses), s.onStatus
	s.mu.Unlock()
	if onStatus != nil && onStatus(w, n) {
		return
	}
	if !s.copied() {
		writeJSON(w, 200, map[string]any{"status": "COPYING", "bytesCopied": 1, "bytesTotal": s.size})
		return
	}
	answer := s.newLink()
	answer["status"], answer["bytesCopied"], answer["bytesTotal"] = "READY", s.size, s.size
	writeJSON(w, 200, answer)
}

func (s *stack) serveSocket(w http.ResponseWriter, r *http.Request) {
	s.checkTicket(r)
	s.mu.Lock()
	s.sockets = append(s.sockets, r)
	n, onSocket := len(s.sockets), s.onSocket
	refused := s.noSockets
	s.mu.Unlock()
	if refused {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if got := r.URL.Query().Get("format"); got != "json" {
		s.t.Errorf("a socket asked for format %q", got)
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.t.Errorf("accept: %v", err)
		return
	}
	defer c.CloseNow()
	if onSocket != nil {
		onSocket(r.Context(), c, n)
		return
	}
	ctx := s.readMessages(r.Context(), c)
	select {
	case <-s.copyTime:
	case <-ctx.Done():
		return
	}
	s.sendEvent(ctx, c, ready(s.newLink()))
	<-ctx.Done() // as API Gateway: the client closes
}

func ready(l map[string]any) map[string]any {
	l["type"] = "ready"
	return l
}

// readMessages reads the client's messages; the context ends with the connection.
func (s *stack) readMessages(ctx context.Context, c *websocket.Conn) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for {
			_, data, err := c.Read(ctx)
			if err != nil {
				return
			}
			s.locked(func() { s.messages = append(s.messages, string(data)) })
		}
	}()
	return ctx
}

func (s *stack) sendEvent(ctx context.Context, c *websocket.Conn, event any) {
	text, err := json.Marshal(event)
	if err != nil {
		s.t.Error(err)
	}
	c.Write(ctx, websocket.MessageText, text)
}

func progressEvent(copied int64, total any) map[string]any {
	return map[string]any{"type": "progress", "bytesCopied": copied, "bytesTotal": total}
}

// storeReply counts, and can be cut.
type storeReply struct {
	http.ResponseWriter
	s   *stack
	cut int64 // bytes after which the connection is closed; -1: never
}

func (w *storeReply) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		piece := p[:min(len(p), 64<<10)]
		if w.cut >= 0 {
			piece = piece[:min(int64(len(piece)), w.cut)]
		}
		n, err := w.ResponseWriter.Write(piece)
		w.s.locked(func() { w.s.sent += int64(n) })
		total += n
		if err != nil {
			return total, err
		}
		p = p[n:]
		if w.cut >= 0 {
			if w.cut -= int64(n); w.cut == 0 {
				http.NewResponseController(w.ResponseWriter).Flush()
				panic(http.ErrAbortHandler)
			}
		}
	}
	return total, nil
}

// resetCounts forgets what the storage sent. Requests of a start that has ended
// may still arrive; they are refused and not counted.
func (s *stack) resetCounts() {
	s.t.Helper()
	s.waitFor("the end of every request", func() bool { return s.active == 0 })
	s.locked(func() { s.onStore, s.sent, s.stores, s.earlier = nil, 0, nil, s.links })
}

func (s *stack) serveStore(rw http.ResponseWriter, r *http.Request) {
	s.locked(func() { s.active++ })
	defer s.locked(func() { s.active-- })
	number, _ := strconv.Atoi(r.URL.Query().Get("link"))
	s.mu.Lock()
	if number <= s.earlier && s.earlier > 0 {
		s.mu.Unlock()
		storeError(rw, 403, "AccessDenied")
		return
	}
	s.stores = append(s.stores, r)
	n, onStore, etag := len(s.stores), s.onStore, s.etag
	old := s.maxLink > 0 && number > s.maxLink || number < s.minLink
	s.mu.Unlock()
	for name, values := range r.Header {
		if strings.Contains(strings.Join(values, " "), "SECRET") {
			s.t.Errorf("the storage was sent %s: %v", name, values)
		}
	}
	if got := r.URL.Query().Get("X-Amz-Signature"); got != secretSignature {
		s.t.Errorf("the storage was asked with signature %q", got)
	}
	w := &storeReply{ResponseWriter: rw, s: s, cut: -1}
	if old {
		storeError(w, 403, "AccessDenied")
		return
	}
	w.Header().Set("ETag", etag)
	if onStore != nil && onStore(w, r, n) {
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.content))
}

// storeError is an error as S3 has it, the request quoted in it.
func storeError(w http.ResponseWriter, status int, code string) {
	if counted, ok := w.(*storeReply); ok {
		w = counted.ResponseWriter
	}
	w.Header().Del("ETag")
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>about %s</Message></Error>", code, secretSignature)
}
