package origin

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"async-download/internal/failure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// forbidden are addresses that lead somewhere else than to a public backend.
var forbidden = []string{
	"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3",
	"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
	"169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.100.1", "169.254.0.1",
	"192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1",
	"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
	"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
	"::", "::1", "::127.0.0.1", "::a9fe:a9fe", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1",
	"fe80::1", "fe80::1%lo", "febf::1", "fec0::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd00:ec2::23",
	"ff02::1", "100::1", "2001::1", "2001:db8::1", "2002:a9fe:a9fe::", "2002:7f00:1::", "3fff::1", "5f00::1", "4000::1",
	"64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1::808:808",
}

var public = []string{"8.8.8.8", "1.1.1.1", "52.95.110.1", "2600:1f00::1", "2a00:1450::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"}

func TestJudge(t *testing.T) {
	g := newGuard(false, false)
	for _, a := range forbidden {
		err := g.judge(netip.MustParseAddr(a))
		if err == nil {
			t.Errorf("%s: got no error, want it blocked", a)
		} else if !strings.Contains(err.Error(), "allowed") {
			t.Errorf("%s: got %q, want the rule named", a, err)
		}
	}
	for _, a := range public {
		if err := g.judge(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s: got %v, want it allowed", a, err)
		}
	}
	if err := g.control("tcp4", "8.8.8.8:22", nil); err == nil {
		t.Error("port 22: got no error, want it blocked")
	}
	if err := g.control("udp4", "8.8.8.8:80", nil); err == nil {
		t.Error("udp: got no error, want it blocked")
	}
	if err := newGuard(false, false, 8443).control("tcp6", "[2600:1f00::1]:8443", nil); err != nil {
		t.Errorf("the base's port: got %v, want it allowed", err)
	}
}

// A private origin opens the private networks and nothing else.
func TestJudgePrivate(t *testing.T) {
	g := newGuard(true, false)
	private := map[string]bool{
		"10.0.0.1": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.1.1": true, "100.64.0.1": true, "100.127.255.255": true,
		"fc00::1": true, "fd00::1": true, "::ffff:10.0.0.1": true,
	}
	for _, a := range forbidden {
		if err := g.judge(netip.MustParseAddr(a)); (err == nil) != private[a] {
			t.Errorf("%s: got %v, want allowed %v", a, err, private[a])
		}
	}
	if err := newGuard(false, true).judge(netip.MustParseAddr("169.254.169.254")); err == nil {
		t.Error("metadata with loopback allowed: got no error, want it blocked")
	}
	for _, a := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		if err := newGuard(false, true).judge(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s with loopback allowed: got %v", a, err)
		}
	}
}

func TestPortOf(t *testing.T) {
	for raw, want := range map[string]uint16{
		"http://h": 80, "https://h": 443, "https://h:1": 1, "http://h:65535": 65535, "http://h:0": 0, "http://h:65536": 0,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := portOf(u); got != want || (err != nil) != (want == 0) {
			t.Errorf("%s: got %d, %v, want %d", raw, got, err, want)
		}
	}
}

func open(t *testing.T, c *Client, raw string) error {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if c.Base == nil {
		c.Base = u
	}
	c.Backoff = time.Millisecond
	t.Cleanup(c.CloseIdleConnections)
	f, err := c.Open(t.Context(), &Request{URL: u}, 100)
	if err == nil {
		_ = f.Close()
	}
	return err
}

// netless gives a client with the real guard a dialer that only counts the dials that
// the guard allows: nothing leaves the machine.
func netless(c *Client, dialled *atomic.Int64) *Client {
	d := &net.Dialer{Resolver: c.Resolver}
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		d.Control = func(network, address string, conn syscall.RawConn) error {
			if err := c.guard.control(network, address, conn); err != nil {
				return err
			}
			dialled.Add(1)
			return fmt.Errorf("let through")
		}
		return d.DialContext(ctx, network, address)
	}
	return c
}

func host(a string) string {
	if strings.Contains(a, ":") {
		return "[" + strings.ReplaceAll(a, "%", "%25") + "]"
	}
	return a
}

// Every form by literal.
func TestBlockedByLiteral(t *testing.T) {
	var dialled atomic.Int64
	names := []string{
		"localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1.", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0",
		"127.0.0.08", "99999999999999999999",
		"\uff11\uff12\uff17.\uff10.\uff10.\uff11", // full-width digits, which IDNA maps to 127.0.0.1
		"[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
	}
	for _, a := range forbidden {
		names = append(names, host(a))
	}
	for _, scheme := range []string{"http://", "https://"} {
		for _, name := range names {
			err := open(t, netless(&Client{}, &dialled), scheme+name+"/?token=planted")
			if code := failure.CodeOf(err); code != failure.BlockedAddress {
				t.Errorf("%s: got %v, want code %s", name, err, failure.BlockedAddress)
			}
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("%s: the error says %q", name, err)
			}
		}
	}
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d dials were let through, want 0", n)
	}
}

