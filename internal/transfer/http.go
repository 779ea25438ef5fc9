package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"async-download/internal/object"
)

const (
	// writeSize is how much is read from the origin and written to S3 at a time.
	// net/http's own 32 KiB make eight times the system calls.
	writeSize = 256 << 10
	// gather is how long small reads are added up for one write.
	gather = 5 * time.Millisecond
	// storeIdle is the longest S3 may leave a write waiting.
	storeIdle = time.Minute
	// storeAnswer is the longest it may take to answer a request that it has all of. A
	// completion of 10,000 parts takes minutes, but sends its headers early.
	storeAnswer = 3 * time.Minute
)

// S3 returns the client to copy with. Unlike the SDK's own, it keeps enough idle
// connections for the parts in flight, writes in large pieces, and limits how long a store
// may hang.
func S3(cfg aws.Config) *s3.Client {
	var roots *x509.CertPool
	if theirs, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // it knows AWS_CA_BUNDLE
		if c := theirs.GetTransport().TLSClientConfig; c != nil {
			roots = c.RootCAs
		}
	}
	return s3.NewFromConfig(cfg, object.PathStyle, func(o *s3.Options) { o.HTTPClient = httpClient(roots) })
}

func httpClient(roots *x509.CertPool) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // S3 has no other
	dial := func(ctx context.Context, network, address string) (*conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c}, nil
	}
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, network, address)
		},
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			t := &tlsConn{Conn: tls.Client(c, &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}), under: c}
			handshake, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := t.HandshakeContext(handshake); err != nil {
				_ = c.Close()
				return nil, err
			}
			return t, nil
		},
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, // behind a proxy
		DisableCompression:    true,                                                      // a file that is gzip is read back as it is
		ResponseHeaderTimeout: storeAnswer,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   8 * Concurrency,
		IdleConnTimeout:       90 * time.Second,
		Protocols:             protocols,
	}}
}

// conn is a connection that is written to in large pieces.
type conn struct {
	net.Conn

	mu   sync.Mutex
	hold bool   // keep what is written until flush
	held []byte // what is kept
}

var buffers = sync.Pool{New: func() any { b := make([]byte, writeSize); return &b }}

// Write bounds how long the peer may take nothing.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.write(p)
}

func (c *conn) write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(storeIdle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) keep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = true
}

func (c *conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = false
	_, err := c.write(c.held)
	c.held = c.held[:0]
	return err
}

// ReadFrom is what net/http copies a body with.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return pump(c.Write, r) }

func pump(write func([]byte) (int, error), r io.Reader) (int64, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var total int64
	for {
		began := time.Now()
		n, err := r.Read(*buf)
		// A TLS record is 16 KiB: more of them are taken while they come quickly.
		for err == nil && n < len(*buf)/2 && time.Since(began) < gather {
			var more int
			more, err = r.Read((*buf)[n:])
			n += more
		}
		if n > 0 {
			w, werr := write((*buf)[:n])
			total += int64(w)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// tlsConn writes the records of a large piece, 16 KiB each, in one system call.
type tlsConn struct {
	*tls.Conn
	under *conn
}

// ReadFrom is what net/http copies a body with.
func (t *tlsConn) ReadFrom(r io.Reader) (int64, error) {
	return pump(func(p []byte) (int, error) {
		t.under.keep()
		n, err := t.Conn.Write(p)
		if ferr := t.under.flush(); err == nil {
			err = ferr
		}
		return n, err
	}, r)
}
