package origin

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
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
	// FirstByteTimeout is how long an origin may think before it answers the
	// first request. Reports that take longer than API Gateway's 29 s to make
	// are what this application is for.
	FirstByteTimeout = 5 * time.Minute
	// RangeTimeout is how long it may think before it answers for a further
	// range of a file that it has begun to send.
	RangeTimeout = time.Minute
	// IdleTimeout is the longest gap between two reads of a body. TCP alone
	// would wait for ever for a peer that is gone.
	IdleTimeout = 30 * time.Second
	// FloorWindow and FloorBytes are the least progress: an origin that sends a
	// byte now and then never trips IdleTimeout and never ends either. 64 KiB a
	// minute is below any modem, and a retry loses at most this much.
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
	// and port only; https on the same host is as good.
	Base *url.URL
	// Header is sent with every request to Base's host and never to another.
	Header http.Header
	// RedirectHosts are further hosts ("host" or "host:port") that a redirect
	// may lead to, by https unless Base is http; "*" stands for any.
	RedirectHosts []string

	// Private allows private addresses. Link-local and metadata addresses stay
	// forbidden.
	Private bool
	// AllowLoopback allows loopback addresses. On Lambda the runtime's own API
	// lives there: it is for the local stack and tests only.
	AllowLoopback bool
	// AnyAddress turns the guard off, for a command that a user runs for
	// himself.
	AnyAddress bool

	// Connections is how many connections are open to one host at once.
	Connections int
	// RootCAs are the authorities a certificate may come from; nil is the
	// system's.
	RootCAs *x509.CertPool
	// Resolver is asked for the origin's address; nil is the system's.
	Resolver *net.Resolver

	// FirstByteTimeout, IdleTimeout, FloorWindow, Attempts, Backoff and MaxSleep
	// replace the constants of the same name when they aren't zero.
	FirstByteTimeout time.Duration
	IdleTimeout      time.Duration
	FloorWindow      time.Duration
	Attempts         int
	Backoff          time.Duration
	MaxSleep         time.Duration

	// Waiting, where set, is told why a request is made again, and after how
	// long. Several goroutines may call it at once.
	Waiting func(why *failure.Error, pause time.Duration)

	once      sync.Once
	transport *http.Transport
	guard     *guard
	// dial replaces the dialer in tests that need a network of their own.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c *Client) init() {
	c.once.Do(func() {
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
		if c.dial != nil {
			dial = c.dial
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
			MaxConnsPerHost:        n + 1, // one more: the first reply keeps its own until its bytes are wanted
			MaxIdleConnsPerHost:    n,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 256 << 10,
			Protocols:              protocols,
		}
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

// Later is an error that is worth another try after After, longer than a
// running Lambda should sit out: the origin said so in a Retry-After. It wraps
// the [failure.Error] to report when no further try is wanted.
type Later struct {
	After time.Duration
	Err   *failure.Error
}

func (l *Later) Error() string { return fmt.Sprintf("%s; try again in %s", l.Err, l.After) }

// Unwrap gives the failure.
func (l *Later) Unwrap() error { return l.Err }

// transient is a failure that another try may mend.
type transient struct {
	failure *failure.Error
	after   time.Duration // what the origin asked for, else 0
	over    bool          // all tries were made
}

func (t *transient) Error() string { return t.failure.Error() }
func (t *transient) Unwrap() error { return t.failure }

// tries counts the tries of one request or range since it last made progress.
type tries struct {
	c *Client
	n int
}

// wait sleeps before the next try. It returns nil when that may begin, else
// the error to end with.
func (t *tries) wait(ctx context.Context, cause error) error {
	var again *transient
	if !errors.As(cause, &again) || again.over {
		return cause
	}
	if err := ended(ctx); err != nil {
		return err
	}
	t.n++
	if t.n >= cmp.Or(t.c.Attempts, Attempts) {
		return &transient{failure: again.failure, over: true}
	}
	ceiling := min(cmp.Or(t.c.Backoff, Backoff)<<min(t.n-1, 20), MaxBackoff)
	pause := rand.N(ceiling + 1)
	if again.after > 0 {
		// Not before the origin asked for, and not all workers at that moment.
		pause = again.after + rand.N(again.after/5+1)
		if again.after > cmp.Or(t.c.MaxSleep, MaxSleep) {
			return &Later{After: pause, Err: again.failure}
		}
	}
	if t.c.Waiting != nil {
		t.c.Waiting(again.failure, pause)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended returns why ctx is done, nil while it isn't: its cause, so that a
// cancel that carries a failure is that failure.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

var (
	errHeaders = errors.New("the origin sent no answer in time")
	errIdle    = errors.New("the origin stopped sending")
	errFloor   = errors.New("the origin sends too slowly")
	errClosed  = errors.New("closed")
)

// send makes one request, follows redirects and returns the reply with a body
// that is watched for stalls, and the URL that gave it. There is no retry. A
// failure that another try may mend is a *transient.
func (c *Client) send(ctx context.Context, u *url.URL, header http.Header, patience time.Duration) (*http.Response, *url.URL, error) {
	c.init()
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience, func() { cancel(errHeaders) })
	defer timer.Stop()

	for hop := 0; ; hop++ {
		resp, err := c.hop(ctx, u, header)
		if err != nil {
			err = c.explain(ctx, err)
			cancel(errClosed)
			return nil, nil, err
		}
		if !redirects(resp.StatusCode) {
			resp.Body = newBody(c, ctx, cancel, resp.Body)
			return resp, u, nil
		}
		drain(resp.Body)
		next, err := c.follow(u, resp)
		if err == nil && hop == MaxRedirects {
			err = failure.New(failure.OriginStatus, "the origin redirects more than %d times", MaxRedirects)
		}
		if err != nil {
			cancel(errClosed)
			return nil, nil, err
		}
		u = next
	}
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// drain reads a short body to its end, so that its connection can be used
// again, and closes it.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 16<<10)
	_ = body.Close()
}

func (c *Client) hop(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	if c.guard != nil {
		if err := c.guard.checkHost(u.Hostname()); err != nil {
			return nil, err
		}
	}
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	req.Header.Set("Accept-Encoding", "identity")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "async-download")
	}
	if c.atHome(u) {
		for name, values := range c.Header {
			req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
		if host := c.Header.Get("Host"); host != "" {
			req.Host = host
			req.Header.Del("Host")
		}
	}
	// Not http.Client: it reads Location before it asks whether to follow, and
	// its errors are whole URLs, query and all.
	return c.transport.RoundTrip(req.WithContext(ctx))
}

// atHome reports whether u is on the configured host, where the secret headers
// belong.
func (c *Client) atHome(u *url.URL) bool {
	if !strings.EqualFold(u.Hostname(), c.Base.Hostname()) {
		return false
	}
	if u.Scheme == c.Base.Scheme {
		return samePort(u, c.Base)
	}
	// http to https on the same host: to the standard port, or to the same one.
	return u.Scheme == "https" && c.Base.Scheme == "http" && (u.Port() == "" || u.Port() == "443" || u.Port() == c.Base.Port())
}

func samePort(a, b *url.URL) bool {
	p, err1 := portOf(a)
	q, err2 := portOf(b)
	return err1 == nil && err2 == nil && p == q
}

// follow judges a redirect by what is allowed and returns where it leads.
func (c *Client) follow(from *url.URL, resp *http.Response) (*url.URL, error) {
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, failure.New(failure.OriginStatus, "the origin answered %d without a place to go to", resp.StatusCode)
	}
	to := from.ResolveReference(location)
	to.Fragment, to.RawFragment = "", ""
	switch {
	case to.Scheme != "http" && to.Scheme != "https" || to.Hostname() == "" || to.Opaque != "":
		return nil, failure.New(failure.BlockedAddress, "the origin redirects to something other than http or https")
	case to.User != nil:
		return nil, failure.New(failure.BlockedAddress, "the origin redirects to a URL with a user in it")
	case from.Scheme == "https" && to.Scheme == "http":
		return nil, failure.New(failure.BlockedAddress, "the origin redirects from https to http")
	case !c.atHome(to) && !c.redirectAllowed(to):
		return nil, failure.New(failure.BlockedAddress, "the origin redirects to another host, which is not among OriginRedirectHosts")
	}
	return to, nil
}

func (c *Client) redirectAllowed(u *url.URL) bool {
	for _, host := range c.RedirectHosts {
		if host == "*" {
			return true
		}
		allowed := &url.URL{Scheme: u.Scheme, Host: host}
		if strings.EqualFold(allowed.Hostname(), u.Hostname()) && samePort(allowed, u) {
			return true
		}
	}
	return false
}

// explain turns what went wrong on the way to a reply into a failure.
func (c *Client) explain(ctx context.Context, err error) error {
	var rule *blocked
	if errors.As(err, &rule) {
		return failure.New(failure.BlockedAddress, "the origin's address is not allowed: %s", rule.rule)
	}
	if cause := ended(ctx); cause != nil {
		if errors.Is(cause, errHeaders) || errors.Is(cause, errIdle) || errors.Is(cause, errFloor) {
			return &transient{failure: failure.Wrap(err, failure.OriginUnreachable, "%s", cause)}
		}
		return cause
	}
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalidCert x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return failure.Wrap(err, failure.OriginUnreachable, "the origin's name can't be resolved")
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalidCert):
		return failure.Wrap(err, failure.OriginUnreachable, "the origin's certificate isn't valid")
	}
	return &transient{failure: failure.Wrap(err, failure.OriginUnreachable, "the origin can't be reached")}
}

// status turns a reply that is no file into a failure.
func status(resp *http.Response) error {
	f := failure.New(failure.OriginStatus, "the origin answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch s := resp.StatusCode; {
	case s == http.StatusNotImplemented, s == http.StatusHTTPVersionNotSupported:
		return f
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		return &transient{failure: f, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	return f
}

// Temporary reports whether err is a failure that another try may mend: the
// error of a [File.Stream] that broke is.
func Temporary(err error) bool {
	var t *transient
	return errors.As(err, &t) && !t.over
}

// GivenUp reports whether err is such a failure after all tries were made: the
// origin may answer again in minutes.
func GivenUp(err error) bool {
	var t *transient
	return errors.As(err, &t) && t.over
}

// CloseIdleConnections closes what is kept for the next request.
func (c *Client) CloseIdleConnections() {
	c.init()
	c.transport.CloseIdleConnections()
}
