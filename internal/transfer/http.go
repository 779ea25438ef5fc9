package transfer

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"context"
)

const (
	// writeSize is how much is read from the origin and written to S3 at a time.
	// net/http's own 32 KiB make eight times the system calls.
	writeSize = 256 << 10
	// storeIdle is the longest S3 may leave a write waiting.
	storeIdle = time.Minute
	// storeAnswer is the longest it may think after it has all of a request. A
	// completion of 10,000 parts takes minutes, but sends its headers early.
	storeAnswer = 3 * time.Minute
)

// HTTPClient returns the client to give to S3 (s3.Options.HTTPClient): with
// enough idle connections for the parts in flight, large writes, and limits on
// a store that hangs, none of which the SDK's own has.
func HTTPClient() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // S3 has no other
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{c}, nil
		},
		DisableCompression:    true, // a file that is gzip is read back as it is
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: storeAnswer,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   8 * Concurrency,
		IdleConnTimeout:       90 * time.Second,
		Protocols:             protocols,
	}}
}

type conn struct{ net.Conn }

var buffers = sync.Pool{New: func() any { b := make([]byte, writeSize); return &b }}

// Write bounds how long the peer may take nothing.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(storeIdle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// ReadFrom is what net/http copies a body with.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var total int64
	for {
		n, err := r.Read(*buf)
		if n > 0 {
			w, werr := c.Write((*buf)[:n])
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
