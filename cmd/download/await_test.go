package main

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestSocketRefused(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
		s.noSockets = true
		s.copyTime = make(chan struct{})
		s.onStatus = func(w http.ResponseWriter, n int) bool {
			switch n {
			case 1:
				w.Header().Set("Retry-After", "1")
			case 2:
				close(s.copyTime)
			}
			return false
		}
		c.runExpecting(exitOK, "-o", c.path("x"), s.url())
		c.wantContent("x", s.content)
		if len(s.statuses) < 2 {
			t.Fatalf("got %d statuses, want 2", len(s.statuses))
		}
		if gap := s.statuses[1].Sub(s.statuses[0]); gap < time.Second {
			t.Errorf("the second status came after %v, Retry-After said 1 s", gap)
		}
	})
}

func TestServerClosesTheSocket(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
		ctx = s.readMessages(ctx, conn)
		if n < 5 {
			s.sendEvent(ctx, conn, progressEvent(int64(n), 1000))
			if n%2 == 0 {
				conn.Close(websocket.StatusGoingAway, "2 hours") // as API Gateway
			}
			return // or cut
		}
		s.sendEvent(ctx, conn, ready(s.newLink()))
		<-ctx.Done()
	}
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	if len(s.keys) != 1 || len(s.sockets) != 5 {
		t.Errorf("got %d questions, %d sockets, want 1, 5", len(s.keys), len(s.sockets))
	}
	for i, r := range s.sockets {
		if got := r.URL.Query().Get("executionArn"); got != s.arn(1) {
			t.Errorf("socket %d was opened for %q, want %q", i, got, s.arn(1))
		}
	}
}

func TestDeadSocket(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	c.timings.wsPing, c.timings.silence = 50*time.Millisecond, 50*time.Millisecond
	dead := make(chan struct{})
	s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
		if n == 1 {
			<-dead // no read, so no pong
			return
		}
		ctx = s.readMessages(ctx, conn)
		s.sendEvent(ctx, conn, ready(s.newLink()))
		<-ctx.Done()
	}
	c.start("-o", c.path("x"), s.url())
	s.waitFor("another way to the link", func() bool { return s.links >= 1 })
	close(dead)
	c.endExpecting(exitOK)
	c.wantContent("x", s.content)
}

func TestSocketIsKeptFromBeingIdle(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
		s.copyTime = make(chan struct{})
		c.timings.keepAlive, c.timings.wsPing = time.Second, 5*time.Second // for a pong too
		c.start("-o", c.path("x"), s.url())
		s.waitFor("a message after the first pong", func() bool { return len(s.messages) >= 6 })
		close(s.copyTime)
		c.endExpecting(exitOK)
		if s.messages[0] != `{"action":"ping"}` || len(s.sockets) != 1 {
			t.Errorf("got %q on %d sockets, want pings on one", s.messages, len(s.sockets))
		}
	})
}

// After a session that API Gateway ends, such as after two hours, the client connects again
// and doesn't ask by HTTP.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
		s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
			ctx = s.readMessages(ctx, conn)
			if n == 1 {
				time.Sleep(2 * sessionEnd)
				conn.Close(websocket.StatusGoingAway, "Going away")
				return
			}
			s.sendEvent(ctx, conn, ready(s.newLink()))
			<-ctx.Done()
		}
		c.runExpecting(exitOK, "-o", c.path("x"), s.url())
		if len(s.sockets) != 2 || len(s.statuses) != 0 {
			t.Errorf("got %d sockets and %d statuses, want 2 and 0", len(s.sockets), len(s.statuses))
		}
	})
}
