package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/crc64nvme"
)

// The file repeats a block of random bytes. The block's length has no factor in
// common with any part size, so that no two parts are equal.
const (
	block = 1<<20 + 7
	burst = 4 << 20 // what is written at a time
)

var pattern = func() []byte {
	b := make([]byte, block, block+burst)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	for len(b) < cap(b) {
		b = append(b, b[:min(block, cap(b)-len(b))]...)
	}
	return b
}()

// at returns up to n bytes of the file from offset off.
func at(off, n int64) []byte {
	return pattern[off%block:][:min(n, burst)]
}

// checksum is the checksum that S3 must report for the first size bytes.
func checksum(size int64) uint64 {
	var crc uint64
	for off := int64(0); off < size; {
		b := at(off, size-off)
		crc = crc64nvme.Update(crc, b)
		off += int64(len(b))
	}
	return crc
}

// serveOrigin answers GET /SIZE?rate=BYTES&unknown=1&dated=1: rate is per
// connection, unknown sends no length and ignores ranges, dated sends no ETag.
func serveOrigin(args []string) error {
	return listen("origin", args, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		rate, _ := strconv.ParseInt(r.FormValue("rate"), 10, 64)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Last-Modified", "Tue, 24 Nov 2026 00:00:00 GMT")
		start, end := int64(0), size
		if r.FormValue("unknown") == "" {
			if r.FormValue("dated") == "" {
				w.Header().Set("ETag", fmt.Sprintf("\"%d\"", size))
			}
			w.Header().Set("Accept-Ranges", "bytes")
			status := http.StatusOK
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end); err == nil {
				status = http.StatusPartialContent
				end = min(end+1, size)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, size))
			}
			w.Header().Set("Content-Length", strconv.FormatInt(end-start, 10))
			w.WriteHeader(status)
		}
		if r.Method == http.MethodHead {
			return
		}
		began, sent := time.Now(), int64(0)
		for off := start; off < end; {
			b := at(off, end-off)
			if rate > 0 {
				b = b[:min(int64(len(b)), 256<<10)]
				time.Sleep(time.Duration(float64(sent)/float64(rate)*float64(time.Second)) - time.Since(began))
			}
			if _, err := w.Write(b); err != nil {
				return
			}
			off += int64(len(b))
			sent += int64(len(b))
		}
	}))
}

// listen serves h on a free loopback port, prints its URL, and doesn't return.
func listen(name string, args []string, h http.Handler) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	cert := flags.String("cert", "", "certificate, for HTTPS")
	key := flags.String("key", "", "its key")
	delay := flags.Duration("delay", 0, "added to the answer to each PUT (sink)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	putDelay = *delay
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h}
	if *cert == "" {
		fmt.Printf("http://%s\n", l.Addr())
		return server.Serve(l)
	}
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // HTTP/1.1, as S3
	fmt.Printf("https://localhost:%d\n", l.Addr().(*net.TCPAddr).Port)
	return server.ServeTLS(l, *cert, *key)
}
