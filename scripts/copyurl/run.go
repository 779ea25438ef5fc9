package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/transfer"
)

const usage = `usage: copyurl [flags] URL s3://BUCKET/KEY

Copies the file at URL to KEY in BUCKET: by ranges in parallel where the server
honours them, else as one stream. Prints one JSON line. Interrupted or failed, it
leaves no object and no open upload; killed, it goes on with what is there when
it is run again.

Credentials, region and endpoint are those of the AWS tools: AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL_S3 and so on.

Exit code: 0 a complete object, 1 none, 2 wrong usage.

`

// waits is how often a server's wish to be left alone for long is followed.
const waits = 5

// cleanUp is how long the end of an upload may take.
const cleanUp = 30 * time.Second

type options struct {
	url         *url.URL
	bucket, key string
	partSize    size
	concurrency int
	header      headers
	publicOnly  bool
	quiet       bool
}

// line is what is printed, in one line of JSON.
type line struct {
	Bytes    int64             `json:"bytes"`
	Seconds  float64           `json:"seconds"`
	Checksum transfer.Checksum `json:"checksum"`
	Ranges   int               `json:"ranges"`
	Parts    int               `json:"parts"`
	Verified bool              `json:"verified"`
	Pinned   bool              `json:"pinned"`
	Digest   string            `json:"digest,omitempty"`
	Object   string            `json:"object"`
	Error    *problem          `json:"error,omitempty"`
}

type problem struct {
	Code    failure.Code `json:"code"`
	Message string       `json:"message"`
}

// run is the program. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "copyurl: %s\n", err)
		return 2
	}
	began := time.Now()
	r, err := o.copy(ctx, stderr)
	out := line{
		Bytes: r.Bytes, Seconds: float64(time.Since(began).Milliseconds()) / 1000, Checksum: r.Checksum, Ranges: r.Ranges, Parts: r.Parts,
		Verified: r.Verified, Pinned: r.Pinned, Digest: r.Digest, Object: "s3://" + o.bucket + "/" + o.key,
	}
	if err != nil {
		f := failure.As(err)
		out.Error = &problem{f.Code, f.Message}
		fmt.Fprintf(stderr, "copyurl: %s\n", f)
		if f.Err != nil {
			fmt.Fprintf(stderr, "copyurl: the cause: %s\n", f.Err)
		}
	}
	if err := json.NewEncoder(stdout).Encode(out); err != nil || out.Error != nil {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{partSize: transfer.PartSize, header: headers{}}
	flags := flag.NewFlagSet("copyurl", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.Var(&o.partSize, "part-size", "`size` of the parts, 5MiB to 5GiB; grows by itself for large files")
	flags.IntVar(&o.concurrency, "concurrency", transfer.Concurrency, "ranges that are read at once, 1 to 64")
	flags.Var(o.header, "header", "`'Name: value'` to send to the URL's host; may be repeated")
	flags.BoolVar(&o.publicOnly, "public-only", false, "refuse addresses that aren't public, as the deployed app does")
	flags.BoolVar(&o.quiet, "quiet", false, "show no progress on a terminal")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() != 2 {
		flags.Usage()
		return o, errors.New("a URL and s3://BUCKET/KEY are needed")
	}
	var err error
	if o.url, err = origin.ParseBase(flags.Arg(0)); err != nil {
		return o, err
	}
	rest, ok := strings.CutPrefix(flags.Arg(1), "s3://")
	if o.bucket, o.key, _ = strings.Cut(rest, "/"); !ok || o.bucket == "" || o.key == "" {
		return o, errors.New("the target has to be s3://BUCKET/KEY")
	}
	if o.partSize < transfer.MinPartSize || o.partSize > transfer.MaxPartSize {
		return o, errors.New("-part-size: S3 takes parts of 5MiB to 5GiB")
	}
	if o.concurrency < 1 || o.concurrency > 64 {
		return o, errors.New("-concurrency: 1 to 64")
	}
	return o, nil
}

func (o options) copy(ctx context.Context, stderr io.Writer) (transfer.Result, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return transfer.Result{}, failure.Wrap(err, failure.Internal, "the AWS configuration can't be read")
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Credentials == nil {
		return transfer.Result{}, failure.New(failure.Storage, "no AWS credentials")
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return transfer.Result{}, failure.Wrap(err, failure.Storage, "no AWS credentials")
	}
	if limit := debug.SetMemoryLimit(-1); limit == memory {
		// A stream in larger parts needs as much more.
		debug.SetMemoryLimit(limit + 4*max(int64(o.partSize)-transfer.StreamPartSize, 0))
	}
	show := newDisplay(stderr, o.quiet)
	defer show.close()
	copier := &transfer.Copier{
		S3:     transfer.S3(cfg),
		Bucket: o.bucket, PartSize: int64(o.partSize), Concurrency: o.concurrency,
		Replace: true,
		OnSize:  show.size, Resumed: show.add, Progress: show.add,
	}
	src := transfer.Source{URL: o.url, Client: &origin.Client{
		Base: o.url, Header: http.Header(o.header), RedirectHosts: []string{"*"},
		AnyAddress: !o.publicOnly, Connections: o.concurrency,
	}}
	for n := 0; ; n++ {
		outcome, err := copier.Start(ctx, src, o.key, nil)
		var later *origin.Later
		if errors.As(err, &later) && n < waits {
			show.note(fmt.Sprintf("%s; waiting %s", later.Err.Message, later.After.Round(time.Second)))
			if wait(ctx, later.After) {
				continue
			}
			err = context.Cause(ctx)
		}
		if err == nil {
			return *outcome.Result, nil
		}
		// The context's end may be the reason: the clean-up needs one that lives.
		living, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		if left := copier.Abort(living, o.key); left != nil {
			show.note("the upload couldn't be aborted: " + left.Error())
		}
		return transfer.Result{}, err
	}
}

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// size is a flag in bytes: 8388608, 8MiB, 8MB.
type size int64

func (s *size) String() string {
	if *s >= 1<<20 && *s%(1<<20) == 0 {
		return strconv.FormatInt(int64(*s)>>20, 10) + "MiB"
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Set(text string) error {
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}} {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = number, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n <= 0 || n > (5<<40)/unit {
		return errors.New("not a size like 8MiB")
	}
	*s = size(n * unit)
	return nil
}

// headers is a flag that collects headers.
type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(text string) error {
	name, value, ok := strings.Cut(text, ":")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" || strings.ContainsAny(text, "\r\n") {
		return errors.New("not a header like 'Name: value'") // without repeating it: it may be a secret
	}
	http.Header(h).Add(name, value)
	return nil
}
