// Package failure names the ways a download can end badly.
//
// The codes are a contract: the same word is used in the state machine's
// Retry and Catch, in the item, in the client's message and in the REST answer.
// Everything else about an error stays in the package where it occurred; what
// crosses a boundary is one [Error], and its Message is written for the client:
// it says what happened or what to change, and never has a signed URL, a
// query string, a task token or a credential in it.
package failure

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"async-download/internal/escape"
)

// Code is one of the words below.
type Code string

// A download ends with one of these. [known] has a message for each, and internal/rest the
// HTTP status of those that aren't a 502.
const (
	// OriginStatus: the origin answered with a status other than that of a file.
	OriginStatus Code = "ORIGIN_STATUS"
	// OriginUnreachable: no usable answer came (DNS, refused, TLS, time-outs).
	OriginUnreachable Code = "ORIGIN_UNREACHABLE"
	// OriginChanged: the file was replaced while it was being copied.
	OriginChanged Code = "ORIGIN_CHANGED"
	// OriginTruncated: the origin sent fewer bytes than it promised.
	OriginTruncated Code = "ORIGIN_TRUNCATED"
	// OriginTooSlow: the file can't be copied in the time that a copy has.
	OriginTooSlow Code = "ORIGIN_TOO_SLOW"
	// TooLarge: the file exceeds MaxFileBytes or what S3 can hold.
	TooLarge Code = "TOO_LARGE"
	// BlockedAddress: the origin, or a redirect of it, leads to an address that is not allowed.
	BlockedAddress Code = "BLOCKED_ADDRESS"
	// DigestMismatch: the bytes don't have the digest the origin gave.
	DigestMismatch Code = "DIGEST_MISMATCH"
	// Storage: S3 refused or lost the object.
	Storage Code = "STORAGE"
	// Cancelled: the client or an operator stopped the download.
	Cancelled Code = "CANCELLED"
	// Expired: nobody fetched the file in time.
	Expired Code = "EXPIRED"
	// Internal: a fault of this application.
	Internal Code = "INTERNAL"
)

// Only REST clients see these. internal/rest has the HTTP status of each.
const (
	// InvalidPath: the path could lead away from the origin's base URL.
	InvalidPath Code = "INVALID_PATH"
	// NotFound: no such execution, or no access to it.
	NotFound Code = "NOT_FOUND"
	// Conflict: the execution is past the point where this can be done.
	Conflict Code = "CONFLICT"
	// AccessDenied: a web page that AllowedWebOrigins doesn't name. API Gateway has the
	// same word for its own refusals.
	AccessDenied Code = "ACCESS_DENIED"
	// Throttled: try again later.
	Throttled Code = "THROTTLED"
	// NotReady: the file is still being copied.
	NotReady Code = "NOT_READY"
	// KeyReused: the Idempotency-Key belongs to another request of this caller.
	KeyReused Code = "KEY_REUSED"
	// MethodNotAllowed: the path has other methods.
	MethodNotAllowed Code = "METHOD_NOT_ALLOWED"
)

// Error is a failure with its code. It is encoded as {"code", "message"} for
// clients and in the item. Message is for the client; Err, the cause, is for the
// log and is never shown or stored.
type Error struct {
	Code    Code   `json:"code" dynamodbav:"code"`
	Message string `json:"message" dynamodbav:"message"`
	Err     error  `json:"-" dynamodbav:"-"`
}

// ErrCancelled is the failure of a download that was cancelled.
var ErrCancelled = &Error{Code: Cancelled, Message: known[Cancelled]}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// maxCause is the most bytes of a cause that are logged: causes may quote what a
// server sent.
const maxCause = 200

// LogValue is the failure with its cause, for the log alone.
func (e *Error) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("code", string(e.Code)), slog.String("message", e.Message)}
	if e.Err != nil {
		attrs = append(attrs, slog.String("cause", escape.Cut(e.Err.Error(), maxCause)))
	}
	return slog.GroupValue(attrs...)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns a failure without a cause.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns a failure caused by err, whose text is kept out of the message.
func Wrap(err error, code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: err}
}

// As returns err as a failure: the one in its chain, or [Internal] with a
// message without the cause. As(nil) is nil.
func As(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Internal, known[Internal], err}
}

// CodeOf returns the code of err, [Internal] for an error without one and ""
// for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return As(err).Code
}

// ToStepFunctions returns err as the Lambda runtime reports it under its code.
// Step Functions sees only the outermost error's type name, so a handler that
// runs as a state calls this in its last line and nowhere else.
func ToStepFunctions(err error) error {
	if err == nil {
		return nil
	}
	e := As(err)
	return messages.InvokeResponse_Error{Type: string(e.Code), Message: e.Message}
}

// FromStepFunctions turns what a Catch puts in the state (Error and Cause) back
// into a failure. A cause is a Lambda's error report, a plain sentence or
// nothing; only the message of a report with one of our codes is trusted
// to be fit for a client.
func FromStepFunctions(name, cause string) *Error {
	code := Code(name)
	message, ours := known[code]
	if !ours {
		return &Error{Code: Internal, Message: known[Internal]}
	}
	var report struct {
		ErrorMessage string `json:"errorMessage"`
	}
	if json.Unmarshal([]byte(cause), &report) == nil && report.ErrorMessage != "" {
		message = report.ErrorMessage
	}
	return &Error{Code: code, Message: message}
}

// known has every code that a download can end with, and its message when nothing better
// is known.
var known = map[Code]string{
	OriginStatus:      "the origin didn't answer with a file",
	OriginUnreachable: "the origin can't be reached",
	OriginChanged:     "the file changed at the origin while it was copied; ask again",
	OriginTruncated:   "the origin sent less than it promised",
	OriginTooSlow:     "the origin is too slow for a file of this size",
	TooLarge:          "the file is larger than this stack allows",
	BlockedAddress:    "the origin's address is not allowed",
	DigestMismatch:    "the file doesn't match the digest the origin gave",
	Storage:           "the file couldn't be stored",
	Cancelled:         "the download was cancelled",
	Expired:           "the file is no longer kept; ask for it again",
	Internal:          "an unexpected error; the logs have it under this execution's name",
}

// Codes returns every code a download can end with.
func Codes() []Code {
	codes := make([]Code, 0, len(known))
	for c := range known {
		codes = append(codes, c)
	}
	return codes
}
