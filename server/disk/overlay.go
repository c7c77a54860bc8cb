package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
)

// Overlay is the operating system's file system as if it could be written to:
// what is written stays in memory and is gone with the overlay, so that code
// which repairs what it opens can be run over files that must not change. Files
// are opened for reading only. Lock takes the lock of a file that is there, as
// OS does; where there is none, nobody holds it and nothing is locked.
func Overlay() FS {
	return &overlay{files: map[string]*overlayFile{}, dirs: map[string]bool{}}
}

type overlay struct {
	mu sync.Mutex // guards all, and the files' content
	// files are those that were opened, made, or, where nil, removed with all
	// below them; by clean path.
	files map[string]*overlayFile
	dirs  map[string]bool
}

// overlayFile is a file's content.
type overlayFile struct {
	// below is the file's path on disk, "" for one that was made; of its bytes
	// the first belowBytes count.
	below                 string
	belowBytes, sizeBytes int64
	// writes lie over it, the later ones above.
	writes []overlayWrite
}

type overlayWrite struct {
	offset int64
	bytes  []byte
}

func (o *overlay) Create(name string) (File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := &overlayFile{}
	o.files[path.Clean(name)] = f
	return &overlayHandle{o: o, file: f}, nil
}

func (o *overlay) Open(name string) (File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, err := o.find(name)
	if err != nil {
		return nil, err
	}
	h := &overlayHandle{o: o, file: f}
	if f.below != "" {
		if h.below, err = os.Open(f.below); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// find gives a file that is there. The caller holds mu.
func (o *overlay) find(name string) (*overlayFile, error) {
	name = path.Clean(name)
	if f := o.files[name]; f != nil {
		return f, nil
	}
	if o.hidden(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	f := &overlayFile{below: name, belowBytes: info.Size(), sizeBytes: info.Size()}
	o.files[name] = f
	return f, nil
}

// hidden tells whether a path, or a folder above it, was removed.
func (o *overlay) hidden(name string) bool {
	for {
		if f, known := o.files[name]; known && f == nil {
			return true
		}
		up := path.Dir(name)
		if up == name {
			return false
		}
		name = up
	}
}

func (o *overlay) MkdirAll(dir string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dirs[path.Clean(dir)] = true
	return nil
}

func (o *overlay) List(dir string) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	dir = path.Clean(dir)
	var names []string
	if !o.hidden(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil && !(o.dirs[dir] && errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		for _, e := range entries {
			if !o.hidden(path.Join(dir, e.Name())) {
				names = append(names, e.Name())
			}
		}
	}
	for name, f := range o.files {
		if f != nil && path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (o *overlay) Rename(oldName, newName string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, err := o.find(oldName)
	if err != nil {
		return err
	}
	o.files[path.Clean(oldName)] = nil
	o.files[path.Clean(newName)] = f
	return nil
}

func (o *overlay) Remove(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, err := o.find(name); err != nil {
		return err
	}
	o.files[path.Clean(name)] = nil
	return nil
}

func (o *overlay) RemoveAll(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	name = path.Clean(name)
	for other := range o.files {
		for up := other; up != path.Dir(up); up = path.Dir(up) {
			if up == name {
				delete(o.files, other)
			}
		}
	}
	o.files[name] = nil
	return nil
}

func (o *overlay) SyncDir(string) error { return nil }

func (o *overlay) Lock(name string) (io.Closer, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close() // opened for the lock only
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

// overlayHandle is an open file.
type overlayHandle struct {
	o     *overlay
	file  *overlayFile
	below *os.File // nil for a file that was made
}

func (h *overlayHandle) ReadAt(b []byte, offset int64) (int, error) {
	h.o.mu.Lock()
	defer h.o.mu.Unlock()
	f := h.file
	n := int(min(int64(len(b)), max(f.sizeBytes-offset, 0)))
	short := n < len(b)
	b = b[:n]
	clear(b)
	if fromBelow := min(int64(n), f.belowBytes-offset); fromBelow > 0 {
		if _, err := h.below.ReadAt(b[:fromBelow], offset); err != nil {
			return 0, err
		}
	}
	for _, w := range f.writes {
		from, to := max(w.offset, offset), min(w.offset+int64(len(w.bytes)), offset+int64(n))
		if from < to {
			copy(b[from-offset:to-offset], w.bytes[from-w.offset:])
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

func (h *overlayHandle) WriteAt(b []byte, offset int64) (int, error) {
	h.o.mu.Lock()
	defer h.o.mu.Unlock()
	h.file.writes = append(h.file.writes, overlayWrite{offset, slices.Clone(b)})
	h.file.sizeBytes = max(h.file.sizeBytes, offset+int64(len(b)))
	return len(b), nil
}

func (h *overlayHandle) SizeBytes() (int64, error) {
	h.o.mu.Lock()
	defer h.o.mu.Unlock()
	return h.file.sizeBytes, nil
}

func (h *overlayHandle) Truncate(sizeBytes int64) error {
	h.o.mu.Lock()
	defer h.o.mu.Unlock()
	f := h.file
	f.belowBytes, f.sizeBytes = min(f.belowBytes, sizeBytes), sizeBytes
	for i, w := range f.writes {
		f.writes[i].bytes = w.bytes[:min(max(sizeBytes-w.offset, 0), int64(len(w.bytes)))]
	}
	return nil
}

func (h *overlayHandle) Sync() error { return nil }

func (h *overlayHandle) Close() error {
	if h.below == nil {
		return nil
	}
	return h.below.Close()
}
