package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// A lost answer never starts a second copy, whether the same start or the next
// one asks again.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	lose := func(w http.ResponseWriter) {
		panic(http.ErrAbortHandler)
	}
	t.Run("within a start", func(t *testing.T) {
		s, c := setUp(t, 1000)
		s.loseAnswers = 2
		c.runExpecting(exitOK, "-o", c.path("x"), s.url())
		if len(s.keys) != 1 || len(s.asks) != 3 {
			t.Errorf("got %d copies for %d questions, want 1 for 3", len(s.keys), len(s.asks))
		}
		if key := s.asks[0].Header.Get("Idempotency-Key"); !uuid.MatchString(key) {
			t.Errorf("got key %q, want a UUID", key)
		}
	})
	t.Run("and stopped", func(t *testing.T) {
		s, c := setUp(t, 1000)
		asked := make(chan struct{})
		s.onAsk = func(w http.ResponseWriter, n int) bool {
			if n == 1 {
				close(asked)
				<-t.Context().Done()
				lose(w)
			}
			return false
		}
		c.start("-o", c.path("x"), s.url())
		<-asked
		c.signals <- syscall.SIGTERM
		c.exitExpecting(exitInterrupted)
		c.wantFiles("x.part.json")
		c = c.nextStart()
		c.start("-o", c.path("x"), s.url())
		c.exitExpecting(exitOK)
		if first, second := s.asks[0].Header.Get("Idempotency-Key"), s.asks[1].Header.Get("Idempotency-Key"); first != second {
			t.Errorf("got keys %s and %s, want the same", first, second)
		}
	})
	t.Run("and another download", func(t *testing.T) {
		s, c := setUp(t, 1000)
		c.runExpecting(exitOK, "-o", c.path("x"), s.url())
		c.nextStart().runExpecting(exitOK, "-o", c.path("y"), s.url())
		if len(s.keys) != 2 {
			t.Errorf("got %d copies, want one for each download", len(s.keys))
		}
	})
	t.Run("a key of the user's", func(t *testing.T) {
		s, c := setUp(t, 1000)
		const key = "0123456789abcdef-mine"
		c.runExpecting(exitOK, "-H", "Idempotency-Key: "+key, "-o", c.path("x"), s.url())
		if got := s.asks[0].Header.Values("Idempotency-Key"); !slices.Equal(got, []string{key}) {
			t.Errorf("got keys %q, want %q", got, key)
		}
		if got := s.sockets[0].Header.Get("Idempotency-Key"); got != "" {
			t.Errorf("the socket got key %q", got)
		}
	})
}

// If the API no longer keeps a copy, the next one has another key, and the bytes that are
// here still count.
func TestKeyOfAnExpiredCopy(t *testing.T) {
	t.Parallel()
	s := newStack(t, 20*MiB)
	c := stopMidway(t, s)
	s.expired[1] = true
	c = c.nextStart()
	c.runExpecting(exitOK, "-o", c.path("x"), s.url())
	c.wantContent("x", s.content)
	c.wantStderr("the earlier copy has ended (EXPIRED: no longer kept); asking for a new one")
	if len(s.keys) != 2 || s.sent != midway {
		t.Errorf("got %d copies and %d bytes, want 2 and the missing %d", len(s.keys), s.sent, midway)
	}
}

// -wait asks for statuses that are held back, and opens no socket.
func TestWait(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	s.copyTime = make(chan struct{})
	s.onStatus = func(w http.ResponseWriter, n int) bool {
		if n == 2 {
			close(s.copyTime)
		}
		return false
	}
	c.runExpecting(exitOK, "-wait", "-o", c.path("x"), s.url())
	if len(s.sockets) != 0 || len(s.statuses) < 2 {
		t.Errorf("got %d sockets and %d statuses, want 0 and at least 2", len(s.sockets), len(s.statuses))
	}
	for _, preference := range s.preferences {
		if preference != "wait=10" {
			t.Errorf("a status was asked for with Prefer %q, want wait=10", preference)
		}
	}
	if s.asks[0].Header.Get("Prefer") != "" {
		t.Error("the question has a Prefer")
	}
	c.nextStart().runExpecting(exitUsage, "-H", "Prefer: wait=5", "-o", c.path("y"), s.url())
}

