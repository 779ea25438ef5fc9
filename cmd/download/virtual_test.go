package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"async-download/internal/origin/origintest"
)

// Tests of time limits run in virtual time: they are exact, and take none. Their
// connections are in memory, as a wait for the kernel would hold the clock.

// inVirtualTime runs a test with a stack and a client in virtual time.
func inVirtualTime(t *testing.T, size int, test func(t *testing.T, s *stack, c *client)) {
	synctest.Test(t, func(t *testing.T) {
		s := newStackOn(t, size, serveInMemory)
		test(t, s, newClient(t, s))
	})
}

var (
	listening sync.Map // of *origintest.Pipes, by address
	lastPort  atomic.Int64
)

// serveInMemory starts a server at a port that no socket can have.
func serveInMemory(h http.Handler) *httptest.Server {
	p := origintest.NewPipes(net.JoinHostPort("127.0.0.1", strconv.FormatInt(65536+lastPort.Add(1), 10)))
	listening.Store(p.String(), p)
	server := &httptest.Server{Listener: p, Config: &http.Server{Handler: h}}
	server.Start()
	return server
}

// nobody is an address where nothing listens.
const nobody = "127.0.0.1:65536"

// The program's clients are clones of this one.
func init() {
	transport := http.DefaultTransport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if p, open := listening.Load(address); open {
			return p.(*origintest.Pipes).Dial(ctx, network, address)
		}
		if address == nobody {
			return nil, origintest.ErrRefused
		}
		return dial(ctx, network, address)
	}
}
