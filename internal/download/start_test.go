package download

import "testing"

func TestConcurrentSegments(t *testing.T) {
	for _, test := range []struct{ limit, concurrency, want int64 }{
		{40, 1_000_000, 40}, {40, 41, 40}, {40, 40, 39}, {40, 10, 9}, {40, 2, 1}, {40, 1, 1}, {1, 1, 1}, {1, 2, 1},
	} {
		if got := ConcurrentSegments(test.limit, test.concurrency); got != test.want {
			t.Errorf("limit %d, concurrency %d: got %d, want %d", test.limit, test.concurrency, got, test.want)
		}
	}
}
