package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	crc "github.com/minio/crc64nvme"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
)

// Run is the program apart from its process. It returns the exit code.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	p := program{
		stdin:    os.Stdin,
		stdout:   stdout,
		stderr:   stderr,
		signals:  signals,
		terminal: isTerminal(stderr),
		tempo:    realTempo,
	}
	p.person = p.terminal && isTerminal(os.Stdin)
	return p.run(ctx, args)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// program is what surrounds a download.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	signals        <-chan os.Signal
	terminal       bool // stderr is one
	person         bool // somebody can be asked
	tempo          tempo
}

func (p *program) run(ctx context.Context, args []string) int {
	o, err := parseOptions(args, p.stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	d := p.display(o)
	tell := func(r result, err error) int {
		if err == nil {
			d.saved(r)
			return exitOK
		}
		ending := endOf(err)
		d.ended(ending)
		return ending.exit
	}
	if err == nil && o.output == "-" && isTerminal(p.stdout) {
		err = fail(exitUsage, "-o - would fill the terminal; redirect stdout, or give -o FILE")
	}
	if err != nil {
		return tell(result{}, err)
	}
	j := &job{program: p, options: o, display: d, tempo: p.tempo, abandoned: make(chan struct{}), over: make(chan struct{})}
	defer close(j.over)
	j.tempo.patience = o.patience
	exit := make(chan int, 1)
	go func() { exit <- tell(j.run(ctx)) }()
	select {
	case code := <-exit:
		return code
	case <-j.abandoned:
		return exitInterrupted // without a word: the display may be what it hangs in
	}
}

// display chooses how to tell. Without options there is only an error to tell.
func (p *program) display(o *options) display {
	switch {
	case o == nil || o.quiet && !o.json:
		return silence{p.stderr}
	case o.json && o.output == "-":
		return &events{w: p.stderr}
	case o.json:
		return &events{w: p.stdout}
	case p.terminal:
		return newBars(p.stderr)
	default:
		return &lines{silence: silence{p.stderr}}
	}
}

// endOf finds the exit code of an error.
func endOf(err error) *problem {
	var ending *problem
	switch {
	case errors.As(err, &ending):
		return ending
	case errors.Is(err, context.Canceled):
		return errInterrupted
	case isTransient(err):
		return fail(exitNetwork, "the API can't be reached: %v", err)
	default:
		return fail(exitLocal, "%v", err)
	}
}

var (
	errInterrupted = fail(exitInterrupted, "stopped; the same command goes on")
	errCancelled   = failed("CANCELLED", "the download was cancelled")
)

// job is one download.
type job struct {
	*program
	*options
	display
	tempo tempo // the program's, with the options' patience
	meter meter

	api     *api
	socket  *http.Client
	storage *http.Client
	part    *partial // nil: to stdout
	// unwanted says that the file can't have its name, and that no byte of it
	// is here.
	unwanted bool

	// cancellable is the execution while there is a copy to cancel.
	cancellable atomic.Pointer[execution]
	closing     sync.WaitGroup // sockets that are being closed
	answers     chan string    // what the person typed; nil: not asked yet
	// abandoned is closed by a signal that comes while the download, stopped or
	// ended already, hangs in a write; over is closed when all is told.
	abandoned, over chan struct{}
}

// closeLimit is how long the program waits at its end for sockets to be closed:
// the stack clears up when it sees the close, but would without it.
const closeLimit = 2 * time.Second

func (j *job) run(ctx context.Context) (result, error) {
	j.clients()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		j.watch(ctx, stop)
		select {
		case <-j.signals:
			close(j.abandoned)
		case <-j.over:
		}
	}()

	r, err := j.download(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if j.part != nil && err != nil {
		j.settle(err)
	}
	closed := make(chan struct{})
	go func() { j.closing.Wait(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(closeLimit):
	}
	return r, err
}

// settle keeps the partial file where a second start could go on with it.
func (j *job) settle(err error) {
	switch endOf(err).exit {
	case exitFailed, exitExpired, exitCancelled, exitChecksum:
		j.part.discard()
	default:
		if j.unwanted || j.part.state.Execution.ARN == "" && !j.part.found {
			j.part.discard() // nothing came of it
			return
		}
		j.part.leave()
	}
}

// clients makes the three HTTP clients. A redirect of the API's would carry the
// user's headers to where the user didn't send them, so it isn't followed.
func (j *job) clients() {
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Protocols = http1 // a WebSocket begins as HTTP/1.1
	// API Gateway answers within 29 s.
	rest := &http.Client{Transport: transport, CheckRedirect: stay, Timeout: 40 * time.Second}
	if !j.noSocket {
		j.socket = &http.Client{Transport: transport, CheckRedirect: stay}
	}
	j.api = &api{http: rest, headers: j.headers, ask: j.ask, pause: j.tempo.pause, note: j.note}

	// No time-out here would be right for every size; the fetcher watches for
	// standstill instead.
	transport = http.DefaultTransport.(*http.Transport).Clone()
	transport.Protocols = http1 // ranges on one HTTP/2 connection share its window
	transport.MaxIdleConnsPerHost = j.connections
	transport.DisableCompression = true
	transport.ReadBufferSize = 64 << 10
	j.storage = &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		// S3 redirects requests for a new bucket to its region.
		if len(via) > 3 || via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("the storage redirects too often or to an unencrypted address")
		}
		req.Header.Del("Referer") // it would be the signed URL
		return nil
	}}
}

