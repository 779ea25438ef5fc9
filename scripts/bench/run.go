package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// rig holds the tools and servers that all scenarios share.
type rig struct {
	dir       string
	self      string
	cert, key string
	missing   map[string]string // tools that couldn't be built, with the reason
	servers   []*exec.Cmd
	endpoints map[string]string // by arguments
	sums      map[int64]string
}

// prepare builds the tools into dir.
func prepare(ctx context.Context, dir string) (*rig, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	b := &rig{dir: dir, self: filepath.Join(dir, "bench"), missing: map[string]string{}, endpoints: map[string]string{}, sums: map[int64]string{}}
	build := func(name, in string, env []string, args ...string) error {
		fmt.Fprintf(os.Stderr, "building %s\n", name)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = in, append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, out)
		}
		return nil
	}
	// Tools of this module, which are required.
	if err := build("copyurl", ".", nil, "build", "-trimpath", "-o", filepath.Join(dir, "copyurl"), "./cmd/copyurl"); err != nil {
		return nil, err
	}
	if err := build("bench", ".", nil, "build", "-trimpath", "-o", b.self, "./scripts/bench"); err != nil {
		return nil, err
	}
	if err := build("fetch", ".", []string{"CGO_ENABLED=0"}, "build", "-trimpath", "-tags=lambda.norpc", "-ldflags=-s", "-o", filepath.Join(dir, "fetch"), "./functions/fetch"); err != nil {
		return nil, err
	}
	// Other tools, which may be missing. s5cmd has a module next to this file, since
	// its version can't be installed by name. Both take minutes the first time.
	if err := build("s5cmd", "scripts/bench/s5cmd", nil, "build", "-o", filepath.Join(dir, "s5cmd"), "github.com/peak/s5cmd/v2"); err != nil {
		b.missing["s5cmd"] = err.Error()
	}
	if err := build("rclone", ".", []string{"GOBIN=" + dir, "GOFLAGS="}, "install", "github.com/rclone/rclone@"+rcloneVersion); err != nil {
		b.missing["rclone"] = err.Error()
	}
	if _, err := exec.LookPath("curl"); err != nil {
		b.missing["curl"] = err.Error()
	}
	for name, reason := range b.missing {
		fmt.Fprintf(os.Stderr, "without %s: %s\n", name, reason)
	}
	return b, b.certificate()
}

// certificate creates a self-signed certificate for localhost.
func (b *rig) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b.cert, b.key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	if err := os.WriteFile(b.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(b.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// server returns the URL of an origin or a sink, and starts it on the first call.
func (b *rig) server(args ...string) (string, error) {
	id := strings.Join(args, " ")
	if url, ok := b.endpoints[id]; ok {
		return url, nil
	}
	cmd := exec.Command(b.self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.servers = append(b.servers, cmd)
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("start %s: %w", id, err)
	}
	b.endpoints[id] = strings.TrimSpace(url)
	return b.endpoints[id], nil
}

func (b *rig) close() {
	for _, cmd := range b.servers {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// result is one run.
type result struct {
	seconds, cpu float64
	rss          int64
	err          error
}

// run runs a scenario and returns the median of each tool.
func (b *rig) run(ctx context.Context, s scenario, repeat int) (map[string]result, error) {
	if s.once {
		repeat = 1
	}
	results := map[string][]result{}
	for range repeat {
		for _, t := range s.tools { // in alternation, so that other load on the machine affects all of them
			if reason, missing := b.missing[t.needs]; missing {
				results[t.name] = []result{{err: errors.New("not built: " + strings.SplitN(reason, "\n", 2)[0])}}
				continue
			}
			r, err := b.measure(ctx, s, t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			results[t.name] = append(results[t.name], r)
			fmt.Fprintf(os.Stderr, "%-58s %-32s %7.2f s  %6.2f CPU s  %4d MiB  %v\n", s.name, t.name, r.seconds, r.cpu, r.rss>>20, r.err)
		}
	}
	medians := map[string]result{}
	for name, r := range results {
		medians[name] = result{
			seconds: median(r, func(r result) float64 { return r.seconds }),
			cpu:     median(r, func(r result) float64 { return r.cpu }),
			rss:     int64(median(r, func(r result) float64 { return float64(r.rss) })),
			err:     r[0].err,
		}
	}
	return medians, nil
}

func median(r []result, of func(result) float64) float64 {
	v := make([]float64, len(r))
	for i := range r {
		v[i] = of(r[i])
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// measure runs a tool once and compares the object in the sink with the file.
func (b *rig) measure(ctx context.Context, s scenario, t tool) (result, error) {
	secure := []string{}
	if s.https {
		secure = []string{"-cert", b.cert, "-key", b.key}
	}
	origin, err := b.server(append([]string{"origin"}, secure...)...)
	if err != nil {
		return result{}, err
	}
	args := append([]string{"sink"}, secure...)
	if s.delay != "" {
		args = append(args, "-delay", s.delay)
	}
	sink, err := b.server(args...)
	if err != nil {
		return result{}, err
	}
	key := "downloads/" + token()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+t.command)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(),
		"URL="+origin+fmt.Sprintf("/%d", s.size)+s.query, "BUCKET=bucket", "KEY="+key, "DIR="+b.dir,
		"AWS_ENDPOINT_URL_S3="+sink, "AWS_ENDPOINT_URL="+sink, "AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
		"SSL_CERT_FILE="+b.cert, "CURL_CA_BUNDLE="+b.cert, "AWS_CA_BUNDLE="+b.cert, "NO_PROXY=*")
	began := time.Now()
	err = cmd.Run()
	r := result{seconds: time.Since(began).Seconds()}
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	// A child's peak starts at the size of this process when it was forked, a few MiB;
	// every tool needs more.
	r.cpu, r.rss = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), usage.Maxrss<<10
	if err != nil {
		r.err = fmt.Errorf("failed after %.0f s: %s", r.seconds, lastLine(stderr.String()))
		if t.mayFail {
			return r, nil
		}
		return r, r.err
	}
	return r, b.check(sink, key, s.size)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	s = s[strings.LastIndexByte(s, '\n')+1:]
	if _, cause, ok := strings.Cut(s, ", cause: "); ok { // drops the upload's id
		s = cause
	}
	return s[:min(len(s), 200)]
}

// check compares the object in the sink with the file.
func (b *rig) check(sink, key string, size int64) error {
	pem, err := os.ReadFile(b.cert)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: (&net.Dialer{}).DialContext}}
	defer client.CloseIdleConnections()
	resp, err := client.Head(sink + "/bucket/" + key)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if b.sums[size] == "" {
		b.sums[size] = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, checksum(size)))
	}
	if got := resp.Header.Get("X-Amz-Checksum-Crc64nvme"); resp.ContentLength != size || got != b.sums[size] {
		return fmt.Errorf("the object has %d bytes with checksum %q, want %d with %q", resp.ContentLength, got, size, b.sums[size])
	}
	return nil
}

func (b *rig) header(repeat int) string {
	return fmt.Sprintf("`make bench` on %d cores, %s, %s/%s: medians of %d alternating runs, all on loopback. GB is 10^9 bytes. CPU is the user and\n"+
		"system time of the tool only; the origin and the S3 sink are separate processes on the same cores. Every object's checksum\n"+
		"was compared with the file's. Seconds depend on the machine and its other load; ratios and CPU much less.",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, repeat)
}
