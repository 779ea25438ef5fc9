package download_test

import (
	"context"
	"errors"
	"testing"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/meeting/dynamodbtest"
	"async-download/internal/object"
)

func TestDelete(t *testing.T) {
	tests := []struct {
		status    meeting.Status // "" for no item
		object    bool
		want      meeting.Status
		wantError failure.Code
		left      meeting.Status // in the item
	}{
		{status: meeting.Copying, want: meeting.Cancelled, left: meeting.Copying},
		{status: meeting.Ready, object: true, want: meeting.Deleted, left: meeting.Ready},
		{status: meeting.Delivered, object: true, want: meeting.Deleted, left: meeting.Cancelled},
		{status: meeting.Expired, object: true, want: meeting.Deleted, left: meeting.Cancelled},
		{status: meeting.Failed, wantError: failure.Conflict, left: meeting.Failed},
		{status: meeting.Cancelled, wantError: failure.Conflict, left: meeting.Cancelled},
		{status: meeting.Cancelled, object: true, want: meeting.Deleted, left: meeting.Cancelled}, // revoked, and no more
		{object: true, want: meeting.Deleted},
		{wantError: failure.NotFound},
	}
	for _, test := range tests {
		s := newStarter(t)
		s.RequireTicket = false
		item := dynamodbtest.Item{"executionArn": {"S": arn}, "status": {"S": string(test.status)}, "bytesCopied": {"N": "0"}, "path": {"S": ""}, "query": {"S": ""}, "askedBy": {"S": ""}, "expiresAt": {"N": "4000000000"}}
		if test.status != "" {
			s.table.Items[arn] = item
		}
		if test.object {
			s.objects[name] = object.Record{}
		}
		refuse := true
		s.Discard = func(context.Context, string) error {
			if refuse {
				refuse = false
				return errors.New("SlowDown")
			}
			delete(s.objects, name)
			return nil
		}
		got, err := s.Delete(t.Context(), name, "")
		if test.want == meeting.Deleted { // the first try could not delete the file
			if err == nil {
				t.Errorf("%s: got %+v though the file is kept", test.status, got)
			}
			got, err = s.Delete(t.Context(), name, "")
		}
		left, _ := s.table.Get(arn)["status"]["S"].(string)
		if got.Status != test.want || failure.CodeOf(err) != test.wantError || meeting.Status(left) != test.left {
			t.Errorf("%s, file %v: got %s, %v and left %s, want %s, %s and %s", test.status, test.object, got.Status, err, left, test.want, test.wantError, test.left)
		}
		if test.want == meeting.Deleted && len(s.objects) > 0 {
			t.Errorf("%s: the file is kept", test.status)
		}
	}
}

// The file stays as long as the item can't be changed, which would promise a link.
func TestDeleteKeepsTheFile(t *testing.T) {
	s := newStack()
	s.item(meeting.Delivered, nil)
	s.refused = "UpdateItem"
	if state, err := s.Delete(t.Context(), name, ""); failure.CodeOf(err) != failure.Internal || !s.file {
		t.Errorf("got %s, %v, and a file %t", state.Status, err, s.file)
	}
}

// A failure that comes after the end, such as one of a worker whose reply was lost,
// must not take the file from a client that has a link to it.
func TestLateFailure(t *testing.T) {
	for _, test := range []struct {
		status    meeting.Status
		discarded bool
	}{
		{meeting.Copying, true},
		{meeting.Cancelled, true},
		{meeting.Delivered, false},
		{meeting.Expired, false},
	} {
		s := newStarter(t)
		s.table.Items[arn] = dynamodbtest.Item{"executionArn": {"S": arn}, "status": {"S": string(test.status)}, "expiresAt": {"N": "4000000000"}}
		discarded := false
		s.Discard = func(context.Context, string) error { discarded = true; return nil }
		if _, err := s.NoteFailure(t.Context(), arn, failure.New(failure.Storage, "no space")); err != nil || discarded != test.discarded {
			t.Errorf("%s: got %v and discarded %v, want %v", test.status, err, discarded, test.discarded)
		}
	}
}
