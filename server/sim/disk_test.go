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
	r *process
	w *world
	m *member
	// task is the one that runs; nil between tasks.
	task *task
	// killIn operations succeed before the kill; negative: none is set.
	killIn int
	// dead is set once the process or its machine is gone: nothing of this run
	// reaches the disk any more.
	dead error
	// fault is an injected failure that was given to the process.
	fault error
	// files are those that it ever opened.
	files []*processFile
}

// change is asked before each operation that changes the disk, and lets it take
// its time.
func (p *processFS) change(takes int64) error {
	if p.dead != nil {
		return p.dead
	}
	if err := p.r.suspend(p.m.diskTime(takes)); err != nil {
		return err
	}
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

// diskTime is how long an operation takes that takes so long on a good disk: it
// may be slow, and it may stall.
func (m *member) diskTime(takes int64) int64 {
	w := m.w
	if w.calm {
		return takes
	}
	if w.now < m.slowUntil {
		takes += w.about(100 * millisecond)
	}
	return max(takes, m.stalledUntil-w.now)
}

func (p *processFS) quick() int64 { return p.w.between(2, 20) }

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
	if err := p.change(p.quick()); err != nil {
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
	opened := &processFile{File: f, fs: p, name: name, isLog: strings.Contains(name, logDir)}
	p.files = append(p.files, opened)
	return opened
}

func (p *processFS) changing(takes int64, do func() error) error {
	if err := p.change(takes); err != nil {
		return err
	}
	return p.note(do())
}

func (p *processFS) MkdirAll(dir string) error {
	return p.changing(p.quick(), func() error { return p.FS.MkdirAll(dir) })
}

func (p *processFS) Rename(oldName, newName string) error {
	return p.changing(p.quick(), func() error {
		err := p.FS.Rename(oldName, newName)
		if err != nil {
			return err
		}
		names := []*string{&p.m.lastWrite.name, &p.m.lastSynced.name}
		for _, f := range p.files {
			names = append(names, &f.name)
		}
		for _, name := range names {
			if *name == oldName {
				*name = newName
			}
		}
		return nil
	})
}

func (p *processFS) Remove(name string) error {
	return p.changing(p.quick(), func() error { return p.FS.Remove(name) })
}

func (p *processFS) RemoveAll(name string) error {
	return p.changing(p.quick(), func() error { return p.FS.RemoveAll(name) })
}

func (p *processFS) SyncDir(dir string) error {
	return p.changing(p.w.about(p.w.p.sync), func() error { return p.FS.SyncDir(dir) })
}

// extent is a part of a file.
type extent struct {
	name     string
	from, to int64
}

func (e extent) holds(name string, at int64) bool {
	return e.name == name && at >= e.from && at < e.to
}

// processFile is an open file of one run.
type processFile struct {
	disk.File
	fs    *processFS
	name  string
	isLog bool // else the engine's or the marker's
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
	if err := f.fs.change(f.fs.quick()); err != nil {
		if alive {
			_, _ = f.File.WriteAt(b[:f.fs.w.rng.IntN(len(b)+1)], at)
		}
		return 0, err
	}
	m := f.fs.m
	fits := min(len(b), m.room)
	n, err := f.File.WriteAt(b[:fits], at)
	if m.room != noLimit {
		m.room -= n
	}
	if f.isLog {
		m.lastWrite = extent{f.name, at, at + int64(len(b))}
	}
	if err == nil && fits < len(b) {
		err = syscall.ENOSPC
	}
	return n, f.fs.note(err)
}

func (f *processFile) Truncate(sizeBytes int64) error {
	return f.fs.changing(f.fs.quick(), func() error { return f.File.Truncate(sizeBytes) })
}

func (f *processFile) Sync() error {
	written := f.fs.m.lastWrite
	takes := f.fs.w.about(f.fs.w.p.sync)
	var err error
	switch planted := f.fs.w.planted; {
	case f.isLog && planted == plantNoSync, strings.HasPrefix(f.name, engineDir) && planted == plantNoDumpSync:
		err = f.fs.change(takes)
	default:
		err = f.fs.changing(takes, f.File.Sync)
	}
	if f.isLog && err == nil { // until then, and if it fails, the one before is the last
		f.fs.m.lastSynced = written
	}
	return err
}
