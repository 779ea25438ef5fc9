package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// The exit codes are a contract; the help text lists them.
const (
	exitOK          = 0
	exitLocal       = 1   // this machine: the file exists, no space, no permission
	exitUsage       = 2   // the command line
	exitRefused     = 3   // the API said no
	exitFailed      = 4   // the download failed, with a code
	exitExpired     = 5   // the file is no longer kept
	exitCancelled   = 6   // the download was cancelled
	exitNetwork     = 7   // the API or the storage can't be reached
	exitChecksum    = 8   // the bytes are not the right ones
	exitInterrupted = 130 // stopped by a signal; 128 + SIGINT, as shells have it
)

// problem is an end of the program. Its message is shown: it never holds a
// signed URL, a ticket or a query string.
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

func fail(exit int, format string, args ...any) *problem {
	return &problem{exit: exit, message: fmt.Sprintf(format, args...)}
}

// failed is the end that the API gave a code for. The message comes from
// outside and will be shown on a terminal.
func failed(code, message string) *problem {
	p := &problem{exit: exitFailed, code: printable(code), message: printable(message)}
	switch code {
	case "CANCELLED":
		p.exit = exitCancelled
	case "EXPIRED":
		p.exit = exitExpired
	}
	return p
}

// transient is an error that may pass by itself.
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

func askedWait(err error) time.Duration {
	var t *transient
	if errors.As(err, &t) {
		return t.after
	}
	return 0
}

// hideURL takes the address out of a transport's error: its query is a
// signature, an ARN or the user's own.
func hideURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// printable removes what could move a terminal's cursor, hide text or turn it
// around.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
}
