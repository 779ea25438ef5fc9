package rest

import (
	"strconv"
	"strings"
	"time"
)

// MaxWait is the longest time that an answer is held back: API Gateway gives up
// after 29 s, and the function needs a few for its own calls.
const MaxWait = 20 * time.Second

// Preference is what a client asks for in its Prefer headers (RFC 7240).
type Preference struct {
	// RespondAsync is respond-async: an answer at once, with status 202.
	RespondAsync bool
	// Waits reports whether the client prefers to wait, at most Wait, which is no
	// longer than [MaxWait] and may be 0.
	Waits bool
	Wait  time.Duration
}

// ParsePrefer reads the Prefer headers of a request. Preferences that are unknown
// or malformed are ignored, and the first of two with the same name counts, as
// RFC 7240 section 2 demands.
func ParsePrefer(headers map[string][]string) Preference {
	var p Preference
	seen := map[string]bool{}
	for name, values := range headers {
		if !strings.EqualFold(name, "Prefer") {
			continue
		}
		for preference := range strings.SplitSeq(strings.Join(values, ","), ",") {
			preference, _, _ = strings.Cut(preference, ";") // without parameters
			key, value, _ := strings.Cut(preference, "=")
			key, value = strings.ToLower(strings.TrimSpace(key)), strings.Trim(strings.TrimSpace(value), `"`)
			if seen[key] {
				continue
			}
			seen[key] = true
			switch key {
			case "respond-async":
				p.RespondAsync = value == ""
			case "wait":
				p.Wait, p.Waits = seconds(value)
			}
		}
	}
	return p
}

// seconds reads a number of seconds, at most [MaxWait].
func seconds(s string) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > int(MaxWait/time.Second) { // an error is a number too large for an int
		return MaxWait, true
	}
	return time.Duration(n) * time.Second, true
}

// Applied returns the value of Preference-Applied, "" for none. wait reports
// whether the answer was held back as the client asked.
func (p Preference) Applied(wait bool) string {
	var applied []string
	if p.RespondAsync {
		applied = append(applied, "respond-async")
	}
	if p.Waits && wait {
		applied = append(applied, "wait="+strconv.Itoa(int(p.Wait/time.Second)))
	}
	return strings.Join(applied, ", ")
}
