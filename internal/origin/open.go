package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"async-download/internal/failure"
)

// question is a way to ask for a file that isn't known yet.
type question int

const (
	// askRange is for the first bytes: what comes shows whether ranges work.
	askRange question = iota
	// askPlain is for the file, without a range.
	askPlain
	// askAll is for all bytes by a range: some servers answer nothing else.
	askAll
)

// errAskAgain: the reply can't be used, but the next question's may be.
var errAskAgain = errors.New("ask in another way")

// opening is how a file is opened.
type opening struct {
	f     *File
	first int64 // bytes that askRange asks for
	ask   question
	// serves: a range was answered with a range, though not with one that is of use.
	serves bool
}

// Open asks for the first firstBytes bytes of r's file, or for all of it if that is 0,
// and describes the file. The error is an [Accepted] if there is none yet. What a server
// refuses to serve by range is asked for without one, and the other way round. The
// reply's body stays open until Range or Stream has read it, or Close is called.
func (c *Client) Open(ctx context.Context, r *Request, firstBytes int64) (*File, error) {
	start, err := c.begin(r)
	if err != nil {
		return nil, err
	}
	t := &tries{c: c}
	o := &opening{f: &File{c: c, start: start, opened: true}, first: firstBytes}
	if firstBytes == 0 {
		o.ask, o.serves = askPlain, true // the caller may have met ranges before
	}
	for {
		err := o.try(ctx)
		switch {
		case err == nil:
			return o.f, nil
		case errors.Is(err, errAskAgain):
			continue
		}
		if err := t.wait(ctx, err); err != nil {
			return nil, err
		}
		var failed *transient
		if errors.As(err, &failed) && failed.after == 0 && o.ask == askRange && t.n == cmp.Or(failed.most, c.Attempts, Attempts)-1 {
			o.ask = askPlain // it may be the range that it fails at
		}
	}
}

func (o *opening) try(ctx context.Context) error {
	f := o.f
	header := http.Header{"Want-Repr-Digest": {"sha-256=10, sha-512=3"}}
	switch o.ask {
	case askRange:
		header.Set("Range", fmt.Sprintf("bytes=0-%d", o.first-1))
	case askAll:
		header.Set("Range", "bytes=0-")
	}
	f.requests++
	resp, at, err := f.c.send(ctx, f.start, header, cmp.Or(f.c.FirstByteTimeout, FirstByteTimeout), errAnswer)
	if f.start.post { // it isn't made again, except where it was redirected to last
		f.start = at.request.start
		if at.post {
			f.start = at
		}
	}
	if err != nil {
		return err
	}
	f.at = at
	switch {
	case resp.StatusCode == http.StatusAccepted:
		drain(resp.Body)
		return f.c.accepted(ctx, at, resp)
	case at.post:
		return o.posted(ctx, resp)
	}
	switch s := resp.StatusCode; {
	case s == http.StatusNoContent, s == http.StatusResetContent:
	case s == http.StatusPartialContent, s/100 == 2 && o.ask != askPlain && resp.Header.Get("Content-Range") != "":
		return o.partial(resp)
	case s/100 == 2:
		f.whole(resp)
		return nil
	}
	drain(resp.Body)
	err = status(resp)
	var failed *transient
	switch {
	case errors.As(err, &failed):
		return err
	case o.ask == askRange: // an empty file, too, has no first byte
		o.ask = askPlain
		return errAskAgain
	case o.ask == askPlain && o.serves:
		o.ask, o.serves = askAll, false
		return errAskAgain
	}
	return err
}

// partial judges a 206, or another answer with a range that its status doesn't show. One
// that has the whole file is taken as the file, also where less was asked for.
func (o *opening) partial(resp *http.Response) error {
	f := o.f
	start, last, total, ok := contentRange(single(resp.Header, "Content-Range"))
	ok = ok && start == 0 && hasLength(resp, last+1)
	whole := ok && last+1 == total
	ok = ok && (whole || resp.StatusCode == http.StatusPartialContent)
	pinned := !pinOf(resp.Header).IsZero()
	switch {
	case whole && (o.ask != askRange || total > o.first):
		f.describe(resp, total, true)
		f.Framed = true
		f.hold(resp.Body, -1)
		expect(resp, total)
		return nil
	case ok && o.ask == askRange && (whole || pinned) && (resp.ContentLength != -1 || last+1 == min(o.first, total)):
		// It may be shorter than what was asked for, if it says how long it is.
		f.describe(resp, total, whole)
		f.Ranged = pinned
		f.Framed = true
		f.hold(resp.Body, last+1)
		expect(resp, last+1)
		return nil
	}
	_ = resp.Body.Close()
	o.serves = o.serves || ok
	switch {
	case o.ask == askRange:
		o.ask = askPlain
		return errAskAgain
	case o.ask == askAll && ok:
		return failure.New(failure.OriginStatus, "the origin sends the file only in parts, and nothing shows that they are of one version")
	}
	return failure.New(failure.OriginStatus, "the origin answered with a range that nobody asked for")
}

// hasLength reports whether a reply can have n bytes. One without a length that is
// encoded has the range that it describes, compressed.
func hasLength(resp *http.Response, n int64) bool {
	encoding := strings.Join(resp.Header.Values("Content-Encoding"), ",")
	return resp.ContentLength == n || resp.ContentLength == -1 && (encoding == "" || strings.EqualFold(encoding, "identity"))
}

// whole takes a reply whose status shows that it has the whole file.
func (f *File) whole(resp *http.Response) {
	f.describe(resp, resp.ContentLength, true)
	f.Framed = resp.ContentLength != -1 || len(resp.TransferEncoding) > 0
	f.hold(resp.Body, -1)
}

// hold keeps the first reply's body, which ends before byte end; -1: the file's end.
func (f *File) hold(body io.ReadCloser, end int64) {
	f.open.Add(1)
	f.first, f.firstEnd = f.counted(body), end
}

func (f *File) describe(resp *http.Response, size int64, whole bool) {
	f.Size = size
	f.Pin = pinOf(resp.Header)
	f.ETag, f.LastModified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	f.ContentType = resp.Header.Get("Content-Type")
	f.ContentEncoding = strings.Join(resp.Header.Values("Content-Encoding"), ",")
	f.Name = fileName(resp.Header, f.start.url, f.at.url)
	f.Digest = digest(resp.Header, whole)
}
