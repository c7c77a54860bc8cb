package replica

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
)

// Engines is the folder of one member's engines. Each engine lives in a
// numbered folder, and the file CURRENT names the one in use: a received
// snapshot is built beside it and adopted by one rename.
//
//	dir/CURRENT                    the number in decimal, a space, the CRC32C of
//	                               its digits in hexadecimal, and a newline;
//	                               the first versions wrote no checksum
//	dir/<number>/                  the engine in use
//	dir/<number>.index             an image of its state's index, see Rest
//	dir/<other number>/            unfinished or left over; removed at open
type Engines struct {
	fs     disk.FS
	dir    string
	opener engine.Opener

	mu sync.Mutex
	// current is the number in CURRENT. Invariant: its folder is whole.
	current uint64
	// next is the number of the next import; never used before in this run.
	next uint64
}

const currentFile = "CURRENT"

// OpenEngines opens the folder, makes it when missing, and opens the engine in
// use. What an interrupted import left is removed.
func OpenEngines(f disk.FS, dir string, opener engine.Opener) (*Engines, engine.Engine, error) {
	e := &Engines{fs: f, dir: dir, opener: opener}
	if err := f.MkdirAll(dir); err != nil {
		return nil, nil, fmt.Errorf("open engines: %w", err)
	}
	n, err := e.readCurrent()
	if err == nil {
		// A process that was killed in Adopt may have left a CURRENT that is
		// there and not durable; the old engine is removed below.
		err = f.SyncDir(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		n = 1
		err = e.writeCurrent(n)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open engines: %w", err)
	}
	e.current, e.next = n, n+1
	if err := e.checkPresent(n); err != nil {
		return nil, nil, fmt.Errorf("open engines: %w", err)
	}
	if err := e.remove(func(other uint64) bool { return other != n }); err != nil {
		return nil, nil, fmt.Errorf("open engines: %w", err)
	}
	eng, err := opener.Open(e.path(n))
	if err != nil {
		return nil, nil, fmt.Errorf("open engine %s: %w", e.path(n), err)
	}
	return e, eng, nil
}

// Import opens an empty engine beside the one in use.
func (e *Engines) Import() (*Import, error) {
	e.mu.Lock()
	n := e.next
	e.next++
	e.mu.Unlock()
	eng, err := e.opener.Open(e.path(n))
	if err != nil {
		return nil, fmt.Errorf("import engine: %w", err)
	}
	return &Import{Engine: eng, engines: e, number: n}, nil
}

// Import is an engine being filled.
type Import struct {
	Engine  engine.Engine
	engines *Engines
	number  uint64
}

// Adopt makes the imported engine, which the caller has flushed, the one in
// use. Once it returns, the import survives a crash. The caller closes the old
// engine and then calls RemoveReplaced.
func (i *Import) Adopt() error {
	if err := i.engines.fs.SyncDir(i.engines.dir); err != nil {
		return fmt.Errorf("adopt engine: %w", err)
	}
	if err := i.engines.writeCurrent(i.number); err != nil {
		return fmt.Errorf("adopt engine: %w", err)
	}
	i.engines.mu.Lock()
	defer i.engines.mu.Unlock()
	i.engines.current = i.number
	return nil
}

// Abandon closes and removes an import that is not to be used.
func (i *Import) Abandon() error {
	return errors.Join(i.Engine.Close(), i.engines.fs.RemoveAll(i.engines.path(i.number)))
}

// RemoveReplaced removes the engines that were in use before the present one;
// an import under way stays.
func (e *Engines) RemoveReplaced() error {
	e.mu.Lock()
	current := e.current
	e.mu.Unlock()
	return e.remove(func(n uint64) bool { return n < current })
}

func (e *Engines) path(n uint64) string {
	return path.Join(e.dir, strconv.FormatUint(n, 10))
}

func (e *Engines) remove(which func(n uint64) bool) error {
	names, err := e.fs.List(e.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		digits, unfinished := strings.CutSuffix(name, imageSuffix+newSuffix)
		n, err := strconv.ParseUint(strings.TrimSuffix(digits, imageSuffix), 10, 64)
		if err != nil || !unfinished && !which(n) {
			continue
		}
		if err := e.fs.RemoveAll(path.Join(e.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// checkPresent refuses to begin with an empty engine, and to remove the others,
// where the one in use should be.
func (e *Engines) checkPresent(n uint64) error {
	names, err := e.fs.List(e.dir)
	if err != nil || slices.Contains(names, strconv.FormatUint(n, 10)) {
		return err
	}
	for _, name := range names {
		if _, err := strconv.ParseUint(name, 10, 64); err == nil || n != 1 {
			return e.corrupt("it names engine %d, which is not there", n)
		}
	}
	return nil
}

func (e *Engines) corrupt(format string, args ...any) error {
	return fmt.Errorf("%s: offset 0: %w: %s", path.Join(e.dir, currentFile), engine.ErrCorrupt, fmt.Sprintf(format, args...))
}

func (e *Engines) readCurrent() (uint64, error) {
	b, err := disk.ReadFile(e.fs, path.Join(e.dir, currentFile), 64)
	if err != nil {
		return 0, err
	}
	text, newline := strings.CutSuffix(string(b), "\n")
	digits, sum, summed := strings.Cut(text, " ")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || !newline || (summed && sum != currentSum(digits)) {
		return 0, e.corrupt("it holds %q, not the number of an engine and its checksum", b)
	}
	return n, nil
}

func (e *Engines) writeCurrent(n uint64) error {
	digits := strconv.FormatUint(n, 10)
	return disk.WriteFile(e.fs, e.dir, currentFile, []byte(digits+" "+currentSum(digits)+"\n"))
}

func currentSum(digits string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(digits), castagnoli))
}
