package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

const usage = `Usage: download [flags] API_URL[/PATH[?QUERY]]
       download [flags] API_URL PATH[?QUERY]

Asks API_URL/download[/PATH][?QUERY] for a file, waits until it was copied, and
fetches it. API_URL is the stack's output DownloadApiUrl, such as
https://abc123.execute-api.eu-west-1.amazonaws.com/dev; PATH is what the origin
calls the file. For an API with a name of its own, where PATH can't be told from
the API's own path, give the two apart.

Where it was stopped or cut off, the same command goes on. Until the file is
whole it is called NAME.part, where the name isn't known yet download-XXXX.part;
beside it are NAME.part.json (what is known of it: keep that to yourself, it can
fetch the file) and NAME.part.lock (against a second process). All three go when
the file is there.

Ctrl-C while the file is copied asks whether to cancel the copy (where nobody
can be asked, it cancels); a second Ctrl-C stops at once. Ctrl-C after that
stops, and the same command goes on.

Flags:
`

const exitCodes = `
Exit codes:
  0    the file is there; its checksum was right, or the last line says "unverified"
  1    this machine: the file exists (-f overwrites), no space, no permission
  2    the command line
  3    refused by the API or the storage
  4    the download failed; the message has the code, such as ORIGIN_STATUS
  5    the file is no longer kept (EXPIRED)
  6    cancelled
  7    the network: given up after -patience; the same command goes on
  8    the bytes are not the right ones; nothing was kept
  130  stopped by a signal; the same command goes on
`

type options struct {
	api, ask    *url.URL
	headers     http.Header
	output      string // "" is by the file's own name, "-" is stdout
	overwrite   bool
	quiet, json bool
	noSocket    bool
	connections int
	patience    time.Duration
}

// parseOptions returns [flag.ErrHelp] when help was asked for.
func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{headers: make(http.Header)}
	flags := flag.NewFlagSet("download", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is shown once, by run
	flags.StringVar(&o.output, "o", "", "`file` to write; a folder: under the file's own name there; -: to stdout (default: the file's own name, here; of one without: download)")
	flags.BoolVar(&o.overwrite, "f", false, "overwrite a file that exists, once the new one is whole; a NAME.part is gone on with all the same")
	badHeader := false
	flags.Func("H", "`header` for the API and its WebSocket, never sent to the storage, as 'Name: value'; may be repeated", func(line string) error {
		name, value, found := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !found || !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
			badHeader = true // an error from here would be shown with the value, a credential
		}
		o.headers.Add(name, strings.TrimSpace(value))
		return nil
	})
	flags.BoolVar(&o.quiet, "q", false, "say nothing but errors")
	flags.BoolVar(&o.json, "json", false, "tell progress and outcome as JSON, one object a line, on stdout (with -o - on stderr)")
	flags.IntVar(&o.connections, "connections", 8, "`number` of ranges fetched at once, 1 to 64")
	flags.BoolVar(&o.noSocket, "no-socket", false, "ask the status URL instead of waiting on a WebSocket; done by itself where sockets are blocked")
	flags.DurationVar(&o.patience, "patience", realTempo.patience, "`time` without any answer after which to give up")

	// Flags may stand before, between and after the arguments.
	var arguments []string
	for rest := args; ; {
		err := flags.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(stderr)
			fmt.Fprint(stderr, usage)
			flags.PrintDefaults()
			fmt.Fprint(stderr, exitCodes)
			return nil, err
		}
		if err != nil {
			return nil, fail(exitUsage, "%v; -h explains", err)
		}
		if flags.NArg() == 0 {
			break
		}
		arguments = append(arguments, flags.Arg(0))
		rest = flags.Args()[1:]
	}
	if badHeader {
		return nil, fail(exitUsage, "-H: want 'Name: value'")
	}
	if o.connections < 1 || o.connections > 64 {
		return nil, fail(exitUsage, "-connections: want 1 to 64")
	}
	if o.patience <= 0 {
		return nil, fail(exitUsage, "-patience: want a time such as 5m")
	}
	var err error
	switch len(arguments) {
	case 1:
		o.api, o.ask, err = splitURL(arguments[0])
	case 2:
		o.api, o.ask, err = joinURL(arguments[0], arguments[1])
	default:
		err = fail(exitUsage, "want API_URL and at most one PATH; -h explains")
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110, 5.6.2

var errNoURL = fail(exitUsage, "the API's URL has to begin with https:// (or http://) and a host")

func parseAPI(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	// The text isn't quoted: a password or a query may stand in it.
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errNoURL
	}
	if u.User != nil || u.Fragment != "" {
		return nil, fail(exitUsage, "the API's URL can't have a user or a #fragment; -H sends credentials")
	}
	return u, nil
}

// Where an API's own path ends is known for API Gateway's names, whose first
// segment is the stage, and for the local stack's.
var (
	gatewayHost = regexp.MustCompile(`\.execute-api\.`)
	gatewayPath = regexp.MustCompile(`^/[^/]+`)
	localPath   = regexp.MustCompile(`^/_aws/execute-api/[^/]+/[^/]+`)
)

// splitURL finds the API's URL in API_URL/PATH?QUERY.
func splitURL(text string) (api, ask *url.URL, err error) {
	u, err := parseAPI(text)
	if err != nil {
		return nil, nil, err
	}
	own := localPath.FindString(u.EscapedPath())
	if own == "" && gatewayHost.MatchString(u.Hostname()) {
		own = gatewayPath.FindString(u.EscapedPath())
	}
	if own == "" {
		own = strings.TrimRight(u.EscapedPath(), "/")
		if u.RawQuery != "" {
			return nil, nil, fail(exitUsage, "where does the API's URL end and the path begin? Give them apart: API_URL PATH?QUERY")
		}
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(u.EscapedPath(), own), "/")
	if u.RawQuery != "" {
		rest += "?" + u.RawQuery
	}
	return joinURL(u.Scheme+"://"+u.Host+own, rest)
}

// joinURL builds the question. The path stays as it was given: it may hold
// encoded slashes, and what the origin makes of them is the origin's affair.
func joinURL(apiText, path string) (api, ask *url.URL, err error) {
	api, err = parseAPI(strings.TrimRight(apiText, "/"))
	if err != nil {
		return nil, nil, err
	}
	if api.RawQuery != "" {
		return nil, nil, fail(exitUsage, "the query belongs to the path: API_URL PATH?QUERY")
	}
	path, query, hasQuery := strings.Cut(path, "?")
	text := api.String() + "/download"
	if path = strings.TrimPrefix(path, "/"); path != "" {
		text += "/" + path
	}
	if hasQuery {
		text += "?" + query
	}
	ask, err = url.Parse(text)
	if err != nil || ask.Fragment != "" || strings.ContainsAny(query, " \"<>") {
		return nil, nil, fail(exitUsage, "the path or query isn't that of a URL; encode what is special in it")
	}
	return api, ask, nil
}

// isFolder says whether a file goes into output under its own name.
func isFolder(output string) bool {
	if output == "" {
		return true
	}
	info, err := os.Stat(output)
	return err == nil && info.IsDir()
}