func TestPOST(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	body := []byte("{\"q\": \"a\nb\"}")
	if err := os.WriteFile(c.path("q.json"), body, 0o600); err != nil {
		t.Fatal(err)
	}
	c.runExpecting(exitOK, "-X", "POST", "-d", "@"+c.path("q.json"), "-H", "Content-Type: application/json", "-o", c.path("x"), s.url(), "export")
	c.wantContent("x", s.content)
	for key, asked := range s.keys {
		if want := "POST /dev/download/export application/json " + string(body); asked.asked != want {
			t.Errorf("%s: got %q, want %q", key, asked.asked, want)
		}
	}
	if got := s.sockets[0].Header.Get("Content-Type"); got != "" {
		t.Errorf("the socket got Content-Type %q", got)
	}
	// Another body is another download, also in the same place.
	c = c.nextStart()
	c.stdin = bytes.NewReader([]byte("other"))
	c.runExpecting(exitOK, "-f", "-d", "@-", "-o", c.path("x"), s.url(), "export")
	if len(s.keys) != 2 {
		t.Errorf("got %d copies, want 2", len(s.keys))
	}
	if got := s.asks[1].Method + " " + s.asks[1].Header.Get("Content-Type"); got != "POST application/x-www-form-urlencoded" {
		t.Errorf("got %q, want POST as curl -d has it", got)
	}
	c = c.nextStart()
	c.runExpecting(exitOK, "-X", "POST", "-o", c.path("empty"), s.url())
}

func TestDigest(t *testing.T) {
	t.Parallel()
	sum := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for _, to := range []string{"file", "stdout"} {
		s, c := setUp(t, 9*MiB)
		right256, right512 := sha256.Sum256(s.content), sha512.Sum512(s.content)
		output := func(c *client) string {
			if to == "stdout" {
				c.stdout = &buffer{}
				return "-"
			}
			return c.path("x")
		}
		s.digest = map[string]string{"sha-256": sum(right256[:])}
		c.runExpecting(exitOK, "-f", "-o", output(c), s.url())
		c.wantStderr("CRC64NVME and SHA-256 verified")
		s.checksum = nil
		s.digest = map[string]string{"sha-512": sum(right512[:]), "unheard-of": "AAAA"}
		c = c.nextStart()
		c.runExpecting(exitOK, "-f", "-o", output(c), s.url())
		c.wantStderr("SHA-512 verified")
		s.digest = map[string]string{"sha-256": sum(make([]byte, 32))}
		c = newClient(t, s)
		c.runExpecting(exitChecksum, "-o", output(c), s.url())
		c.wantStderr("the bytes don't have the SHA-256 that the origin gave for them")
		c.wantFiles()
	}
}

