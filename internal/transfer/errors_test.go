package transfer

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"async-download/internal/failure"
)

// Which errors of a part are worth another try.
func TestRetryable(t *testing.T) {
	answer := func(status int, code string) error {
		return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: &smithy.GenericAPIError{Code: code}}
	}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{errors.New("connection reset"), true},
		{answer(200, "InternalError"), true},
		{answer(399, ""), true},
		{answer(400, "InvalidRequest"), false},
		{answer(400, "BadDigest"), true},
		{answer(400, "RequestTimeout"), true},
		{answer(403, "AccessDenied"), false},
		{answer(408, ""), true},
		{answer(429, ""), true},
		{answer(499, ""), false},
		{answer(500, "InternalError"), true},
		{answer(503, "SlowDown"), true},
		{&fromOrigin{errors.New("reset")}, false},
		{failure.New(failure.OriginTruncated, "cut"), false},
	} {
		if got := retryable(fmt.Errorf("store: %w", tt.err)); got != tt.want {
			t.Errorf("%v: got %t, want %t", tt.err, got, tt.want)
		}
	}
}

// The waits double, and a random part of each is slept.
func TestBackoff(t *testing.T) {
	const first = time.Millisecond
	for try, most := range map[int]time.Duration{0: first, 1: first, 2: 2 * first, 4: 8 * first, 100: storeMaxBackoff} {
		var longest time.Duration
		for range 1000 {
			longest = max(longest, backoff(try, first))
		}
		if longest > most || longest < most/2 {
			t.Errorf("try %d: got waits up to %s, want up to %s", try, longest, most)
		}
	}
}
