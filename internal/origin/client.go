package origin

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"async-download/internal/failure"
)

// Limits and their reasons. Those that a [Client] has a field for are its
// defaults.
const (
	// DialTimeout covers DNS and the TCP handshake: three tries of a SYN.
	DialTimeout = 10 * time.Second
	// TLSTimeout is what an overloaded server may take for a handshake.
	TLSTimeout = 10 * time.Second
	// FirstByteTimeout is how long an origin may take to answer the first request,
	// redirects included. Reports that take longer than API Gateway's 29 s to make are
	// what this application is for. A request that takes longer fails with
	// [failure.OriginTooSlow] and is not repeated.
	FirstByteTimeout = 5 * time.Minute
	// RangeTimeout is how long it may think before it answers for a further
	// range of a file that it has begun to send.
	RangeTimeout = time.Minute
	// IdleTimeout is the longest gap between two reads of a body. TCP alone
	// would wait forever for a peer that is gone. A database export may pause for
	// half a minute, and the time-outs of proxies, 60 s by default, should come first.
	IdleTimeout = 90 * time.Second
	// FloorWindow and FloorBytes are the least progress of a range: an origin that
	// sends a byte now and then never exceeds IdleTimeout and never ends either. 64
	// KiB a minute is below any modem, and a retry loses at most this much.
	FloorWindow = time.Minute
	FloorBytes  = 64 << 10
	// MaxRedirects is what curl users call plenty and browsers call few.
	MaxRedirects = 5
	// Attempts bounds tries in a row without progress. At 30 % failing requests
	// eight in a row happen once in 15,000 ranges, and an origin that is down is
	// reported after some 13 s.
	Attempts = 8
	// Backoff is the first wait; it doubles up to MaxBackoff, and what is slept
	// is a random part of it, so that workers that failed together don't come
	// back together.
	Backoff    = 200 * time.Millisecond
	MaxBackoff = 20 * time.Second
	// MaxSleep is the longest Retry-After that is slept out here, with what is
	// added to it 30 s. A longer one becomes a [Later]: a state machine waits for
	// nothing, a Lambda doesn't.
	MaxSleep = 25 * time.Second
	// MaxRetryAfter caps what an origin may ask for.
	MaxRetryAfter = time.Hour
	// Connections is the default for [Client.Connections].
	Connections = 8
)

// Client reads files from one origin. Set the fields, then call [Client.Open];
// it is safe for concurrent use and keeps its connections, so use one for a
// process. It must not be copied after its first use.
type Client struct {
	// Base is the configured URL of the origin. Requests go to its scheme, host
	// and port only; https on the same host is as good. A redirect on this host
	// must stay below Base's path and keep what its query sets.
	Base *url.URL
	// AllowedPaths are the paths below Base, not percent-encoded, that a redirect
	// on Base's host may lead to, each with everything below it; none allows every
	// path below Base.
	AllowedPaths []string
	// Header is sent with every request to Base's host and never to another, nor
	// after a redirect has left Base's host.
	Header http.Header
	// RedirectHosts are further hosts ("host" or "host:port") that a redirect may lead
	// to, by https unless Base is http; "*" allows any.
	RedirectHosts []string

	// Private allows private addresses. Link-local and metadata addresses stay
	// forbidden.
	Private bool
	// AllowLoopback allows loopback addresses. On Lambda the runtime's own API
	// lives there: it is for the local stack and tests only.
	AllowLoopback bool
	// AnyAddress turns the guard off, for a command that users run themselves.
	AnyAddress bool

	// Connections is how many connections are open to one host at once.
	Connections int
	// RootCAs are the authorities a certificate may come from; nil is the
	// system's.
	RootCAs *x509.CertPool
	// Resolver is asked for the origin's address; nil is the system's.
	Resolver *net.Resolver

	// FirstByteTimeout, Attempts, Backoff and MaxSleep replace the constants of the same
	// name when they aren't zero.
	FirstByteTimeout time.Duration
	Attempts         int
	Backoff          time.Duration
	MaxSleep         time.Duration

	// Waiting, if set, is called before a request is repeated, with the reason and the
	// delay. Several goroutines may call it at once.
	Waiting func(reason *failure.Error, pause time.Duration)

	// Dial, if set, makes the connections, and no address is checked; for tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	once      sync.Once
	transport *http.Transport
	// posts makes a new connection for each request: one that was kept may be closed
	// by the origin as the request is written, and nothing shows whether it was read.
	posts *http.Transport
	guard *guard
}

func (c *Client) init() {
	c.once.Do(func() {
		quiet()
		dialer := &net.Dialer{Timeout: DialTimeout, Resolver: c.Resolver}
		if !c.AnyAddress {
			var ports []uint16
			if p, err := portOf(c.Base); err == nil {
				ports = append(ports, p)
			}
			for _, host := range c.RedirectHosts {
				if p, err := portOf(&url.URL{Scheme: "https", Host: host}); err == nil {
					ports = append(ports, p)
				}
			}
			c.guard = newGuard(c.Private, c.AllowLoopback, ports...)
			dialer.Control = c.guard.control
		}
		dial := dialer.DialContext
		if c.Dial != nil {
			dial = c.Dial
		}
		// HTTP/1.1 only: HTTP/2 puts all ranges on one connection with one flow
		// window and costs twice the CPU.
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		n := cmp.Or(c.Connections, Connections)
		c.transport = &http.Transport{
			// A proxy from the environment would be dialled in the origin's
			// place, and the guard would see the proxy's address only.
			Proxy: nil,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &conn{c, bufio.NewReaderSize(c, readSize)}, nil
			},
			TLSClientConfig:     &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: TLSTimeout,
			// Without this Go asks for gzip and decodes it: another file than
			// the one that ETag and digest speak of.
			DisableCompression:     true,
			MaxConnsPerHost:        n,
			MaxIdleConnsPerHost:    n,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 256 << 10,
			Protocols:              protocols,
		}
		c.posts = c.transport.Clone()
		c.posts.DisableKeepAlives = true
	})
}

// readSize is how much is asked of the kernel at a time. TLS alone would ask for
// each record of 16 KiB; reads that are larger go past the buffer.
const readSize = 128 << 10

type conn struct {
	net.Conn
	buffered *bufio.Reader
}

func (c *conn) Read(p []byte) (int, error) { return c.buffered.Read(p) }

// CloseIdleConnections closes what is kept for the next request.
func (c *Client) CloseIdleConnections() {
	c.init()
	c.transport.CloseIdleConnections()
}
