package main

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"async-download/internal/escape"
)

// span is the bytes From up to, not including, To.
type span struct{ From, To int64 }

func (s span) length() int64 { return s.To - s.From }

// state is what a second start needs to continue. There is no address in it: the
// API gives those again for the same key.
type state struct {
	Request string `json:"request"` // hash of what was asked for
	// Key is the Idempotency-Key that was sent, or "". It finds the download.
	Key string `json:"key,omitempty"`
	// What follows describes the bytes. They may be those of an earlier
	// execution's object: Of is that ARN.
	Of       string            `json:"of,omitempty"`
	Size     int64             `json:"size"`
	ETag     string            `json:"etag,omitempty"` // "": there are none
	Checksum map[string]string `json:"checksum,omitempty"`
	Missing  []span            `json:"missing,omitempty"` // in order
}

// fits reports whether the bytes may be combined with bytes of l, the link of an
// execution: they are of the same object, or of another copy proven to have the
// same content.
func (s *state) fits(l link, execution string) bool {
	if s.ETag == "" || s.Size != l.Size {
		return false
	}
	// One object has a checksum or has none, whenever it is asked for.
	sum := s.Checksum[crc64nvme]
	return sum == l.Checksum[crc64nvme] && (sum != "" || s.Of == execution)
}

// missing counts the bytes of a file of this size that aren't here.
func (s *state) missing(size int64) int64 {
	if s.ETag == "" || s.Size != size {
		return size
	}
	var n int64
	for _, m := range s.Missing {
		n += m.length()
	}
	return n
}

// partial is a file that is not whole: NAME.part, locked while it is written, and
// what is known of it in NAME.part.json.
type partial struct {
	path  string
	file  *os.File
	state state
	found bool // there was a state, perhaps of another download
	// replacing: the state isn't saved yet, and the saved one is of another download.
	replacing bool
	// shared: the file system keeps neither owners nor modes, so that a second start
	// couldn't tell whose the files are.
	shared bool
}

// openPartial opens the partial file, with the state of an earlier start where
// there is one. Other programs use the same name: a file with bytes and without a
// state isn't touched.
func openPartial(path string) (*partial, error) {
	p := &partial{path: path}
	var made bool
	var err error
	if p.file, made, err = openCompanion(path, true); err != nil {
		return nil, err
	}
	fail := func(err error) (*partial, error) {
		if made {
			os.Remove(path)
		}
		p.file.Close()
		return nil, err
	}
	err = unix.Flock(int(p.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		made = false
		return fail(exitError(exitLocal, "%s is being written by another download", escape.Text(path)))
	}
	if err != nil {
		return fail(exitError(exitLocal, "lock %s: %v", escape.Text(path), err))
	}
	if !named(p.file, path) {
		made = false
		return fail(exitError(exitLocal, "%s was just finished by another download", escape.Text(path)))
	}
	p.shared = made && !onlyUsers(p.file)
	p.state, err = readState(path + ".json")
	p.found = err == nil
	switch info, err2 := p.file.Stat(); {
	case errors.Is(err, fs.ErrNotExist) && (err2 != nil || info.Size() > 0):
		return fail(errForeign(path))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail(err)
	}
	if !p.sound() {
		p.state.ETag, p.state.Missing = "", nil
	}
	return p, nil
}

// sound reports whether the state can be about this file.
func (p *partial) sound() bool {
	s := &p.state
	if s.ETag == "" {
		return true // nothing is claimed
	}
	at := int64(0)
	for _, m := range s.Missing {
		if m.From < at || m.To <= m.From || m.To > s.Size {
			return false
		}
		at = m.To
	}
	info, err := p.file.Stat()
	return err == nil && info.Size() == s.Size
}

// rename gives the companion files the name of another target.
func (p *partial) rename(path string) error {
	for _, end := range []string{".json", ""} { // without a state, bytes are foreign
		if err := os.Rename(p.path+end, path+end); err != nil {
			return exitError(exitLocal, "rename the partial file: %v", pathless(err))
		}
	}
	p.path = path
	return nil
}

// forget drops the bytes but not the execution. First it takes back what is
// claimed of them: the file will soon have the size again that sound looks at.
func (p *partial) forget() error {
	p.state.ETag, p.state.Missing = "", nil
	if err := p.save(); err != nil {
		return err
	}
	if err := p.file.Truncate(0); err != nil {
		return exitError(exitLocal, "empty the partial file: %v", pathless(err))
	}
	return nil
}

// replaces begins a state that isn't saved yet.
func (p *partial) replaces(s state) {
	p.replacing = p.state.Request != ""
	p.state = s
}

// save makes the state durable. What the state claims must be durable before:
// see [partial.sync].
func (p *partial) save() error {
	err := writeState(p.path+".json", &p.state)
	if err == nil {
		p.replacing = false
	}
	return err
}

// sync makes the bytes durable.
func (p *partial) sync() error {
	if err := p.file.Sync(); err != nil {
		return exitError(exitLocal, "write the partial file: %v", pathless(err))
	}
	return nil
}

// leave keeps what a second start needs: an empty file isn't.
func (p *partial) leave() {
	if p.shared {
		p.discard()
		return
	}
	if p.state.ETag == "" && !p.replacing {
		os.Remove(p.path)
	}
	p.file.Close()
}

// discard leaves nothing, except another download's.
func (p *partial) discard() {
	if p.replacing {
		p.file.Close()
		return
	}
	os.Remove(p.path)
	os.Remove(p.path + ".json")
	p.file.Close()
}

// publish gives the whole file its name, atomically, once it is durable. Without
// overwrite, an existing file of that name stays.
func (p *partial) publish(name string, overwrite bool) error {
	p.file.Chmod(0o666 &^ umask) // some file systems have no modes
	if err := p.sync(); err != nil {
		return err
	}
	if !named(p.file, p.path) {
		return exitError(exitLocal, "%s was replaced during the download", escape.Text(p.path))
	}
	if overwrite {
		if err := os.Rename(p.path, name); err != nil {
			return exitError(exitLocal, "name the file: %v", pathless(err))
		}
	} else if err := renameNew(p.path, name); err != nil {
		p.file.Chmod(0o600) // for a second start
		return err
	}
	if !named(p.file, name) { // the folder is one that others may rename in
		os.Remove(name)
		return exitError(exitLocal, "%s was replaced at the end of the download; it wasn't the file that was checked", escape.Text(name))
	}
	syncFolder(name)
	os.Remove(p.path + ".json") // NAME.part may already be another start's
	p.file.Close()
	return nil
}

// renameNew renames a file to a name that must be free: atomically, where there are hard
// links.
func renameNew(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, fs.ErrExist) {
		return errExists(to)
	}
	if err == nil {
		os.Remove(from)
		return nil
	}
	// No hard links here (FAT, some network shares): look first.
	if _, err := os.Lstat(to); err == nil {
		return errExists(to)
	}
	if err := os.Rename(from, to); err != nil {
		return exitError(exitLocal, "name the file: %v", pathless(err))
	}
	return nil
}

func errExists(name string) error {
	return exitError(exitLocal, "%s exists; -f overwrites it, -o gives another name", escape.Text(name))
}
