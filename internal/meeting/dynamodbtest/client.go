package dynamodbtest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Client returns the real SDK's client of the table.
func (t *Table) Client() *dynamodb.Client {
	return Client(func(_ *http.Request, operation string, body []byte) (int, []byte, error) {
		status, answer := t.Do(operation, body)
		return status, answer, nil
	})
}

// Client returns the real SDK's client, which sends its requests to do.
func Client(do func(r *http.Request, operation string, body []byte) (int, []byte, error)) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String("http://dynamodb.test"),
		Credentials:  credentials.NewStaticCredentialsProvider("key", "secret", ""),
		HTTPClient: smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
			status, answer, err := do(r, operation, body)
			if err != nil {
				return nil, err
			}
			return &http.Response{
				StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(answer)),
				Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(bytes.NewReader(answer)),
			}, nil
		}),
		// The SDK's rules of what is retried and how often (3), but with fixed delays, so
		// that a history can be run again.
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 100 * time.Millisecond, nil })
			o.RateLimiter = ratelimit.None
		}),
	})
}
