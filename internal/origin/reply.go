package origin

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// unsatisfied reads the total of a 416's Content-Range, "bytes */1000".
func unsatisfied(s string) (total int64, ok bool) {
	unit, size, found := strings.Cut(s, "*/")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return 0, false
	}
	return number(strings.TrimSpace(size))
}

// contentRange reads a Content-Range of one range with a known total:
// "bytes 0-99/1000", with the unit in any case. Everything else,
// multipart/byteranges and an unknown total among it, is not ok.
func contentRange(s string) (start, end, total int64, ok bool) {
	unit, s, found := strings.Cut(s, " ")
	if !found || !strings.EqualFold(unit, "bytes") {
		return 0, 0, 0, false
	}
	span, size, found := strings.Cut(s, "/")
	if !found {
		return 0, 0, 0, false
	}
	from, to, found := strings.Cut(span, "-")
	if !found {
		return 0, 0, 0, false
	}
	start, ok1 := number(from)
	end, ok2 := number(to)
	total, ok3 := number(size)
	if !ok1 || !ok2 || !ok3 || start > end || end >= total {
		return 0, 0, 0, false
	}
	return start, end, total, true
}

// number reads decimal digits and nothing else: strconv takes a sign too.
func number(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// RetryAfter reads a Retry-After in seconds or as a date; a past date is 0. A negative
// number and garbage are not ok: the caller's own backoff holds then, as for 0.
func RetryAfter(s string, now time.Time) (after time.Duration, ok bool) {
	s = strings.TrimSpace(s)
	if n, ok := number(s); ok {
		return time.Duration(min(n, int64(MaxRetryAfter/time.Second))) * time.Second, true
	}
	if strings.Trim(s, "0123456789") == "" && s != "" {
		return MaxRetryAfter, true // digits, but more than an int64 holds
	}
	at, err := parseTime(s)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter), true
}

// parseTime reads a date as HTTP has it, and the same with UTC or an offset in the place
// of GMT. Other zones have names that mean nothing certain.
func parseTime(s string) (time.Time, error) {
	if at, err := time.Parse(time.RFC1123Z, s); err == nil {
		return at, nil
	}
	return http.ParseTime(strings.Replace(s, " UTC", " GMT", 1))
}

// Digest is a digest of the whole file that the origin offered.
type Digest struct {
	// Algorithm is sha-256, sha-512 or md5.
	Algorithm string
	Sum       []byte
}

// IsZero reports that no digest was offered.
func (d Digest) IsZero() bool { return d.Algorithm == "" }

// String writes d as in a Repr-Digest header.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Algorithm + "=:" + base64.StdEncoding.EncodeToString(d.Sum) + ":"
}

// Matches reports whether sum is d's.
func (d Digest) Matches(sum []byte) bool { return bytes.Equal(d.Sum, sum) }

// ParseDigest reads what String wrote; "" is no digest.
func ParseDigest(s string) Digest {
	name, value, _ := strings.Cut(s, "=")
	return digestOf(name, strings.Trim(value, ":"))
}

// digestSizes are the digests that are understood, with their length in bytes.
// MD5 proves nothing against an attacker; it finds flipped bits.
var digestSizes = map[string]int{"sha-256": 32, "sha-512": 64, "md5": 16}

func digestOf(algorithm, value string) Digest {
	algorithm = strings.ToLower(strings.TrimSpace(algorithm))
	size, ok := digestSizes[algorithm]
	if !ok {
		return Digest{}
	}
	sum, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(sum) != size {
		return Digest{}
	}
	return Digest{algorithm, sum}
}

// digest returns the best digest of the whole file in a reply's headers.
// whole says that the reply's body is the whole file: only then do Content-MD5
// and Content-Digest speak of it. Repr-Digest (RFC 9530) and the old Digest
// (RFC 3230) speak of the file on every range.
func digest(h http.Header, whole bool) Digest {
	found := map[string]Digest{}
	add := func(name, value string) {
		if d := digestOf(name, value); !d.IsZero() {
			if _, taken := found[d.Algorithm]; !taken {
				found[d.Algorithm] = d
			}
		}
	}
	structured := func(values []string) {
		for _, item := range strings.Split(strings.Join(values, ","), ",") {
			name, value, _ := strings.Cut(item, "=")
			value, _, _ = strings.Cut(strings.TrimSpace(value), ";")
			value, begun := strings.CutPrefix(value, ":")
			if value, ended := strings.CutSuffix(value, ":"); begun && ended {
				add(name, value)
			}
		}
	}
	structured(h.Values("Repr-Digest"))
	if whole {
		structured(h.Values("Content-Digest"))
	}
	for _, item := range strings.Split(strings.Join(h.Values("Digest"), ","), ",") {
		name, value, _ := strings.Cut(item, "=")
		add(name, strings.TrimSpace(value))
	}
	if whole {
		add("md5", strings.TrimSpace(h.Get("Content-MD5")))
	}
	for _, algorithm := range []string{"sha-256", "sha-512", "md5"} {
		if d, ok := found[algorithm]; ok {
			return d
		}
	}
	return Digest{}
}
