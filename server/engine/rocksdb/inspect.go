//go:build rocksdb

package rocksdb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"metastore.io/metastore/server/engine"
)

// Open verifies the database in a folder, which is only read, and opens it.
func (i Inspector) Open(dir string) (engine.Engine, error) {
	o, err := i.withDefaults()
	if err != nil {
		return nil, err
	}
	work := filepath.Join(i.Scratch, filepath.Base(dir))
	if err := stage(dir, work); err != nil {
		return nil, fmt.Errorf("read the database in %s: %w", dir, err)
	}
	e, err := o.open(work, false)
	if err != nil {
		return nil, fmt.Errorf("open RocksDB in %s: %w", dir, err)
	}
	if err := e.h.verify(); err != nil {
		return nil, errors.Join(fmt.Errorf("verify the table files in %s: %w", dir, err), e.Close())
	}
	return e, nil
}

// stage fills work with links to the table files of a folder and with copies of
// its other files. A missing folder is an empty one, as to a member.
func stage(dir, work string) error {
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	for _, f := range files {
		from, to := filepath.Join(dir, f.Name()), filepath.Join(work, f.Name())
		if filepath.Ext(f.Name()) == ".sst" {
			err = os.Symlink(from, to)
		} else if f.Type().IsRegular() {
			err = copyFile(from, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // only read from
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
