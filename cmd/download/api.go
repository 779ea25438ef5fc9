package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"async-download/internal/escape"
	"async-download/internal/origin"
	"async-download/internal/requestflag"
)

// api is the REST half of the application.
type api struct {
	http    *http.Client
	request request
	timings timings
	note    func(text string)

	// reached is set by the first answer. Before it, an error such as an unknown host
	// is a [mistake]; after it, the network may cause one for a while.
	reached atomic.Bool
}

// request is what the user asks for.
type request struct {
	target
	requestflag.Request
}

// execution is the answer to the question: one download.
type execution struct {
	ARN          string `json:"executionArn"`
	WebSocketURL string `json:"webSocketUrl"`
	StatusURL    string `json:"statusUrl"`
	// Ticket is a secret that proves who asked, where the stack gives one.
	Ticket string `json:"ticket,omitempty"`
}

// name is what the stack's logs know it by.
func (e execution) name() string { return e.ARN[strings.LastIndexByte(e.ARN, ':')+1:] }

// link is the copied file: the ready event, and the status once READY.
type link struct {
	URL          string            `json:"url"`
	ExpiresAt    time.Time         `json:"expiresAt"`
	Size         int64             `json:"size"`
	ContentType  string            `json:"contentType"`
	FileName     string            `json:"fileName"`
	Checksum     map[string]string `json:"checksum"` // by algorithm, base64
	Verified     bool              `json:"verified"` // whether the end of the origin's file was proven
	Pinned       bool              `json:"pinned"`   // whether all of it is of one version
	Digest       map[string]string `json:"digest"`   // the origin's own, by algorithm, base64
	ETag         string            `json:"etag"`     // the origin's
	LastModified string            `json:"lastModified"`
}

// status is the answer of statusUrl.
type status struct {
	Status      string `json:"status"`
	BytesCopied int64  `json:"bytesCopied"`
	BytesTotal  *int64 `json:"bytesTotal"`
	Error       *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	link
}

// errUnknown: the API doesn't know the execution, or knows it no longer.
var errUnknown = exitError(exitExpired, "the API no longer knows this download")

// startTries bounds the question: a person waits.
const startTries = 5

// start asks for the file. The key makes every repeat the same download,
// whether the first answer was lost or not. sent is called before the first
// request leaves this machine.
func (a *api) start(ctx context.Context, key string, sent func()) (execution, error) {
	header := http.Header{"Idempotency-Key": {key}}
	if a.request.ContentType != "" {
		header.Set("Content-Type", a.request.ContentType)
	}
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent() }}
	ctx = httptrace.WithClientTrace(ctx, trace)
	giveUp := time.Now().Add(a.timings.patience)
	for try := 1; ; try++ {
		var e execution
		_, err := a.do(ctx, call{method: a.request.Method, url: a.request.ask, header: header, body: a.request.Body, giveUp: giveUp}, &e)
		if err == nil {
			return e, a.check(e)
		}
		if !isTransient(err) || try == startTries || time.Now().After(giveUp) {
			return execution{}, err
		}
		if try == 1 {
			a.note(endOf(err).Error() + "; trying again")
		}
		if err := a.timings.pause(ctx, try, askedWait(err)); err != nil {
			return execution{}, err
		}
	}
}

// check refuses an answer that would send the headers or the ticket in the clear
// where the API itself is asked over TLS.
func (a *api) check(e execution) error {
	socket, err := url.Parse(e.WebSocketURL)
	if err != nil || e.ARN == "" || socket.Host == "" {
		return exitError(exitRefused, "the answer is not that of a download API; is the API's URL right?")
	}
	statusURL, err := url.Parse(e.StatusURL)
	if err != nil {
		return exitError(exitRefused, "the API's answer holds a malformed statusUrl")
	}
	if a.request.ask.Scheme == "https" && (socket.Scheme != "wss" || e.StatusURL != "" && statusURL.Scheme != "https") {
		return exitError(exitRefused, "the API's answer leads from https to an unencrypted address")
	}
	return nil
}

// heldSeconds is how long a question for the status may be held back until the
// copy ends: not so long that progress isn't seen.
const heldSeconds = 10

