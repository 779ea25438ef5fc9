package origin

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"async-download/internal/failure"
)

// Request is how a file is asked for, and where the origin's answers have led since.
// With no more than a URL it is a plain GET. Files that were opened with it may be
// read concurrently; [Client.Open] and [Client.Reopen] may not be called concurrently.
type Request struct {
	// URL is the file's own; see [Join].
	URL *url.URL
	// Method is GET, or "" for it, or POST. A POST is sent once: Open sends it again
	// only after it failed before it was sent, and after an answer of 429 or 503 with
	// a Retry-After. Its answer is the file, or leads to a place that is asked by GET.
	Method string
	// Body and ContentType, "" for none, are sent with a POST.
	Body        []byte
	ContentType string
	// Header is sent where [Client.Header] is sent, which wins over it.
	Header http.Header
	// Place is where an earlier run was led to; the zero Place is URL.
	Place Place
	// Record keeps what a later run has to know; nil for a process that nothing
	// continues.
	Record Record

	start place // where to ask next; its url is nil until the first call
	sent  bool  // the POST, and nothing shows that it wasn't executed
}

// Place is where the file of a [Request] has to be asked for, by GET, instead of its
// own URL: the Location of an answer 202, or of the redirect that answered a POST.
// It is a secret, like a query.
type Place struct {
	// URL is absolute; "" is the file's own.
	URL string
	// Away: a redirect on the way had left the configured host.
	Away bool
	// Cookies are the origin's, encoded.
	Cookies []byte
}

// equal reports whether there is nothing to record.
func (p Place) equal(q Place) bool {
	return p.URL == q.URL && p.Away == q.Away && string(p.Cookies) == string(q.Cookies)
}

// Record keeps the state of a [Request] for later processes. An error of a method ends the
// request.
type Record interface {
	// Sending is called before a POST leaves. It fails if the POST was sent by another
	// run.
	Sending(ctx context.Context) error
	// Unsent is called when the POST is known not to have been executed.
	Unsent(ctx context.Context) error
	// Moved is called before anything is asked for at another place.
	Moved(ctx context.Context, to Place) error
}

// maxPlace is the longest Location in bytes that is recorded: more than any server
// accepts as a request line.
const maxPlace = 16 << 10

// Current returns the URL that is asked for next. It is a secret, like a query.
func (r *Request) Current() *url.URL {
	if r.start.url != nil {
		return r.start.url
	}
	if r.Place.URL != "" {
		if u, err := resolve(r.URL, r.Place.URL); err == nil {
			return u
		}
	}
	return r.URL
}

// Spent reports whether a POST was sent whose answer led to no other place: it can't
// be made again.
func (r *Request) Spent() bool { return r.sent && r.start.post }

// begin returns where r is asked for. A recorded place is checked again, since the
// configuration may have changed after it was recorded.
func (c *Client) begin(r *Request) (place, error) {
	if r.start.url != nil {
		return r.start, nil
	}
	at := place{url: r.URL, cookies: decodeCookies(r.Place.Cookies), request: r, post: r.Method == http.MethodPost}
	if r.Place.URL != "" {
		to, err := resolve(c.Base, r.Place.URL)
		if err != nil {
			return place{}, failure.New(failure.Internal, "the place of the file can't be read")
		}
		if err := c.allowed(to); err != nil {
			return place{}, err
		}
		at.url, at.away, at.post = to, r.Place.Away || !c.atHome(to), false
	}
	r.start = at
	return at, nil
}

// moved records that r is asked for at another place from now on.
func (r *Request) moved(ctx context.Context, to place) error {
	p := Place{Away: to.away, Cookies: to.cookies.encode()}
	if to.url != r.URL {
		p.URL = absolute(to.url)
	}
	if len(p.URL) > maxPlace {
		return failure.New(failure.OriginStatus, "the origin leads to a URL of more than %d bytes", maxPlace)
	}
	if r.Record != nil && !p.equal(r.Place) {
		if err := r.Record.Moved(ctx, p); err != nil {
			return err
		}
	}
	r.Place, r.start = p, to
	return nil
}

// absolute writes u such that resolve returns the same request.
func absolute(u *url.URL) string {
	s := u.Scheme + "://" + u.Host + rawPath(u)
	if u.RawQuery != "" || u.ForceQuery {
		s += "?" + u.RawQuery
	}
	return s
}

// Accepted is the error of a file that doesn't exist yet: the origin answered 202.
// Ask again, with the same [Request] or its recorded [Place], after After.
type Accepted struct {
	After time.Duration
	Err   *failure.Error // to report if it isn't asked for again
}

func (a *Accepted) Error() string { return a.Err.Error() }

// Unwrap returns the failure.
func (a *Accepted) Unwrap() error { return a.Err }

const (
	// acceptedPause is how long to wait before an origin that answered 202 without a
	// Retry-After is asked again.
	acceptedPause = 5 * time.Second
	// minAcceptedPause is the shortest wait, also if the origin asked for a shorter one.
	minAcceptedPause = time.Second
)

// accepted returns what follows from an answer 202 that came from at.
func (c *Client) accepted(ctx context.Context, at place, resp *http.Response) error {
	to := at
	if strings.TrimSpace(resp.Header.Get("Location")) != "" {
		var err error
		if to, err = c.follow(at, resp); err != nil {
			return err
		}
	} else if at.post {
		return failure.New(failure.OriginStatus, "the origin answered 202 Accepted without a Location, so nothing shows where the file will be")
	}
	if err := at.request.moved(ctx, to); err != nil {
		return err
	}
	after, ok := RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	if !ok {
		after = acceptedPause
	}
	return &Accepted{max(after, minAcceptedPause), failure.New(failure.OriginStatus, "the origin answered 202 Accepted and has no file yet")}
}