func (j *job) download(ctx context.Context) (result, error) {
	began := time.Now()
	if j.output != "-" {
		if err := j.openPartial(); err != nil {
			return result{}, err
		}
	}
	for {
		resumed := j.part != nil && j.part.state.Execution.ARN != ""
		r, err := j.attempt(ctx, resumed)
		if err == nil {
			r.Seconds = time.Since(began).Seconds()
			return r, nil
		}
		if ctx.Err() != nil || j.part == nil {
			return result{}, err
		}
		switch exit := endOf(err).exit; {
		case resumed && (exit == exitFailed || exit == exitExpired || exit == exitCancelled):
			// That was the end of an earlier start's copy. Its bytes are still
			// good if the next copy proves to be the same.
			j.note(fmt.Sprintf("the earlier copy has ended (%v); asking for a new one", err))
			j.part.state.Execution = execution{}
		case exit == exitChecksum && r.Reused > 0:
			j.note(fmt.Sprintf("what was here from before doesn't fit (%v); fetching all of it", err))
			if err := j.part.forget(); err != nil {
				return result{}, err
			}
		default:
			return result{}, err
		}
	}
}

// openPartial decides where the bytes go until they are a file.
func (j *job) openPartial() error {
	request := fmt.Sprintf("%x", sha256.Sum256([]byte(j.ask.String())))
	path := j.output
	if isFolder(j.output) {
		path = filepath.Join(j.output, "download-"+request[:12])
	} else if err := j.free(j.output); err != nil {
		return err
	}
	part, err := openPartial(path + ".part")
	if err != nil {
		return err
	}
	j.part = part
	if part.state.Request != request {
		if part.state.Request != "" {
			j.note(part.path + " is of another download; starting anew")
		}
		part.state = state{Request: request}
	}
	return nil
}

// free says whether a file may be made there.
func (j *job) free(name string) error {
	info, err := os.Lstat(name)
	switch {
	case err != nil:
		return nil
	case !info.Mode().IsRegular() && info.Mode()&os.ModeSymlink == 0:
		// Not even with -f: a rename would put a file in the place of a device.
		return fail(exitLocal, "%s is no file; -o - writes to stdout", printable(name))
	case !j.overwrite:
		return errExists(name)
	}
	return nil
}

