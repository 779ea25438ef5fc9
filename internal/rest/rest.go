// Package rest shapes the answers of the REST API.
package rest

import (
	"net/http"
	"slices"
	"strings"

	"async-download/internal/failure"
	"async-download/internal/wire"
)

// Answer is what a function gives API Gateway.
type Answer struct {
	Status  int
	Headers map[string]string
	Body    string
}

// API knows which web pages may read its answers.
type API struct {
	// AllowedOrigins is a list of scheme://host[:port], or * for any, separated by commas.
	AllowedOrigins string
}

// OK answers with body as JSON. headers may be nil.
func (a API) OK(origin string, status int, body any, headers map[string]string) Answer {
	h := a.headers(origin)
	for k, v := range headers {
		h[k] = v
	}
	return Answer{status, h, string(wire.JSON(body))}
}

// Error answers with {"error": {"code", "message"}} and the status of the code.
func (a API) Error(origin string, err error) Answer {
	e := failure.As(err)
	type body struct {
		Code    failure.Code `json:"code"`
		Message string       `json:"message"`
	}
	headers := map[string]string{}
	if e.Code == failure.Throttled {
		headers["Retry-After"] = "1"
	}
	return a.OK(origin, status(e.Code), map[string]body{"error": {e.Code, e.Message}}, headers)
}

// Preflight answers OPTIONS.
func (a API) Preflight(origin string) Answer {
	h := a.headers(origin)
	h["Access-Control-Allow-Methods"] = "GET, DELETE, OPTIONS"
	// The two X-Amz- are of a signature, for ApiAuth IAM.
	h["Access-Control-Allow-Headers"] = "Authorization, Idempotency-Key, Prefer, X-Api-Key, X-Amz-Date, X-Amz-Security-Token, X-Download-Ticket"
	h["Access-Control-Max-Age"] = "3600"
	return Answer{http.StatusNoContent, h, ""}
}

func status(code failure.Code) int {
	switch code {
	case failure.InvalidPath:
		return http.StatusBadRequest
	case failure.NotFound:
		return http.StatusNotFound
	case failure.Expired: // the item is still there, the file is not
		return http.StatusGone
	case failure.Conflict:
		return http.StatusConflict
	case failure.Throttled:
		return http.StatusTooManyRequests
	case failure.KeyReused:
		return http.StatusUnprocessableEntity
	case failure.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	}
	return http.StatusInternalServerError
}

func (a API) headers(origin string) map[string]string {
	h := map[string]string{
		"Content-Type":           "application/json",
		"Cache-Control":          "no-store", // an answer holds an ARN or a link
		"X-Content-Type-Options": "nosniff",
	}
	if allowed := a.Allow(origin); allowed != "" {
		h["Access-Control-Allow-Origin"] = allowed
		h["Access-Control-Expose-Headers"] = "Location, Preference-Applied, Retry-After"
		h["Vary"] = "Origin"
	}
	return h
}

// Header returns a header of an event; API Gateway keeps the spelling the
// client used, others lower it.
func Header(headers map[string]string, name string) string {
	for k, v := range headers {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// Allow returns the value of Access-Control-Allow-Origin for a request's Origin
// header, "" for none. Origins are compared whole: a pattern or a suffix could
// be met by a host of somebody else's.
func (a API) Allow(origin string) string {
	allowed := strings.Split(a.AllowedOrigins, ",")
	switch {
	case slices.Contains(allowed, "*"):
		return "*"
	case origin != "" && slices.Contains(allowed, origin):
		return origin
	}
	return ""
}
