package origintest

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// Raw starts a server that writes what reply returns, byte for byte, to each
// request, and returns its address, "127.0.0.1:port". reply gets the request's
// head: the request line and the header lines, each ended by CR LF. An answer
// without a Content-Length ends with its connection. The server stops with the
// test.
func Raw(t testing.TB, reply func(head string) string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					head, err := readHead(in)
					if err != nil {
						return
					}
					answer := reply(head)
					if _, err := io.WriteString(conn, answer); err != nil || !strings.Contains(answer, "Content-Length:") {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

func readHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == "\r\n" {
			return head.String(), nil
		}
		head.WriteString(line)
	}
}
