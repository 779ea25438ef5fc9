package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"async-download/internal/bytesize"
	"async-download/internal/requestflag"
	"async-download/internal/version"
)

const usage = `Usage: download [flags] API_URL[/PATH[?QUERY]]…
       download [flags] [API_URL] PATH[?QUERY]…

Requests API_URL/download[/PATH][?QUERY] for each file, waits until it has been copied,
and downloads it. API_URL is the stack's output DownloadApiUrl, such as
https://abc123.execute-api.eu-west-1.amazonaws.com/dev; PATH is the file's path at the
origin. Without API_URL, the environment variable of that name is used. A URL with
/download before the path, as curl needs it, works too. If it isn't clear where the
API's own path ends, separate the two.

Examples:
  download https://abc123.execute-api.eu-west-1.amazonaws.com/dev/reports/2026.pdf
  export API_URL=https://abc123.execute-api.eu-west-1.amazonaws.com/dev
  download reports/2026.pdf reports/2025.pdf
  download -H "x-api-key: $KEY" -o report.pdf 'reports/2026.pdf?lang=de'
  download -sign -limit-rate 2MiB -o /data big.iso
  download -X POST -d @query.json -H 'Content-Type: application/json' -o result.csv export

A download that was interrupted continues when the same command is run again. Until the
file is complete it is called NAME.part, and NAME.part.json has what the next run needs;
both are removed at the end. Only files that nobody else can write are continued.

Ctrl-C during the copy asks whether to cancel it (without a terminal, it cancels); a
second Ctrl-C stops at once. Ctrl-C after the copy stops the download; run the same
command again to continue.

Flags:
`

const exitCodes = `
Exit codes:
  0    the file is complete and its checksum verified, or the last line says "unverified"
  1    this machine: the file exists (-f overwrites), no space, no permission
  2    the command line
  3    refused by the API or the storage
  4    the download failed; the message has the code, such as ORIGIN_STATUS
  5    the file is no longer kept (EXPIRED)
  6    cancelled
  7    the network: given up after -patience; run the same command again to continue
  8    the bytes don't have the checksum; nothing was kept
  130  stopped by a signal; run the same command again to continue
`

type options struct {
	targets     []target
	request     requestflag.Request
	key         string // an Idempotency-Key of the user's own, or ""
	sign        bool
	output      string // "" is by the file's own name, "-" is stdout
	overwrite   bool
	quiet, json bool
	noSocket    bool
	concurrency int
	limitRate   bytesize.Size // bytes per second; 0: none
	patience    time.Duration
}

// errHelp means that what the user asked for has been printed.
var errHelp = errors.New("help")

// parseOptions reads the command line; help and version go to stdout.
func (p *program) parseOptions(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("download", flag.ContinueOnError)
	flags.StringVar(&o.output, "o", "", "`file` to write; a folder: under the file's own name there; -: to stdout (default: the file's own name, here)")
	flags.BoolVar(&o.overwrite, "f", false, "overwrite a file that exists, once the new one is complete")
	request := requestflag.Define(flags, "for the API and its WebSocket, never sent to the storage", p.stdin)
	flags.BoolVar(&o.sign, "sign", false, "sign requests with the AWS credentials, for an API whose ApiAuth is IAM")
	flags.BoolVar(&o.noSocket, "wait", false, "wait by plain HTTP, without a WebSocket; done automatically where sockets are blocked")
	flags.Var(&o.limitRate, "limit-rate", "most `bytes` per second of the download, such as 2MiB")
	flags.IntVar(&o.concurrency, "concurrency", 8, "`number` of ranges that are read at once, 1 to 64")
	flags.DurationVar(&o.patience, "patience", realTimings.patience, "`time` without any answer after which to give up")
	flags.BoolVar(&o.quiet, "q", false, "print nothing but errors")
	flags.BoolVar(&o.json, "json", false, "print progress and outcome as JSON, one object per line, on stdout (with -o - on stderr)")
	showVersion := flags.Bool("version", false, "print the version")

	var defaults strings.Builder
	flags.SetOutput(&defaults)
	flags.PrintDefaults()
	flags.SetOutput(io.Discard) // an error is shown once, by run
	// Former names, which the help text doesn't have.
	flags.BoolVar(&o.noSocket, "no-socket", false, "")
	flags.IntVar(&o.concurrency, "connections", 8, "")

	arguments, err := requestflag.Parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, usage, &defaults, exitCodes)
		return nil, errHelp
	case err != nil:
		return o, exitError(exitUsage, "%v; -h explains", err)
	case *showVersion:
		fmt.Fprintln(p.stdout, "download", version.Text())
		return nil, errHelp
	case o.concurrency < 1 || o.concurrency > 64:
		return o, exitError(exitUsage, "-concurrency: want 1 to 64")
	case o.patience <= 0:
		return o, exitError(exitUsage, "-patience: want a time such as 5m")
	}
	if o.request, err = request.Request(); err != nil {
		return o, exitError(exitUsage, "%v", err)
	}
	o.key = o.request.Header.Get("Idempotency-Key")
	o.request.Header.Del("Idempotency-Key") // not for the socket and statuses
	if o.targets, err = targets(arguments, p.env("API_URL")); err != nil {
		return o, err
	}
	switch {
	case len(o.targets) > 1 && o.output != "" && !isFolder(o.output):
		return o, exitError(exitUsage, "-o: want a folder for several files")
	case len(o.targets) > 1 && o.key != "":
		return o, exitError(exitUsage, "an Idempotency-Key is for one file")
	case o.request.Header.Get("Prefer") != "":
		return o, exitError(exitUsage, "-H Prefer: this program chooses how to wait; see -wait")
	case o.sign && o.request.Header.Get("Authorization") != "":
		return o, exitError(exitUsage, "-sign and an Authorization header exclude each other")
	}
	return o, nil
}

// isFolder reports whether a file goes into output under its own name.
func isFolder(output string) bool {
	if output == "" {
		return true
	}
	info, err := os.Stat(output)
	return err == nil && info.IsDir()
}
