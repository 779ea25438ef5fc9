package origintest

import (
	"context"
	"net"
	"net/http"
)

// InMemory starts a server whose connections are in memory, so that time can be
// testing/synctest's. The contexts of its requests are derived from ctx. It returns the
// way to connect to it, and a function that stops it when its handlers have returned.
func InMemory(ctx context.Context, h http.Handler) (dial func(ctx context.Context, network, address string) (net.Conn, error), stop func()) {
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = server.Serve(p) }()
	return p.dial, func() {
		close(p.done)
		_ = server.Shutdown(context.Background())
	}
}

// pipes is a listener whose connections are net.Pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
