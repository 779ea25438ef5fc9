package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"async-download/internal/bytesize"
	"async-download/internal/origin"
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
