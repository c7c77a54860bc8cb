package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// copyBytes is the size of the buffers that bytes are copied through.
const copyBytes = 256 << 10

// partMark is in the names of files that are not whole yet.
const partMark = ".part-"

// folder is a destination in a file system.
type folder struct{ dir string }

func (f *folder) String() string { return f.dir }

func (f *folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f *folder) local(name string) (string, bool) { return f.path(name), true }

func (f *folder) check(_ context.Context, write bool) error {
	info, err := os.Stat(f.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failf(DestinationMissing, "the folder %s does not exist", f.dir)
	case err != nil:
		return folderError("look at the folder", err)
	case !info.IsDir():
		return failf(InvalidArgument, "%s is not a folder", f.dir)
	case !write:
		return nil
	}
	if err := unix.Access(f.dir, unix.W_OK|unix.X_OK); err != nil {
		return folderError("write to "+f.dir, err)
	}
	return nil
}

func (f *folder) put(ctx context.Context, name string, r io.Reader, _ int64) (err error) {
	to := f.path(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return folderError("make a folder", err)
	}
	if err := removeParts(filepath.Dir(to), filepath.Base(to)); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+partMark+"*")
	if err != nil {
		return folderError("make a file", err)
	}
	err = errors.Join(f.fill(ctx, part, r), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), to)
	}
	if err != nil {
		return folderError("write "+to, errors.Join(err, os.Remove(part.Name())))
	}
	return f.syncTo(filepath.Dir(to))
}

// fill copies r, whose own errors are not the folder's.
func (f *folder) fill(ctx context.Context, part *os.File, r io.Reader) error {
	source := &sourceReader{ctx: ctx, r: r}
	_, err := io.CopyBuffer(struct{ io.Writer }{part}, source, make([]byte, copyBytes))
	if source.err != nil {
		return withReason(Failed, source.err)
	}
	if err != nil {
		return err
	}
	return part.Sync()
}

// sourceReader keeps the reader's error apart from the writer's.
type sourceReader struct {
	ctx context.Context // of the one call that reads
	r   io.Reader
	err error
}

func (s *sourceReader) Read(b []byte) (int, error) {
	if s.err = s.ctx.Err(); s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// removeParts removes what an earlier try of the same file left.
func removeParts(dir, base string) error {
	names, err := filepath.Glob(filepath.Join(dir, base+partMark+"*"))
	if err != nil {
		return withReason(Failed, err)
	}
	for _, n := range names {
		if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return folderError("remove what an earlier try left", err)
		}
	}
	return nil
}

// syncTo makes the names down to dir durable.
func (f *folder) syncTo(dir string) error {
	for {
		if err := syncDir(dir); err != nil {
			return folderError("sync "+dir, err)
		}
		if dir == f.dir || len(dir) <= len(f.dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *folder) open(_ context.Context, name string) (io.ReadCloser, int64, error) {
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, 0, folderError("open", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", file.Name())
	}
	if err != nil {
		return nil, 0, errors.Join(folderError("open", err), file.Close())
	}
	return file, info.Size(), nil
}

func (f *folder) remove(_ context.Context, name string) error {
	dir := f.path(name)
	files, err := filepath.Glob(filepath.Join(dir, snapshotFile+"*"))
	if err != nil {
		return withReason(Failed, err)
	}
	parts, err := filepath.Glob(filepath.Join(dir, manifestFile+partMark+"*"))
	if err != nil {
		return withReason(Failed, err)
	}
	for _, file := range append(append([]string{filepath.Join(dir, manifestFile)}, files...), parts...) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return folderError("remove", err)
		}
	}
	// Folders that became empty go, too; one that did not is in use.
	for dir != f.dir && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
	return nil
}

func (f *folder) backups(ctx context.Context, found func(name string) error) error {
	err := filepath.WalkDir(f.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != manifestFile {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(f.dir, filepath.Dir(p))
		if err != nil {
			return err
		}
		name := path.Clean(filepath.ToSlash(rel))
		if name == "." || strings.HasPrefix(name, "..") {
			return nil
		}
		return found(name)
	})
	if err != nil {
		return folderError("list", err)
	}
	return nil
}
