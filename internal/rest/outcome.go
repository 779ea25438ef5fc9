package rest

import (
	"encoding/json"
	"net/http"

	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/wire"
)

// errNotReady is the answer to a client that waited, while the file is still being copied.
var errNotReady = failure.New(failure.NotReady, "the file is not ready yet; send the same request again")

// Outcome answers a client that wants the file itself: 303 with the link once there
// is one, 503 before, or 202 if it prefers respond-async, and the failure's own
// status after a failure. body has further members of the answer, and may be nil;
// headers are sent with an answer that has no link. waited reports whether the
// answer was held back as the client prefers.
func (a API) Outcome(origin string, s download.State, waited bool, p Preference, body any, headers map[string]string) Answer {
	h := map[string]string{}
	if applied := p.Applied(waited); applied != "" {
		h["Preference-Applied"] = applied
	}
	switch {
	case s.Link != nil:
		h["Location"] = s.Link.URL
		return a.OK(origin, http.StatusSeeOther, body, h)
	case s.Error != nil:
		return a.OK(origin, outcomeStatus(s.Error.Code), with(body, s.Error), h)
	}
	for k, v := range headers {
		h[k] = v
	}
	if p.RespondAsync {
		h["Retry-After"] = "2"
		return a.OK(origin, http.StatusAccepted, body, h)
	}
	h["Retry-After"] = "1"
	return a.OK(origin, http.StatusServiceUnavailable, with(body, errNotReady), h)
}

// with returns body, as JSON, with an error.
func with(body any, e *failure.Error) map[string]any {
	m := map[string]any{}
	if body != nil {
		_ = json.Unmarshal(wire.JSON(body), &m)
	}
	m["error"] = map[string]any{"code": e.Code, "message": e.Message}
	return m
}

// outcomeStatus is the status of a download that has failed.
func outcomeStatus(code failure.Code) int {
	switch code {
	case failure.TooLarge:
		return http.StatusRequestEntityTooLarge
	case failure.Cancelled, failure.Expired:
		return http.StatusGone
	case failure.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusBadGateway // the origin's or the storage's
}

// NotAllowed answers a method that the resource doesn't have. allow is the list of
// those it has.
func (a API) NotAllowed(origin, allow string) Answer {
	answer := a.Error(origin, failure.New(failure.MethodNotAllowed, "this resource has the methods %s", allow))
	answer.Headers["Allow"] = allow
	return answer
}

// State answers with the status of a download.
func (a API) State(origin string, s download.State, p Preference, waited bool) Answer {
	h := map[string]string{}
	if applied := (Preference{Waits: p.Waits, Wait: p.Wait}).Applied(waited); applied != "" {
		h["Preference-Applied"] = applied
	}
	if s.Status == meeting.Copying {
		h["Retry-After"] = "2"
	}
	return a.OK(origin, http.StatusOK, s, h)
}
