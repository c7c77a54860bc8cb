package memdisk

import (
	"io"
	"io/fs"
	"syscall"
)

// file is an open handle. It stays good across Rename and Remove, not across
// Crash.
type file struct {
	fs         *FS
	node       *node
	name       string
	generation int
	closed     bool
}

func (f *file) usable() error {
	switch {
	case f.generation != f.fs.generation:
		return ErrCrashed
	case f.closed:
		return pathError("use", f.name, fs.ErrClosed)
	}
	return nil
}

// ReadAt implements disk.File.
func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return 0, err
	}
	if f.fs.crashed {
		return 0, ErrCrashed
	}
	if offset >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[offset:])
	for at, mask := range f.node.rot {
		if i := at - offset; i >= 0 && i < int64(n) {
			p[i] ^= mask
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements disk.File. On a full disk it writes what fits.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return 0, err
	}
	stop, err := f.fs.step()
	if err != nil {
		return 0, err
	}
	fits := f.fs.room(f.node, offset, len(p))
	if fits > 0 {
		f.node.write(p[:fits], offset)
	}
	if fits < len(p) {
		return fits, pathError("write", f.name, syscall.ENOSPC)
	}
	return fits, stop
}

// Truncate implements disk.File.
func (f *file) Truncate(sizeBytes int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return err
	}
	stop, err := f.fs.step()
	if err != nil {
		return err
	}
	f.node.resize(sizeBytes)
	return stop
}

// SizeBytes implements disk.File.
func (f *file) SizeBytes() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)), nil
}

// Sync implements disk.File. A sync that fails has lost what it was to save,
// as Linux does: the bytes read back until the crash, and are then gone; a
// second sync succeeds and saves nothing of them.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return err
	}
	stop, err := f.fs.step()
	if err != nil {
		return err
	}
	if stop != nil {
		return stop // how much of it happened is Crash's to choose
	}
	if f.fs.syncFails() {
		clear(f.node.dirty)
		return pathError("sync", f.name, ErrSync)
	}
	f.node.sync()
	return nil
}

// Close implements disk.File.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
