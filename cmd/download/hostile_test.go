package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/coder/websocket"

	"async-download/internal/programtest"
)

// attacker is a server that must not be asked anything.
func attacker(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the attacker was asked for %s with %v", r.URL.Path, r.Header)
	}))
	t.Cleanup(server.Close)
	return server
}

// plantedState is a state that leads to the attacker, in the format of today and
// of earlier versions.
func plantedState(t *testing.T, c *client, evil string) []byte {
	t.Helper()
	o, err := parse(nil, c.s.url())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{
		"request": request{o.targets[0], o.request}.hash(),
		"execution": map[string]string{
			"executionArn": c.s.arn(1), "statusUrl": evil + "/status", "webSocketUrl": "ws" + strings.TrimPrefix(evil, "http") + "/socket",
		},
		"size": 0,
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Another user's file in the place of a companion file is neither used nor changed, and no
// credential is sent anywhere.
func TestCompanionsOfSomeoneElse(t *testing.T) {
	t.Parallel()
	private := []byte("private")
	type plant struct {
		name string // of the companion file
		put  func(t *testing.T, c *client, path, evil string) error
	}
	state := func(mode os.FileMode) func(*testing.T, *client, string, string) error {
		return func(t *testing.T, c *client, path, evil string) error {
			return errors.Join(os.WriteFile(path, plantedState(t, c, evil), 0o600), os.Chmod(path, mode))
		}
	}
	link := func(how func(from, to string) error) func(*testing.T, *client, string, string) error {
		return func(t *testing.T, c *client, path, evil string) error { return how(c.path("elsewhere"), path) }
	}
	other := func(put func(*testing.T, *client, string, string) error) func(*testing.T, *client, string, string) error {
		return func(t *testing.T, c *client, path, evil string) error {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			if err := put(t, c, path, evil); err != nil {
				return err
			}
			return os.Lchown(path, 65534, 65534)
		}
	}
	for name, p := range map[string]plant{
		"state for all to read":       {".part.json", state(0o644)},
		"state of a group":            {".part.json", state(0o620)},
		"state of another user":       {".part.json", other(state(0o600))},
		"symbolic link for the state": {".part.json", link(os.Symlink)},
		"hard link for the state":     {".part.json", link(os.Link)},
		"hard link to a state": {".part.json", func(t *testing.T, c *client, path, evil string) error {
			target := c.path("elsewhere")
			return errors.Join(os.WriteFile(target, plantedState(t, c, evil), 0o600), os.Link(target, path))
		}},
		"hard link to no bytes": {".part", func(t *testing.T, c *client, path, evil string) error {
			target := c.path("elsewhere")
			return errors.Join(os.Truncate(target, 0), os.Link(target, path))
		}},
		"pipe for the state":          {".part.json", func(t *testing.T, c *client, path, evil string) error { return syscall.Mkfifo(path, 0o600) }},
		"folder for the state":        {".part.json", func(t *testing.T, c *client, path, evil string) error { return os.Mkdir(path, 0o700) }},
		"symbolic link for the bytes": {".part", link(os.Symlink)},
		"hard link for the bytes":     {".part", link(os.Link)},
		"dangling link for the bytes": {".part", func(t *testing.T, c *client, path, evil string) error { return os.Symlink(c.path("nowhere"), path) }},
		"bytes that all can write": {".part", func(t *testing.T, c *client, path, evil string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o666))
		}},
		"bytes of another user": {".part", other(func(t *testing.T, c *client, path, evil string) error { return os.WriteFile(path, nil, 0o600) })},
		"pipe for the bytes":    {".part", func(t *testing.T, c *client, path, evil string) error { return syscall.Mkfifo(path, 0o600) }},
		"folder for the bytes":  {".part", func(t *testing.T, c *client, path, evil string) error { return os.Mkdir(path, 0o700) }},
	} {
		for _, folder := range []os.FileMode{0o700, 0o777, 0o777 | os.ModeSticky} {
			t.Run(fmt.Sprint(name, " in ", folder), func(t *testing.T) {
				s, c := setUp(t, 1000)
				if err := os.Chmod(c.dir, folder); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(c.path("elsewhere"), private, 0o600); err != nil {
					t.Fatal(err)
				}
				path := c.path("x" + p.name)
				if err := p.put(t, c, path, attacker(t).URL); err != nil {
					t.Fatal(err)
				}
				content, err := os.ReadFile(c.path("elsewhere"))
				if err != nil {
					t.Fatal(err)
				}
				before, err := os.Lstat(path)
				if err != nil {
					t.Fatal(err)
				}
				c.runExpecting(exitLocal, "-f", "-H", "X-Api-Key: "+secretHeader, "-o", c.path("x"), s.url())
				c.wantStderr("x" + p.name + " isn't your unfinished download")
				c.wantFiles("elsewhere", "x"+p.name)
				c.wantContent("elsewhere", content)
				after, err := os.Lstat(path)
				if err != nil || after.Mode() != before.Mode() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
					t.Errorf("%s was changed: got %v, %v, want %v", path, after, err, before)
				}
				if len(s.asks) != 0 {
					t.Errorf("got %d questions, want none", len(s.asks))
				}
			})
		}
	}
}

