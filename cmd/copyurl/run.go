package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/bytesize"
	"async-download/internal/escape"
	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/progress"
	"async-download/internal/requestflag"
	"async-download/internal/transfer"
	"async-download/internal/version"
)

const usage = `Usage: copyurl [flags] URL s3://BUCKET/KEY

Copies the file at URL to KEY in BUCKET: by ranges in parallel where the server
supports them, otherwise as one stream. A KEY that ends in / (or s3://BUCKET/) is
completed with the server's name for the file. A copy that is interrupted or fails leaves
no object and no open upload; after a kill, the same command continues.

A POST is sent once: again only if it didn't reach the server, or after an answer of
429 or 503 with Retry-After. Its answer is the file, or a redirect to it. A server that
answers 202 is asked again until it has the file, at its Location if it sent one.

Examples:
  copyurl https://files.example/2026.pdf s3://bucket/reports/2026.pdf
  copyurl https://files.example/2026.pdf s3://bucket/reports/
  copyurl -H @credentials -checksum sha-256=DIGEST https://files.example/big.iso s3://bucket/big.iso
  copyurl -X POST -d @query.json -H 'Content-Type: application/json' https://api.example/reports s3://bucket/reports/

Credentials, region and endpoint are those of the AWS tools: AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL_S3 and so on.

The server is always connected to directly. HTTP_PROXY and HTTPS_PROXY are used for
S3 only: addresses are checked when they are dialed, and a proxy would hide them.

Flags:
`

const output = `
On stderr: progress on a terminal; elsewhere, of a copy that takes longer than 5 s, a
line at least every 10 s. On stdout, one line of JSON:
  bytes, seconds
  checksum  of the object, as S3 keeps it, in base64
  ranges    requests that were made for the file, by this run
  parts     that the object was uploaded in; 0: in one piece
  verified  whether the end of the file was proven: by a length, by chunks or by
            a digest
  pinned    whether all of it is of one version, by the server's ETag or its
            Last-Modified
  digest    the algorithm of the digest that the bytes were found to have: the one
            given with -checksum, or the server's
  object    s3://BUCKET/KEY
  error     code and message, where there is no object

Exit code: 0 a complete object, 1 none, 2 wrong usage, 130 interrupted.
`

// waits is how often a server that refuses the request may ask for a long wait.
const waits = 5

// cleanUp is how long the end of an upload may take.
const cleanUp = 30 * time.Second

type options struct {
	url         *url.URL
	bucket, key string
	partSize    bytesize.Size
	concurrency int
	request     requestflag.Request
	digest      origin.Digest
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
	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "copyurl: %s; see copyurl -h\n", escape.Text(err.Error()))
		return 2
	}
	began := time.Now()
	show := newDisplay(stderr, o.quiet)
	r, err := o.copy(ctx, show)
	show.close()
	out := line{
		Bytes: r.Bytes, Seconds: float64(time.Since(began).Milliseconds()) / 1000, Checksum: r.Checksum, Ranges: r.Ranges, Parts: r.Parts,
		Verified: r.Verified, Pinned: r.Pinned, Digest: r.Digest, Object: "s3://" + o.bucket + "/" + o.key,
	}
	if err != nil {
		f := failure.As(err)
		out.Error = &problem{f.Code, f.Message}
		fmt.Fprintf(stderr, "copyurl: %s\n", escape.Text(f.Error()))
		if f.Err != nil && !strings.Contains(f.Message, f.Err.Error()) {
			fmt.Fprintf(stderr, "copyurl: the cause: %s\n", escape.Text(f.Err.Error()))
		}
	}
	text, err2 := json.Marshal(out)
	if err2 == nil {
		_, err2 = stdout.Write(append(escape.JSON(text), '\n'))
	}
	switch {
	case err != nil && context.Cause(ctx) != nil:
		return 130 // as shells report a program that a signal ended
	case err != nil || err2 != nil:
		return 1
	}
	return 0
}