// attempt goes from the question, or from an earlier one, to the file. In an
// error's result only Reused means something.
func (j *job) attempt(ctx context.Context, resumed bool) (result, error) {
	var e execution
	var err error
	if resumed {
		e = j.part.state.Execution
		j.note("going on with an earlier download")
	} else {
		if e, err = j.api.start(ctx); err != nil {
			return result{}, err
		}
		if j.part != nil {
			j.part.state.Execution = e
			if err := j.part.save(); err != nil {
				return result{}, err
			}
		}
	}

	w := &waiter{api: j.api, execution: e, tempo: j.tempo, socket: j.socket, copying: j.tellCopying, note: j.note, closing: j.closing.Go}
	j.tellCopying(0, nil)
	j.cancellable.Store(&e)
	l, err := w.link(ctx, false)
	j.cancellable.Store(nil)
	var failed *problem
	if errors.As(err, &failed) && failed.exit == exitFailed {
		return result{}, &problem{failed.exit, failed.code, failed.message + " (execution " + printable(e.name()) + ")"}
	}
	if err != nil {
		return result{}, err
	}
	j.tellCopying(l.Size, &l.Size)
	if err := j.trust(l); err != nil {
		return result{}, err
	}

	target := j.output
	if j.part != nil && isFolder(j.output) {
		target = filepath.Join(j.output, nameOf(l, j.ask))
		if err := j.free(target); err != nil {
			j.unwanted = !j.part.state.fits(l)
			return result{}, err
		}
	}
	r := result{File: target, Bytes: l.Size, OriginVerified: l.Verified}
	want, checked := crcOf(l.Checksum)
	refresh := func(ctx context.Context) (link, error) {
		j.note("the link has expired; asking for a new one")
		again, err := w.link(ctx, true)
		if err == nil {
			err = j.trust(again)
		}
		return again, err
	}
	var got uint64
	if j.part == nil {
		got, err = j.toStdout(ctx, l, refresh)
	} else {
		got, err = j.toFile(ctx, l, refresh, &r)
	}
	if err != nil {
		return r, err
	}
	if checked && got != want {
		return r, fail(exitChecksum, "the bytes don't have the CRC64NVME that the storage gave for them")
	}
	if checked {
		r.Checksum = crc64nvme
	}
	if j.part != nil {
		return r, j.part.publish(target, j.overwrite)
	}
	return r, nil
}

// trust refuses a link that would carry the file in the clear where the API
// itself is asked over TLS.
func (j *job) trust(l link) error {
	u, err := url.Parse(l.URL)
	if err != nil || u.Host == "" || l.Size < 0 || j.ask.Scheme == "https" && u.Scheme != "https" {
		return fail(exitRefused, "the API's link is malformed or unencrypted")
	}
	return nil
}

func (j *job) tellCopying(done int64, total *int64) {
	all := int64(-1)
	if total != nil {
		all = *total
	}
	j.show(j.meter.measure(copying, done, all))
}

// toFile fetches what is missing and returns the CRC64NVME of the whole.
func (j *job) toFile(ctx context.Context, l link, refresh func(context.Context) (link, error), r *result) (uint64, error) {
	s := &j.part.state
	missing, etag := []span{{0, l.Size}}, ""
	if s.fits(l) {
		missing = s.Missing
		if s.ours() || len(missing) == 0 {
			etag = s.ETag // else of another copy, whose ETag the first reply has
		}
		r.Reused = l.Size
		for _, m := range missing {
			r.Reused -= m.length()
		}
	} else if err := j.part.forget(); err != nil {
		return 0, err
	}
	s.Size, s.Checksum = l.Size, l.Checksum
	if err := j.part.file.Truncate(l.Size); err != nil {
		return 0, fail(exitLocal, "make the partial file: %v", err)
	}
	if l.Size == 0 {
		return 0, nil // a range of nothing can't be asked for
	}

	f := newFetcher(l, j.connections, missing, etag)
	f.http, f.tempo, f.sink, f.refresh = j.storage, j.tempo, j.part.file, refresh
	var sum uint64
	finished := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(finished)
		both, ctx := errgroup.WithContext(ctx)
		both.Go(func() error { return f.run(ctx) })
		both.Go(func() (err error) {
			sum, err = f.follow(ctx, j.part.file)
			return err
		})
		return both.Wait()
	})
	group.Go(func() error { return j.attend(f, finished) })
	return sum, group.Wait()
}

// attend shows the progress and makes it durable until the fetch has finished,
// however it ended.
func (j *job) attend(f *fetcher, finished <-chan struct{}) error {
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	durable := time.NewTicker(j.tempo.checkpoint)
	defer durable.Stop()
	var fetched time.Time
	for {
		select {
		case <-finished:
			left, _ := f.left()
			j.show(j.meter.measure(downloading, f.size-left, f.size))
			return j.checkpoint(f)
		case <-durable.C:
			if err := j.checkpoint(f); err != nil {
				return err
			}
		case <-look.C:
			left, _ := f.left()
			if left > 0 || fetched.IsZero() {
				j.show(j.meter.measure(downloading, f.size-left, f.size))
			}
			if left == 0 && fetched.IsZero() {
				fetched = time.Now()
			} else if left == 0 && time.Since(fetched) > time.Second {
				j.show(j.meter.measure(verifying, f.summed.Load(), f.size))
			}
		}
	}
}