// Not even a private state has addresses that are used: they come from the API alone.
func TestNoAddressFromTheState(t *testing.T) {
	t.Parallel()
	for _, output := range []string{"x", ""} {
		s, c := setUp(t, 1000)
		evil := attacker(t)
		name := c.path("x.part.json")
		if output == "" {
			hash := fmt.Sprintf("%x", sha256.Sum256([]byte(s.url()+"/download")))
			name = c.path("download-" + hash[:12] + ".part.json") // as earlier versions called it
		}
		if err := os.WriteFile(name, plantedState(t, c, evil.URL), 0o600); err != nil {
			t.Fatal(err)
		}
		c.runExpecting(exitOK, "-f", "-H", "Authorization: "+secretHeader, "-o", c.path(output), s.url())
		if output == "" {
			output = "report.bin"
		}
		c.wantContent(output, s.content)
	}
}

// A link under the temporary name of a state isn't followed.
func TestTemporaryStateIsNoLink(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	if err := os.WriteFile(c.path("elsewhere"), []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(c.path("elsewhere"), c.path("x.part.json.new")); err != nil {
		t.Fatal(err)
	}
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("elsewhere", []byte("private"))
	c.wantContent("x", s.content)
}

// A file that replaces the checked one isn't saved in its place.
func TestPartIsReplacedMidway(t *testing.T) {
	t.Parallel()
	for _, overwrite := range []string{"-f=false", "-f"} {
		s, c := setUp(t, 20*MiB)
		s.onStore = func(w *storeReply, r *http.Request, n int) bool {
			if n == 1 {
				os.Remove(c.path("x.part"))
				os.WriteFile(c.path("x.part"), []byte("evil"), 0o600)
			}
			return false
		}
		c.runExpecting(exitLocal, overwrite, "-o", c.path("x"), s.url())
		c.wantStderr("x.part was replaced during the download")
		if _, err := os.Lstat(c.path("x")); err == nil {
			t.Error("there is a file, want none")
		}
	}
}

// A name that the origin chooses is never that of a companion file, of this start or
// another.
func TestNamesOfCompanions(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "some/end.csv"} {
		s, c := setUp(t, 1000)
		o, err := parse(nil, s.url(), path)
		if err != nil {
			t.Fatal(err)
		}
		r := request{o.targets[0], o.request}
		part := (&job{api: &api{request: r}}).inFolder("")
		for _, name := range []string{part, part + ".json", part + ".json.new", part + ".lock", strings.ToUpper(part) + ".JSON"} {
			c := newClient(t, s)
			s.fileName = name
			c.runExpecting(exitOK, "-f", "-o", c.dir, s.url(), path)
			c.wantFiles(name + "_")
			c.wantContent(name+"_", s.content)
		}
		c.runExpecting(exitOK, "-o", c.dir, s.url(), "x.part")
	}
}

