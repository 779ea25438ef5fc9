package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// api is the REST half of the application.
type api struct {
	http    *http.Client
	headers http.Header // the user's own
	ask     *url.URL    // API_URL/download[/path][?query]
	pause   func(ctx context.Context, try int, atLeast time.Duration) error
	note    func(text string)
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
	URL       string            `json:"url"`
	ExpiresAt time.Time         `json:"expiresAt"`
	Size      int64             `json:"size"`
	FileName  string            `json:"fileName"`
	Checksum  map[string]string `json:"checksum"`
	Verified  bool              `json:"verified"` // whether the end of the origin's file was proven
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
var errUnknown = fail(exitExpired, "the API no longer knows this download")

// startTries bounds the question: each may start a copy, and a person waits.
const startTries = 5

// start asks for the file. A repeat after a lost answer starts a second copy,
// which nobody waits for and which the stack lets expire.
func (a *api) start(ctx context.Context) (execution, error) {
	for try := 1; ; try++ {
		var e execution
		_, err := a.do(ctx, http.MethodGet, a.ask, "", &e)
		if err == nil {
			return e, a.check(e)
		}
		if !isTransient(err) || try == startTries {
			return execution{}, err
		}
		if try == 1 {
			a.note(endOf(err).Error() + "; trying again")
		}
		if err := a.pause(ctx, try, askedWait(err)); err != nil {
			return execution{}, err
		}
	}
}

// check refuses an answer that would send the headers or the ticket in the clear
// where the API itself is asked over TLS.
func (a *api) check(e execution) error {
	socket, err := url.Parse(e.WebSocketURL)
	if err != nil || e.ARN == "" || socket.Host == "" {
		return fail(exitRefused, "the answer is not that of a download API; is the API's URL right?")
	}
	statusURL, err := url.Parse(e.StatusURL)
	if err != nil {
		return fail(exitRefused, "the API's answer holds a malformed statusUrl")
	}
	if a.ask.Scheme == "https" && (socket.Scheme != "wss" || e.StatusURL != "" && statusURL.Scheme != "https") {
		return fail(exitRefused, "the API's answer leads from https to an unencrypted address")
	}
	return nil
}

// status asks how the download stands. The duration is how long the API wants
// to be left alone.
func (a *api) status(ctx context.Context, e execution) (status, time.Duration, error) {
	u, err := url.Parse(e.StatusURL)
	if err != nil || u.Host == "" {
		return status{}, 0, &transient{err: errors.New("no status URL")}
	}
	var s status
	header, err := a.do(ctx, http.MethodGet, u, e.Ticket, &s)
	if err != nil {
		return status{}, askedWait(err), err
	}
	return s, retryAfter(header), nil
}

// cancel stops the copy; false means that there was nothing left to stop.
func (a *api) cancel(ctx context.Context, e execution) (bool, error) {
	u, err := url.Parse(e.StatusURL)
	if err != nil || u.Host == "" {
		return false, errors.New("no status URL")
	}
	_, err = a.do(ctx, http.MethodDelete, u, e.Ticket, nil)
	var p *problem
	if errors.Is(err, errUnknown) || errors.As(err, &p) && p.code == "CONFLICT" {
		return false, nil
	}
	return err == nil, err
}

// maxAnswer is far above any answer of the API.
const maxAnswer = 1 << 20

// do returns a [transient] for what may pass and a [problem] for what won't.
func (a *api) do(ctx context.Context, method string, u *url.URL, ticket string, into any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, fail(exitUsage, "the API's URL can't be asked")
	}
	a.authorize(req.Header, ticket)
	req.Header.Set("Accept", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &transient{err: hideURL(err)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, &transient{err: fmt.Errorf("read the API's answer: %w", hideURL(err))}
	}
	if res.StatusCode/100 != 2 {
		return nil, refusal(res, body)
	}
	if into == nil {
		return res.Header, nil
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		return nil, fail(exitRefused, "the answer is not that of a download API; is the API's URL right?")
	}
	return res.Header, nil
}

// authorize adds what the user gave, to be sent to the API and its socket but
// never to the storage.
func (a *api) authorize(h http.Header, ticket string) {
	for name, values := range a.headers {
		h[name] = values
	}
	if ticket != "" {
		h.Set("X-Download-Ticket", ticket)
	}
}

// refusal understands the API's own errors and those of API Gateway.
func refusal(res *http.Response, body []byte) error {
	var answer struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
		Message string `json:"message"`
	}
	json.Unmarshal(body, &answer) // an answer that isn't JSON has its status
	p := failed(answer.Error.Code, answer.Error.Message)
	if p.exit == exitFailed { // neither expired nor cancelled
		p.exit = exitRefused
	}
	if p.code == "" {
		p.message = fmt.Sprintf("the API answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
		if answer.Message != "" && answer.Message != http.StatusText(res.StatusCode) {
			p.message += ": " + printable(answer.Message)
		}
		switch res.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			p.message += "; is there a header that the API wants (-H)?"
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

// maxRetryAfter is the longest wait that is done on somebody else's word.
const maxRetryAfter = 2 * time.Minute

// retryAfter reads seconds or a date; 0 is none.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err == nil || errors.Is(err, strconv.ErrRange) { // it comes with the largest number there is
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, time.Until(at)), maxRetryAfter)
	}
	return 0
}
