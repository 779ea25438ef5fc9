package meeting_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"async-download/internal/failure"
	"async-download/internal/meeting"
	"async-download/internal/socket"
)

// clientSocket is a client's WebSocket, and what was posted to it.
type clientSocket struct {
	id       string
	format   string
	state    string // opening, open, closed, refused
	silent   bool   // its $disconnect never comes
	link     int
	failures int
	progress int
}

func (s *clientSocket) notified() bool { return s.link+s.failures > 0 }

// connect is a client that opens a socket. Every other one gets JSON, and so progress.
func (w *world) connect() *clientSocket {
	var s *clientSocket
	w.do(func() {
		s = &clientSocket{id: fmt.Sprintf("c%d", len(w.sockets)+1), state: "opening"}
		if len(w.sockets)%2 == 0 {
			s.format = socket.JSON
		}
		w.sockets = append(w.sockets, s)
		w.note("client: opens %s", s.id)
	})
	w.start(context.Background(), "on-connect "+s.id, func(ctx context.Context) {
		err := lambda(ctx, 10*time.Second, func(ctx context.Context) error { return w.onConnect(ctx, s) })
		// API Gateway opens the socket shortly after that.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		w.gate(ctx, "101 Switching Protocols")
		w.do(func() {
			if s.state == "opening" {
				if s.state = "open"; err != nil {
					s.state = "refused"
				}
				w.note("client: %s is %s (%v)", s.id, s.state, err)
			}
		})
	})
	return s
}

func (w *world) onConnect(ctx context.Context, s *clientSocket) error {
	item, err := w.download.Connect(ctx, arn, "", meeting.Connection{ID: s.id, Format: s.format, At: time.Now()})
	if err == nil && item.ExecutionARN == "" {
		w.do(func() { w.last = s }) // it is in no item, and has its own delivery
	}
	return err
}

// drop closes a socket; $disconnect comes later, or never.
func (w *world) drop(s *clientSocket, never bool) {
	w.do(func() {
		s.state, s.silent = "closed", never
		w.note("client: closes %s, without $disconnect: %v", s.id, never)
	})
	if never {
		return
	}
	w.start(context.Background(), "on-disconnect "+s.id, func(ctx context.Context) {
		w.gate(ctx, disconnect)
		if lambda(ctx, 30*time.Second, func(ctx context.Context) error { return w.m.Disconnect(ctx, s.id) }) != nil {
			w.do(func() { s.silent = true }) // as if it had never connected
		}
	})
}

// rest starts a client that repeats a request until it has its answer. then is called with
// the answer's error.
func (w *world) rest(name string, request func(ctx context.Context) (answered bool, err error), then func(error)) {
	w.start(context.Background(), name, func(ctx context.Context) {
		for ctx.Err() == nil {
			answered := false
			err := lambda(ctx, 29*time.Second, func(ctx context.Context) (err error) {
				answered, err = request(ctx)
				return err
			})
			if answered && !errors.Is(err, errKilled) {
				w.do(func() {
					w.note("%s: %v", name, err)
					then(err)
				})
				return
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// request is GET /executions/{name}, until the copy has ended.
func (w *world) request() {
	w.do(func() { w.asked++ })
	w.rest(fmt.Sprintf("executions GET %d", w.asked), func(ctx context.Context) (bool, error) {
		p := ctx.Value(processKey{}).(*process)
		w.do(func() { p.late = false })
		state, err := w.download.Status(ctx, name, "")
		if err == nil && state.Link != nil {
			w.do(func() {
				w.links++
				if p.late {
					w.broken = "a request was given a link after the cancel"
				}
			})
		}
		code := failure.CodeOf(err)
		return err == nil && state.Status != meeting.Copying || code == failure.NotFound || code == failure.Expired, err
	}, func(error) { w.served++ })
}

// cancel is DELETE /executions/{name}.
func (w *world) cancel() {
	w.rest("executions DELETE", func(ctx context.Context) (bool, error) {
		state, err := w.download.Delete(ctx, name, "")
		if err == nil && state.Status == meeting.Deleted {
			w.do(func() { w.deleted = true })
		}
		code := failure.CodeOf(err)
		return err == nil || code == failure.Conflict || code == failure.NotFound, err
	}, func(err error) { w.accepted = err == nil && !w.deleted })
}
