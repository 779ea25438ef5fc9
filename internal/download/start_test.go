package download

import (
	"errors"
	"testing"

	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"async-download/internal/failure"
)

// An item is created in a transaction where there is a request; DynamoDB reports its
// throttling as a reason of the cancelled transaction.
func TestThrottled(t *testing.T) {
	for _, test := range []struct {
		err  error
		want failure.Code
	}{
		{&dynamodbtypes.TransactionCanceledException{}, failure.Throttled},
		{&dynamodbtypes.ProvisionedThroughputExceededException{}, failure.Throttled},
		{&sfntypes.ExecutionLimitExceeded{}, failure.Throttled},
		{&dynamodbtypes.ResourceNotFoundException{}, failure.Internal},
		{errors.New("reset"), failure.Internal},
	} {
		if got := failure.CodeOf(throttled(test.err)); got != test.want {
			t.Errorf("%T: got %s, want %s", test.err, got, test.want)
		}
	}
}

func TestConcurrentSegments(t *testing.T) {
	for _, test := range []struct{ limit, concurrency, want int64 }{
		{40, 1_000_000, 40}, {40, 41, 40}, {40, 40, 39}, {40, 10, 9}, {40, 2, 1}, {40, 1, 1}, {1, 1, 1}, {1, 2, 1},
	} {
		if got := ConcurrentSegments(test.limit, test.concurrency); got != test.want {
			t.Errorf("limit %d, concurrency %d: got %d, want %d", test.limit, test.concurrency, got, test.want)
		}
	}
}
