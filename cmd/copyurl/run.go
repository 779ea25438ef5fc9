package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/escape"
	"async-download/internal/failure"
	"async-download/internal/origin"
	"async-download/internal/progress"
	"async-download/internal/transfer"
)

// waits is how often a server that refuses the request may ask for a long wait.
const waits = 5

// cleanUp is how long the end of an upload may take.
const cleanUp = 30 * time.Second

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

// awsConfig is that of the AWS tools, with credentials.
func awsConfig(ctx context.Context) (aws.Config, error) {
	// The SDK's warnings, such as those of a machine that isn't EC2, don't help here.
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return cfg, failure.Wrap(err, failure.Internal, "the AWS configuration can't be read")
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	if cfg.Credentials != nil {
		_, err = cfg.Credentials.Retrieve(ctx)
	}
	if cfg.Credentials == nil || err != nil {
		return cfg, failure.Wrap(err, failure.Storage, "no AWS credentials; see aws configure, AWS_PROFILE, AWS_ACCESS_KEY_ID")
	}
	return cfg, nil
}

func (o *options) copy(ctx context.Context, show *display) (transfer.Result, error) {
	cfg, err := awsConfig(ctx)
	if err != nil {
		return transfer.Result{}, err
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
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
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
