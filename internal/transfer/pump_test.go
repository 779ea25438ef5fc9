package transfer

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowly gives size bytes with each of n reads, after a time, and then err.
type slowly struct {
	size, n int
	takes   time.Duration
	err     error
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.n == 0 {
		return 0, s.err
	}
	s.n--
	time.Sleep(s.takes)
	return min(s.size, len(p)), nil
}

// Small reads are added up for one write while they come quickly.
func TestPump(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		src  slowly
		want []int
	}{
		"quick records":       {slowly{16 << 10, 20, 0, io.EOF}, []int{128 << 10, 128 << 10, 64 << 10}},
		"as slow as may be":   {slowly{16 << 10, 4, gather / 2, io.EOF}, []int{32 << 10, 32 << 10}},
		"slow records":        {slowly{16 << 10, 3, gather, io.EOF}, []int{16 << 10, 16 << 10, 16 << 10}},
		"halves of a buffer":  {slowly{128 << 10, 2, 0, io.EOF}, []int{128 << 10, 128 << 10}},
		"nearly half of one":  {slowly{128<<10 - 1, 2, 0, io.EOF}, []int{256<<10 - 2}},
		"broken after a read": {slowly{16 << 10, 1, 0, broken}, []int{16 << 10}},
		"empty":               {slowly{0, 0, 0, io.EOF}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []int
				var sum int64
				n, err := pump(func(p []byte) (int, error) { got = append(got, len(p)); sum += int64(len(p)); return len(p), nil }, &tt.src)
				if !slices.Equal(got, tt.want) || n != sum || err != tt.src.err && tt.src.err != io.EOF || err != nil && tt.src.err == io.EOF {
					t.Errorf("got writes of %d bytes, %d in all, %v, want %d", got, n, err, tt.want)
				}
			})
		})
	}
	n, err := pump(func(p []byte) (int, error) { return 5, broken }, &slowly{10, 1, 0, io.EOF})
	if n != 5 || err != broken {
		t.Errorf("got %d bytes, %v, want 5 that were written before it broke", n, err)
	}
}

// What TLS has written is lost if it can't be flushed.
func TestFlushFails(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	raw, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	under := &conn{Conn: raw}
	over := &tlsConn{Conn: tls.Client(under, &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"}), under: under}
	if err := over.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := over.ReadFrom(strings.NewReader("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
}
