package origin

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"async-download/internal/failure"
)

// explain turns an error on the way to a reply into a failure.
func (c *Client) explain(ctx context.Context, err error) error {
	var rule *blocked
	if errors.As(err, &rule) {
		return failure.New(failure.BlockedAddress, "the origin's address is not allowed: %s", rule.rule)
	}
	reason := diagnose(err)
	if cause := ended(ctx); cause != nil {
		if errors.Is(cause, errAnswer) {
			// Not repeated: an origin that makes a report would begin again.
			return failure.Wrap(reason, failure.OriginTooSlow, "the origin didn't answer within %s", cmp.Or(c.FirstByteTimeout, FirstByteTimeout))
		}
		if errors.Is(cause, errHeaders) || errors.Is(cause, errIdle) || errors.Is(cause, errFloor) {
			return &transient{failure: failure.Wrap(reason, failure.OriginUnreachable, "%s", cause)}
		}
		return cause
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return failure.Wrap(reason, failure.OriginUnreachable, "the origin's name can't be resolved")
	case reason.kind == badCertificate:
		return failure.Wrap(reason, failure.OriginUnreachable, "the origin's certificate isn't valid: %s", reason)
	case reason.kind == noTLS:
		return failure.Wrap(reason, failure.OriginUnreachable, "the origin doesn't speak HTTPS at this address; is its URL http://?")
	case reason.kind == badReply:
		return &transient{failure: failure.Wrap(reason, failure.OriginUnreachable, "the origin's reply can't be read: %s", reason), most: unreadable}
	}
	return &transient{failure: failure.Wrap(reason, failure.OriginUnreachable, "the origin can't be reached")}
}

// unreadable is how many replies in a row that aren't HTTP are read. The second one may
// come from another server of a load balancer; a broken origin always sends the same.
const unreadable = 2

// A diagnosis is an error in fixed words. Errors of net/http, TLS and DNS quote
// what the origin sent, which may be what it was asked: query, credentials and all.
type diagnosis struct {
	text string
	kind kind
	err  error
}

func (d *diagnosis) Error() string { return d.text }
func (d *diagnosis) Unwrap() error { return d.err }

type kind int

const (
	unspecific kind = iota
	badCertificate
	noTLS
	badReply
)

// replyErrors are parts of net/http's errors of replies that it can't read, and the texts
// that replace them, which quote nothing of the reply.
var replyErrors = []struct{ contains, text string }{
	{"malformed HTTP", "malformed status line"},
	{"malformed MIME header", "malformed header line"},
	{"invalid header", "malformed header line"},
	{"response headers exceeded", "its headers are too large"},
	{"header too large", "its headers are too large"},
	{"too many 1xx informational responses", "too many informational replies"},
	{"Content-Length", "malformed Content-Length"},
	{"Location header", "malformed Location"},
	{"transfer encoding", "unknown Transfer-Encoding"},
	{"Transfer-Encoding", "unknown Transfer-Encoding"},
	{"chunk", "malformed chunk"},
	{"trailer", "malformed trailer"},
	{"Trailer", "malformed trailer"},
}

// diagnose describes err in fixed words. Only addresses that were dialed and the system's
// error numbers are added.
func diagnose(err error) *diagnosis {
	d := &diagnosis{err: err, text: "another network error"}
	var dns *net.DNSError
	var number syscall.Errno
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var timeout net.Error
	switch {
	case errors.Is(err, errAnswer), errors.Is(err, errHeaders), errors.Is(err, errIdle), errors.Is(err, errFloor), errors.Is(err, errClosed):
		d.text = err.Error()
	case errors.As(err, &dns) && dns.IsNotFound:
		d.text = "DNS: no such host"
	case errors.As(err, &dns) && dns.IsTimeout:
		d.text = "DNS: timeout"
	case errors.As(err, &dns):
		d.text = "DNS: server failure"
	case errors.As(err, &unknown):
		d.text, d.kind = "signed by an unknown authority", badCertificate
	case errors.As(err, &name):
		d.text, d.kind = "it is for another host", badCertificate
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		d.text, d.kind = "it has expired or isn't valid yet", badCertificate
	case errors.As(err, &invalid), errors.As(err, &verify):
		d.text, d.kind = "it doesn't verify", badCertificate
	case errors.As(err, &record):
		d.text, d.kind = "it isn't TLS", noTLS
		if record.Conn == nil { // it was, in the handshake
			d.kind = badReply
		}
	case errors.As(err, &alert):
		d.text = alert.Error() // a number's words
	case errors.As(err, &number):
		d.text = number.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		d.text = "the connection was closed"
	case errors.Is(err, context.Canceled):
		d.text = context.Canceled.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		d.text = "timeout"
	default:
		for _, known := range replyErrors {
			if strings.Contains(err.Error(), known.contains) {
				d.text, d.kind = known.text, badReply
				break
			}
		}
	}
	var op *net.OpError
	if errors.As(err, &op) {
		if address, ok := op.Addr.(*net.TCPAddr); ok {
			d.text = fmt.Sprintf("%s (%s)", d.text, address)
		}
	}
	return d
}

// CertificateError returns in fixed words why a server's certificate isn't accepted,
// and "" for every other error.
func CertificateError(err error) string {
	if d := diagnose(err); d.kind == badCertificate {
		return d.text
	}
	return ""
}

// ReplyError returns in fixed words why a reply of a server can't be read, and "" for
// every other error.
func ReplyError(err error) string {
	if d := diagnose(err); d.kind == badReply {
		return d.text
	}
	return ""
}

// ErrCredentials is wrapped by the failure of an answer 401 or 403.
var ErrCredentials = errors.New("credentials refused")

// status returns the failure of a reply that is no file.
func status(resp *http.Response) error {
	f := failure.New(failure.OriginStatus, "the origin answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch s := resp.StatusCode; {
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		f.Err = ErrCredentials
		return f
	case s == http.StatusNotImplemented, s == http.StatusHTTPVersionNotSupported:
		return f
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		after, _ := RetryAfter(resp.Header.Get("Retry-After"), time.Now())
		return &transient{failure: f, status: s, after: after}
	}
	return f
}

// unsolicited is how net/http begins the line that it logs when an origin sends
// unexpected bytes. The line quotes them, and that can't be turned off.
const unsolicited = "Unsolicited response received on idle HTTP channel"

// quietLog is the standard logger's output without these lines.
type quietLog struct{ io.Writer }

func (q *quietLog) Write(line []byte) (int, error) {
	if strings.Contains(string(line), unsolicited) {
		return len(line), nil
	}
	return q.Writer.Write(line)
}

// quiet keeps the origin's bytes out of the standard logger, and so out of a log
// that slog.SetDefault has connected to it.
func quiet() {
	if _, ok := log.Writer().(*quietLog); !ok {
		log.SetOutput(&quietLog{log.Writer()})
	}
}
