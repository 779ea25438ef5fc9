// Package rest reads the requests of the REST API and shapes its answers.
package rest

import (
	"cmp"
	"net/http"
	"net/url"
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
	headers := map[string]string{}
	if e.Code == failure.Throttled {
		headers["Retry-After"] = "1"
	}
	return a.OK(origin, cmp.Or(statuses[e.Code], http.StatusInternalServerError), map[string]*failure.Error{"error": e}, headers)
}

// Preflight answers OPTIONS. methods is the list of those that the resource has; headers
// are request headers that it reads in addition to those of every resource.
func (a API) Preflight(origin, methods string, headers ...string) Answer {
	h := a.headers(origin)
	h["Access-Control-Allow-Methods"] = methods
	// The two X-Amz- are of a signature, for ApiAuth IAM.
	h["Access-Control-Allow-Headers"] = strings.Join(append([]string{
		"Authorization", "Idempotency-Key", "Prefer", "X-Api-Key", "X-Amz-Date", "X-Amz-Security-Token", "X-Download-Ticket"}, headers...), ", ")
	h["Access-Control-Max-Age"] = "3600"
	return Answer{http.StatusNoContent, h, ""}
}

// statuses has the codes with which a request is refused; any other is a fault of this app.
var statuses = map[failure.Code]int{
	failure.InvalidPath:      http.StatusBadRequest,
	failure.AccessDenied:     http.StatusForbidden,
	failure.NotFound:         http.StatusNotFound,
	failure.MethodNotAllowed: http.StatusMethodNotAllowed,
	failure.Conflict:         http.StatusConflict,
	failure.Expired:          http.StatusGone, // the item is still there, the file is not
	failure.TooLarge:         http.StatusRequestEntityTooLarge,
	failure.KeyReused:        http.StatusUnprocessableEntity,
	failure.Throttled:        http.StatusTooManyRequests,
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

// Header returns a header of an event, whose name may be in any case: API Gateway keeps
// the client's spelling.
func Header(headers map[string]string, name string) string {
	for k, v := range headers {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// Allow returns the value of Access-Control-Allow-Origin for a request's Origin
// header, "" for none. Origins are compared whole: a pattern or a suffix could match
// somebody else's host.
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

// Foreign returns [failure.AccessDenied] for a request that a browser sends for a page
// of another site, which may start a copy though it may not read the answer; nil for
// any other. ownURL is the API's own URL, whose page may ask.
//
// A browser names the page in Origin where its script wants to read the answer, and
// for any method except GET and HEAD. What it sends without Origin (an image, a link,
// a script in the mode no-cors) it marks in Sec-Fetch-Site, which no script can set.
// same-site means another host of the same domain, so another page. Clients that aren't
// browsers send neither.
// https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
func (a API) Foreign(headers map[string]string, ownURL string) error {
	if a.Allow("") == "*" {
		return nil
	}
	if origin := Header(headers, "Origin"); origin != "" {
		if a.Allow(origin) != "" || origin == originOf(ownURL) {
			return nil
		}
		return errForeign
	}
	switch Header(headers, "Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return nil
	}
	return errForeign
}

var errForeign = failure.New(failure.AccessDenied, "this web page may not use this API; AllowedWebOrigins names those that may")

// originOf returns scheme://host[:port] of a URL.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
