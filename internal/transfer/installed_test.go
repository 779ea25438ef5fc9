package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"async-download/internal/object"
	"async-download/internal/origin"
	"async-download/internal/origin/origintest"
	"async-download/internal/transfer/s3test"
)

// installed is a server that many sites run, started with a folder to serve on a
// port. The ones that the machine doesn't have are skipped; nginx, Go and Python
// are always there.
type installed struct {
	name     string
	program  string // that has to be installed
	start    func(t *testing.T, folder string, port int) *exec.Cmd
	kind     origin.PinKind
	ranges   int // at least; 0: the file comes as one stream
	requests int // at most; 0: any number
}

// nginx returns a server of nginx's, with these directives.
func nginx(directives string) func(*testing.T, string, int) *exec.Cmd {
	return func(t *testing.T, folder string, port int) *exec.Cmd {
		config := filepath.Join(t.TempDir(), "nginx.conf")
		text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s.pid; error_log /dev/null;
events {}
http {
  access_log off; client_body_temp_path %[1]s.body; proxy_temp_path %[1]s.proxy; fastcgi_temp_path %[1]s.f; uwsgi_temp_path %[1]s.u; scgi_temp_path %[1]s.s;
  %[2]s
}`, config, strings.NewReplacer("PORT", fmt.Sprint(port), "FOLDER", folder).Replace(directives))
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return exec.Command(look("nginx"), "-c", config, "-e", "/dev/null")
	}
}

// look finds a program, also in the folders of the system.
func look(program string) string {
	for _, folder := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/share/tomcat10/bin") {
		path := filepath.Join(folder, program)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	return ""
}

var installedServers = []installed{
	{name: "nginx", program: "nginx", start: nginx(`server { listen 127.0.0.1:PORT; root FOLDER; }`), kind: origin.StrongETag, ranges: 3},
	{name: "nginx, gzip", program: "nginx", start: nginx(`gzip on; gzip_types *; gzip_proxied any; server { listen 127.0.0.1:PORT; root FOLDER; }`), kind: origin.StrongETag, ranges: 3},
	{name: "nginx, no ETag", program: "nginx", start: nginx(`etag off; server { listen 127.0.0.1:PORT; root FOLDER; }`), kind: origin.LastModified, ranges: 3},
	{name: "nginx, no ranges", program: "nginx", start: nginx(`max_ranges 0; server { listen 127.0.0.1:PORT; root FOLDER; }`), kind: origin.StrongETag, requests: 1},
	// The file of each node is the same; its time isn't.
	{name: "nginx, two nodes", program: "nginx", start: nginx(`
  upstream nodes { server unix:FOLDER/a.sock; server unix:FOLDER/b.sock; }
  server { listen unix:FOLDER/a.sock; root FOLDER/a; } server { listen unix:FOLDER/b.sock; root FOLDER/b; }
  server { listen 127.0.0.1:PORT; location / { proxy_pass http://nodes; } }`), kind: origin.StrongETag},
	{name: "nginx, one connection", program: "nginx", start: nginx(`limit_conn_zone $server_name zone=one:1m;
  server { listen 127.0.0.1:PORT; root FOLDER; limit_conn one 1; limit_rate 40m; }`), kind: origin.StrongETag, ranges: 3},
	{name: "nginx, two connections, 429", program: "nginx", start: nginx(`limit_conn_zone $server_name zone=one:1m; limit_conn_status 429;
  server { listen 127.0.0.1:PORT; root FOLDER; limit_conn one 2; limit_rate 40m; }`), kind: origin.StrongETag, ranges: 3},
	{name: "Python http.server", program: "python3", start: func(_ *testing.T, folder string, port int) *exec.Cmd {
		return exec.Command("python3", "-m", "http.server", "-d", folder, "-b", "127.0.0.1", fmt.Sprint(port))
	}, kind: origin.LastModified, requests: 1},
	{name: "Apache", program: "apache2", start: func(t *testing.T, folder string, port int) *exec.Cmd {
		run := t.TempDir()
		config := filepath.Join(run, "apache.conf")
		text := fmt.Sprintf("ServerRoot %[1]s\nPidFile %[1]s/pid\nErrorLog /dev/null\nServerName localhost\nListen 127.0.0.1:%[2]d\nDocumentRoot %[3]s\nUser www-data\nGroup www-data\n", run, port, folder)
		for _, module := range []string{"mpm_event", "authz_core"} {
			text += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", module)
		}
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return exec.Command(look("apache2"), "-f", config, "-X")
	}, kind: origin.StrongETag, ranges: 3},
	{name: "WEBrick", program: "ruby", start: func(_ *testing.T, folder string, port int) *exec.Cmd {
		return exec.Command("ruby", "-rwebrick", "-e", "WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: ARGV[1].to_i, DocumentRoot: ARGV[0], AccessLog: []).start", folder, fmt.Sprint(port))
	}, kind: origin.OpaqueETag, ranges: 3},
	{name: "Express", program: "node", start: func(_ *testing.T, folder string, port int) *exec.Cmd {
		return exec.Command("node", "-e", "const express = require('express'); express().use(express.static(process.argv[1])).listen(+process.argv[2], '127.0.0.1')", folder, fmt.Sprint(port))
	}, kind: origin.LastModified, ranges: 3},
	{name: "Tomcat", program: "catalina.sh", start: func(t *testing.T, folder string, port int) *exec.Cmd {
		base := t.TempDir()
		for _, folder := range []string{"conf", "logs", "temp", "work"} {
			if err := os.Mkdir(filepath.Join(base, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		server := fmt.Sprintf(`<Server port="-1"><Service name="Catalina"><Connector port="%d" address="127.0.0.1"/><Engine name="Catalina" defaultHost="localhost">
<Host name="localhost" appBase="none"><Context path="" docBase="%s"><WatchedResource/></Context></Host></Engine></Service></Server>`, port, folder)
		web := `<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0"><servlet><servlet-name>d</servlet-name><servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class></servlet>
<servlet-mapping><servlet-name>d</servlet-name><url-pattern>/</url-pattern></servlet-mapping></web-app>`
		for name, text := range map[string]string{"server.xml": server, "web.xml": web} {
			if err := os.WriteFile(filepath.Join(base, "conf", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(look("catalina.sh"), "run")
		cmd.Env = append(os.Environ(), "CATALINA_BASE="+base)
		return cmd
	}, kind: origin.LastModified, ranges: 3},
}

// Real servers serve a file of 24 MiB: its bytes come, by ranges from each that has
// something to pin them with.
func TestInstalledServers(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector only makes the copies slow")
	}
	data := origintest.Bytes(80, 24*mib)
	folder, err := os.MkdirTemp("", "servers") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	for i, name := range []string{"file.bin", "a/file.bin", "b/file.bin"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-time.Hour).Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	fetch := func(t *testing.T, u string, kind origin.PinKind, ranges, requests int) {
		t.Helper()
		s := s3test.New(t)
		c := newCopier(t, s)
		c.PartSize, c.Concurrency = 5*mib, 8
		src := sourceOf(t, u)
		src.Client.Backoff = 100 * time.Millisecond
		r := mustCopy(t, c, s, src, "key", data)
		if !r.Pinned || !r.Verified || r.Ranges < ranges || requests > 0 && r.Ranges > requests || ranges > 0 != (r.Ranges >= 3 && r.Parts == 5) {
			t.Errorf("got %+v, want it pinned and verified, by at least %d ranges", r, ranges)
		}
		if got := s.Object("key").Header.Get("X-Amz-Meta-" + object.MetaPin); got != string(kind) {
			t.Errorf("got a pin of kind %q, want %q", got, kind)
		}
	}
	t.Run("Go FileServer", func(t *testing.T) {
		server := httptest.NewServer(http.FileServer(http.Dir(folder)))
		defer server.Close()
		fetch(t, server.URL+"/file.bin", origin.LastModified, 3, 0)
	})
	for _, server := range installedServers {
		t.Run(server.name, func(t *testing.T) {
			if look(server.program) == "" {
				if always := server.program == "nginx" || server.program == "python3"; always && os.Getenv("CI") != "" {
					t.Fatalf("there is no %s", server.program)
				}
				t.Skipf("there is no %s", server.program)
			}
			if server.name == "Express" && exec.Command("node", "-e", "require('express')").Run() != nil {
				t.Skip("there is no express")
			}
			port := reserve(t)
			cmd := server.start(t, folder, port)
			var log strings.Builder
			cmd.Stdout, cmd.Stderr = &log, &log
			cmd.WaitDelay = 10 * time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := make(chan error, 1)
			go func() { exited <- cmd.Wait() }()
			defer func() {
				_ = cmd.Process.Kill()
				<-exited
			}()
			u := fmt.Sprintf("http://127.0.0.1:%d/file.bin", port)
			wait, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			for !answers(wait, u) {
				select {
				case err := <-exited:
					exited <- err
					t.Fatalf("it ended: %v\n%s", err, log.String())
				case <-wait.Done():
					t.Fatal("it doesn't answer")
				case <-time.After(50 * time.Millisecond):
				}
			}
			fetch(t, u, server.kind, server.ranges, server.requests)
		})
	}
}

// reserve returns a port of 127.0.0.1 that nobody else gets during the test: a socket
// is bound to it that doesn't listen. A server that sets SO_REUSEADDR may listen there.
func reserve(t *testing.T) int {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	loopback := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1), syscall.Bind(socket, loopback)); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return bound.(*syscall.SockaddrInet4).Port
}

func answers(ctx context.Context, u string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, u, nil)
	if err != nil {
		return false
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode < 500
}
