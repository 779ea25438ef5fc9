package origin

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// blocked is the error for a forbidden address. Its text is the rule that forbids
// it, which the client gets in the message of BLOCKED_ADDRESS.
type blocked struct{ rule string }

func (b *blocked) Error() string { return b.rule }

func block(format string, args ...any) error { return &blocked{fmt.Sprintf(format, args...)} }

// guard checks every address when it is dialed, after the name was resolved. An
// earlier check could be defeated by a DNS server whose second answer differs, and
// by a redirect.
type guard struct {
	private  bool
	loopback bool
	public   *ssrf.Guardian
	ports    []uint16
}

// privatePrefixes are the networks of VPCs: RFC 1918, the shared space
// of RFC 6598 that AWS allows as a secondary range, and unique local IPv6.
var privatePrefixes = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

// neverPrefixes are refused even with a private origin: they have the machine's
// own services (metadata, credentials, time) and no backends.
var neverPrefixes = prefixes(
	"169.254.0.0/16", // link local: instance metadata, ECS and EKS credentials, Lambda's runtime API
	"fe80::/10",      // the same in IPv6
	"fd00:ec2::/32",  // instance metadata and credentials over IPv6
)

var (
	loopbackPrefixes = prefixes("127.0.0.0/8", "::1/128")
	localNAT64       = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

func in(list []netip.Prefix, ip netip.Addr) (netip.Prefix, bool) {
	for _, p := range list {
		if p.Contains(ip) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func newGuard(private, loopback bool, ports ...uint16) *guard {
	return &guard{
		private: private, loopback: loopback,
		public: ssrf.New(ssrf.WithAnyPort()),
		ports:  append([]uint16{80, 443}, ports...),
	}
}

// control is a net.Dialer's Control.
func (g *guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return block("only TCP is allowed")
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return block("not an address")
	}
	if !slices.Contains(g.ports, ap.Port()) {
		return block("port %d is neither 80, 443 nor the origin's own", ap.Port())
	}
	return g.judge(ap.Addr())
}

// judge returns an error of type *blocked for a forbidden address.
func (g *guard) judge(ip netip.Addr) error {
	if ip.Is4In6() {
		// The kernel dials the IPv4 address in it.
		ip = ip.Unmap()
	}
	if ssrf.IPv6NAT64Prefix.Contains(ip) {
		// On a network with DNS64 every IPv4 host has such an address, and the
		// gateway sends to the IPv4 address in it, which may be 169.254.169.254.
		b := ip.As16()
		return g.judgeIPv4InNAT64(netip.AddrFrom4([4]byte(b[12:])))
	}
	if localNAT64.Contains(ip) {
		return block("local NAT64 addresses (%s) are not allowed", localNAT64)
	}
	if p, ok := in(neverPrefixes, ip); ok {
		return block("link-local and metadata addresses (%s) are never allowed", p)
	}
	if p, ok := in(loopbackPrefixes, ip); ok {
		if g.loopback {
			return nil
		}
		return block("loopback addresses (%s) are not allowed", p)
	}
	if p, ok := in(privatePrefixes, ip); ok {
		if g.private {
			return nil
		}
		return block("private addresses (%s) are allowed only with a private origin", p)
	}
	if err := g.public.SafeAddr(ip); err != nil {
		for _, list := range [][]netip.Prefix{ssrf.IPv4DeniedPrefixes, ssrf.IPv6DeniedPrefixes} {
			if p, ok := in(list, ip); ok {
				return block("special-purpose addresses (%s) are not allowed", p)
			}
		}
		return block("addresses outside of the public internet are not allowed")
	}
	return nil
}

// judgeIPv4InNAT64 allows public addresses only: a gateway that translates to
// private or loopback addresses is misconfigured.
func (g *guard) judgeIPv4InNAT64(ip netip.Addr) error {
	strict := &guard{public: g.public}
	if err := strict.judge(ip); err != nil {
		return block("NAT64: %s", err)
	}
	return nil
}

// checkHost refuses, before any name is resolved, a host that is a forbidden
// address, and one that some resolver might read as a number: for the C library,
// 2130706433, 0177.0.0.1 and 127.1 are 127.0.0.1.
func (g *guard) checkHost(host string) error {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return g.judge(ip)
	}
	if !g.loopback && (host == "localhost" || strings.HasSuffix(host, ".localhost")) {
		return block("localhost is loopback (RFC 6761)")
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if _, err := strconv.ParseUint(last, 0, 64); err == nil || strings.Trim(last, "0123456789") == "" {
		return block("a numeric host has to be written as a full address")
	}
	return nil
}

// portOf returns the port that a request to u goes to.
func portOf(u *url.URL) (uint16, error) {
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return 0, errors.New("origin URL: not a port")
		}
		return uint16(n), nil
	}
	if u.Scheme == "https" {
		return 443, nil
	}
	return 80, nil
}