// status asks how the download stands. With held, the answer comes when the copy
// ends, or after [heldSeconds]. The duration is how long the API wants not to be
// asked.
func (a *api) status(ctx context.Context, e execution, held bool, giveUp time.Time) (status, time.Duration, error) {
	u, err := url.Parse(e.StatusURL)
	if err != nil || u.Host == "" {
		return status{}, 0, &transient{err: errors.New("no status URL")}
	}
	header := make(http.Header)
	if held {
		header.Set("Prefer", fmt.Sprintf("wait=%d", heldSeconds))
	}
	var s status
	answer, err := a.do(ctx, call{method: http.MethodGet, url: u, header: header, ticket: e.Ticket, giveUp: giveUp}, &s)
	if err != nil {
		return status{}, askedWait(err), err
	}
	return s, retryAfter(answer), nil
}

// cancel stops the copy; false means that there was nothing left to stop.
func (a *api) cancel(ctx context.Context, e execution) (bool, error) {
	u, err := url.Parse(e.StatusURL)
	if err != nil || u.Host == "" {
		return false, errors.New("no status URL")
	}
	_, err = a.do(ctx, call{method: http.MethodDelete, url: u, ticket: e.Ticket}, nil)
	var p *problem
	if errors.Is(err, errUnknown) || errors.As(err, &p) && p.code == "CONFLICT" {
		return false, nil
	}
	return err == nil, err
}

// maxAnswer is far above any answer of the API.
const maxAnswer = 1 << 20

// call is one request of the REST API.
type call struct {
	method string
	url    *url.URL
	header http.Header // beside the user's own
	ticket string
	body   []byte
	giveUp time.Time // zero: only the call's own limit holds
}

// do returns a [transient] where another try may succeed, and else a [problem].
func (a *api) do(ctx context.Context, c call, into any) (http.Header, error) {
	limit := a.timings.call
	if !c.giveUp.IsZero() {
		limit = max(min(limit, time.Until(c.giveUp)), time.Millisecond)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	failed := func(err error) error {
		switch problem := mistake(err, "the API"); {
		case ctx.Err() != nil:
			return ctx.Err()
		case limited.Err() != nil:
			return &transient{err: fmt.Errorf("%w for %v", errSilent, limit.Round(time.Second))}
		case problem != nil && !a.reached.Load():
			return problem
		}
		return &transient{err: cause(err)}
	}

	req, err := http.NewRequestWithContext(limited, c.method, c.url.String(), bytes.NewReader(c.body))
	if err != nil {
		return nil, exitError(exitUsage, "the API's URL can't be asked")
	}
	req.Header.Set("Accept", "application/json")
	for name, values := range c.header {
		req.Header[name] = values
	}
	a.authorize(req.Header, c.ticket)
	res, err := a.http.Do(req)
	if err != nil {
		return nil, failed(err)
	}
	defer res.Body.Close()
	a.reached.Store(true)
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, failed(fmt.Errorf("read the API's answer: %w", err))
	}
	if res.StatusCode/100 != 2 {
		return nil, refusal(res, body)
	}
	if into == nil {
		return res.Header, nil
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		return nil, exitError(exitRefused, "the answer is not that of a download API; is the API's URL right?")
	}
	return res.Header, nil
}

// authorize adds what the user gave, to be sent to the API and its socket but
// never to the storage.
func (a *api) authorize(h http.Header, ticket string) {
	for name, values := range a.request.Header {
		h[name] = values
	}
	if ticket != "" {
		h.Set("X-Download-Ticket", ticket)
	}
}

// refusal reads an error of the API's own, or one of API Gateway.
func refusal(res *http.Response, body []byte) error {
	var answer struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
		Message string `json:"message"`
	}
	json.Unmarshal(body, &answer) // an answer that isn't JSON has its status
	p := apiError(answer.Error.Code, answer.Error.Message)
	if p.exit == exitFailed { // neither expired nor cancelled
		p.exit = exitRefused
	}
	if p.code == "" {
		p.message = fmt.Sprintf("the API answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
		if answer.Message != "" && answer.Message != http.StatusText(res.StatusCode) {
			p.message += ": " + escape.Text(answer.Message)
		}
		switch res.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			p.message += "; does the API expect a header (-H) or a signature (-sign)?"
		case http.StatusNotFound:
			p.message += "; is the API's URL the stack's DownloadApiUrl?"
		}
	}
	if p.code == "NOT_FOUND" {
		return errUnknown
	}
	switch res.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &transient{err: p, after: retryAfter(res.Header)}
	}
	return p
}

// maxRetryAfter is the longest wait that a server can ask for.
const maxRetryAfter = 2 * time.Minute

// retryAfter returns the wait that an answer asks for; 0 is none.
func retryAfter(h http.Header) time.Duration {
	after, _ := origin.RetryAfter(h.Get("Retry-After"), time.Now())
	return min(after, maxRetryAfter)
}