// dns is a server on loopback that answers each name with the addresses it is
// given, the next one at each question.
type dns struct {
	answers func(n int) netip.Addr
	asked   atomic.Int64
}

func (d *dns) resolver(t *testing.T) *net.Resolver {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(d.reply(buf[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

// reply answers a question of type A or AAAA.
func (d *dns) reply(q []byte) []byte {
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	question := q[12 : end+5]
	kind := binary.BigEndian.Uint16(q[end+1:])
	out := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
	ip := d.answers(int(d.asked.Load()) + 1)
	if (kind == 1) != ip.Is4() {
		return out // no address of this kind
	}
	d.asked.Add(1)
	out[7] = 1
	data := ip.AsSlice()
	out = append(out, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(data)))
	return append(out, data...)
}

// Every form by a name that leads to it.
func TestBlockedByName(t *testing.T) {
	var dialled atomic.Int64
	for _, a := range forbidden {
		ip := netip.MustParseAddr(a).WithZone("")
		d := &dns{answers: func(int) netip.Addr { return ip }}
		err := open(t, netless(&Client{Resolver: d.resolver(t)}, &dialled), "http://files.example/?token=planted")
		if code := failure.CodeOf(err); code != failure.BlockedAddress {
			t.Errorf("%s: got %v, want code %s", a, err, failure.BlockedAddress)
		}
	}
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d dials were let through, want 0", n)
	}
}

// A name that is public when it is first asked for, and loopback, where a canary
// listens, from then on.
func TestBlockedByRebinding(t *testing.T) {
	var seen atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	defer canary.Close()
	_, port, _ := net.SplitHostPort(canary.Listener.Addr().String())
	d := &dns{answers: func(n int) netip.Addr {
		if n == 1 {
			return netip.MustParseAddr("8.8.8.8")
		}
		return netip.MustParseAddr("127.0.0.1")
	}}
	var dialled atomic.Int64
	c := netless(&Client{Resolver: d.resolver(t)}, &dialled)
	err := open(t, c, "http://files.example:"+port+"/")
	if code := failure.CodeOf(err); code != failure.BlockedAddress {
		t.Errorf("got %v, want code %s", err, failure.BlockedAddress)
	}
	if dialled.Load() != 1 {
		t.Errorf("got %d dials of the public address, want 1", dialled.Load())
	}
	// The same with nothing in the dialer's place.
	rebound := &dns{answers: func(int) netip.Addr { return netip.MustParseAddr("127.0.0.1") }}
	err = open(t, &Client{Resolver: rebound.resolver(t)}, "http://files.example:"+port+"/")
	if code := failure.CodeOf(err); code != failure.BlockedAddress {
		t.Errorf("got %v, want code %s", err, failure.BlockedAddress)
	}
	if seen.Load() != 0 {
		t.Errorf("the canary saw %d requests, want 0", seen.Load())
	}
}

// Every form by a redirect, from an origin that is allowed to a host that would
// be allowed, so that only the address decides.
func TestBlockedByRedirect(t *testing.T) {
	var to atomic.Pointer[string]
	from := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", *to.Load())
		w.WriteHeader(302)
	}))
	defer from.Close()
	for _, hosts := range [][]string{nil, {"*"}} {
		for _, a := range forbidden {
			if a := netip.MustParseAddr(a); hosts != nil && a.Unmap().IsLoopback() {
				continue // the origin of this test lives there
			}
			location := "http://" + host(a) + "/?token=planted"
			to.Store(&location)
			err := open(t, &Client{AllowLoopback: true, RedirectHosts: hosts}, from.URL+"/")
			if code := failure.CodeOf(err); code != failure.BlockedAddress {
				t.Errorf("%s: got %v, want code %s", a, err, failure.BlockedAddress)
			}
		}
	}
}

// A proxy in the environment would be dialled in the origin's place.
func TestNoProxy(t *testing.T) {
	var seen atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	c := &Client{}
	c.Base, _ = url.Parse("http://files.example/")
	c.init()
	if c.transport.Proxy != nil {
		t.Error("got a proxy, want none")
	}
	_ = open(t, &Client{}, "http://192.0.2.1/")
	if seen.Load() != 0 {
		t.Errorf("the proxy saw %d requests, want 0", seen.Load())
	}
}

// Without the guard, a user's tool reaches any address.
func TestAnyAddress(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("x")) }))
	defer s.Close()
	if err := open(t, &Client{AnyAddress: true}, s.URL); err != nil {
		t.Errorf("got %v", err)
	}
	if err := open(t, &Client{}, s.URL); failure.CodeOf(err) != failure.BlockedAddress {
		t.Errorf("got %v, want code %s", err, failure.BlockedAddress)
	}
}
