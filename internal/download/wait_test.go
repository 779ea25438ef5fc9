package download_test

import (
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/failure"
	"async-download/internal/meeting"
)

func TestWait(t *testing.T) {
	tests := []struct {
		name     string
		end      func(s *starter, arn string) error // after 5 s
		limit    time.Duration
		others   int // clients that wait already
		status   meeting.Status
		waited   bool
		min, max time.Duration
	}{
		{"ready", func(s *starter, arn string) error { return s.Table.Copied(s.t.Context(), arn, 1) }, 20 * time.Second, 0, meeting.Ready, true, 5 * time.Second, 6 * time.Second},
		{"failed", func(s *starter, arn string) error {
			_, err := s.Table.End(s.t.Context(), arn, failure.New(failure.OriginStatus, "404"))
			return err
		}, 20 * time.Second, 0, meeting.Failed, true, 5 * time.Second, 6 * time.Second},
		{"cancelled", func(s *starter, arn string) error { return s.Table.Cancel(s.t.Context(), arn) }, 20 * time.Second, 0, meeting.Cancelled, true, 5 * time.Second, 6 * time.Second},
		{"too long", nil, 3 * time.Second, 0, meeting.Copying, true, 3 * time.Second, 3 * time.Second},
		{"no time, which isn't counted as a wait", nil, 0, 125, meeting.Copying, true, 0, 0},
		{"too many", nil, 20 * time.Second, 125, meeting.Copying, false, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStarter(t)
				d := s.mustAsk()
				for range test.others {
					s.Table.AdmitWait(t.Context())
				}
				if test.end != nil {
					time.AfterFunc(5*time.Second, func() {
						if err := test.end(s, d.ExecutionARN); err != nil {
							t.Error(err)
						}
					})
				}
				begun := time.Now()
				state, waited, err := s.Wait(t.Context(), d.Name, d.Ticket, test.limit)
				took := time.Since(begun)
				if err != nil || state.Status != test.status || waited != test.waited || took < test.min || took > test.max {
					t.Errorf("got %s, waited %v, %v after %s, want %s, %v after %s to %s", state.Status, waited, err, took, test.status, test.waited, test.min, test.max)
				}
				if (state.Link != nil) != (test.status == meeting.Ready) {
					t.Errorf("got link %v", state.Link)
				}
			})
		})
	}
}

// The client of another connection gets the link and leaves while a request is answered:
// the item is gone, and the object is the record.
func TestDeliveredMeanwhile(t *testing.T) {
	for title, test := range map[string]struct {
		status    meeting.Status
		operation string
		n         int // before which of these operations the item goes
	}{
		"while the link is signed": {meeting.Ready, "UpdateItem", 1},
		"while the request waits":  {meeting.Copying, "GetItem", 2},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStack()
				s.item(test.status, nil)
				left := test.n
				s.before = func(operation string) {
					if operation == test.operation {
						if left--; left == 0 {
							s.table.Items = nil
						}
					}
				}
				state, _, err := s.Wait(t.Context(), name, "", time.Minute)
				if err != nil || state.Link == nil || left > 0 {
					t.Errorf("got %+v, %v, want a link", state, err)
				}
			})
		})
	}
}
