package main

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"async-download/internal/escape"
)

const (
	// A range is large enough that the wait for its first byte doesn't matter,
	// and small enough that the connections finish together.
	minRange = 8 << 20
	maxRange = 64 << 20
	// bufferSize is what one connection holds in memory.
	bufferSize = 256 << 10
)

// fetcher reads an object by ranges, each pinned to the first reply's ETag, and
// writes them where they belong. A connection that is cut continues at the next
// byte.
type fetcher struct {
	http    *http.Client
	timings timings
	sink    io.WriterAt
	limit   *rate.Limiter // bytes per second of all connections; nil: none
	size    int64
	ranges  int64                               // the length of a range
	refresh func(context.Context) (link, error) // a new link when one is too old

	pin sync.Once
	// pinned is closed once etag is known.
	pinned chan struct{}
	etag   string

	summed   atomic.Int64 // how far follow is
	renewing sync.Mutex   // held while a link is asked for

	mu       sync.Mutex
	todo     []span // not yet taken, in order
	doing    []span // what is left of each connection's range
	link     link
	links    int           // how many there were
	lastByte time.Time     // when one last arrived
	back     chan struct{} // closed by a byte after an outage, and replaced
}

// newFetcher returns a fetcher of the missing bytes of l into sink; etag is "" if it
// isn't known yet.
func (j *job) newFetcher(l link, refresh func(context.Context) (link, error), sink io.WriterAt, connections int, missing []span, etag string) *fetcher {
	f := &fetcher{
		http:     j.storage,
		timings:  j.timings,
		sink:     sink,
		limit:    j.limit,
		refresh:  refresh,
		size:     l.Size,
		ranges:   min(max(l.Size/int64(4*connections), minRange), maxRange),
		pinned:   make(chan struct{}),
		todo:     slices.Clone(missing),
		doing:    make([]span, connections),
		link:     l,
		lastByte: time.Now(),
		back:     make(chan struct{}),
	}
	if etag != "" {
		f.pinTo(etag)
	}
	return f
}

// isPinned reports whether a reply, of this start or an earlier one, gave the
// ETag.
func (f *fetcher) isPinned() bool {
	select {
	case <-f.pinned:
		return true
	default:
		return false
	}
}

// heard returns when a byte last arrived.
func (f *fetcher) heard() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lastByte
}

// timeLeft is how long a request may stay without a byte: patience holds also
// while one hangs.
func (f *fetcher) timeLeft() time.Duration {
	left := f.timings.patience - time.Since(f.heard())
	return max(time.Millisecond, min(f.timings.stall, left))
}

func (f *fetcher) pinTo(etag string) {
	f.pin.Do(func() { f.etag = etag; close(f.pinned) })
}

// errChanged: the object is not the one that the pinned ETag or the size is of.
var errChanged = exitError(exitChecksum, "the stored file is not the one this download began with")

// errOld: the storage no longer accepts the link.
var errOld = errors.New("the link has expired")

