package origin

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"async-download/internal/failure"
	"async-download/internal/origin/origintest"
)

// An origin that sends the request back in its mistakes puts neither the query nor
// the secret headers into a message or the log, and a reply that can't be read is
// reported as such after two tries.
func TestEchoes(t *testing.T) {
	const querySecret, headerSecret = "planted-query", "planted-header"
	ok := "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, reply string // {echo} is the request's target and secret header
		want        string // in the message
		tries       int    // 0 for any number
	}{
		{"header line without a colon", ok + "{echo}\r\n\r\n", "can't be read: malformed header line", 2},
		{"header line of 200 KB", ok + strings.Repeat("{echo} ", 6_000) + "\r\n\r\n", "can't be read: malformed header line", 2},
		{"header name with a space", ok + "A {echo}: b\r\n\r\n", "can't be read: malformed header line", 2},
		{"first header line folded", ok + " {echo}\r\n\r\n", "can't be read: malformed header line", 2},
		{"header with a NUL", ok + "A: \x00{echo}\r\n\r\n", "can't be read: malformed header line", 2},
		{"headers too large", ok + "A: " + strings.Repeat("{echo} ", 12_000) + "\r\n\r\n", "can't be read: its headers are too large", 2},
		{"not HTTP", "{echo}\r\n\r\n", "can't be read: malformed status line", 2},
		{"an SSH banner", "SSH-2.0-{echo}\r\n", "can't be read: malformed status line", 2},
		{"version", "HTTP/9{echo} 200 OK\r\n\r\n", "can't be read: malformed status line", 2},
		{"status code", "HTTP/1.1 {echo} OK\r\n\r\n", "can't be read: malformed status line", 2},
		{"length", ok + "Content-Length: {echo}\r\n\r\n", "can't be read: malformed Content-Length", 2},
		{"two lengths", ok + "Content-Length: 1\r\nContent-Length: 2{echo}\r\n\r\n", "can't be read: malformed Content-Length", 2},
		{"transfer encoding", ok + "Transfer-Encoding: {echo}\r\n\r\n", "can't be read: unknown Transfer-Encoding", 2},
		{"chunk", ok + "Transfer-Encoding: chunked\r\n\r\n{echo}\r\n", "can't be read after 0 bytes: malformed chunk", 1},
		{"trailer", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n{echo}\r\n\r\n", "", 1},
		{"status text", "HTTP/1.1 404 {echo}\r\nContent-Length: 0\r\n\r\n", "404 Not Found", 2},
		{"Location that is no URL", "HTTP/1.1 302 Found\r\nLocation: http://[{echo}\r\n\r\n", "without a URL", 1},
		{"Location to a host that doesn't exist", "HTTP/1.1 302 Found\r\nLocation: http://{host}.invalid/\r\n\r\n", "", 0},
		{"Location with another scheme", "HTTP/1.1 302 Found\r\nLocation: x:{echo}\r\n\r\n", "other than http", 1},
		{"Retry-After", "HTTP/1.1 503 {echo}\r\nRetry-After: {echo}\r\nContent-Length: 0\r\n\r\n", "503", 2},
		{"Content-Range", "HTTP/1.1 206 OK\r\nContent-Range: bytes {echo}\r\nContent-Length: 1\r\n\r\na", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var logged bytes.Buffer
			logger := slog.New(slog.NewJSONHandler(&logged, nil))
			requests := 0
			host := origintest.Raw(t, func(head string) string {
				requests++
				_, target, _ := strings.Cut(head, " ")
				target, _, _ = strings.Cut(target, " ")
				_, secret, _ := strings.Cut(head, "X-Secret: ")
				secret, _, _ = strings.Cut(secret, "\r\n")
				return strings.NewReplacer("{echo}", target+" "+secret, "{host}", secret).Replace(tt.reply)
			})
			c, u := clientOf(t, "http://"+host+"/?q="+querySecret)
			c.Header = http.Header{"X-Secret": {headerSecret}}
			c.RedirectHosts = []string{"*"}
			c.Attempts = 0
			if tt.tries == 0 || strings.Contains(tt.reply, "503") {
				c.Attempts = 2
			}
			_, _, err := read(t, c, u)
			if err == nil {
				t.Fatal("got a file, want an error")
			}
			logger.Warn("request failed", "error", failure.As(err))
			if !strings.Contains(logged.String(), "cause") && errors.Unwrap(failure.As(err)) != nil {
				t.Errorf("got %s, want the cause in the log", &logged)
			}
			if text := logged.String() + failure.As(err).Message; strings.Contains(text, "planted") || len(text) > 1000 {
				t.Errorf("got %.2000s, want nothing of the request", text)
			}
			if !strings.Contains(failure.As(err).Message, tt.want) || tt.tries > 0 && requests != tt.tries {
				t.Errorf("got %q after %d requests, want %q after %d", failure.As(err).Message, requests, tt.want, tt.tries)
			}
		})
	}
}

