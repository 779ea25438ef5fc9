package e2e

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"
)

// way is a proxy between the browser and the stack that can fail as networks do.
// The browser uses a tunnel through it for each socket, and for nothing else.
type way struct {
	address string

	mu        sync.Mutex
	down      bool
	noSockets bool
	answer    func(*http.Request) (status int, body string)
	frozen    int // tunnels before this index are frozen
	tunnels   []net.Conn
	requests  []request
}

type request struct {
	what string // method and URI
	at   time.Time
}

func newWay(t *testing.T) *way {
	w := &way{}
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(*httputil.ProxyRequest) {}, // the request has the whole URL
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		down, noSockets, answer := w.down, w.noSockets, w.answer
		if !down && strings.HasPrefix(stack.env["AWS_ENDPOINT_URL"], "http://"+r.Host) {
			w.requests = append(w.requests, request{r.Method + " " + r.URL.RequestURI(), time.Now()})
		}
		w.mu.Unlock()
		switch {
		case down, r.Method == http.MethodConnect && noSockets:
			panic(http.ErrAbortHandler) // closes the connection
		case r.Method == http.MethodConnect:
			w.tunnel(rw, r.Host)
			return
		case answer != nil && strings.Contains(r.URL.Path, "/execute-api/"):
			if status, body := answer(r); status != 0 {
				rw.Header().Set("Content-Type", "application/json")
				rw.WriteHeader(status)
				io.WriteString(rw, body)
				return
			}
		}
		proxy.ServeHTTP(rw, r)
	}))
	w.address = server.Listener.Addr().String()
	t.Cleanup(func() {
		w.cut(true)
		server.Close()
	})
	return w
}

func (w *way) tunnel(rw http.ResponseWriter, host string) {
	there, err := net.Dial("tcp", host)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	here, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		panic(err)
	}
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	w.mu.Lock()
	number := len(w.tunnels)
	w.tunnels = append(w.tunnels, here, there)
	w.mu.Unlock()
	pass := func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			w.mu.Lock()
			frozen := number < w.frozen
			w.mu.Unlock()
			if frozen {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go pass(there, here)
	go pass(here, there)
}

// cut closes every connection; while down is true, no new one is accepted.
func (w *way) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for _, c := range w.tunnels {
		c.Close()
	}
}

// freeze stops the traffic of all open sockets without closing them.
func (w *way) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = len(w.tunnels)
}

// reset closes the frozen sockets.
func (w *way) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.tunnels[:w.frozen] {
		c.Close()
	}
}

// block refuses all sockets.
func (w *way) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noSockets = true
}

// answerWith has f answer in place of the API; status 0 passes a request on.
func (w *way) answerWith(f func(*http.Request) (status int, body string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

func (w *way) log() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, r := range w.requests {
		what, _, _ := strings.Cut(r.what, "?X-Amz-")
		all = append(all, what)
	}
	return all
}

func (w *way) last() string {
	all := w.log()
	return all[len(all)-1]
}

// times returns when requests with this method and this part in the URI arrived.
func (w *way) times(method, part string) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var at []time.Time
	for _, r := range w.requests {
		if m, uri, _ := strings.Cut(r.what, " "); m == method && strings.Contains(uri, part) {
			at = append(at, r.at)
		}
	}
	return at
}

func (w *way) count(method, part string) int { return len(w.times(method, part)) }
