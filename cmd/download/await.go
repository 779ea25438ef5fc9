package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// waiter waits for the link of one execution: on its socket, which reports at
// once, and by statusUrl where and while there is none.
type waiter struct {
	api       *api
	execution execution
	timings   timings
	socket    *http.Client                         // nil: never
	copying   func(done int64, total *int64) error // an error ends the wait
	heard     func()                               // the API is alive
	note      func(text string)

	closing func(func()) // runs the end of a socket without waiting for it
}

// link returns as soon as there is a link, or a [problem] when there will be none.
// With again, the file was ready before: one question gives the next link.
func (w *waiter) link(ctx context.Context, again bool) (link, error) {
	reached := time.Now()
	var lastErr error
	var nextSocket time.Time
	useSocket := w.socket != nil && !again
	// Failures in a row of the socket, of statusUrl.
	for socketTry, statusTry := 0, 0; ; {
		giveUp := reached.Add(w.timings.patience)
		if useSocket && !time.Now().Before(nextSocket) {
			began := time.Now()
			l, heard, err := w.listen(ctx, giveUp)
			if err == nil || !isTransient(err) {
				return l, err
			}
			if !heard.IsZero() {
				reached = heard
				giveUp = reached.Add(w.timings.patience)
			}
			lastErr = explains(lastErr, err)
			if !heard.IsZero() && time.Since(began) > sessionEnd {
				// A session's ordinary end, after 10 minutes' idleness or 2 hours.
				socketTry = 0
				if err := w.timings.pause(ctx, 0, 0); err != nil {
					return link{}, err
				}
				continue
			}
			socketTry++
			nextSocket = time.Now().Add(w.timings.backoff << min(socketTry, 7))
		}

		s, wait, err := w.api.status(ctx, w.execution, w.socket == nil && !again, giveUp)
		switch {
		case err == nil:
			reached, statusTry = time.Now(), 0
			w.heard()
			if s.Error != nil {
				return link{}, apiError(s.Error.Code, s.Error.Message)
			}
			if s.URL != "" {
				return s.link, nil
			}
			if err := w.copying(s.BytesCopied, s.BytesTotal); err != nil {
				return link{}, err
			}
			if wait == 0 {
				wait = w.timings.poll
			}
			err = sleep(ctx, wait)
		case isTransient(err):
			if askedWait(err) == 0 {
				lastErr = explains(lastErr, err)
			}
			statusTry++
			left := time.Until(giveUp)
			if left <= 0 {
				return link{}, exitError(exitNetwork, "neither the WebSocket nor the status URL could be reached for %v: %v", w.timings.patience, lastErr)
			}
			if statusTry == 2 && lastErr != nil { // the first may be a blip
				w.note(fmt.Sprintf("the API can't be reached; trying again for %v", w.timings.patience))
			}
			useSocket = w.socket != nil
			err = sleep(ctx, min(w.timings.wait(statusTry, wait), left))
		}
		if err != nil {
			return link{}, err
		}
	}
}

// sessionEnd is longer than a socket lasts that something refuses, and shorter
// than one that API Gateway closes.
const sessionEnd = 30 * time.Second

// maxMessage is API Gateway's own limit.
const maxMessage = 128 << 10

// listen follows one socket to its end. heard is when the API was last heard on
// it, zero if the handshake wasn't accepted.
func (w *waiter) listen(ctx context.Context, giveUp time.Time) (l link, heard time.Time, err error) {
	u, err := url.Parse(w.execution.WebSocketURL)
	if err != nil {
		return link{}, time.Time{}, &transient{err: errors.New("no WebSocket URL")}
	}
	query := u.Query()
	query.Set("format", "json")
	u.RawQuery = query.Encode()
	header := make(http.Header)
	w.api.authorize(header, w.execution.Ticket)

	limit := max(min(w.timings.handshake, time.Until(giveUp)), time.Millisecond)
	dialing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, res, err := websocket.Dial(dialing, u.String(), &websocket.DialOptions{HTTPClient: w.socket, HTTPHeader: header})
	if err != nil {
		if ctx.Err() != nil {
			return link{}, time.Time{}, ctx.Err()
		}
		if res != nil {
			// What a refusal means isn't clear from its status: API Gateway, a proxy
			// and a WebSocket blocker all say 403. The status URL knows.
			return link{}, time.Time{}, &transient{err: fmt.Errorf("the WebSocket was refused with %d", res.StatusCode)}
		}
		if dialing.Err() != nil {
			return link{}, time.Time{}, &transient{err: fmt.Errorf("%w for %v", errSilent, limit.Round(time.Second))}
		}
		return link{}, time.Time{}, &transient{err: cause(err)}
	}
	conn.SetReadLimit(maxMessage)
	// The stack cleans up when it sees the close; its reply needs no waiting for.
	defer w.closing(func() { conn.Close(websocket.StatusNormalClosure, "") })

	var last atomic.Pointer[time.Time]
	alive := func() {
		now := time.Now()
		last.Store(&now)
		w.heard()
	}
	alive()
	living, stop := context.WithCancel(ctx)
	defer stop()
	go w.keepAlive(living, conn, alive)
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return link{}, *last.Load(), ctx.Err()
			}
			return link{}, *last.Load(), &transient{err: errors.New("the WebSocket was closed")}
		}
		alive()
		var event struct {
			Type        string `json:"type"`
			BytesCopied int64  `json:"bytesCopied"`
			BytesTotal  *int64 `json:"bytesTotal"`
			Code        string `json:"code"`
			Message     string `json:"message"`
			link
		}
		if json.Unmarshal(data, &event) != nil {
			continue // API Gateway's own messages, such as "Internal server error"
		}
		switch event.Type {
		case "progress":
			if err := w.copying(event.BytesCopied, event.BytesTotal); err != nil {
				return link{}, *last.Load(), err
			}
		case "ready":
			return event.link, *last.Load(), nil
		case "failed":
			return link{}, *last.Load(), apiError(event.Code, event.Message)
		}
	}
}

// keepAlive ends the connection when the other side is gone, and calls alive as
// long as it isn't.
func (w *waiter) keepAlive(ctx context.Context, conn *websocket.Conn, alive func()) {
	ping, idle := time.NewTicker(w.timings.wsPing), time.NewTicker(w.timings.keepAlive)
	defer ping.Stop()
	defer idle.Stop()
	for {
		message := false
		select {
		case <-ctx.Done():
			return
		case <-ping.C:
		case <-idle.C:
			message = true
		}
		limited, cancel := context.WithTimeout(ctx, w.timings.silence)
		var err error
		if message {
			err = conn.Write(limited, websocket.MessageText, []byte(`{"action":"ping"}`))
		} else if err = conn.Ping(limited); err == nil {
			alive()
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			conn.CloseNow()
			return
		}
	}
}
