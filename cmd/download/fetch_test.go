package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// cutEach makes the storage close each of the first connections early.
func cutEach(times int, after int64) func(*storeReply, *http.Request, int) bool {
	return func(w *storeReply, r *http.Request, n int) bool {
		if n <= times {
			w.cut = after
		}
		return false
	}
}

func TestFiveCuts(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 40*MiB)
	s.onStore = cutEach(5, 3*MiB+11)
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	if s.sent != 40*MiB {
		t.Errorf("the storage sent %d bytes in all, want %d: none twice", s.sent, 40*MiB)
	}
	if len(s.stores) < 10 {
		t.Errorf("got %d requests, want five ranges and five cuts at least", len(s.stores))
	}
}

func TestExpiredLink(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(w http.ResponseWriter){
		"403":              func(w http.ResponseWriter) { storeError(w, 403, "AccessDenied") },
		"400 ExpiredToken": func(w http.ResponseWriter) { storeError(w, 400, "ExpiredToken") },
	}
	for name, refuse := range kinds {
		t.Run(name, func(t *testing.T) {
			s, c := setUp(t, 40*MiB)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				switch link := r.URL.Query().Get("link"); {
				case link == "1" && n <= 3:
					w.cut = 2 * MiB
				case link == "1":
					refuse(w)
					return true
				}
				return false
			}
			c.runExpecting(exitOK, "-o", c.path("x"), s.url())
			c.wantContent("x", s.content)
			c.wantStderr("the link has expired; asking for a new one")
			if s.sent != 40*MiB || s.links != 2 || len(s.keys) != 1 {
				t.Errorf("got %d bytes, %d links, %d questions, want %d, 2, 1", s.sent, s.links, len(s.keys), 40*MiB)
			}
		})
	}
}

func TestExpiredLinkWithoutStatus(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10*MiB)
	s.minLink = 2
	s.onStatus = func(w http.ResponseWriter, n int) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	if len(s.sockets) != 2 {
		t.Errorf("got %d sockets, want the new link from a second", len(s.sockets))
	}
}

// The time that a new link takes is not the storage's silence.
func TestNewLinkTakesLong(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 10*MiB, func(t *testing.T, s *stack, c *client) {
		s.minLink = 2
		s.onStore = func(w *storeReply, r *http.Request, n int) bool {
			time.Sleep(600 * time.Millisecond) // so that both together take longer than the patience
			return false
		}
		s.onStatus = func(w http.ResponseWriter, n int) bool {
			time.Sleep(1500 * time.Millisecond)
			return false
		}
		c.runExpecting(exitOK, "-patience", "2s", "-o", c.path("x"), s.url())
		c.wantContent("x", s.content)
	})
}

func TestEveryLinkRefused(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 10*MiB)
	s.minLink = 1000
	c.runExpecting(exitRefused, "-o", c.path("x"), s.url())
	c.wantStderr("refuses every link")
}

func TestPatience(t *testing.T) {
	t.Parallel()
	t.Run("with the API", func(t *testing.T) {
		inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
			s.onSocket = func(ctx context.Context, conn *websocket.Conn, n int) {
				s.locked(func() { s.noSockets = true })
			}
			s.onStatus = func(w http.ResponseWriter, n int) bool { w.WriteHeader(502); return true }
			c.runExpecting(exitNetwork, "-patience", "3s", "-o", c.path("x"), s.url())
			c.wantStderr("the API can't be reached; trying again for 3s")
			c.wantStderr("neither the WebSocket nor the status URL could be reached for 3s")
			c.wantFiles("x.part.json")
		})
	})
	t.Run("with the storage", func(t *testing.T) {
		inVirtualTime(t, 20*MiB, func(t *testing.T, s *stack, c *client) {
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				if n <= 2 {
					w.cut = 3 * MiB
					return false
				}
				storeError(w, 503, "SlowDown")
				return true
			}
			c.runExpecting(exitNetwork, "-patience", "3s", "-o", c.path("x"), s.url())
			c.wantStderr("the storage sent nothing for 3s: the storage answered 503 SlowDown")
			s.resetCounts()
			c = c.nextStart()
			c.runExpecting(exitOK, "-o", c.path("x"), s.url())
			c.wantContent("x", s.content)
			if s.sent != 14*MiB {
				t.Errorf("the storage sent %d bytes to the second start, want %d", s.sent, 14*MiB)
			}
		})
	})
}

// An error of a connection has the URL, whose query is a secret.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	t.Run("storage", func(t *testing.T) {
		inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
			s.linkURL = "http://" + nobody + "/object?X-Amz-Signature=" + secretSignature
			c.runExpecting(exitNetwork, "-patience", "200ms", "-o", c.path("x"), s.url())
			c.wantStderr("the storage sent nothing for 200ms: dial tcp")
		})
	})
	t.Run("socket", func(t *testing.T) {
		inVirtualTime(t, 1000, func(t *testing.T, s *stack, c *client) {
			s.onAsk = func(w http.ResponseWriter, n int) bool {
				writeJSON(w, 200, map[string]string{
					"executionArn": "arn",
					"webSocketUrl": "ws://" + nobody + "/?executionArn=arn",
					"statusUrl":    s.url() + "/executions/1",
					"ticket":       secretTicket,
				})
				return true
			}
			s.onStatus = func(w http.ResponseWriter, n int) bool {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(503)
				return true
			}
			c.runExpecting(exitNetwork, "-patience", "200ms", "-o", c.path("x"), s.url())
			c.wantStderr("could be reached for 200ms: dial tcp")
		})
	})
}

