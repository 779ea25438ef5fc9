package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
)

// tempo is every duration the program waits for, so that tests can be quick.
type tempo struct {
	// patience is how long nothing at all may be reached before giving up.
	patience time.Duration
	// backoff is the mean of the first wait between tries; each next is twice
	// that, up to maxBackoff, with full jitter.
	backoff, maxBackoff time.Duration
	// handshake covers a cold start behind the WebSocket.
	handshake time.Duration
	// pulse is how often a silent socket is pinged. Dead ones are found by it:
	// a laptop that slept or a network that changed says nothing.
	pulse time.Duration
	// talk is how often a message is sent. API Gateway closes a socket that was
	// idle for 10 minutes, and a ping frame alone is not said to count.
	talk time.Duration
	// poll is how often statusUrl is asked where the API names no Retry-After.
	poll time.Duration
	// stall is how long a reply may stand still.
	stall time.Duration
	// outage is how long all replies must have stood still for the next byte to
	// end every wait: the network is back.
	outage time.Duration
	// checkpoint is how often progress is made durable.
	checkpoint time.Duration
}

var realTempo = tempo{
	patience:   5 * time.Minute,
	backoff:    500 * time.Millisecond,
	maxBackoff: 30 * time.Second,
	handshake:  20 * time.Second,
	pulse:      30 * time.Second,
	talk:       4 * time.Minute,
	poll:       2 * time.Second,
	stall:      30 * time.Second,
	outage:     5 * time.Second,
	checkpoint: 5 * time.Second,
}

// wait is how long to wait before try+1. Full jitter keeps clients that were cut
// off together from coming back together.
func (t tempo) wait(try int, atLeast time.Duration) time.Duration {
	ceiling := t.maxBackoff
	if try < 20 {
		ceiling = min(ceiling, t.backoff<<try)
	}
	return max(time.Duration(rand.Int64N(int64(ceiling))), atLeast)
}

// pause waits before try+1.
func (t tempo) pause(ctx context.Context, try int, atLeast time.Duration) error {
	return sleep(ctx, t.wait(try, atLeast))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waiter waits for the link of one execution: on its socket, which tells at
// once, and by statusUrl where and while there is none.
type waiter struct {
	api       *api
	execution execution
	tempo     tempo
	socket    *http.Client // nil: never
	copying   func(done int64, total *int64)
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
		if useSocket && !time.Now().Before(nextSocket) {
			began := time.Now()
			l, open, err := w.listen(ctx)
			if err == nil || !isTransient(err) {
				return l, err
			}
			if open {
				reached = time.Now()
			} else {
				lastErr = err
			}
			if open && time.Since(began) > w.tempo.pulse {
				// A session's ordinary end, after 10 minutes' idleness or 2 hours.
				socketTry = 0
				if err := w.tempo.pause(ctx, 0, 0); err != nil {
					return link{}, err
				}
				continue
			}
			socketTry++
			nextSocket = time.Now().Add(w.tempo.backoff << min(socketTry, 7))
		}

		s, wait, err := w.api.status(ctx, w.execution)
		switch {
		case err == nil:
			reached, statusTry = time.Now(), 0
			if s.Error != nil {
				return link{}, failed(s.Error.Code, s.Error.Message)
			}
			if s.URL != "" {
				return s.link, nil
			}
			w.copying(s.BytesCopied, s.BytesTotal)
			if wait == 0 {
				wait = w.tempo.poll
			}
			err = sleep(ctx, wait)
		case isTransient(err):
			if askedWait(err) == 0 {
				lastErr = err
			}
			statusTry++
			left := w.tempo.patience - time.Since(reached)
			if left <= 0 {
				return link{}, fail(exitNetwork, "neither the WebSocket nor the status URL could be reached for %v: %v", w.tempo.patience, lastErr)
			}
			if statusTry == 2 && lastErr != nil { // once may be a blip
				w.note(fmt.Sprintf("the API can't be reached; trying again for %v", w.tempo.patience))
			}
			useSocket = w.socket != nil
			err = sleep(ctx, min(w.tempo.wait(statusTry, wait), left))
		}
		if err != nil {
			return link{}, err
		}
	}
}

// maxMessage is API Gateway's own limit.
const maxMessage = 128 << 10

// listen follows one socket to its end. open says whether the handshake was
// accepted.
func (w *waiter) listen(ctx context.Context) (l link, open bool, err error) {
	u, err := url.Parse(w.execution.WebSocketURL)
	if err != nil {
		return link{}, false, &transient{err: errors.New("no WebSocket URL")}
	}
	query := u.Query()
	query.Set("format", "json")
	u.RawQuery = query.Encode()
	header := make(http.Header)
	w.api.authorize(header, w.execution.Ticket)

	dialing, cancel := context.WithTimeout(ctx, w.tempo.handshake)
	defer cancel()
	conn, res, err := websocket.Dial(dialing, u.String(), &websocket.DialOptions{HTTPClient: w.socket, HTTPHeader: header})
	if err != nil {
		if ctx.Err() != nil {
			return link{}, false, ctx.Err()
		}
		if res != nil {
			// What a refusal means isn't clear from its status: API Gateway, a proxy
			// and a WebSocket blocker all say 403. The status URL knows.
			return link{}, false, &transient{err: fmt.Errorf("the WebSocket was refused with %d", res.StatusCode)}
		}
		return link{}, false, &transient{err: hideURL(err)}
	}
	conn.SetReadLimit(maxMessage)
	// The stack clears up when it sees the close; nobody needs to wait for its reply.
	defer w.closing(func() { conn.Close(websocket.StatusNormalClosure, "") })

	living, stop := context.WithCancel(ctx)
	defer stop()
	go w.keepAlive(living, conn)
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return link{}, true, ctx.Err()
			}
			return link{}, true, &transient{err: errors.New("the WebSocket was closed")}
		}
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
			w.copying(event.BytesCopied, event.BytesTotal)
		case "ready":
			return event.link, true, nil
		case "failed":
			return link{}, true, failed(event.Code, event.Message)
		}
	}
}

// keepAlive ends the connection when the other side is gone.
func (w *waiter) keepAlive(ctx context.Context, conn *websocket.Conn) {
	pulse, talk := time.NewTicker(w.tempo.pulse), time.NewTicker(w.tempo.talk)
	defer pulse.Stop()
	defer talk.Stop()
	for {
		talking := false
		select {
		case <-ctx.Done():
			return
		case <-pulse.C:
		case <-talk.C:
			talking = true
		}
		limited, cancel := context.WithTimeout(ctx, w.tempo.pulse)
		var err error
		if talking {
			err = conn.Write(limited, websocket.MessageText, []byte(`{"action":"ping"}`))
		} else {
			err = conn.Ping(limited)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			conn.CloseNow()
			return
		}
	}
}