func parse(args []string, stdout io.Writer) (options, error) {
	o := options{partSize: transfer.PartSize}
	flags := flag.NewFlagSet("copyurl", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is shown once, by run
	flags.Var(&o.partSize, "part-size", "`size` of the parts, 5MiB to 5GiB; grows automatically for large files")
	flags.IntVar(&o.concurrency, "concurrency", transfer.Concurrency, "`number` of ranges that are read at once, 1 to 64")
	request := requestflag.Define(flags, "to send to the URL's host", os.Stdin)
	flags.Func("checksum", "`sha-256=DIGEST` that the file must have, in hexadecimal or base64; also sha-512 and md5", func(text string) (err error) {
		o.digest, err = parseDigest(text)
		return err
	})
	flags.BoolVar(&o.publicOnly, "public-only", false, "refuse addresses that aren't public, as the deployed app does")
	flags.BoolVar(&o.quiet, "q", false, "print nothing but errors and the result")
	showVersion := flags.Bool("version", false, "print the version")
	arguments, err := requestflag.Parse(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		fmt.Fprint(stdout, usage)
		flags.PrintDefaults()
		fmt.Fprint(stdout, output)
	}
	if err != nil {
		return o, err
	}
	if *showVersion {
		fmt.Fprintln(stdout, "copyurl", version.Text())
		return o, flag.ErrHelp
	}
	if o.request, err = request.Request(); err != nil {
		return o, err
	}
	if len(arguments) != 2 {
		return o, errors.New("a URL and s3://BUCKET/KEY are needed")
	}
	if o.url, err = origin.ParseBase(arguments[0]); err != nil {
		return o, err
	}
	rest, ok := strings.CutPrefix(arguments[1], "s3://")
	var slash bool
	if o.bucket, o.key, slash = strings.Cut(rest, "/"); !ok || o.bucket == "" || !slash {
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

// parseDigest reads sha-256=DIGEST.
func parseDigest(text string) (origin.Digest, error) {
	name, value, _ := strings.Cut(text, "=")
	if raw, err := hex.DecodeString(value); err == nil {
		value = base64.StdEncoding.EncodeToString(raw)
	}
	d := origin.ParseDigest(name + "=:" + value + ":")
	if d.IsZero() {
		return d, errors.New("not like sha-256=DIGEST")
	}
	return d, nil
}

func (o *options) copy(ctx context.Context, show *display) (transfer.Result, error) {
	// The SDK's warnings, such as of a machine that isn't EC2, help nobody here.
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return transfer.Result{}, failure.Wrap(err, failure.Internal, "the AWS configuration can't be read")
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Credentials == nil {
		return transfer.Result{}, failure.New(failure.Storage, "no AWS credentials; see aws configure, AWS_PROFILE, AWS_ACCESS_KEY_ID")
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return transfer.Result{}, failure.Wrap(err, failure.Storage, "no AWS credentials; see aws configure, AWS_PROFILE, AWS_ACCESS_KEY_ID")
	}
	if limit := debug.SetMemoryLimit(-1); limit == memory {
		// A stream in larger parts needs as much more.
		debug.SetMemoryLimit(limit + 4*max(int64(o.partSize)-transfer.StreamPartSize, 0))
	}
	store := transfer.S3(cfg)
	if err := checkBucket(ctx, store, o.bucket); err != nil {
		return transfer.Result{}, err
	}
	show.enter(progress.Copying)
	copier := &transfer.Copier{S3: store, Bucket: o.bucket, PartSize: int64(o.partSize), Concurrency: o.concurrency, Replace: true}
	request := &origin.Request{URL: o.url, Method: o.request.Method, Body: o.request.Body, ContentType: o.request.ContentType}
	src := transfer.Source{Request: request, Client: &origin.Client{
		Base: &url.URL{Scheme: o.url.Scheme, Host: o.url.Host}, Header: o.request.Header, RedirectHosts: []string{"*"},
		AnyAddress: !o.publicOnly, Connections: o.concurrency,
		Waiting: func(why *failure.Error, pause time.Duration) { show.retry(why.Message, pause) },
	}}
	for n := 0; ; {
		job := &transfer.Job{Copier: copier, Source: src, Key: o.key, Digest: o.digest}
		job.OnSize = func(size int64) { show.start(job, size) }
		outcome, err := job.Start(ctx)
		o.key = job.Key
		if message, pause, ok := waitFor(err, &n); ok {
			show.retry(message, pause)
			if wait(ctx, pause) {
				continue
			}
			err = context.Cause(ctx)
		}
		if err == nil {
			return *outcome.Result, nil
		}
		show.enter(cleaning)
		// The context's end may be the reason: the clean-up needs one that lives.
		living, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		if o.key == "" || strings.HasSuffix(o.key, "/") {
			return transfer.Result{}, err // nothing was begun
		}
		if left := copier.Abort(living, o.key); left != nil {
			show.note("copyurl: an upload may be left open: " + left.Error())
		}
		return transfer.Result{}, err
	}
}

// waitFor reports whether the server asks for a wait, and for how long. Waits of a server
// that makes the file aren't counted in n.
func waitFor(err error, n *int) (message string, pause time.Duration, ok bool) {
	var accepted *origin.Accepted
	var later *origin.Later
	switch {
	case errors.As(err, &accepted):
		return accepted.Err.Message, accepted.After, true
	case errors.As(err, &later) && *n < waits:
		*n++
		return later.Err.Message, later.After, true
	}
	return "", 0, false
}

// checkBucket reports at once what would otherwise fail only after the file was read,
// and be retried for minutes: no such bucket, another region, no server. HeadBucket may
// be forbidden where PutObject is allowed.
func checkBucket(ctx context.Context, store *s3.Client, bucket string) error {
	_, err := store.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.HTTPStatusCode() == 0 {
		return failure.Wrap(err, failure.Storage, "S3 can't be reached")
	}
	if region, ours := answer.Response.Header.Get("X-Amz-Bucket-Region"), store.Options().Region; region != "" && region != ours {
		return failure.New(failure.Storage, "the bucket %s is in %s, not in %s; see AWS_REGION", bucket, region, ours)
	}
	switch answer.HTTPStatusCode() {
	case http.StatusNotFound:
		return failure.New(failure.Storage, "there is no bucket %s", bucket)
	case http.StatusBadRequest: // a HEAD's answer has no body to say more
		return failure.New(failure.Storage, "%s isn't a valid bucket name, or the AWS credentials have expired", bucket)
	}
	return nil
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
