package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"async-download/internal/programtest"
)

// A name that is taken is refused before anything is copied.
func TestNameIsTaken(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	if err := os.WriteFile(c.path("2026.pdf"), []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	c.runExpecting(exitLocal, "-o", c.dir, s.url(), "reports/2026.pdf?lang=de")
	c.wantStderr("2026.pdf exists; -f overwrites it, -o gives another name")
	c.wantFiles("2026.pdf")
	if len(s.asks) != 0 {
		t.Errorf("got %d questions, want none", len(s.asks))
	}
}

// Where only the origin's name is taken, what was copied is kept.
func TestOriginsNameIsTaken(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct {
		args  func(c *client) []string
		saved string
	}{
		"-f":                   {func(c *client) []string { return []string{"-f", "-o", c.dir} }, "report.bin"},
		"-o file":              {func(c *client) []string { return []string{"-o", c.path("other")} }, "other"},
		"the old name is free": {func(c *client) []string { os.Remove(c.path("report.bin")); return []string{"-o", c.dir} }, "report.bin"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := setUp(t, 1000)
			if err := os.WriteFile(c.path("report.bin"), []byte("old"), 0o666); err != nil {
				t.Fatal(err)
			}
			c.runExpecting(exitLocal, "-o", c.dir, s.url(), "some/end.csv")
			c.wantStderr("report.bin exists; -f overwrites it, -o gives another name")
			c.wantFiles("end.csv-*.part.json", "report.bin")
			c.wantContent("report.bin", []byte("old"))
			c = c.nextStart()
			c.runExpecting(exitOK, append(way.args(c), s.url(), "some/end.csv")...)
			c.wantContent(way.saved, s.content)
			if len(s.keys) != 1 {
				t.Errorf("got %d copies, want one", len(s.keys))
			}
			if left, _ := filepath.Glob(c.path("*.part*")); len(left) > 0 {
				t.Errorf("got %q left", left)
			}
		})
	}
}

func TestNoRoom(t *testing.T) {
	t.Parallel()
	for _, known := range []string{"while it is copied", "with the link"} {
		t.Run(known, func(t *testing.T) {
			s, c := setUp(t, 1000)
			s.size = 38 * MiB
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				ctx = s.readMessages(ctx, conn)
				if known == "with the link" {
					s.sendEvent(ctx, conn, ready(s.newLink()))
				} else {
					s.sendEvent(ctx, conn, progressEvent(1, 38*MiB))
				}
				<-ctx.Done()
			}
			c.free = func(folder string) (int64, error) {
				if folder != c.dir {
					t.Errorf("asked for the space in %s, want %s", folder, c.dir)
				}
				return 10 * MiB, nil
			}
			c.runExpecting(exitLocal, "-o", c.path("x"), s.url())
			c.wantStderr("the download needs 38 MiB, 10 MiB are free in " + c.dir)
			c.wantFiles("x.part.json")
			if len(s.stores) != 0 {
				t.Error("the storage was asked")
			}
			s.size, s.onSocket = 1000, nil
			c = c.nextStart()
			c.free = func(string) (int64, error) { return 0, errors.New("nobody knows") }
			c.runExpecting(exitOK, "-o", c.path("x"), s.url())
			c.wantContent("x", s.content)
			if len(s.keys) != 1 {
				t.Errorf("got %d copies, want one", len(s.keys))
			}
		})
	}
	if n, err := freeSpace(t.TempDir()); err != nil || n <= 0 {
		t.Errorf("got %d bytes, %v, want some", n, err)
	}
}

