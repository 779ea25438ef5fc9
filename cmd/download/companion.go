package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"async-download/internal/escape"
)

// Companion files, NAME.part and NAME.part.json, lie in folders that others may
// write to, and their names can be guessed. What they say is trusted with the
// user's bytes and with what was asked for, so they count only if this user
// wrote them and nobody else can: a regular file of the user's, under one name,
// with mode 0600. Symbolic links are never followed.

// errForeign refuses a companion file that this user's downloads can't have made.
func errForeign(path string) error {
	return exitError(exitLocal, "%s isn't your unfinished download; move it away, or choose another name with -o", escape.Text(path))
}

// openCompanion opens a companion file. With create, it makes a missing one, and made
// is true. The error is fs.ErrNotExist for a missing file and a [problem] otherwise.
func openCompanion(path string, create bool) (f *os.File, made bool, err error) {
	const flags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	f, err = os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) && create {
		f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
		made = err == nil
		if errors.Is(err, fs.ErrExist) { // since a moment ago
			f, err = os.OpenFile(path, flags, 0)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !create:
		return nil, false, fs.ErrNotExist
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EMLINK), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO):
		return nil, false, errForeign(path)
	case err != nil:
		if _, err := os.Lstat(path); err == nil {
			return nil, false, errForeign(path) // it can't be opened
		}
		return nil, false, cantWrite(path, err)
	}
	if !made && !onlyUsers(f) {
		f.Close()
		return nil, false, errForeign(path)
	}
	return f, made, nil
}

// onlyUsers reports whether nobody but this user can have written the open file.
func onlyUsers(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&^0o600 == 0 && s.Nlink == 1 && int(s.Uid) == os.Geteuid()
}

// named reports whether path still names the open file.
func named(f *os.File, path string) bool {
	mine, err1 := f.Stat()
	there, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(mine, there)
}

// cantWrite explains why a file can't be made.
func cantWrite(path string, err error) error {
	folder := filepath.Dir(path)
	var system syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist) && !isFolder(folder):
		return exitError(exitLocal, "there is no folder %s", escape.Text(folder))
	case errors.As(err, &system):
		return exitError(exitLocal, "can't write in %s: %v", escape.Text(folder), system)
	}
	return exitError(exitLocal, "can't write in %s: %s", escape.Text(folder), escape.Text(err.Error()))
}

// readState reads NAME.part.json; fs.ErrNotExist where there is none.
func readState(path string) (state, error) {
	var s state
	f, _, err := openCompanion(path, false)
	if err != nil {
		return s, err
	}
	defer f.Close()
	if json.NewDecoder(io.LimitReader(f, maxState)).Decode(&s) != nil || s.Request == "" {
		return state{}, errForeign(path) // writeState leaves no half a state
	}
	return s, nil
}

// maxState is far above what a state needs.
const maxState = 1 << 20

// writeState replaces NAME.part.json durably and atomically.
func writeState(path string, s *state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	temp := path + ".new"
	os.Remove(temp) // of a start that was killed
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return cantWrite(path, err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return exitError(exitLocal, "save the state: %v", pathless(err))
	}
	syncFolder(path)
	return nil
}

// pathless takes the path out of an error that a message names already.
func pathless(err error) error {
	var system syscall.Errno
	if errors.As(err, &system) {
		return system
	}
	return err
}

// syncFolder makes a name durable, which it is when its folder is; some systems
// can't sync a folder.
func syncFolder(name string) {
	if dir, err := os.Open(filepath.Dir(name)); err == nil {
		dir.Sync()
		dir.Close()
	}
}

// umask is the process's. It can be read only by setting it, which is safe before
// anything else runs.
var umask = func() os.FileMode {
	mask := unix.Umask(0)
	unix.Umask(mask)
	return os.FileMode(mask) & 0o777
}()

// freeSpace returns how many bytes this user can still write in a folder.
func freeSpace(folder string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
