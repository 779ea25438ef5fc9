package meeting_test

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAdmitWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose clock begins with a period
		b := newBench()
		for period := range 2 {
			admitted := 0
			for i := range 200 {
				if i == 100 {
					time.Sleep(19 * time.Second)
				}
				if b.AdmitWait(t.Context()) {
					admitted++
				}
			}
			if admitted != 125 {
				t.Errorf("period %d: got %d waits, want 125", period, admitted)
			}
			time.Sleep(time.Second)
		}
	})
}
