package download

import (
	"testing"

	"async-download/internal/failure"
	"async-download/internal/meeting"
)

func TestReason(t *testing.T) {
	copying, ready := meeting.Item{Status: meeting.Copying}, meeting.Item{Status: meeting.Ready}
	cancelled := meeting.Item{Status: meeting.Copying, Cancelled: true}
	tests := []struct {
		status  string
		item    meeting.Item
		code    failure.Code
		message string
	}{
		{"ABORTED", copying, failure.Cancelled, "the download was stopped by an operator"},
		{"ABORTED", ready, failure.Cancelled, "the download was stopped by an operator"},
		{"ABORTED", cancelled, failure.Cancelled, "the download was cancelled"}, // while it waited for its origin
		{"TIMED_OUT", cancelled, failure.Cancelled, "the download was cancelled"},
		{"TIMED_OUT", copying, failure.OriginTooSlow, "the copy took longer than an execution may last"},
		{"TIMED_OUT", ready, failure.Expired, "the workflow ended before a client came"},
		{"FAILED", copying, failure.Internal, "an unexpected error; the logs have it under this execution's name"},
	}
	for _, test := range tests {
		got := Broken{Status: test.status}.reason(test.item)
		if got.Code != test.code || got.Message != test.message {
			t.Errorf("%s, cancelled %t: got %v, want %s: %s", test.status, test.item.Cancelled, got, test.code, test.message)
		}
	}
}