func TestStandstill(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 3*MiB, func(t *testing.T, s *stack, c *client) {
		c.timings.stall = time.Second
		gate := make(chan struct{})
		defer close(gate)
		s.onStore = func(w *storeReply, r *http.Request, n int) bool {
			if n > 2 {
				return false
			}
			if n == 1 {
				http.ServeContent(&gatedReply{w, MiB, gate, r.Context()}, r, "", time.Time{}, bytes.NewReader(s.content))
			} else { // not even headers
				<-r.Context().Done()
			}
			return true
		}
		c.runExpecting(exitOK, "-o", c.path("x"), s.url())
		c.wantContent("x", s.content)
		if len(s.stores) != 3 || s.sent != 3*MiB {
			t.Errorf("got %d requests and %d bytes, want 3 and %d", len(s.stores), s.sent, 3*MiB)
		}
	})
}

// After an outage the first connection that is back wakes the others.
func TestOutageEndsEveryWait(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, 40*MiB, func(t *testing.T, s *stack, c *client) {
		c.timings.backoff, c.timings.maxBackoff = time.Hour, time.Hour
		refusal, back := make(chan struct{}), make(chan struct{})
		s.onStore = func(w *storeReply, r *http.Request, n int) bool {
			switch n {
			case 1: // holds on
				http.ServeContent(&gatedReply{w, MiB, back, r.Context()}, r, "", time.Time{}, bytes.NewReader(s.content))
			case 2: // asks for another try
				select {
				case <-refusal:
				case <-r.Context().Done():
				}
				storeError(w, 503, "SlowDown")
			default:
				return false
			}
			return true
		}
		c.start("-concurrency", "2", "-o", c.path("x"), s.url())
		c.waitForState("x", 39*MiB) // a byte still on its way would end the outage
		close(refusal)
		time.Sleep(4 * c.timings.outage)
		close(back)
		c.endExpecting(exitOK)
		c.wantContent("x", s.content)
	})
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		checksum map[string]string
		exit     int
		says     string
	}{
		{"wrong", map[string]string{"crc64nvme": crcText([]byte("something else"))}, exitChecksum, "don't have the CRC64NVME"},
		{"none", nil, exitOK, "unverified"},
		{"composite", map[string]string{"sha256": "AAAA-3", "crc32c": "AAAAAA==-3"}, exitOK, "unverified"},
		{"malformed", map[string]string{"crc64nvme": "AAAA"}, exitOK, "unverified"},
	}
	for _, test := range tests {
		for _, to := range []string{"file", "stdout"} {
			t.Run(test.name+" to "+to, func(t *testing.T) {
				s, c := setUp(t, 9*MiB)
				s.checksum = test.checksum
				output := c.path("x")
				if to == "stdout" {
					output, c.stdout = "-", io.Discard
				}
				c.runExpecting(test.exit, "-o", output, s.url())
				c.wantStderr(test.says)
				if test.exit != exitOK {
					c.wantFiles()
				}
			})
		}
	}
}

func TestRepliesThatLie(t *testing.T) {
	t.Parallel()
	reply := func(status int, contentRange string, length int, body []byte) func(*storeReply) bool {
		return func(w *storeReply) bool {
			w.Header().Set("Content-Range", contentRange)
			w.Header().Set("Content-Length", fmt.Sprint(length))
			w.WriteHeader(status)
			w.Write(body)
			return true
		}
	}
	const size = 20 * MiB
	eight := make([]byte, 8*MiB)
	tests := []struct {
		name string
		lie  func(*storeReply) bool
		exit int
		says string
	}{
		{"another range", reply(206, fmt.Sprintf("bytes 1-%d/%d", 8*MiB, size), 8*MiB, eight), exitNetwork, "not the range that was asked for"},
		{"another size", reply(206, fmt.Sprintf("bytes 0-%d/%d", 8*MiB-1, size+1), 8*MiB, eight), exitChecksum, "not the one this download began with"},
		{"no range", reply(206, "", 8*MiB, eight), exitChecksum, "not the one"},
		{"another length", reply(206, fmt.Sprintf("bytes 0-%d/%d", 8*MiB-1, size), 5, eight[:5]), exitNetwork, "announced 5 bytes"},
		{"the whole file", func(w *storeReply) bool {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.Write(make([]byte, size))
			return true
		}, exitNetwork, "ignores ranges"},
		{"no ETag", func(w *storeReply) bool { w.Header().Del("ETag"); return false }, exitNetwork, "no strong ETag"},
		{"a weak ETag", func(w *storeReply) bool { w.Header().Set("ETag", `W/"x"`); return false }, exitNetwork, "no strong ETag"},
		{"an odd status", func(w *storeReply) bool { storeError(w, 418, "Teapot"); return true }, exitNetwork, "the storage answered 418 Teapot"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, c := setUp(t, size)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool { return test.lie(w) }
			c.runExpecting(test.exit, "-o", c.path("x"), s.url())
			c.wantStderr(test.says)
			if _, err := os.Stat(c.path("x")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is a file: %v", err)
			}
		})
	}
}

func TestFileChangesMidway(t *testing.T) {
	t.Parallel()
	// The storage must not be believed where it ignores If-Match either.
	for _, honest := range []bool{true, false} {
		t.Run(fmt.Sprintf("honest=%v", honest), func(t *testing.T) {
			s, c := setUp(t, 20*MiB)
			s.onStore = func(w *storeReply, r *http.Request, n int) bool {
				if n > 1 {
					w.Header().Set("ETag", `"etag-2"`)
					if !honest {
						r.Header.Del("If-Match")
					}
				}
				return false
			}
			c.runExpecting(exitChecksum, "-o", c.path("x"), s.url())
			c.wantStderr("not the one this download began with")
			c.wantFiles()
		})
	}
}
