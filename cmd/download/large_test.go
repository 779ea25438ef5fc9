package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	crc "github.com/minio/crc64nvme"

	"async-download/internal/programtest"
)

const GiB = 1 << 30

// TestLarge cuts the network five times while the program fetches a large
// file. One start has to be enough, and nothing is fetched twice.
//
// LARGE=1 makes it 10 GiB from an S3 that keeps its objects on disk, under a link
// signed for it. That takes some minutes and 20 GiB below TMPDIR.
func TestLarge(t *testing.T) {
	programtest.SkipMemory(t)
	const limit = 64 << 10 // KiB in RAM
	large := os.Getenv("LARGE") != ""
	size := int64(256 * MiB)
	if large {
		size = 10 * GiB
	}
	s, c := setUp(t, 1*MiB+3) // repeated, and no range begins where a block does
	content := func() *repeated { return &repeated{block: s.content, size: size} }
	w := newWire(t)
	if large {
		store := startStore(t)
		s.checksum = store.put(content())
		w.target = store.address
		s.linkURL = store.sign(w.url)
	} else {
		s.onStore = func(w *storeReply, r *http.Request, n int) bool {
			http.ServeContent(w, r, "", time.Time{}, content())
			return true
		}
		sum := crc.New()
		if _, err := io.Copy(sum, content()); err != nil {
			t.Fatal(err)
		}
		s.checksum = map[string]string{"crc64nvme": base64.StdEncoding.EncodeToString(sum.Sum(nil))}
		w.pace = 8 * time.Millisecond // so that all connections are back when the next cut comes
		w.target = s.storage.Listener.Addr().String()
		s.linkURL = w.url + "/bucket/object?X-Amz-Signature=" + secretSignature
	}
	s.size = size

	outage := 300 * time.Millisecond
	if large {
		outage = 3 * time.Second
	}
	for i := range int64(5) { // one in each sixth of the file but the first
		w.cuts = append(w.cuts, cut{
			after:  size/6*(i+1) + rand.Int64N(size/8),
			reset:  rand.IntN(2) == 0,
			outage: rand.N(outage),
		})
	}
	w.cuts[2].silent = large // 30 s go by until the program sees that
	t.Logf("cuts: %+v", w.cuts)
	w.start(t)

	began := time.Now()
	peak := peakOf(t, c, "-o", c.path("x"), s.url())
	took := time.Since(began)
	c.checkSecrets()
	c.wantStderr("CRC64NVME verified")
	c.wantFiles("x")
	same(t, c.path("x"), content())

	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.cuts) > 0 || slices.Contains(w.hit, 0) {
		t.Errorf("got cuts that met %v connections and %d that are left, want five that met some", w.hit, len(w.cuts))
	}
	// What was on its way to a connection that is cut is lost; what had arrived
	// isn't asked for again.
	lost := int64(0)
	for _, n := range w.hit {
		lost += int64(n) * MiB
	}
	t.Logf("%d MiB in %.1f s; %d connections, of which the cuts met %v; %d bytes more than the file's came; %d KiB in RAM\n%s",
		size/MiB, took.Seconds(), w.connections, w.hit, w.sent-size, peak, c.err.String())
	if w.sent < size || w.sent > size+lost {
		t.Errorf("got %d bytes over the wire, want %d and at most %d more", w.sent, size, lost)
	}
	if peak == 0 || peak > limit {
		t.Errorf("got %d KiB in RAM, want at most %d", peak, limit)
	}
}

// same compares a file with what it should be.
func same(t *testing.T, path string, want io.Reader) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	got, expected := make([]byte, MiB), make([]byte, MiB)
	for at := int64(0); ; {
		n, err := io.ReadFull(f, got)
		m, _ := io.ReadFull(want, expected)
		if n != m || !bytes.Equal(got[:n], expected[:n]) {
			t.Errorf("%s differs in the MiB from byte %d", filepath.Base(path), at)
			return
		}
		if err != nil { // the end, for both
			return
		}
		at += int64(n)
	}
}

// cut is a break of the network, for all connections at once.
type cut struct {
	after  int64 // bytes that came over the wire, of the whole test
	silent bool  // the connections stay and nothing comes; else they end
	reset  bool  // they end as if the other side didn't know them
	outage time.Duration
}

// wire is the network before a storage.
type wire struct {
	listener net.Listener
	url      string
	target   string        // host:port
	pace     time.Duration // before each piece of a connection

	mu          sync.Mutex
	cuts        []cut // to come, in order
	hit         []int // connections that each cut met
	outage      time.Time
	open        map[net.Conn]net.Conn // the client's, and the storage's
	silent      []net.Conn            // the client's, with nothing behind them
	connections int
	sent        int64 // to the client
}

func newWire(t *testing.T) *wire {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &wire{listener: listener, url: "http://" + listener.Addr().String(), open: map[net.Conn]net.Conn{}}
}