// What an origin sends without being asked for it is not logged either: net/http
// would quote it.
func TestUnsolicitedBytesAreNotLogged(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	closed := make(chan error)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			closed <- err
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		r, err := http.ReadRequest(in)
		if err != nil {
			closed <- err
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile"+r.URL.RawQuery)
		_, err = in.ReadByte() // until the client closes, which it does after it logs
		closed <- err
	}()
	c, u := clientOf(t, "http://"+listener.Addr().String()+"/?q=planted")
	if _, body, err := read(t, c, u); body != "file" || err != nil {
		t.Errorf("got %q, %v, want the file", body, err)
	}
	if err := <-closed; err != io.EOF {
		t.Fatal(err)
	}
	if strings.Contains(logged.String(), "planted") {
		t.Errorf("got a log of %s", &logged)
	}
	log.Print("another line")
	if !strings.Contains(logged.String(), "another line") {
		t.Errorf("got a log of %q, want other lines in it", &logged)
	}
}

// Certificates are described in fixed words: their names are the server's.
func TestCertificates(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for _, tt := range []struct {
		name, url, want string
		trusted         bool
	}{
		{"unknown authority", server.URL, "certificate isn't valid: signed by an unknown authority", false},
		{"another host", strings.Replace(server.URL, "127.0.0.1", "localhost", 1), "certificate isn't valid: it is for another host", true},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), "doesn't speak HTTPS at this address", false},
		{"TLS on an http URL", strings.Replace(server.URL, "https:", "http:", 1), "400", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, u := clientOf(t, tt.url)
			if tt.trusted {
				c.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			}
			tries := 0
			c.Waiting = func(*failure.Error, time.Duration) { tries++ }
			if _, _, err := read(t, c, u); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "example.com") || tries > 0 {
				t.Errorf("got %v after %d tries more, want %s at once", err, tries, tt.want)
			}
		})
	}
}

func TestCertificateAndReplyErrors(t *testing.T) {
	for _, tt := range []struct {
		err                error
		certificate, reply string
	}{
		{x509.CertificateInvalidError{Reason: x509.Expired}, "it has expired or isn't valid yet", ""},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, "it doesn't verify", ""},
		{errors.New(`malformed HTTP response "planted"`), "", "malformed status line"},
		{io.EOF, "", ""},
	} {
		err := fmt.Errorf("get: %w", tt.err)
		if certificate, reply := CertificateError(err), ReplyError(err); certificate != tt.certificate || reply != tt.reply {
			t.Errorf("%v: got %q and %q, want %q and %q", tt.err, certificate, reply, tt.certificate, tt.reply)
		}
	}
}

// A connection that is refused or closed may be so for a moment: all tries are made.
func TestBrokenConnectionsAreTriedAgain(t *testing.T) {
	n := 0
	host := origintest.Raw(t, func(string) string { n++; return "" })
	c, u := clientOf(t, "http://"+host)
	c.Attempts = 4
	_, _, err := read(t, c, u)
	if n != 4 || !GivenUp(err) || !strings.Contains(errors.Unwrap(failure.As(err)).Error(), "closed") {
		t.Errorf("got %v (%v) after %d requests, want 4", err, errors.Unwrap(failure.As(err)), n)
	}

	tries := 0
	c, u = clientOf(t, "http://127.0.0.1:1") // where nothing listens
	c.Attempts = 4
	c.Waiting = func(*failure.Error, time.Duration) { tries++ }
	if _, _, err := read(t, c, u); tries != 3 || !GivenUp(err) || failure.CodeOf(err) != failure.OriginUnreachable {
		t.Errorf("got %v after %d tries more, want %s after 3", err, tries, failure.OriginUnreachable)
	}
}

// Broken bodies keep the errors of the network behind fixed words.
func TestBroken(t *testing.T) {
	err := broken(&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded, Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}}, 5, 10)
	cause := errors.Unwrap(failure.As(err))
	if cause == nil || cause.Error() != "timeout (192.0.2.1:80)" || !errors.Is(cause, os.ErrDeadlineExceeded) {
		t.Errorf("got the cause %v, want a timeout", cause)
	}
}
