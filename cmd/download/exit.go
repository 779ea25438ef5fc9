package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"async-download/internal/escape"
	"async-download/internal/origin"
)

// The exit codes are a contract; the help text lists them.
const (
	exitOK          = 0
	exitLocal       = 1   // this machine: the file exists, no space, no permission
	exitUsage       = 2   // the command line
	exitRefused     = 3   // the API refused
	exitFailed      = 4   // the download failed, with a code
	exitExpired     = 5   // the file is no longer kept
	exitCancelled   = 6   // the download was cancelled
	exitNetwork     = 7   // the API or the storage can't be reached
	exitChecksum    = 8   // the bytes are not the right ones
	exitInterrupted = 130 // stopped by a signal; 128 + SIGINT, as in shells
)

// problem is an end of a download. Its message is shown: it never holds a signed
// URL, a ticket or a query string.
type problem struct {
	exit    int
	code    string // of the API's answer, such as ORIGIN_STATUS, or ""
	message string
}

func (p *problem) Error() string {
	if p.code == "" {
		return p.message
	}
	return p.code + ": " + p.message
}

// exitError returns a problem of this program's own.
func exitError(exit int, format string, args ...any) *problem {
	return &problem{exit: exit, message: fmt.Sprintf(format, args...)}
}

// apiError returns the problem that the API gave a code for.
func apiError(code, message string) *problem {
	p := &problem{exit: exitFailed, code: escape.Text(code), message: escape.Text(message)}
	switch code {
	case "CANCELLED":
		p.exit = exitCancelled
	case "EXPIRED":
		p.exit = exitExpired
	}
	return p
}

var (
	errInterrupted = exitError(exitInterrupted, "Stopped. Run the same command again to continue.")
	errCancelled   = apiError("CANCELLED", "the download was cancelled")
)

// endOf returns the problem that a download with this error ends with.
func endOf(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, context.Canceled):
		return errInterrupted
	case isTransient(err):
		return exitError(exitNetwork, "the API can't be reached: %v", err)
	default:
		return exitError(exitLocal, "%v", err)
	}
}

// transient is an error after which another try may succeed.
type transient struct {
	err   error
	after time.Duration // what Retry-After asked for, or 0
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

func isTransient(err error) bool {
	var t *transient
	return errors.As(err, &t)
}

// askedWait returns the wait that a [transient] asked for, or 0.
func askedWait(err error) time.Duration {
	var t *transient
	if errors.As(err, &t) {
		return t.after
	}
	return 0
}

// errSilent is an answer that didn't come before a limit of this program's own.
// It explains less than an error before it.
var errSilent = errors.New("nothing came")

// explains returns the error of two in a row that explains more, the first of
// which may be nil.
func explains(before, now error) error {
	if before != nil && errors.Is(now, errSilent) {
		return before
	}
	return now
}

// cause returns a transport's error without its URL, whose query is a signature, an
// ARN or the user's own, and without what a server sent, which may be an echo of the
// request.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if text := origin.ReplyError(err); text != "" {
		return errors.New("the reply can't be read: " + text)
	}
	return errors.New(escape.Text(err.Error()))
}

// mistake returns a problem for an error of a transport that a second try can't
// get past, and nil for every other. peer is what was called, such as "the API".
func mistake(err error, peer string) *problem {
	var dns *net.DNSError
	var record tls.RecordHeaderError
	certificate := origin.CertificateError(err)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return exitError(exitNetwork, "%s's name %s can't be resolved", peer, escape.Text(dns.Name))
	case certificate != "":
		return exitError(exitNetwork, "%s's certificate isn't valid: %s", peer, certificate)
	case errors.Is(err, http.ErrSchemeMismatch):
		return exitError(exitNetwork, "%s speaks HTTP there, not HTTPS; is its URL http://?", peer)
	case errors.As(err, &record):
		return exitError(exitNetwork, "%s doesn't speak HTTPS there", peer)
	case strings.Contains(err.Error(), "malformed HTTP "):
		return exitError(exitNetwork, "%s doesn't speak HTTP there; is its URL https://?", peer)
	}
	return nil
}
