package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"syscall"

	"metastore.io/metastore/server/disk"
)

// swap replaces a data dir by a restored one and back. What lies where says how
// far it came; each step is one rename, so that a crash leaves one of these:
//
//	DIR    .before-WORD  .new-WORD
//	old    -             -, or not sealed    nothing was done, or the new one is being built
//	old    -             sealed              the new one is whole
//	-      old           sealed              the old one is out of the way
//	new    old           -                   done; finish or undo follow
//	new    -             -                   done where there was no old one, or finished
//
// An undo renames DIR to .undone-WORD, and .before-WORD back to DIR; finish
// renames .before-WORD to .old-WORD before it deletes that, so that an undo
// never brings back half a data dir.
type swap struct {
	fs disk.FS
	// dir is the data dir. fresh is where the new one is built, spool where its
	// snapshot is unpacked to.
	dir, fresh, spool   string
	before, old, undone string
	once                string
}

const (
	// sealFile lies in a data dir that a restore made, as its last file.
	sealFile     = "RESTORED"
	maxSealBytes = 64 << 10
	// lockFile is that of node.
	lockFile = "LOCK"
)

// seal says which restore made a data dir.
type seal struct {
	Once string `json:"once"`
	// Replaced: there was another data dir before.
	Replaced bool     `json:"replaced"`
	Restored Restored `json:"restored"`
}

var oncePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$`)

func newSwap(f disk.FS, dir, once string) (*swap, error) {
	if dir == "" {
		return nil, failf(InvalidArgument, "--data-dir is needed")
	}
	if once != "" && !oncePattern.MatchString(once) {
		return nil, failf(InvalidArgument, "--once=%s is not valid: up to 64 letters, digits, '.', '_' and '-' are allowed", once)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, failf(InvalidArgument, "--data-dir: %w", err)
	}
	s := &swap{fs: f, dir: dir, once: once}
	suffix := ""
	if once != "" {
		suffix = "-" + once
	}
	s.fresh, s.spool = dir+".new"+suffix, dir+".snapshot"+suffix
	s.before, s.old, s.undone = dir+".before"+suffix, dir+".old"+suffix, dir+".undone"+suffix
	return s, nil
}

func (s *swap) parent() string { return filepath.Dir(s.dir) }

func (s *swap) exists(dir string) (bool, error) {
	_, err := s.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, scratchError("look for "+dir, err)
	}
	return true, nil
}

// readSeal gives nil for a dir that no restore of this word has made whole.
func (s *swap) readSeal(dir string) (*seal, error) {
	b, err := disk.ReadFile(s.fs, filepath.Join(dir, sealFile), maxSealBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, scratchError("read the seal of "+dir, err)
	}
	var found seal
	if err := json.Unmarshal(b, &found); err != nil {
		return nil, failf(Failed, "%s is not readable: %w", filepath.Join(dir, sealFile), err)
	}
	if found.Once != s.once {
		return nil, nil
	}
	return &found, nil
}

// done gives what a restore of this word did that is done. Without a word it
// wants that nothing is there.
func (s *swap) done() (*Restored, error) {
	there, err := s.exists(s.dir)
	if err != nil || !there {
		return nil, err
	}
	if s.once == "" {
		return nil, failf(AlreadyExists, "the data dir %s exists; without --once a restore makes a new one", s.dir)
	}
	found, err := s.readSeal(s.dir)
	if err != nil || found == nil {
		return nil, err
	}
	return &found.Restored, nil
}

// whole says whether an earlier run with this word has built the new data dir.
func (s *swap) whole() (bool, error) {
	if s.once == "" {
		return false, nil
	}
	found, err := s.readSeal(s.fresh)
	return found != nil, err
}

// prepare removes what an earlier run has left half built.
func (s *swap) prepare() error {
	if err := s.fs.MkdirAll(s.parent()); err != nil {
		return scratchError("make the folder of the data dir", err)
	}
	return s.discard()
}

// discard removes the new data dir and its snapshot.
func (s *swap) discard() error {
	if err := s.fs.RemoveAll(s.fresh); err != nil {
		return scratchError("remove "+s.fresh, err)
	}
	return s.dropSpool()
}

func (s *swap) dropSpool() error {
	if err := s.fs.RemoveAll(s.spool); err != nil {
		return scratchError("remove "+s.spool, err)
	}
	return nil
}

// seal marks the new data dir as whole.
func (s *swap) seal(r *Restored) error {
	there, err := s.exists(s.dir)
	if err != nil {
		return err
	}
	b, err := json.Marshal(seal{Once: s.once, Replaced: there, Restored: *r})
	if err != nil {
		return withReason(Failed, err)
	}
	if err := disk.WriteFile(s.fs, s.fresh, sealFile, b); err != nil {
		return scratchError("seal "+s.fresh, err)
	}
	return nil
}

// replace puts the new data dir, which is whole, in its place.
func (s *swap) replace() (*Restored, error) {
	found, err := s.readSeal(s.fresh)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, failf(Failed, "%s is not whole", s.fresh)
	}
	if err := s.dropSpool(); err != nil {
		return nil, err
	}
	there, err := s.exists(s.dir)
	if err != nil {
		return nil, err
	}
	if there {
		lock, err := s.lock()
		if err != nil {
			return nil, err
		}
		defer func() { _ = lock.Close() }() // ends with the process at the latest
		if err := s.rename(s.dir, s.before); err != nil {
			return nil, err
		}
	}
	return &found.Restored, s.rename(s.fresh, s.dir)
}

// lock makes sure that no member runs on the data dir.
func (s *swap) lock() (io.Closer, error) {
	lock, err := s.fs.Lock(filepath.Join(s.dir, lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return nil, failf(Failed, "the data dir %s is in use by another process", s.dir)
	}
	if err != nil {
		return nil, scratchError("lock the data dir", err)
	}
	return lock, nil
}

func (s *swap) rename(from, to string) error {
	err := s.fs.Rename(from, to)
	if err == nil {
		err = s.fs.SyncDir(s.parent())
	}
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
		return failf(InvalidArgument, "--data-dir=%s is a mount point: it has to be a folder in a volume: %w", s.dir, err)
	}
	if err != nil {
		return scratchError(fmt.Sprintf("rename %s to %s", from, to), err)
	}
	return nil
}

func (s *swap) removeAll(dir string) error {
	err := s.fs.RemoveAll(dir)
	if err == nil {
		err = s.fs.SyncDir(s.parent())
	}
	if err != nil {
		return scratchError("remove "+dir, err)
	}
	return nil
}
