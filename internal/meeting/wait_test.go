package meeting_test

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"async-download/internal/meeting"
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

// The writes of the wait and of the expiry, as the state machine sends them.
func TestWaitIsConditional(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"Wait for the client", "Note the expiry"} {
		s := machines()["download"].States[name]
		for title, scene := range map[string]struct {
			given func(b *bench)
			held  bool
		}{
			"nobody here":   {having(meeting.Ready, "", ""), true},
			"waited before": {having(meeting.Ready, "", "old"), true},
			"client here":   {having(meeting.Ready, "c1", ""), false},
			"request here":  {having(meeting.Ready, meeting.Request, ""), false},
			"cancelled":     {having(meeting.Ready, "", "", "cancelled"), false},
			"item gone":     {func(*bench) {}, false},
		} {
			t.Run(name+", "+title, func(t *testing.T) {
				b := newBench()
				scene.given(b)
				before := b.table.Get(arn)
				x := &execution{arn: arn}
				p := x.fill(map[string]any{}, s.Parameters, "new").(map[string]any)
				w.table.Items = b.table.Items
				p2, no := w.integrated(ctx, p)
				if scene.held != (no == nil) {
					t.Fatalf("got %v %v, want it to hold: %v", p2, no, scene.held)
				}
				i := w.table.Get(arn)
				if !scene.held {
					if no.name != "DynamoDb.ConditionalCheckFailedException" || !reflect.DeepEqual(i, before) {
						t.Errorf("got %v and item %v, want nothing changed", no, i)
					}
					if len(w.table.Items) > 1 || before == nil && i != nil {
						t.Errorf("made a row: %v", w.table.Items)
					}
					return
				}
				if token := i["taskToken"]["S"]; name == "Wait for the client" && token != "new" || name == "Note the expiry" && (token != nil || i["status"]["S"] != "EXPIRED") {
					t.Errorf("got %v", i)
				}
			})
		}
	}
}
