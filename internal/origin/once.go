package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"time"

	"async-download/internal/failure"
)

// recordTimeout is how long it may take to record that a request wasn't executed,
// even when its own time is over.
const recordTimeout = 10 * time.Second

// ErrSent is the failure of a POST that would be sent twice.
var ErrSent = failure.New(failure.OriginUnreachable, "the request was sent before and its answer was lost; the origin may have executed it")

// sending records that r's POST is about to leave. One that was redirected was
// recorded for the first place.
func (r *Request) sending(ctx context.Context, at place) error {
	if r.sent {
		if at.repeated {
			return nil
		}
		return ErrSent
	}
	if r.Record != nil {
		if err := r.Record.Sending(ctx); err != nil {
			return err
		}
	}
	r.sent = true
	return nil
}

// unsent records that r's POST was not executed and may be sent again.
func (r *Request) unsent(ctx context.Context) error {
	if r.Record != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		if err := r.Record.Unsent(ctx); err != nil {
			return err
		}
	}
	r.sent = false
	return nil
}

// post makes a POST. An error after it got a connection is final: the request may have
// been sent.
func (c *Client) post(ctx context.Context, at place, req *http.Request) (*http.Response, error) {
	r := at.request
	if err := r.sending(ctx, at); err != nil {
		return nil, err
	}
	if len(r.Body) > 0 {
		// Without a GetBody, net/http has nothing to send again.
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.Body)), int64(len(r.Body))
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	resp, err := c.posts.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	switch {
	case err == nil:
		return resp, nil
	case connected:
		return nil, final(c.explain(ctx, err))
	case !at.repeated: // else an earlier place had it, and sent it on
		if recordErr := r.unsent(ctx); recordErr != nil {
			return nil, recordErr
		}
	}
	return nil, c.explain(ctx, err)
}

// final turns a failure that another try may fix into one that no try fixes.
func final(err error) error {
	var t *transient
	if !errors.As(err, &t) {
		return err
	}
	return failure.Wrap(t.failure.Err, t.failure.Code, "%s; the request isn't repeated, since the origin may have executed it", t.failure.Message)
}

// posted judges an answer to a POST.
func (o *opening) posted(ctx context.Context, resp *http.Response) error {
	f := o.f
	switch resp.StatusCode {
	case http.StatusNoContent, http.StatusResetContent, http.StatusPartialContent:
		drain(resp.Body)
		return failure.New(failure.OriginStatus, "the origin answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		drain(resp.Body)
		if _, ok := RetryAfter(resp.Header.Get("Retry-After"), time.Now()); ok { // refused, and to be sent again
			if err := f.at.request.unsent(ctx); err != nil {
				return err
			}
			return status(resp)
		}
		return final(status(resp))
	}
	if resp.StatusCode/100 == 2 {
		f.whole(resp)
		f.once = true
		return nil
	}
	drain(resp.Body)
	return final(status(resp))
}