func TestSafeNameOfCompanions(t *testing.T) {
	for _, name := range []string{
		"x.part", ".x.part", "X.PART", "x.Part.Json", "x.part.lock", "x.part.json.new", "x.part.", "x.part . ", "x.part\u00a0",
		"x\uff0e\uff50art", "x.part\uff0e", "x.\u24bfart", "x.part.j\u017fon", "x.pa\u00adrt", "x.par\ufe0ft", "x.pa\u034frt", "x.part\u200b.json",
		"dir/x.part", strings.Repeat("x", 300) + ".part", strings.Repeat("x", 300) + ".part.json", strings.Repeat("x", 226) + ".part" + strings.Repeat("y", 300),
	} {
		got := safeName(name)
		if folded := fold(got); companionName.MatchString(folded) || got == "" {
			t.Errorf("%q: got %q, which may be a companion file's", name, got)
		}
	}
	for _, name := range []string{"x.part1.rar", "part", "x.parts", "spare.partial", "part.json"} {
		if got := safeName(name); got != name {
			t.Errorf("%q: got %q, want it unchanged", name, got)
		}
	}
}

const playsWithTerminal = "a\x1b[2J\x1b]0;owned\x07\u009b2J\u202e\rb"

// hostileCertificate has a DNS name that plays with a terminal.
func hostileCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"evil\x1b[2J\x1b]0;owned\x07.example"}, NotAfter: time.Now().Add(time.Hour),
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{certificate}, PrivateKey: key}
}

// No text of a server brings control characters or a long line to a terminal.
func TestNetworkTextIsEscaped(t *testing.T) {
	t.Parallel()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{hostileCertificate(t)}}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	event := func(event map[string]any) func(*stack) {
		return func(s *stack) {
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				ctx = s.readMessages(ctx, conn)
				s.sendEvent(ctx, conn, event)
				<-ctx.Done()
			}
		}
	}
	answer := func(status int, body map[string]any) func(*stack) {
		return func(s *stack) {
			s.onAsk = func(w http.ResponseWriter, n int) bool { writeJSON(w, status, body); return true }
		}
	}
	long := strings.Repeat("x", 1<<20)
	tests := map[string]struct {
		set    func(*stack)
		server string // "": the stack
		exit   int
	}{
		"a certificate's name":     {func(*stack) {}, strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), exitNetwork},
		"a code":                   {event(map[string]any{"type": "failed", "code": playsWithTerminal, "message": "m"}), "", exitFailed},
		"a failure's message":      {event(map[string]any{"type": "failed", "code": "STORAGE", "message": playsWithTerminal}), "", exitFailed},
		"a long message":           {event(map[string]any{"type": "failed", "code": "STORAGE", "message": playsWithTerminal + long[:100_000]}), "", exitFailed},
		"an answer's message":      {answer(400, apiProblem("INVALID_PATH", playsWithTerminal)), "", exitRefused},
		"a long answer":            {answer(400, apiProblem("INVALID_PATH", playsWithTerminal+long[:500_000])), "", exitRefused},
		"API Gateway's message":    {answer(403, map[string]any{"message": playsWithTerminal}), "", exitRefused},
		"the storage's error code": {func(s *stack) { s.onStore = refusedWith("a\u009b2J\u202eb") }, "", exitNetwork},
		"the storage's range":      {func(s *stack) { s.onStore = rangedAs("bytes a\u202eb/1000") }, "", exitNetwork},
	}
	for name, test := range tests {
		for _, format := range []string{"", "-json"} {
			t.Run(name+format, func(t *testing.T) {
				s, c := setUp(t, 1000)
				test.set(s)
				server := test.server
				if server == "" {
					server = s.url()
				}
				c.runExpecting(test.exit, "-json="+fmt.Sprint(format != ""), "-o", c.path("x"), server)
				printed := c.err.String() + c.out.String()
				if i := strings.IndexFunc(printed, func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }); i >= 0 {
					t.Errorf("got %q, want no control character", printed)
				}
				for _, line := range strings.Split(printed, "\n") {
					if len(line) > 2000 {
						t.Errorf("got a line of %d bytes", len(line))
					}
				}
			})
		}
	}
}

