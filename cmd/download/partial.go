package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// span is the bytes From up to, not including, To.
type span struct{ From, To int64 }

func (s span) length() int64 { return s.To - s.From }

// state is what a second start needs to go on. It holds a ticket and URLs that
// act for the user, so its file is the user's alone.
type state struct {
	Request   string    `json:"request"` // hash of the API's URL, path and query
	Execution execution `json:"execution"`
	// What follows is of the bytes. They may be those of an earlier execution's
	// object: Of is the ARN of theirs.
	Of       string            `json:"of,omitempty"`
	Size     int64             `json:"size"`
	ETag     string            `json:"etag,omitempty"` // "": there are none
	Checksum map[string]string `json:"checksum,omitempty"`
	Missing  []span            `json:"missing,omitempty"` // in order
}

// ours says whether the bytes are of the execution's own object.
func (s *state) ours() bool { return s.ETag != "" && s.Of == s.Execution.ARN }

// fits says whether the bytes may stand beside bytes of l, the execution's link:
// they are of the same object, or of another copy proven to have the same content.
func (s *state) fits(l link) bool {
	if s.ETag == "" || s.Size != l.Size {
		return false
	}
	// One object has a checksum or has none, whenever it is asked for.
	sum := s.Checksum[crc64nvme]
	return sum == l.Checksum[crc64nvme] && (sum != "" || s.ours())
}

// partial is a file that is not whole: NAME.part, what is known of it in
// NAME.part.json, and NAME.part.lock against a second process.
type partial struct {
	path  string
	file  *os.File
	lock  *flock.Flock
	state state
	found bool // there was a state, of whatever download
}

// openPartial takes the partial file, with the state of an earlier start when
// there is one that can be read. Other programs call their partial files the
// same: one with bytes and without a state is theirs.
func openPartial(path string) (*partial, error) {
	p := &partial{path: path, lock: flock.New(path+".lock", flock.SetPermissions(0o600))}
	locked, err := p.lock.TryLock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitLocal, "there is no folder %s", filepath.Dir(path))
	}
	if err != nil {
		return nil, fail(exitLocal, "lock the partial file: %v", err)
	}
	if !locked {
		return nil, fail(exitLocal, "%s is being written by another download", path)
	}
	// Locked may be a file that its last owner has just removed.
	mine, err1 := p.lock.Stat()
	named, err2 := os.Stat(path + ".lock")
	if err1 != nil || err2 != nil || !os.SameFile(mine, named) {
		p.lock.Unlock()
		return nil, fail(exitLocal, "%s was just finished by another download", path)
	}
	if mine.Size() > 0 {
		p.lock.Unlock()
		return nil, errForeign(path + ".lock")
	}
	p.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		p.unlock()
		return nil, fail(exitLocal, "open the partial file: %v", err)
	}
	foreign := func(name string) (*partial, error) {
		p.file.Close()
		p.unlock()
		return nil, errForeign(name)
	}
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		if info, err := p.file.Stat(); err != nil || info.Size() > 0 || !info.Mode().IsRegular() {
			return foreign(path)
		}
		return p, nil
	}
	if json.Unmarshal(text, &p.state) != nil || p.state.Request == "" {
		return foreign(path + ".json") // ours is written at once or not at all
	}
	p.found = true
	if !p.sound() {
		p.state = state{}
	}
	return p, nil
}

func errForeign(name string) error {
	return fail(exitLocal, "%s is not this program's, whose partial files are called so, with .json and .lock; move them away, or choose another name with -o", printable(name))
}

// unlock takes the lock's file away as well.
func (p *partial) unlock() {
	os.Remove(p.path + ".lock")
	p.lock.Unlock()
}

// sound says whether the state can be about this file.
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

// forget drops the bytes but not the execution. First it takes back what is
// claimed of them: the file will soon have the size again that sound looks at.
func (p *partial) forget() error {
	p.state.ETag, p.state.Missing = "", nil
	if err := p.save(); err != nil {
		return err
	}
	if err := p.file.Truncate(0); err != nil {
		return fail(exitLocal, "empty the partial file: %v", err)
	}
	return nil
}

// save makes the state durable. What the state claims must be durable before:
// see [partial.sync].
func (p *partial) save() error {
	text, err := json.Marshal(&p.state)
	if err != nil {
		return err
	}
	if err := writeDurably(p.path+".json", text); err != nil {
		return fail(exitLocal, "save the state: %v", err)
	}
	return nil
}

// sync makes the bytes durable.
func (p *partial) sync() error {
	if err := p.file.Sync(); err != nil {
		return fail(exitLocal, "write the partial file: %v", err)
	}
	return nil
}

func writeDurably(path string, text []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	syncFolder(path)
	return nil
}

// syncFolder makes a name durable, which it is when its folder is; some systems
// can't sync a folder.
func syncFolder(name string) {
	if dir, err := os.Open(filepath.Dir(name)); err == nil {
		dir.Sync()
		dir.Close()
	}
}

// leave keeps everything for a second start.
func (p *partial) leave() {
	p.file.Close()
	p.lock.Unlock()
}

// discard leaves nothing.
func (p *partial) discard() {
	os.Remove(p.path)
	os.Remove(p.path + ".json")
	os.Remove(p.path + ".lock")
	p.leave()
}

// publish gives the whole file its name: at once and not before it is durable.
// Without overwrite, a file that has the name by now stays.
func (p *partial) publish(name string, overwrite bool) error {
	if err := p.sync(); err != nil {
		return err
	}
	if overwrite {
		if err := os.Rename(p.path, name); err != nil {
			return fail(exitLocal, "name the file: %v", err)
		}
	} else if err := renameNew(p.path, name); err != nil {
		return err
	}
	syncFolder(name)
	p.discard()
	return nil
}

// renameNew fails where the name is taken, without a moment in between.
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
		return fail(exitLocal, "name the file: %v", err)
	}
	return nil
}

func errExists(name string) error {
	return fail(exitLocal, "%s exists; -f overwrites it", printable(name))
}