func TestJSONOfTheFile(t *testing.T) {
	t.Parallel()
	s, c := setUp(t, 1000)
	right := sha256.Sum256(s.content)
	s.digest = map[string]string{"sha-256": base64.StdEncoding.EncodeToString(right[:])}
	c.runExpecting(exitOK, "-json", "-o", c.path("x"), s.url())
	events := jsonEvents(t, c.out.String())
	last := events[len(events)-1]
	got := fmt.Sprintln(last["pinned"], last["digest"], last["etag"], last["lastModified"], last["contentType"])
	if want := fmt.Sprintf(`true map[sha-256:%s] "v1" 2026-11-01T00:00:00Z application/octet-stream
`, s.digest["sha-256"]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// signature computes what AWS would, from the documentation of Signature Version
// 4 and not from the signer: of a path without characters that need encoding.
func signature(r *http.Request, body []byte, secret, region string) string {
	var headers strings.Builder
	_, list, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	for name := range strings.SplitSeq(list, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	var pairs []string
	for name, values := range r.URL.Query() {
		for _, value := range values {
			pairs = append(pairs, url.QueryEscape(name)+"="+strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
		}
	}
	sort.Strings(pairs)
	hash := func(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.Join(pairs, "&"), headers.String(), list, hash(body)}, "\n")
	at := r.Header.Get("X-Amz-Date")
	scope := strings.Join([]string{at[:8], region, "execute-api", "aws4_request"}, "/")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", at, scope, hash([]byte(canonical))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{at[:8], region, "execute-api", "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// Not parallel: it sets the environment.
func TestSign(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": secretHeader, "AWS_SESSION_TOKEN": secretTicket + "2", "AWS_REGION": "eu-central-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	s, c := setUp(t, 1000)
	s.noSockets = true
	checked := 0
	s.onRequest = func(r *http.Request, body []byte) {
		authorization := r.Header.Get("Authorization")
		if strings.HasPrefix(r.URL.Path, "/socket") {
			if authorization != "" {
				t.Errorf("the socket got %q", authorization)
			}
			return
		}
		checked++
		want := "Signature=" + signature(r, body, secretHeader, "eu-central-1")
		if !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.HasSuffix(authorization, want) {
			t.Errorf("%s %s: got %q, want it to end with %s", r.Method, r.URL, authorization, want)
		}
		if at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date")); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("got date %q", r.Header.Get("X-Amz-Date"))
		}
		if !strings.Contains(authorization, "host;") || !strings.Contains(authorization, "x-amz-security-token") {
			t.Errorf("got %q, want host and session token signed", authorization)
		}
	}
	c.runExpecting(exitOK, "-sign", "-o", c.path("x"), s.url(), "a/b?y=2&x=1&x=0&z")
	c.runExpecting(exitOK, "-sign", "-d", "body", "-o", c.path("y"), s.url(), "a/b")
	if checked < 4 {
		t.Errorf("got %d signed requests, want questions and statuses", checked)
	}
	if got := s.asks[0].RequestURI; got != "/dev/download/a/b?y=2&x=1&x=0&z" {
		t.Errorf("got %s, want the query as it was given", got)
	}
	c = c.nextStart()
	c.runExpecting(exitUsage, "-sign", "-H", "Authorization: x", "-o", c.path("z"), s.url())
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	c = c.nextStart()
	c.runExpecting(exitLocal, "-sign", "-o", c.path("z"), s.url())
	c.wantStderr("-sign: no AWS credentials")
	if m := gatewayRegion.FindStringSubmatch("abc.execute-api.us-west-2.amazonaws.com"); m == nil || m[1] != "us-west-2" {
		t.Errorf("got region %v", m)
	}
}

// A second start continues the first only if the whole request is the same.
func TestHashOfARequest(t *testing.T) {
	t.Parallel()
	parsed := func(args ...string) request {
		o, err := parse(nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return request{o.targets[0], o.request}
	}
	const api = "https://a.example"
	seen := make(map[string][]string)
	for _, args := range [][]string{
		{api, "x"}, {api, "y"}, {api, "x?q"}, {api + "/v2", "x"}, {"-X", "POST", api, "x"}, {"-d", "a", api, "x"}, {"-d", "b", api, "x"},
		{"-d", "a", "-H", "Content-Type: text/plain", api, "x"},
	} {
		hash := parsed(args...).hash()
		if other, known := seen[hash]; known {
			t.Errorf("%q and %q have one hash", args, other)
		}
		seen[hash] = args
	}
	if parsed("-o", "file", "-H", "A: b", api+"/download/x").hash() != parsed(api, "x").hash() {
		t.Error("other flags change the hash")
	}
}
