package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"async-download/internal/meeting"
)

// crowd runs n clients, at most `together` at a time. The local stack handles
// about 50 concurrent downloads.
func crowd(t *testing.T, n, together int, f func(t *testing.T, i int) error) {
	t.Helper()
	var wait sync.WaitGroup
	turns := make(chan struct{}, together)
	for i := range n {
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			if err := f(t, i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wait.Wait()
}

// awaitLink waits for the link and returns how long it will work.
func awaitLink(c *client) (time.Duration, error) {
	end := time.After(patience)
	for {
		select {
		case m, ok := <-c.messages:
			var e struct {
				Type, URL string
				ExpiresAt time.Time
			}
			switch {
			case !ok:
				return 0, fmt.Errorf("the socket was closed")
			case json.Unmarshal([]byte(m), &e) != nil:
				return 0, fmt.Errorf("got %q, want an event", m)
			case e.Type == "progress":
				continue
			case e.Type != "ready" || e.URL == "":
				return 0, fmt.Errorf("got %q, want the link", m)
			}
			return time.Until(e.ExpiresAt), nil
		case <-end:
			return 0, fmt.Errorf("no link in %s", patience)
		}
	}
}

// noSecondMessage fails if a second message arrives. No replies are lost in these tests, so
// there is no reason for one.
func noSecondMessage(c *client) error {
	select {
	case m, ok := <-c.messages:
		if ok {
			return fmt.Errorf("a second message: %q", m)
		}
	case <-time.After(300 * time.Millisecond):
	}
	return nil
}

// TestFiftyAtOnce opens 50 sockets at once for one download, during the copy and
// while the workflow waits. No handshake fails, the workflow is resumed once, and
// the connection in the item, which was written last, gets the link. No connection
// gets it twice.
func TestFiftyAtOnce(t *testing.T) {
	for _, when := range []string{"copying", "waiting"} {
		t.Run(when, func(t *testing.T) {
			path := "/file/64KiB/fifty.bin?delay=8s"
			if when == "waiting" {
				path = "/file/64KiB/fifty.bin"
			}
			arn := ask(t, path)
			if when == "waiting" {
				awaitToken(t, arn)
			}
			clients := make([]*client, 50)
			crowd(t, len(clients), len(clients), func(t *testing.T, i int) error {
				c, status := tryDial(t, http.Header{"X-StateMachine-ExecutionArn": {arn}, "X-Download-Format": {"json"}}, "")
				if clients[i] = c; c == nil {
					return fmt.Errorf("handshake: status %d", status)
				}
				return nil
			})
			if t.Failed() {
				return
			}
			if out := ended(t, arn); out.Status != "SUCCEEDED" {
				t.Errorf("status: got %s, want SUCCEEDED", out.Status)
			}
			if n := len(slices.DeleteFunc(states(t, arn), func(s string) bool { return s != "Wait for the client" })); n != 1 {
				t.Errorf("the workflow entered the wait %d times, want once", n)
			}
			// A marker identifies the connection in the item; it gets its link before or
			// after that.
			i, known := item(t, arn)
			if !known || i.TaskToken != "" {
				t.Fatalf("item: got %+v, want the last connection and no token", i)
			}
			marker := &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &i.ConnectionID, Data: []byte("it is you")}
			if _, err := stack.connections.PostToConnection(t.Context(), marker); err != nil {
				t.Fatal(err)
			}
			heard := make([]string, len(clients))
			waitUntil(t, "the last connection's link", func() bool {
				for i, c := range clients {
					heard[i] += strings.Join(c.received(), "\n")
					if strings.Contains(heard[i], "it is you") && strings.Contains(heard[i], `{"type":"ready"`) {
						return true
					}
				}
				return false
			})
			time.Sleep(500 * time.Millisecond) // for a message that should not be there
			for i, c := range clients {
				heard[i] += strings.Join(c.received(), "\n")
				if n := strings.Count(heard[i], `{"type":"ready"`); n > 1 {
					t.Errorf("client %d got %d links, want at most one", i, n)
				}
				c.close()
			}
		})
	}
	nothingWaits(t)
}

// TestLateClients starts 50 downloads, ten at a time, since none waits for long. When
// they wait, their clients connect, one every 200 ms. Most get their links within a
// second; on a busy machine, half of them must within three.
func TestLateClients(t *testing.T) {
	const n, group = 50, 10
	took := make([]time.Duration, n)
	for first := 0; first < n; first += group {
		arns := make([]string, group)
		crowd(t, group, group, func(t *testing.T, i int) error {
			arns[i] = ask(t, "/file/1MiB/late.bin")
			awaitToken(t, arns[i])
			return nil
		})
		crowd(t, group, group, func(t *testing.T, i int) error {
			time.Sleep(time.Duration(i) * 200 * time.Millisecond)
			c := dial(t, arns[i], "json")
			start := time.Now()
			if _, err := awaitLink(c); err != nil {
				return err
			}
			took[first+i] = time.Since(start)
			return noSecondMessage(c)
		})
	}
	slices.Sort(took)
	t.Logf("connect to link: slowest %s, median %s", took[n-1].Round(time.Millisecond), took[n/2].Round(time.Millisecond))
	if took[n/2] > 3*time.Second {
		t.Errorf("half of the clients got their links %s after connecting or later, want at most 3 s", took[n/2])
	}
}

// TestAroundTheEnd connects 200 clients at random moments around the end of the copy.
func TestAroundTheEnd(t *testing.T) {
	crowd(t, 200, 25, func(t *testing.T, i int) error {
		arn := ask(t, fmt.Sprintf("/file/64KiB/around.bin?delay=%dms", 200+rand.IntN(800)))
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
		c := dial(t, arn, "json")
		if _, err := awaitLink(c); err != nil {
			return fmt.Errorf("%s: %w", arn, err)
		}
		err := noSecondMessage(c)
		c.close()
		return err
	})
}

// TestKilled cuts off 100 clients at random moments, without a close frame. They
// reconnect at random moments and get a link with most of its lifetime left.
func TestKilled(t *testing.T) {
	crowd(t, 100, 25, func(t *testing.T, i int) error {
		arn := ask(t, fmt.Sprintf("/file/64KiB/killed.bin?delay=%dms", rand.IntN(1500)))
		for range 1 + rand.IntN(3) {
			time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
			c := dial(t, arn, "json")
			time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
			c.conn.CloseNow()
		}
		c := dial(t, arn, "json")
		left, err := awaitLink(c)
		if err != nil {
			return fmt.Errorf("%s: %w", arn, err)
		}
		if left < linkExpiry*9/10 {
			return fmt.Errorf("%s: the link works for another %s, want at least 90 %% of %s", arn, left, linkExpiry)
		}
		c.close()
		return nil
	})
	nothingWaits(t)
}

// nothingWaits fails if an execution, a token, an upload, or a delivered item is left.
func nothingWaits(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	waitUntil(t, "every execution to end", func() bool {
		out, err := stack.stepFuncs.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: &stack.stateMachine, StatusFilter: "RUNNING"})
		return err == nil && len(out.Executions) == 0
	})
	bucket := stack.env["BUCKET"]
	uploads, err := stack.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil || len(uploads.Uploads) > 0 {
		t.Errorf("open uploads: got %v, %v, want none", uploads, err)
	}
	waitUntil(t, "delivered items to go", func() bool {
		for _, i := range scan(t) {
			if i.TaskToken != "" || i.Status == meeting.Delivered || !i.Status.Ended() {
				return false
			}
		}
		return true
	})
}

// TestDrops runs 40 concurrent downloads whose clients drop and return at random.
func TestDrops(t *testing.T) {
	crowd(t, 40, 40, func(t *testing.T, i int) error {
		arn := ask(t, fmt.Sprintf("/file/1MiB/drops.bin?delay=%dms", rand.IntN(2000)))
		for range rand.IntN(4) {
			c := dial(t, arn, "json")
			time.Sleep(time.Duration(rand.IntN(800)) * time.Millisecond)
			c.conn.CloseNow()
		}
		c := dial(t, arn, "json")
		if _, err := awaitLink(c); err != nil {
			return fmt.Errorf("%s: %w", arn, err)
		}
		c.close()
		return nil
	})
	nothingWaits(t)
}
