package origintest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// InMemory starts a server whose connections are in memory, so that time can be
// testing/synctest's. The contexts of its requests are derived from ctx. It returns the
// way to connect to it, and a function that stops it when its handlers have returned.
func InMemory(ctx context.Context, h http.Handler) (dial func(ctx context.Context, network, address string) (net.Conn, error), stop func()) {
	p := NewPipes("127.0.0.1:80")
	server := &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = server.Serve(p) }()
	return p.Dial, func() {
		_ = p.Close()
		_ = server.Shutdown(context.Background())
	}
}

// ErrRefused is the error of a connection to an address without a listener.
var ErrRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// Pipes is a listener whose connections are net.Pipes.
type Pipes struct {
	address string
	conns   chan net.Conn
	done    chan struct{}
	once    sync.Once
}

// NewPipes returns a listener whose address is address.
func NewPipes(address string) *Pipes {
	return &Pipes{address: address, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial connects to the listener and ignores the address. It returns [ErrRefused] when the
// listener is closed.
func (p *Pipes) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, ErrRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept waits for a connection.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close refuses further connections; those that were accepted stay.
func (p *Pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr returns the listener, which is its own address.
func (p *Pipes) Addr() net.Addr { return p }

// Network is part of net.Addr.
func (p *Pipes) Network() string { return "tcp" }

// String returns the address.
func (p *Pipes) String() string { return p.address }