// run returns when every byte is written. An error of the network is returned
// only after the patience is used up.
func (f *fetcher) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range f.doing {
		group.Go(func() error {
			if i > 0 { // until it is known what the ranges are of
				select {
				case <-f.pinned:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			buffer := make([]byte, f.bufferSize())
			for f.take(i) {
				if err := f.fetch(ctx, i, buffer); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// bufferSize is what a connection reads at once: of a limited rate, no more than
// the limiter lets pass at once.
func (f *fetcher) bufferSize() int {
	if f.limit == nil {
		return bufferSize
	}
	return min(bufferSize, f.limit.Burst())
}

// limiter returns a limiter to so many bytes per second, nil for 0. It lets a
// tenth of a second's bytes pass at once.
func limiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(1, min(bytesPerSecond/10, bufferSize))))
}

// take gives connection i its next range.
func (f *fetcher) take(i int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.todo) == 0 {
		return false
	}
	next := &f.todo[0]
	f.doing[i] = span{next.From, min(next.To, next.From+f.ranges)}
	next.From = f.doing[i].To
	if next.length() == 0 {
		f.todo = f.todo[1:]
	}
	return true
}

// missing is what a second start would have to read. Bytes that it leaves out
// have been written.
func (f *fetcher) missing() []span {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(f.todo)
	for _, s := range f.doing {
		if s.length() > 0 {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.From, b.From) })
	return all
}

// left returns how many bytes are missing, and where the first of them is.
func (f *fetcher) left() (bytes, first int64) {
	first = f.size
	for i, s := range f.missing() {
		if i == 0 {
			first = s.From
		}
		bytes += s.length()
	}
	return bytes, first
}

// fetch finishes the range of connection i.
func (f *fetcher) fetch(ctx context.Context, i int, buffer []byte) error {
	old := 0 // links in a row that were refused
	var last error
	for try := 0; ; try++ {
		f.mu.Lock()
		s, l, links, back := f.doing[i], f.link, f.links, f.back
		f.mu.Unlock()
		if s.length() == 0 {
			return nil
		}
		n, err := f.once(ctx, i, s, l, buffer)
		if n > 0 {
			try, old, last = 0, 0, nil
		}
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errOld):
			if old++; old > 3 {
				return exitError(exitRefused, "the storage refuses every link it is given; is this machine's access to it blocked?")
			}
			if err := f.renew(ctx, links); err != nil {
				return err
			}
			if old == 1 {
				continue
			}
		case !isTransient(err):
			return err
		}
		last = explains(last, err)
		silence := time.Since(f.heard())
		if silence >= f.timings.patience {
			return exitError(exitNetwork, "the storage sent nothing for %v: %v", f.timings.patience, last)
		}
		if err := f.pause(ctx, try, askedWait(err), back); err != nil {
			return err
		}
	}
}

