package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"async-download/internal/bytesize"
	"async-download/internal/escape"
	"async-download/internal/progress"
)

// job is one download.
type job struct {
	*program
	*options
	display
	timings timings // the program's, with the options' patience

	api     *api
	socket  *http.Client
	storage *http.Client
	limit   *rate.Limiter
	part    *partial // nil: to stdout
	// pending: a question was sent and no refusal came back, so the key is worth
	// keeping.
	pending atomic.Bool

	mu    sync.Mutex
	meter progress.Meter
	copy  copyState

	// cancellable is the execution while there is a copy to cancel.
	cancellable atomic.Pointer[execution]
	closing     sync.WaitGroup // sockets that are being closed
	answers     chan string    // what the person typed; nil: not asked yet
	// abandoned is closed by a signal that comes while the download, stopped or
	// ended already, hangs in a write; over is closed when all is reported.
	abandoned, over chan struct{}
}

func newJob(p *program, o *options, t target, d display) *job {
	j := &job{program: p, options: o, display: d, timings: p.timings, limit: limiter(int64(o.limitRate)), abandoned: make(chan struct{}), over: make(chan struct{})}
	j.timings.patience = o.patience
	j.api = &api{
		timings: j.timings, note: d.note,
		request: request{t, o.request},
	}
	return j
}

// closeLimit is how long the program waits at its end for sockets to be closed:
// the stack cleans up when it sees the close, but would without it.
const closeLimit = 2 * time.Second

func (j *job) run(ctx context.Context) (result, error) {
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

// settle keeps the partial file where a second start could continue with it.
func (j *job) settle(err error) {
	switch endOf(err).exit {
	case exitFailed, exitExpired, exitCancelled, exitChecksum:
		j.part.discard()
	default:
		if !j.pending.Load() && !j.part.found { // nothing came of it
			j.part.discard()
			return
		}
		j.part.leave()
	}
}

func (j *job) download(ctx context.Context) (result, error) {
	began := time.Now()
	if err := j.clients(ctx); err != nil {
		return result{}, err
	}
	if j.output != "-" {
		if err := j.openPartial(); err != nil {
			return result{}, err
		}
	}
	for {
		resumed := j.part != nil && j.part.state.Key != ""
		r, err := j.attempt(ctx, resumed)
		if err == nil {
			r.Seconds = time.Since(began).Seconds()
			return r, nil
		}
		if ctx.Err() != nil || j.part == nil {
			return result{}, err
		}
		switch p := endOf(err); {
		case resumed && j.key == "" && (p.exit == exitFailed || p.exit == exitExpired || p.exit == exitCancelled || p.code == "KEY_REUSED"):
			// That was the end of an earlier start's copy. Its bytes are still good if
			// the next copy proves to be the same.
			j.note(fmt.Sprintf("the earlier copy has ended (%v); asking for a new one", err))
			j.part.state.Key = ""
		case p.exit == exitChecksum && r.Reused > 0:
			j.note(fmt.Sprintf("what was here before doesn't fit (%v); fetching all of it", err))
			if err := j.part.forget(); err != nil {
				return result{}, err
			}
		default:
			return result{}, err
		}
	}
}

// hash identifies what is asked for, so that a second start finds the partial
// file of the first.
func (r request) hash() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %s\n%s\n", r.Method, r.ask, r.ContentType)
	sum.Write(r.Body)
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// inFolder is where the bytes go while the file's name isn't known.
func (j *job) inFolder(folder string) string {
	r := j.api.request
	return filepath.Join(folder, nameOf("", r.target)+"-"+r.hash()[:8]+".part")
}

// openPartial decides where the bytes go until they are a file, and refuses what
// can be refused before anything is copied.
func (j *job) openPartial() error {
	hash := j.api.request.hash()
	var path string
	if isFolder(j.output) {
		path = j.inFolder(j.output)
		if name := j.api.request.name(); name != "" {
			if err := j.free(filepath.Join(j.output, name)); err != nil {
				return err
			}
		}
	} else {
		path = j.output + ".part"
		if err := j.free(j.output); err != nil {
			return err
		}
	}
	var err error
	if j.part, err = openPartial(path); err != nil {
		return err
	}
	if !j.part.found && !isFolder(j.output) {
		j.adopt(hash)
	}
	if s := &j.part.state; s.Request != hash {
		if s.Request != "" {
			j.note(j.part.path + " is of another download; starting from the beginning")
		}
		j.part.replaces(state{Request: hash})
	}
	return nil
}

// adopt continues what an earlier start without -o FILE has left: it may have
// ended because the origin's name for the file was taken.
func (j *job) adopt(hash string) {
	for _, folder := range []string{filepath.Dir(j.output), ""} {
		path := j.inFolder(folder)
		if _, err := os.Lstat(path + ".json"); err != nil {
			continue
		}
		earlier, err := openPartial(path)
		if err != nil {
			continue
		}
		if !earlier.found || earlier.state.Request != hash || earlier.rename(j.part.path) != nil {
			earlier.leave()
			continue
		}
		j.part.file.Close() // its name is earlier's now
		j.part = earlier
		return
	}
}

// free returns an error if no file may be made there.
func (j *job) free(name string) error {
	info, err := os.Lstat(name)
	switch {
	case err != nil:
		return nil
	case !info.Mode().IsRegular() && info.Mode()&os.ModeSymlink == 0:
		// Not even with -f: a rename would replace a device by a file.
		return exitError(exitLocal, "%s isn't a file; -o - writes to stdout", escape.Text(name))
	case !j.overwrite:
		return errExists(name)
	}
	return nil
}

// room returns an error if a file of this size has no room.
func (j *job) room(size int64) error {
	if j.part == nil {
		return nil
	}
	need := j.part.state.missing(size)
	folder := filepath.Dir(j.part.path)
	free, err := j.freeSpace(folder)
	if err != nil || free >= need {
		return nil // a write will find out
	}
	return exitError(exitLocal, "the download needs %s, %s are free in %s; make room and run the same command again: what was copied is kept",
		bytesize.Format(need), bytesize.Format(free), escape.Text(folder))
}

// newKey returns a random UUID.
func newKey() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
