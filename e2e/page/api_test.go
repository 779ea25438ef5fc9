package page

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"async-download/e2e/browser"
	"async-download/internal/page"
	"async-download/internal/rest"
)

// content is the file that every download leads to.
var content = strings.Repeat("0123456789abcdef", 4096)

func contentSum() string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

const arn = "arn:aws:states:us-east-1:000000000000:execution:DownloadStateMachine:0123456789abcdef0123456789abcdef"

// event is a message on the socket; a status without its type.
type event map[string]any

func progress(copied, total int) event {
	return event{"type": "progress", "bytesCopied": copied, "bytesTotal": total}
}

func failed(code, message string) event {
	return event{"type": "failed", "code": code, "message": message}
}

// fakeAPI serves the page and answers as a test wants: REST below /dev, sockets at
// /socket, files at /s3.
type fakeAPI struct {
	t       *testing.T
	url     string // of the API, ending in /dev
	auth    string // ApiAuth
	origins string // AllowedWebOrigins
	done    chan struct{}

	mu        sync.Mutex
	requests  []*http.Request
	answer    func(*http.Request) (status int, body any) // status 0: the usual answer; -1: the connection ends
	status    event                                      // what GET /executions answers, and each new socket says
	links     int                                        // signed so far
	noSockets bool
	mute      bool // sockets say nothing
	frozen    bool // neither do they, and requests are not answered
	sockets   []*websocket.Conn
}

func newAPI(t *testing.T, auth string) *fakeAPI {
	a := &fakeAPI{t: t, auth: auth, origins: "*", status: progress(0, 0), done: make(chan struct{})}
	a.status["bytesTotal"] = nil
	server := httptest.NewServer(a)
	a.url = server.URL + "/dev"
	t.Cleanup(func() {
		close(a.done)
		a.cut()
		server.Close()
		if t.Failed() {
			t.Logf("requests: %q", a.asked())
		}
	})
	return a
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ofAPI := strings.CutPrefix(r.URL.Path, "/dev")
	a.mu.Lock()
	a.requests = append(a.requests, r)
	frozen, answer, status := a.frozen, a.answer, a.status
	a.mu.Unlock()
	host := strings.TrimSuffix(strings.TrimPrefix(a.url, "http://"), "/dev")
	api := rest.API{AllowedOrigins: a.origins}
	from := r.Header.Get("Origin")
	give := func(answer rest.Answer) {
		for name, value := range answer.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(answer.Status)
		io.WriteString(w, answer.Body)
	}
	switch {
	case path == "" || path == "/":
		give(page.Index(a.auth, "ws://"+host+"/socket", a.url))
		return
	case path == "/client.js":
		give(page.Client(api, map[string]string{"Origin": from}))
		return
	case r.URL.Path == "/socket":
		a.socket(w, r)
		return
	case strings.HasPrefix(r.URL.Path, "/s3/"):
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", r.URL.Path[len("/s3/"):]))
		io.WriteString(w, content)
		return
	case !ofAPI:
		http.NotFound(w, r)
		return
	case frozen:
		select {
		case <-r.Context().Done():
		case <-a.done:
		}
		return
	case r.Method == http.MethodOptions:
		give(api.Preflight(from, "GET, DELETE, OPTIONS"))
		return
	}
	if answer != nil {
		code, body := answer(r)
		if code == -1 {
			panic(http.ErrAbortHandler)
		}
		if code != 0 {
			give(api.OK(from, code, body, nil))
			return
		}
	}
	if strings.HasPrefix(path, "/executions/") {
		if r.Method == http.MethodDelete {
			give(api.OK(from, http.StatusAccepted, event{"status": "CANCELLED"}, nil))
			a.say(failed("CANCELLED", "the download was cancelled"))
			return
		}
		give(api.OK(from, http.StatusOK, status, nil))
		return
	}
	give(api.OK(from, http.StatusOK, event{
		"executionArn": arn, "webSocketEndpoint": "ws://" + host + "/socket",
		"webSocketUrl": "ws://" + host + "/socket?executionArn=" + url.QueryEscape(arn), "statusUrl": a.url + "/executions/x", "ticket": "a-ticket",
	}, nil))
}

func (a *fakeAPI) socket(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	no := a.noSockets
	a.mu.Unlock()
	if no || r.URL.Query().Get("executionArn") != arn || r.URL.Query().Get("ticket") != "a-ticket" || r.URL.Query().Get("format") != "json" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	a.mu.Lock()
	a.sockets = append(a.sockets, conn)
	a.send(conn, a.status)
	a.mu.Unlock()
	for {
		if _, _, err := conn.Read(context.Background()); err != nil {
			a.mu.Lock()
			a.sockets = slices.DeleteFunc(a.sockets, func(c *websocket.Conn) bool { return c == conn })
			a.mu.Unlock()
			return
		}
	}
}

// send posts to one socket. a.mu is held.
func (a *fakeAPI) send(conn *websocket.Conn, e event) {
	if b, err := json.Marshal(e); err == nil && !a.mute && !a.frozen {
		ctx, cancel := context.WithTimeout(context.Background(), browser.Patience)
		defer cancel()
		conn.Write(ctx, websocket.MessageText, b)
	}
}

// say posts an event to every socket, and makes it the status.
func (a *fakeAPI) say(e event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = e
	if e["type"] == "failed" {
		a.status = event{"type": "failed", "code": e["code"], "message": e["message"], "error": event{"code": e["code"], "message": e["message"]}}
	}
	for _, conn := range a.sockets {
		a.send(conn, a.status)
	}
}

// ready reports that the file is ready, under a new link.
func (a *fakeAPI) ready(name string) {
	a.mu.Lock()
	a.links++
	link := fmt.Sprintf("%s/s3/%s?X-Amz-Signature=%d", strings.TrimSuffix(a.url, "/dev"), url.PathEscape(name), a.links)
	a.mu.Unlock()
	a.say(event{
		"type": "ready", "status": "READY", "url": link, "expiresAt": time.Now().Add(10 * time.Minute).Format(time.RFC3339),
		"size": len(content), "contentType": "application/octet-stream", "fileName": name, "checksum": event{}, "verified": true,
		"bytesCopied": len(content), "bytesTotal": len(content),
	})
}

func (a *fakeAPI) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// cut ends every socket.
func (a *fakeAPI) cut() {
	a.mu.Lock()
	sockets := slices.Clone(a.sockets)
	a.mu.Unlock()
	for _, conn := range sockets {
		conn.CloseNow()
	}
}

// asked returns method and URI, below the stage, of the requests for the API.
func (a *fakeAPI) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, r := range a.requests {
		if uri, ok := strings.CutPrefix(r.RequestURI, "/dev"); ok {
			all = append(all, r.Method+" "+uri)
		} else if r.URL.Path == "/socket" {
			all = append(all, "SOCKET")
		}
	}
	return all
}

func (a *fakeAPI) count(prefix string) int {
	n := 0
	for _, r := range a.asked() {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// header returns the values that a header had in the requests for downloads.
func (a *fakeAPI) header(prefix, name string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, r := range a.requests {
		if r.Method != http.MethodOptions && strings.HasPrefix(r.RequestURI, "/dev"+prefix) {
			all = append(all, r.Header.Get(name))
		}
	}
	return all
}