// start is called when everything is set.
func (w *wire) start(t *testing.T) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := w.listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.carry(client) })
		}
	})
	t.Cleanup(func() {
		w.listener.Close()
		w.mu.Lock()
		w.end(true)
		for _, client := range w.silent {
			client.Close()
		}
		w.mu.Unlock()
		running.Wait()
	})
}

// end ends every connection; w.mu is held.
func (w *wire) end(reset bool) {
	for client, storage := range w.open {
		if reset {
			client.(*net.TCPConn).SetLinger(0)
		}
		client.Close()
		storage.Close()
	}
	clear(w.open)
}

func (w *wire) carry(client net.Conn) {
	w.mu.Lock()
	out := time.Now().Before(w.outage)
	w.mu.Unlock()
	storage, err := net.Dial("tcp", w.target)
	if out || err != nil {
		client.Close()
		if err == nil {
			storage.Close()
		}
		return
	}
	// Little is on its way when a cut comes.
	client.(*net.TCPConn).SetWriteBuffer(64 << 10)
	w.mu.Lock()
	w.connections++
	w.open[client] = storage
	w.mu.Unlock()
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		io.Copy(storage, client)
		storage.Close()
	}()
	buffer := make([]byte, 64<<10)
	for {
		time.Sleep(w.pace)
		n, err := storage.Read(buffer)
		if err != nil || !w.pass(client, buffer[:n]) {
			break
		}
	}
	w.mu.Lock()
	if w.open[client] != nil {
		delete(w.open, client)
		client.Close()
	}
	w.mu.Unlock()
	storage.Close()
	<-asking
}

// pass hands a piece to the client and says whether there may be another.
func (w *wire) pass(client net.Conn, piece []byte) bool {
	n, err := client.Write(piece)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent += int64(n)
	if w.open[client] == nil { // it was cut
		return false
	}
	if len(w.cuts) == 0 || w.sent < w.cuts[0].after {
		return err == nil
	}
	next := w.cuts[0]
	w.cuts, w.hit = w.cuts[1:], append(w.hit, len(w.open))
	w.outage = time.Now().Add(next.outage)
	if next.silent {
		w.silent = slices.Collect(maps.Keys(w.open))
		clear(w.open)
	} else {
		w.end(next.reset)
	}
	return false
}

// versitygw is an S3 with its objects in a folder.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// store is one of the test's own, with one object.
type store struct {
	t       *testing.T
	dir     string
	address string
}

const bucketName, objectKey = "large-test", "downloads/large"

func startStore(t *testing.T) *store {
	t.Helper()
	tools, err := filepath.Abs("../../.local/large")
	if err != nil {
		t.Fatal(err)
	}
	run := func(cmd *exec.Cmd) {
		t.Helper()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	install := exec.Command("go", "install", versitygw)
	install.Env = append(os.Environ(), "GOBIN="+tools, "GOFLAGS=")
	run(install)
	run(exec.Command("go", "build", "-o", tools, "../copyurl"))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	st := &store{t: t, dir: tools, address: listener.Addr().String()}
	listener.Close()
	objects, meta := t.TempDir(), t.TempDir()
	// What is known of the objects goes into files: not every file system has
	// extended attributes.
	gateway := exec.Command(filepath.Join(tools, "versitygw"), "--access", "key", "--secret", "secret", "--region", "us-east-1",
		"--port", st.address, "--quiet", "--keep-alive", "posix", "--sidecar", meta, objects)
	gateway.Stdout, gateway.Stderr = os.Stderr, os.Stderr
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		gateway.Process.Kill()
		gateway.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", st.address)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("versitygw doesn't listen: %v", err)
		}
	}
	if _, err := st.client("http://"+st.address).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucketName)}); err != nil {
		t.Fatal(err)
	}
	return st
}

func (st *store) client(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &endpoint, UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
}

// put copies the content into the store by copyurl and returns what the object's
// checksum is.
func (st *store) put(content *repeated) map[string]string {
	st.t.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, &repeated{block: content.block, size: content.size})
	}))
	defer origin.Close()
	cmd := exec.Command(filepath.Join(st.dir, "copyurl"), origin.URL+"/large", "s3://"+bucketName+"/"+objectKey)
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL_S3=http://"+st.address, "AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_PROFILE=")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		st.t.Fatalf("copyurl: %v\n%s", err, out)
	}
	st.t.Logf("copyurl: %s", out)
	var line struct {
		Bytes    int64             `json:"bytes"`
		Checksum map[string]string `json:"checksum"`
	}
	if err := json.Unmarshal(out, &line); err != nil || line.Bytes != content.size {
		st.t.Fatalf("copyurl: got %s (%v), want %d bytes", out, err, content.size)
	}
	return line.Checksum
}

// sign makes a link that is good at endpoint, whose name is signed with it.
func (st *store) sign(endpoint string) string {
	st.t.Helper()
	link, err := s3.NewPresignClient(st.client(endpoint)).PresignGetObject(st.t.Context(),
		&s3.GetObjectInput{Bucket: aws.String(bucketName), Key: aws.String(objectKey)}, s3.WithPresignExpires(time.Hour))
	if err != nil {
		st.t.Fatal(err)
	}
	return link.URL
}
