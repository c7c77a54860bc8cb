package sim

import (
	"errors"
	"math"
	"strings"
	"syscall"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
)

// noLimit is the room of a disk that does not fill up.
const noLimit = math.MaxInt

// errKilled is what every operation on the disk gives once the process was
// killed in the middle of one. What it had written stays with the operating
// system, synced or not.
var errKilled = errors.New("sim: killed")

// injected tells the failures that the simulator made.
func injected(err error) bool {
	for _, made := range []error{errKilled, memdisk.ErrCrashed, memdisk.ErrSync, syscall.ENOSPC} {
		if errors.Is(err, made) {
			return true
		}
	}
	return false
}

// processFS is a member's disk as one run of its process sees it.
type processFS struct {
	disk.FS
	w *world
	m *member
	// killIn operations succeed before the kill; negative: none is set.
	killIn int
	// dead is set once the process or its machine is gone: nothing of this run
	// reaches the disk any more.
	dead error
	// fault is an injected failure that was given to the process.
	fault error
}

// change is asked before each operation that changes the disk.
func (p *processFS) change() error {
	if p.dead != nil {
		return p.dead
	}
	if p.killIn == 0 {
		p.dead, p.fault = errKilled, errKilled
		return p.dead
	}
	if p.killIn > 0 {
		p.killIn--
	}
	return nil
}

func (p *processFS) note(err error) error {
	if errors.Is(err, memdisk.ErrCrashed) {
		p.dead = err
	}
	if err != nil && injected(err) {
		p.fault = err
	}
	return err
}

func (p *processFS) Create(name string) (disk.File, error) {
	if err := p.change(); err != nil {
		return nil, err
	}
	f, err := p.FS.Create(name)
	return p.file(f, name), p.note(err)
}

func (p *processFS) Open(name string) (disk.File, error) {
	if p.dead != nil {
		return nil, p.dead
	}
	f, err := p.FS.Open(name)
	if err != nil {
		return nil, p.note(err)
	}
	return p.file(f, name), nil
}

func (p *processFS) file(f disk.File, name string) disk.File {
	return &processFile{File: f, fs: p, isLog: strings.Contains(name, logDir)}
}

func (p *processFS) changing(do func() error) error {
	if err := p.change(); err != nil {
		return err
	}
	return p.note(do())
}

func (p *processFS) MkdirAll(dir string) error {
	return p.changing(func() error { return p.FS.MkdirAll(dir) })
}

func (p *processFS) Rename(oldName, newName string) error {
	return p.changing(func() error { return p.FS.Rename(oldName, newName) })
}

func (p *processFS) Remove(name string) error {
	return p.changing(func() error { return p.FS.Remove(name) })
}

func (p *processFS) RemoveAll(name string) error {
	return p.changing(func() error { return p.FS.RemoveAll(name) })
}

func (p *processFS) SyncDir(dir string) error {
	return p.changing(func() error { return p.FS.SyncDir(dir) })
}

// processFile is an open file of one run.
type processFile struct {
	disk.File
	fs    *processFS
	isLog bool
}

func (f *processFile) ReadAt(b []byte, at int64) (int, error) {
	if f.fs.dead != nil {
		return 0, f.fs.dead
	}
	n, err := f.File.ReadAt(b, at)
	return n, f.fs.note(err)
}

// WriteAt of a process that is killed meanwhile leaves the first part.
func (f *processFile) WriteAt(b []byte, at int64) (int, error) {
	alive := f.fs.dead == nil
	if err := f.fs.change(); err != nil {
		if alive {
			_, _ = f.File.WriteAt(b[:f.fs.w.rng.IntN(len(b)+1)], at)
		}
		return 0, err
	}
	fits := min(len(b), f.fs.m.room)
	n, err := f.File.WriteAt(b[:fits], at)
	if f.fs.m.room != noLimit {
		f.fs.m.room -= n
	}
	if err == nil && fits < len(b) {
		err = syscall.ENOSPC
	}
	return n, f.fs.note(err)
}

func (f *processFile) Truncate(sizeBytes int64) error {
	return f.fs.changing(func() error { return f.File.Truncate(sizeBytes) })
}

func (f *processFile) Sync() error {
	if f.isLog && f.fs.w.planted == plantNoSync {
		return f.fs.change()
	}
	return f.fs.changing(f.File.Sync)
}