func TestFolderCantBeWritten(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	cmd := programtest.Command(t, "-o", c.path("x"), s.url())
	if os.Geteuid() == 0 { // who may write everywhere
		for _, dir := range []string{c.dir, filepath.Dir(c.dir)} {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Path = "/proc/self/exe" // whose folder others may not enter
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} else if err := os.Chmod(c.dir, 0o555); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	// With -cover, the program reports that it can't write there either.
	if want := "download: can't write in " + c.dir + ": permission denied\n"; !strings.HasPrefix(string(out), want) {
		t.Errorf("got %q (%v), want %q", out, err, want)
	}
	c.wantFiles()
	if len(s.asks) != 0 {
		t.Error("a copy was started for a file that can't be written")
	}
	if got := cantWrite(c.path("x"), fs.ErrNotExist).Error(); !strings.HasPrefix(got, "can't write in "+c.dir) { // such as in /proc
		t.Errorf("got %q of a folder that exists", got)
	}
}

// What another try can't fix is reported once, without one.
func TestMistakesArentRetried(t *testing.T) {
	t.Parallel()
	quiet := log.New(io.Discard, "", 0)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { garbage.Close() })
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1024))
			conn.Write([]byte("\x15\x03\x01\x00\x02\x02\x16 no HTTP\r\n"))
			conn.Close()
		}
	}()
	for name, test := range map[string]struct{ url, says string }{
		"wrong certificate": {secure.URL, "the API's certificate isn't valid: signed by an unknown authority"},
		"HTTP for HTTPS":    {"https://" + plain.Listener.Addr().String(), "the API speaks HTTP there, not HTTPS; is its URL http://?"},
		"no HTTP":           {"http://" + garbage.Addr().String(), "the API doesn't speak HTTP there; is its URL https://?"},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := setUp(t, 0)
			c.runExpecting(exitNetwork, "-o", c.path("x"), test.url)
			if got := c.err.String(); !strings.HasPrefix(got, "download: "+test.says) || strings.Count(got, "\n") != 1 {
				t.Errorf("got %q, want one line: %s", got, test.says)
			}
			c.wantFiles()
		})
	}
	err = fmt.Errorf("dial: %w", &net.DNSError{Name: "a\x1b.example", IsNotFound: true})
	if p := mistake(err, "the API"); p == nil || p.message != `the API's name a\x1b.example can't be resolved` {
		t.Errorf("unknown host: got %v", p)
	}
	if p := mistake(tls.RecordHeaderError{}, "the API"); p == nil {
		t.Error("no TLS: got none")
	}
	for _, err := range []error{&net.DNSError{IsTemporary: true}, syscall.ECONNREFUSED, io.ErrUnexpectedEOF} {
		if p := mistake(err, "the API"); p != nil {
			t.Errorf("%v: got %v, want another try", err, p)
		}
	}
}

// -patience limits a call that hangs, whichever it is.
func TestPatienceWhileACallHangs(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(t *testing.T, s *stack){
		"the question": func(t *testing.T, s *stack) {
			s.onAsk = func(w http.ResponseWriter, n int) bool { <-t.Context().Done(); return true }
		},
		"the status": func(t *testing.T, s *stack) {
			s.noSockets = true
			s.onStatus = func(w http.ResponseWriter, n int) bool { <-t.Context().Done(); return true }
		},
		"the storage": func(t *testing.T, s *stack) {
			s.onStore = func(w *storeReply, r *http.Request, n int) bool { <-r.Context().Done(); return true }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
				set(t, s)
				began := time.Now()
				c.start("-patience", "1s", "-o", c.path("x"), s.url())
				c.exitExpecting(exitNetwork)
				if took := time.Since(began); took < time.Second || took > 1100*time.Millisecond {
					t.Errorf("gave up after %v, want 1 s and little more", took)
				}
				c.wantStderr(" 1s")
			})
		})
	}
}

// A dead connection is reported, and a new one is tried.
func TestDeadLineIsReported(t *testing.T) {
	t.Parallel()
	t.Run("API", func(t *testing.T) {
		inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
			c.timings.wsPing, c.timings.silence = 50*time.Millisecond, 300*time.Millisecond
			back := make(chan struct{})
			comeBack := sync.OnceFunc(func() { close(back) })
			defer comeBack()
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				if n == 1 {
					<-back // no read, so no pong
					return
				}
				s.sendEvent(ctx, conn, ready(s.newLink()))
				conn.Read(ctx)
			}
			s.onStatus = func(w http.ResponseWriter, n int) bool { <-back; return false }
			c.start("-o", c.path("x"), s.url())
			s.waitFor("the note", func() bool { return strings.Contains(c.err.String(), "nothing heard from the API for ") })
			comeBack()
			c.endExpecting(exitOK)
			if got := strings.Count(c.err.String(), "nothing heard"); got != 1 {
				t.Errorf("got %d notes, want one:\n%s", got, c.err.String())
			}
		})
	})
	t.Run("storage", func(t *testing.T) {
		inVirtualTime(t, 3*MiB, func(t *testing.T, s *stack, c *client) {
			c.timings.silence = time.Second
			release := sync.OnceFunc(s.holdAfter(MiB))
			defer release()
			c.start("-o", c.path("x"), s.url())
			s.waitFor("the note", func() bool {
				return strings.Contains(c.err.String(), "nothing has come from the storage for 1s; still trying")
			})
			release()
			c.endExpecting(exitOK)
			c.wantContent("x", s.content)
		})
	})
}
