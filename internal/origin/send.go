package origin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"async-download/internal/failure"
)

var (
	errAnswer  = errors.New("the origin didn't answer the first request in time")
	errHeaders = errors.New("the origin sent no answer in time")
	errIdle    = errors.New("the origin stopped sending")
	errFloor   = errors.New("the origin sends too slowly")
	errClosed  = errors.New("closed")
)

// send makes one request and follows redirects. It returns the reply, with a body that is
// watched for stalls, and the place that gave it. It doesn't retry; a failure that another
// try may fix is a *transient. late, errAnswer or errHeaders, is the cause of the error if
// no answer comes within patience.
func (c *Client) send(ctx context.Context, at place, header http.Header, patience time.Duration, late error) (*http.Response, place, error) {
	c.init()
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience, func() { cancel(late) })
	defer timer.Stop()

	for hop := 0; ; hop++ {
		resp, err := c.hop(ctx, at, header)
		if err != nil {
			cancel(errClosed)
			return nil, at, err
		}
		at.cookies.keep(at.url, resp)
		if !at.redirects(resp.StatusCode) {
			resp.Body = newBody(ctx, cancel, resp)
			return resp, at, nil
		}
		drain(resp.Body)
		next, err := c.follow(at, resp)
		if err == nil && hop == MaxRedirects {
			err = failure.New(failure.OriginStatus, "the origin redirects more than %d times", MaxRedirects)
		}
		if err == nil && at.post && !next.post {
			err = at.request.moved(ctx, next)
		}
		if err != nil {
			cancel(errClosed)
			return nil, at, err
		}
		at = next
	}
}

// drain reads a short body to its end, so that its connection can be used
// again, and closes it.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 16<<10)
	_ = body.Close()
}

// hop makes one request and explains its error.
func (c *Client) hop(ctx context.Context, at place, header http.Header) (*http.Response, error) {
	u := at.url
	if c.guard != nil {
		if err := c.guard.checkHost(u.Hostname()); err != nil {
			return nil, c.explain(ctx, err)
		}
	}
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if at.post {
		req.Method = http.MethodPost
		req.Header.Del("Range") // only a GET has ranges
	}
	req.Header.Set("Accept", "*/*") // some firewalls refuse a request without it
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "async-download")
	if !at.away && c.atHome(u) {
		for _, header := range []http.Header{at.request.Header, c.Header} {
			for name, values := range header {
				req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
			}
		}
		if host := c.Header.Get("Host"); host != "" {
			req.Host = host
			req.Header.Del("Host")
		}
	}
	at.cookies.add(req, u)
	// Not http.Client: it reads Location before it asks whether to follow, and
	// its errors are whole URLs, query and all.
	if at.post {
		return c.post(ctx, at, req)
	}
	resp, err := c.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	return resp, nil
}
