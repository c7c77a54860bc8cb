// Package memdisk is a disk.FS in memory that fails as disks do. It knows
// which bytes and names were synced; Crash forgets or tears the rest, and a
// test can make syncs fail, fill the disk, flip bits and cut the power in the
// middle of any operation. Everything random comes from the seed, so that a
// run can be repeated. For tests and the simulator only.
//
// What a crash does:
//   - bytes: each 512-byte sector written since the file's last Sync is old,
//     new, or torn (its first part new, the rest old). Of several versions
//     written since that Sync only the newest may appear;
//   - length: the old one, the new one, or one between;
//   - names: a folder's unsynced changes survive as a prefix of their order
//     (as a metadata journal keeps them), each folder by itself;
//   - locks are free again, and every handle from before fails.
package memdisk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"metastore.io/metastore/server/disk"
)

const sectorBytes = 512

// ErrCrashed is what every operation gives from a crash point (CrashAfter) to
// Crash, and what handles from before a Crash give for good.
var ErrCrashed = errors.New("memdisk: crashed")

// ErrSync is what a sync that was told to fail gives.
var ErrSync = errors.New("memdisk: input/output error")

// FS is the file system. All methods may run concurrently.
type FS struct {
	mu    sync.Mutex
	rng   *rand.Rand
	root  *node
	locks map[string]bool

	generation int  // counts crashes; handles of an older one are dead
	crashed    bool // at a crash point: nothing works until Crash
	crashIn    int  // operations left to the crash point; < 0: none is set
	failSyncIn int  // syncs left to the one that fails; < 0: none is set
	capacity   int64
	ops        int
	syncs      int
}

var _ disk.FS = (*FS)(nil)

// New makes an empty file system; its faults follow the seed.
func New(seed uint64) *FS {
	return &FS{
		rng:        rand.New(rand.NewPCG(seed, 0x6d656d6469736b)),
		root:       newFolder(),
		locks:      map[string]bool{},
		crashIn:    -1,
		failSyncIn: -1,
		capacity:   -1,
	}
}

// Create implements disk.FS. A file that is there keeps its identity and is
// truncated, as on a real disk.
func (m *FS) Create(name string) (disk.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stop, err := m.step()
	if err != nil {
		return nil, err
	}
	folder, base, err := m.parent("create", name)
	if err != nil {
		return nil, err
	}
	n := folder.names[base]
	switch {
	case n == nil:
		n = newFile()
		folder.change(nameOp{add: base, node: n})
	case n.isFolder():
		return nil, pathError("create", name, errors.New("is a folder"))
	default:
		n.resize(0)
	}
	return &file{fs: m, node: n, name: name, generation: m.generation}, stop
}

// Open implements disk.FS.
func (m *FS) Open(name string) (disk.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return nil, ErrCrashed
	}
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.isFolder() {
		return nil, pathError("open", name, errors.New("is a folder"))
	}
	return &file{fs: m, node: n, name: name, generation: m.generation}, nil
}

// MkdirAll implements disk.FS. A new folder's name needs a SyncDir of its
// parent like any other name.
func (m *FS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stop, err := m.step()
	if err != nil {
		return err
	}
	n := m.root
	for _, part := range split(dir) {
		child := n.names[part]
		if child == nil {
			child = newFolder()
			n.change(nameOp{add: part, node: child})
		}
		if !child.isFolder() {
			return pathError("mkdir", dir, errors.New("is a file"))
		}
		n = child
	}
	return stop
}

// List implements disk.FS.
func (m *FS) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return nil, ErrCrashed
	}
	n, err := m.folder("list", dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(n.names))
	for name := range n.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Rename implements disk.FS. The change belongs to the folder of newName.
func (m *FS) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stop, err := m.step()
	if err != nil {
		return err
	}
	n, err := m.find("rename", oldName)
	if err != nil {
		return err
	}
	from, oldBase, err := m.parent("rename", oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.parent("rename", newName)
	if err != nil {
		return err
	}
	if from == to {
		to.change(nameOp{drop: oldBase, add: newBase, node: n})
		return stop
	}
	to.change(nameOp{add: newBase, node: n})
	from.change(nameOp{drop: oldBase})
	return stop
}

// Remove implements disk.FS.
func (m *FS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("remove", name)
	if err != nil {
		return err
	}
	if len(n.names) > 0 {
		return pathError("remove", name, errors.New("folder not empty"))
	}
	return m.drop("remove", name)
}

// RemoveAll implements disk.FS; a name that is not there is no error.
func (m *FS) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.find("remove", name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return m.drop("remove", name)
}

func (m *FS) drop(verb, name string) error {
	stop, err := m.step()
	if err != nil {
		return err
	}
	folder, base, err := m.parent(verb, name)
	if err != nil {
		return err
	}
	folder.change(nameOp{drop: base})
	return stop
}

// SyncDir implements disk.FS.
func (m *FS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stop, err := m.step()
	if err != nil {
		return err
	}
	n, err := m.folder("sync", dir)
	if err != nil {
		return err
	}
	if stop != nil {
		return stop // how much of it happened is Crash's to choose
	}
	if m.syncFails() {
		return pathError("sync", dir, ErrSync)
	}
	n.settle(len(n.pending))
	return nil
}

// Lock implements disk.FS.
func (m *FS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return nil, ErrCrashed
	}
	folder, base, err := m.parent("lock", name)
	if err != nil {
		return nil, err
	}
	name = filepath.Clean(name)
	if m.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, disk.ErrLocked)
	}
	if folder.names[base] == nil {
		folder.change(nameOp{add: base, node: newFile()})
	}
	m.locks[name] = true
	return &lock{fs: m, name: name, generation: m.generation}, nil
}

type lock struct {
	fs         *FS
	name       string
	generation int
}

// Close gives the lock back, unless a crash already did.
func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.generation == l.fs.generation {
		delete(l.fs.locks, l.name)
	}
	return nil
}

func (m *FS) find(verb, name string) (*node, error) {
	n := m.root
	for _, part := range split(name) {
		if n = n.names[part]; n == nil {
			return nil, pathError(verb, name, fs.ErrNotExist)
		}
	}
	return n, nil
}

func (m *FS) folder(verb, name string) (*node, error) {
	n, err := m.find(verb, name)
	if err != nil {
		return nil, err
	}
	if !n.isFolder() {
		return nil, pathError(verb, name, errors.New("is a file"))
	}
	return n, nil
}

func (m *FS) parent(verb, name string) (folder *node, base string, err error) {
	folder, err = m.folder(verb, filepath.Dir(filepath.Clean(name)))
	return folder, filepath.Base(name), err
}

func split(name string) []string {
	name = filepath.ToSlash(filepath.Clean(name))
	if name == "." {
		return nil
	}
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

func pathError(verb, name string, err error) error {
	return &fs.PathError{Op: verb, Path: name, Err: err}
}
