package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
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

// pipes is a listener whose connections are net.Pipes.
type pipes struct {
	address pipeAddress
	conns   chan net.Conn
	done    chan struct{}
}

// pipeAddress has a port that no socket can have.
type pipeAddress string

func (a pipeAddress) Network() string { return "tcp" }
func (a pipeAddress) String() string  { return string(a) }

var (
	listening sync.Map // of *pipes, by address
	lastPort  atomic.Int64
)

func serveInMemory(h http.Handler) *httptest.Server {
	address := net.JoinHostPort("127.0.0.1", strconv.FormatInt(65536+lastPort.Add(1), 10))
	p := &pipes{pipeAddress(address), make(chan net.Conn), make(chan struct{})}
	listening.Store(address, p)
	server := &httptest.Server{Listener: p, Config: &http.Server{Handler: h}}
	server.Start()
	return server
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	if _, open := listening.LoadAndDelete(p.address.String()); open {
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return p.address }

// nobody is an address where nothing listens.
const nobody = "127.0.0.1:65536"

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The program's clients are clones of this one.
func init() {
	transport := http.DefaultTransport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if p, open := listening.Load(address); open {
			return p.(*pipes).dial(ctx)
		}
		if address == nobody {
			return nil, errRefused
		}
		return dial(ctx, network, address)
	}
}