// A reply that can't be read may quote the request, with the signature, the ticket and
// the headers in it.
func TestEchoes(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"not HTTP":        "{echo}\r\n\r\n",
		"header line":     "HTTP/1.1 200 OK\r\n{echo}\r\n\r\n",
		"length":          "HTTP/1.1 200 OK\r\nContent-Length: {echo}\r\n\r\n",
		"encoding":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: {echo}\r\n\r\n",
		"place":           "HTTP/1.1 302 Found\r\nLocation: http://[{echo}\r\n\r\n",
		"place elsewhere": "HTTP/1.1 302 Found\r\nLocation: ftp://{echo}\r\n\r\n",
	} {
		for _, path := range []string{"/dev/executions/", "/socket", "/bucket/"} {
			t.Run(name+" at "+path, func(t *testing.T) {
				inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
					for _, server := range []*httptest.Server{s.api, s.storage} {
						handler := server.Config.Handler
						server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							if strings.HasPrefix(r.URL.Path, path) {
								answerWith(t, w, r, reply)
							} else {
								handler.ServeHTTP(w, r)
							}
						})
					}
					s.onStatus = func(w http.ResponseWriter, n int) bool { writeJSON(w, 503, nil); return true }
					c.start("-wait="+fmt.Sprint(path == "/dev/executions/"), "-patience", "1s", "-H", "Authorization: "+secretHeader, "-o", c.path("x"), s.url())
					if code := <-c.exit; code == exitOK {
						t.Error("got a file, want none")
					}
					c.checkSecrets()
				})
			})
		}
	}
}

// answerWith writes reply to the connection, with {echo} as what the request has of secrets.
func answerWith(t *testing.T, w http.ResponseWriter, r *http.Request, reply string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	echo := r.RequestURI + " " + r.Header.Get("X-Download-Ticket") + " " + r.Header.Get("Authorization")
	io.WriteString(conn, strings.ReplaceAll(reply, "{echo}", echo))
}

// net/http logs what a server sends without being asked, in quotes and at any length.
func TestUnsolicitedBytesAreNotShown(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.onStatus = func(w http.ResponseWriter, n int) bool {
		if n > 1 {
			return false
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return false
		}
		t.Cleanup(func() { conn.Close() })
		const body = `{"status":"COPYING"}`
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(body), body, strings.Repeat("unwanted", 100))
		return true
	}
	c.s.publishSettings()
	printed, err := programtest.Command(t, "-wait", "-o", c.path("x"), s.url()).CombinedOutput()
	if err != nil || strings.Contains(string(printed), "unwanted") {
		t.Errorf("got %v and %.300q, want nothing of the bytes", err, printed)
	}
}

func refusedWith(code string) func(*storeReply, *http.Request, int) bool {
	return func(w *storeReply, r *http.Request, n int) bool { storeError(w, 418, code); return true }
}

func rangedAs(text string) func(*storeReply, *http.Request, int) bool {
	return func(w *storeReply, r *http.Request, n int) bool {
		w.Header().Set("Content-Range", text)
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, 1000))
		return true
	}
}

// An argument may be copied from somewhere else.
func TestArgumentsAreEscaped(t *testing.T) {
	t.Parallel()
	s := newStack(t, 10)
	for _, format := range []string{"-json=false", "-json"} {
		c := newClient(t, s)
		c.runExpecting(exitUsage, format, "-"+playsWithTerminal, s.url())
		printed := c.err.String() + c.out.String()
		if i := strings.IndexFunc(strings.TrimSuffix(printed, "\n"), func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }); i >= 0 {
			t.Errorf("got %q, want no control character", printed)
		}
	}
}

// Credentials can be kept out of the list of processes.
func TestHeadersFromAFile(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10)
	text := "X-Api-Key: " + secretHeader + "\r\n\nTwo: a\nTwo: b\n"
	if err := os.WriteFile(c.path("headers"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.runExpecting(exitOK, "-H", "@"+c.path("headers"), "-o", c.path("x"), s.url())
	if got := fmt.Sprint(s.asks[0].Header["X-Api-Key"], s.asks[0].Header["Two"]); got != "["+secretHeader+"] [a b]" {
		t.Errorf("got headers %s", got)
	}
	c = c.nextStart()
	c.stdin = strings.NewReader("Three: c")
	c.runExpecting(exitOK, "-H", "@-", "-o", c.path("y"), s.url())
	if got := s.asks[1].Header.Get("Three"); got != "c" {
		t.Errorf("from stdin: got %q, want c", got)
	}
}