// checkpoint writes down what has been written, in the order that is true after
// a power cut too.
func (j *job) checkpoint(f *fetcher) error {
	select {
	case <-f.pinned:
	default:
		return nil // no byte yet
	}
	missing := f.missing()
	if err := j.part.sync(); err != nil {
		return err
	}
	s := &j.part.state
	s.Of, s.ETag, s.Missing = s.Execution.ARN, f.etag, missing
	return j.part.save()
}

// toStdout fetches in order, so by one connection, and sums what it writes.
func (j *job) toStdout(ctx context.Context, l link, refresh func(context.Context) (link, error)) (uint64, error) {
	if l.Size == 0 {
		return 0, nil
	}
	out := &pipe{w: j.stdout}
	f := newFetcher(l, 1, []span{{0, l.Size}}, "")
	f.http, f.tempo, f.sink, f.refresh, f.ranges = j.storage, j.tempo, out, refresh, l.Size
	finished := make(chan error, 1)
	go func() { finished <- f.run(ctx) }()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		var err error
		done := false
		select {
		case err = <-finished:
			done = true
		case <-look.C:
		case <-ctx.Done(): // f.run may be in a write that nobody reads
			return 0, ctx.Err()
		}
		left, _ := f.left()
		j.show(j.meter.measure(downloading, f.size-left, f.size))
		if done {
			return out.sum, err
		}
	}
}

// pipe is a place that can be written in order only.
type pipe struct {
	w   io.Writer
	at  int64
	sum uint64
}

func (p *pipe) WriteAt(b []byte, at int64) (int, error) {
	if at != p.at {
		return 0, fmt.Errorf("byte %d came when %d was due", at, p.at)
	}
	n, err := p.w.Write(b)
	p.at += int64(n)
	p.sum = crc.Update(p.sum, b[:n])
	return n, err
}

// watch turns signals into the end of the download, or into a question first.
func (j *job) watch(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-j.signals:
			e := j.cancellable.Load()
			if s != os.Interrupt || e == nil {
				stop(errInterrupted)
				return
			}
			if end := j.interrupted(ctx, *e); end != nil {
				stop(end)
				return
			}
		}
	}
}

const cancelQuestion = "Cancel the copy? y: cancel it, n: stop here but let it run, Enter: go on: "

// interrupted is the first Ctrl-C while there is a copy to cancel; nil goes on.
func (j *job) interrupted(ctx context.Context, e execution) error {
	if j.person && !j.json {
		j.prompt(cancelQuestion)
		select {
		case <-ctx.Done():
			return nil
		case <-j.signals:
			return errInterrupted
		case answer, open := <-j.answer():
			if !open {
				return errInterrupted
			}
			j.answered()
			switch strings.ToLower(strings.TrimSpace(answer)) {
			case "y", "yes":
			case "":
				return nil
			default:
				return errInterrupted
			}
		}
	}
	cancelled := make(chan error, 1)
	go func() {
		stopped, err := j.cancel(ctx, e)
		switch {
		case err != nil:
			err = fail(exitNetwork, "the copy couldn't be cancelled: %v; the same command goes on with it", err)
		case stopped:
			err = errCancelled
		default: // it is done, and what came of it need not be lost
			err = errInterrupted
		}
		cancelled <- err
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-j.signals:
		return errInterrupted
	case err := <-cancelled:
		return err
	}
}

// answer reads a line of the person's. One reader serves all questions: a read
// of a terminal can't be taken back.
func (j *job) answer() <-chan string {
	if j.answers == nil {
		j.answers = make(chan string)
		go func() {
			defer close(j.answers)
			for in := bufio.NewScanner(j.stdin); in.Scan(); {
				j.answers <- in.Text()
			}
		}()
	}
	return j.answers
}

// cancelTries are made before a person is left alone with a running copy.
const cancelTries = 3

func (j *job) cancel(ctx context.Context, e execution) (stopped bool, err error) {
	for try := 1; ; try++ {
		stopped, err = j.api.cancel(ctx, e)
		if err == nil || !isTransient(err) || try == cancelTries {
			return stopped, err
		}
		if err := j.tempo.pause(ctx, try, askedWait(err)); err != nil {
			return false, err
		}
	}
}
