// Origin is a web server for demos and tests. It generates files as they are
// read, so a file of a tebibyte needs no disk. The query makes it misbehave as
// real origins do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

const usage = `Usage: origin [flags]

Serves files that are generated as they are read, the same bytes in every run:
  /                              a file of -size called -name
  /file/SIZE[/any/path/name.ext] a file of SIZE (0, 1, 6MB, 64MiB, 1TiB, ...);
                                 the last extension decides the content type
  /_sha256/...                   the hex SHA-256 of what /... serves now
  /report[/SIZE[/name.ext]]
                                 a report that is made on demand, by GET or POST:
                                 a file of SIZE, or else JSON that describes the
                                 request (data for a GraphQL query)
  /_requests?contains=TEXT       the latest requests whose URL contains TEXT, with
                                 headers and bodies, as JSON
with ranges, a strong ETag, If-Match and If-Range.

The query of / and /file changes how the file is served:
  cd=NAME          Content-Disposition with this file name
  type=TYPE        this Content-Type
  delay=2s         wait before the headers
  rate=1MiB        bytes per second in each answer
  cut=N            announce the whole answer, close the connection after N bytes
  status=404       answer this status without a file
  retryafter=V     with this Retry-After
  times=N          delay, cut and status apply to the first N requests only
  noranges         ignore Range (noranges=lie: and still advertise ranges)
  chunked          no length, Transfer-Encoding: chunked
  close            no length; the file ends when the connection closes
  gzip             compress for clients that accept it (gzip=force: for all)
  digest           Repr-Digest with the SHA-256, up to 1 GiB (digest=wrong: a wrong one)
  etag=weak        a weak ETag (etag=none: no ETag)
  changeafter=N    other bytes and another ETag from request N+1 on
The query of /report changes its answer, in addition:
  accepted=N       202 with the Location of a job, which answers 202 until there
                   were N of them
  nolocation       these have no Location: the same URL is asked again
  then=303         the job leads to /file (then=404: it is gone)
  token=TOKEN      401 without Authorization: Bearer TOKEN
  caller=HEADER    the JSON has the value of this header
  redirect=303     301, 302, 303, 307 or 308, to /file
  to=URL           or to this URL
Requests are counted by path and query, so an unused parameter (&id=7) gives
a test its own count.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "origin:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and then returns nil.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("origin", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	listen := flags.String("listen", "127.0.0.1:0", "`address` to listen on; port 0 takes a free one")
	addrFile := flags.String("addr-file", "", "`file` that receives host:port once the port is open")
	size := flags.String("size", "32MiB", "`size` of the file at /")
	name := flags.String("name", "report.bin", "`name` of the file at /")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	defaultSize, err := parseSize(*size)
	if err != nil {
		return fmt.Errorf("-size: %w", err)
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           newOrigin(defaultSize, *name, stderr),
		ReadHeaderTimeout: 10 * time.Second,
	}
	// Close, not Shutdown: an answer slowed down by rate= would delay the exit until
	// its file is sent.
	defer context.AfterFunc(ctx, func() { server.Close() })()

	addr := listener.Addr().String()
	fmt.Fprintln(stdout, addr)
	if *addrFile != "" {
		if err := writeWhole(*addrFile, addr+"\n"); err != nil {
			listener.Close()
			return err
		}
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// writeWhole writes a file atomically, so that a script that waits for it never
// reads half of it.
func writeWhole(path, text string) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if _, err := temp.WriteString(text); err != nil {
		temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// parseSize reads 0, 1, 6MB (decimal), 64MiB (binary) and the like.
func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	// ParseBytes calculates in float64, which is exact up to 2^53: 170 times the
	// largest S3 object.
	if err != nil || n > 1<<53 {
		return 0, fmt.Errorf("%q is not a size such as 0, 500, 6MB or 64MiB", text)
	}
	return int64(n), nil
}