// pause is [timings.pause], but not longer than until another connection has the
// storage back, unless the storage itself asked for the wait.
func (f *fetcher) pause(ctx context.Context, try int, asked time.Duration, back <-chan struct{}) error {
	if asked > 0 {
		back = nil
	}
	select {
	case <-time.After(f.timings.wait(try, asked)):
	case <-back:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// renew gets a fresh link, once for all the connections that found number seen
// expired.
func (f *fetcher) renew(ctx context.Context, seen int) error {
	f.renewing.Lock()
	defer f.renewing.Unlock()
	f.mu.Lock()
	renewed := f.links != seen
	f.mu.Unlock()
	if renewed {
		return nil
	}
	l, err := f.refresh(ctx)
	if err != nil {
		return err
	}
	if l.Size != f.size {
		return errChanged
	}
	f.mu.Lock()
	f.link, f.links = l, f.links+1
	f.lastByte = time.Now() // the time it took was not the storage's silence
	f.mu.Unlock()
	return nil
}

// once makes one request for s and writes the n bytes that arrive.
func (f *fetcher) once(ctx context.Context, i int, s span, l link, buffer []byte) (n int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := f.timeLeft()
	stalled := fmt.Errorf("%w for %v", errSilent, limit.Round(time.Second))
	watchdog := time.AfterFunc(limit, func() { cancel(stalled) })
	defer watchdog.Stop()
	failed := func(err error) error {
		if context.Cause(ctx) == stalled {
			return &transient{err: stalled}
		}
		if p := mistake(err, "the storage"); p != nil && !f.isPinned() {
			return p
		}
		return &transient{err: cause(err)}
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, nil)
	if err != nil {
		return 0, exitError(exitRefused, "the link is malformed")
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", s.From, s.To-1))
	req.Header.Set("Accept-Encoding", "identity")
	if f.isPinned() {
		req.Header.Set("If-Match", f.etag)
	}
	res, err := f.http.Do(req)
	if err != nil {
		return 0, failed(err)
	}
	defer res.Body.Close()
	if err := f.check(res, s); err != nil {
		return 0, err
	}
	for {
		got, err := res.Body.Read(buffer)
		if f.limit != nil && got > 0 {
			watchdog.Stop() // this wait is not the storage's
			if err := f.limit.WaitN(ctx, got); err != nil {
				return n, err
			}
		}
		watchdog.Reset(f.timings.stall)
		if int64(got) > s.length() {
			return n, exitError(exitNetwork, "the storage sent more than was asked for")
		}
		if got > 0 {
			if _, err := f.sink.WriteAt(buffer[:got], s.From); err != nil {
				return n, exitError(exitLocal, "write: %v", pathless(err))
			}
			s.From += int64(got)
			n += int64(got)
			f.mu.Lock()
			f.doing[i] = s
			if time.Since(f.lastByte) > f.timings.outage {
				close(f.back)
				f.back = make(chan struct{})
			}
			f.lastByte = time.Now()
			f.mu.Unlock()
		}
		if s.length() == 0 {
			return n, nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return n, failed(err)
		}
	}
}

// check lets a reply pass only if its body is s, of the pinned object.
func (f *fetcher) check(res *http.Response, s span) error {
	switch res.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		if s.length() != f.size {
			return exitError(exitNetwork, "the storage, or a proxy before it, ignores ranges")
		}
	case http.StatusNotFound, http.StatusGone:
		return apiError("EXPIRED", "the file is no longer kept; ask for it again")
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return errChanged
	default:
		return refusedByStorage(res)
	}
	if res.StatusCode == http.StatusPartialContent {
		if got, want := res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", s.From, s.To-1, f.size); got != want {
			if strings.HasSuffix(got, fmt.Sprintf("/%d", f.size)) {
				return exitError(exitNetwork, "the storage sent %q, not the range that was asked for", escape.Text(got))
			}
			return errChanged
		}
	}
	if res.ContentLength != s.length() {
		return exitError(exitNetwork, "the storage announced %d bytes for a range of %d", res.ContentLength, s.length())
	}
	etag := res.Header.Get("ETag")
	if etag == "" || strings.HasPrefix(etag, "W/") {
		return exitError(exitNetwork, "the storage gave no strong ETag, so ranges can't be put together safely")
	}
	f.pinTo(etag)
	if etag != f.etag {
		return errChanged
	}
	return nil
}

// refusedByStorage returns errOld for a link that is no longer accepted, a [transient]
// where another try may succeed, and else a [problem].
func refusedByStorage(res *http.Response) error {
	var answer struct {
		Code string `xml:"Code"`
	}
	// Only the code is of use: the message may quote the request.
	xml.NewDecoder(io.LimitReader(res.Body, 16<<10)).Decode(&answer)
	code := escape.Text(answer.Code)
	err := fmt.Errorf("the storage answered %d %s", res.StatusCode, code)
	switch {
	case res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusUnauthorized, code == "ExpiredToken":
		return errOld
	case res.StatusCode == http.StatusRequestTimeout, res.StatusCode == http.StatusTooManyRequests,
		res.StatusCode >= 500, code == "RequestTimeout":
		return &transient{err: err, after: retryAfter(res.Header)}
	}
	return exitError(exitNetwork, "%v", err)
}

// follow reads the file back behind the first missing byte, while it is still in
// the system's cache, into sums. What is summed is thus what the file holds,
// bytes of an earlier start included.
func (f *fetcher) follow(ctx context.Context, file io.ReaderAt, sums io.Writer) error {
	buffer := make([]byte, 1<<20)
	for at := int64(0); at < f.size; {
		_, first := f.left()
		if first == at {
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		n, err := file.ReadAt(buffer[:min(int64(len(buffer)), first-at)], at)
		if n == 0 && err != nil {
			return exitError(exitLocal, "read the file back: %v", pathless(err))
		}
		sums.Write(buffer[:n])
		at += int64(n)
		f.summed.Store(at)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
