package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"time"

	"async-download/internal/failure"
)

// explain turns what went wrong on the way to a reply into a failure.
func (c *Client) explain(ctx context.Context, err error) error {
	var rule *blocked
	if errors.As(err, &rule) {
		return failure.New(failure.BlockedAddress, "the origin's address is not allowed: %s", rule.rule)
	}
	if cause := ended(ctx); cause != nil {
		if errors.Is(cause, errHeaders) || errors.Is(cause, errIdle) || errors.Is(cause, errFloor) {
			return &transient{failure: failure.Wrap(err, failure.OriginUnreachable, "%s", cause)}
		}
		return cause
	}
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalidCert x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return failure.Wrap(err, failure.OriginUnreachable, "the origin's name can't be resolved")
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalidCert):
		return failure.Wrap(err, failure.OriginUnreachable, "the origin's certificate isn't valid")
	}
	return &transient{failure: failure.Wrap(err, failure.OriginUnreachable, "the origin can't be reached")}
}

// status turns a reply that is no file into a failure.
func status(resp *http.Response) error {
	f := failure.New(failure.OriginStatus, "the origin answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch s := resp.StatusCode; {
	case s == http.StatusNotImplemented, s == http.StatusHTTPVersionNotSupported:
		return f
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		return &transient{failure: f, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	return f
}
