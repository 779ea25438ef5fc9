package rest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"async-download/internal/download"
	"async-download/internal/failure"
)

// Forwarding has what of a caller's request reaches the origin in addition to the path
// and the query.
type Forwarding struct {
	Headers []string // names of the request headers, in any case
	Caller  string   // name of the header that gets the caller's principal; "" for none
}

const (
	// maxForwarded is how many bytes the values of the forwarded headers may have together.
	// API Gateway itself takes 10,240 for all headers of a request.
	// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
	maxForwarded = 8 << 10
	// MaxBody is the largest body of a POST. With it, the path, the query, and the headers fit
	// into an item of DynamoDB, which holds 400 KB.
	MaxBody = 256 << 10
)

// unforwardable matches, in lower case, the headers that the copier sets itself, that
// belong to one connection, or that are meant for this API. The patterns of
// ForwardedHeaders and CallerHeader in template.yaml have the same names.
var unforwardable = regexp.MustCompile(`^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|http2-settings|` +
	`host|range|if-.*|accept-encoding|expect|content-.*|cookie2?|` +
	`x-amz-.*|x-statemachine-executionarn|x-download-.*|prefer|idempotency-key)$`)

// headerName matches the names that may be given to Forwarding: RFC 9110's tokens, less the
// punctuation that no header uses.
var headerName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// CheckHeaders returns an error for Headers that can't be forwarded under the stack's
// ApiAuth.
func (f Forwarding) CheckHeaders(auth string) error {
	for _, name := range f.Headers {
		switch {
		case !forwardable(name):
			return fmt.Errorf("%q can't be forwarded", name)
		case auth == "IAM" && strings.EqualFold(name, "Authorization"):
			return errors.New("with ApiAuth IAM, Authorization is a signature for this API, which is not forwarded")
		}
	}
	return nil
}

// CheckCaller returns an error for a Caller that can't be sent under the stack's ApiAuth.
func (f Forwarding) CheckCaller(auth string) error {
	switch {
	case f.Caller == "":
		return nil
	case !forwardable(f.Caller):
		return fmt.Errorf("%q can't be sent", f.Caller)
	case auth == "" || auth == "NONE":
		return errors.New("without an ApiAuth, there is no caller to name")
	}
	return nil
}

func forwardable(name string) bool {
	return headerName.MatchString(name) && !unforwardable.MatchString(strings.ToLower(name))
}

// Of returns the headers of a request that are forwarded, by their canonical names. The
// caller's header is not among them. The values of a header that was sent more than once
// are joined by commas.
//
// The error is [failure.TooLarge] for more than 8 KB of values, and [failure.InvalidPath]
// for a value that can't be sent.
func (f Forwarding) Of(headers map[string][]string) (map[string]string, error) {
	forwarded, size := map[string]string{}, 0
	for _, sent := range slices.Sorted(maps.Keys(headers)) { // sorted, since a name may occur in two spellings
		name := http.CanonicalHeaderKey(sent)
		if !slices.ContainsFunc(f.Headers, func(wanted string) bool { return strings.EqualFold(wanted, name) }) || f.isCaller(name) {
			continue
		}
		value := strings.Join(headers[sent], ", ")
		if damaged(value) || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return nil, failure.New(failure.InvalidPath, "the header %s has characters that can't be passed on", name)
		}
		if earlier, twice := forwarded[name]; twice {
			value = earlier + ", " + value
		}
		forwarded[name] = value
	}
	for _, value := range forwarded {
		size += len(value)
	}
	if size > maxForwarded {
		return nil, failure.New(failure.TooLarge, "the headers for the origin have %d bytes; at most %d are taken", size, maxForwarded)
	}
	return forwarded, nil
}

// isCaller reports whether the origin may read a header of this name as Caller: CGI and
// WSGI make the same variable of a hyphen and an underscore.
func (f Forwarding) isCaller(name string) bool {
	hyphens := strings.NewReplacer("_", "-")
	return strings.EqualFold(hyphens.Replace(name), hyphens.Replace(f.Caller))
}

// requestBody returns the body of a request, as it was sent. The error is [failure.TooLarge] for
// more than [MaxBody] bytes, and [failure.InvalidPath] for a body that API Gateway has
// changed: it passes text on, and replaces what isn't UTF-8.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-payload-encodings.html
func requestBody(r events.APIGatewayProxyRequest) ([]byte, error) {
	body := []byte(r.Body)
	if r.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(r.Body); err != nil {
			return nil, failure.New(failure.InvalidPath, "the body can't be decoded")
		}
	}
	switch {
	case len(body) > MaxBody:
		return nil, failure.New(failure.TooLarge, "the body has %d bytes; at most %d are taken", len(body), MaxBody)
	case !r.IsBase64Encoded && damaged(r.Body):
		return nil, failure.New(failure.InvalidPath, "the body is not UTF-8, or has the character U+FFFD; send it as UTF-8 text")
	}
	return body, nil
}

// DownloadRequest returns what a request for a download asks for. Its errors are those of
// [Forwarding.Of] and [requestBody].
func DownloadRequest(r events.APIGatewayProxyRequest, f Forwarding) (download.Request, error) {
	d := download.Request{
		Method: r.HTTPMethod, Path: downloadPath(r), Query: r.MultiValueQueryStringParameters,
		AskedBy: askedBy(r.RequestContext), Caller: principal(r.RequestContext), Key: Header(r.Headers, "Idempotency-Key"),
	}
	for name, values := range r.MultiValueHeaders {
		// A key that was lost on the way, or two: whether the request is repeated can't be known.
		if strings.EqualFold(name, "Idempotency-Key") && (len(values) != 1 || values[0] == "") {
			return d, failure.New(failure.InvalidPath, "the request must have one Idempotency-Key, which is not empty, or none")
		}
	}
	var err error
	if d.Header, err = f.Of(r.MultiValueHeaders); err != nil || r.HTTPMethod != http.MethodPost {
		return d, err
	}
	d.ContentType = Header(r.Headers, "Content-Type")
	d.Body, err = requestBody(r)
	return d, err
}

// damaged reports whether a text of an event has lost bytes: they are replaced by U+FFFD.
func damaged(text string) bool { return strings.ContainsRune(text, utf8.RuneError) }
