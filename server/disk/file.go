package disk

import (
	"errors"
	"fmt"
	"io"
	"path"
)

// WriteFile replaces a small file: after a crash it holds the old content or
// the new, whole and durable once WriteFile returned.
func WriteFile(f FS, dir, name string, content []byte) error {
	target := path.Join(dir, name)
	if err := writeNew(f, target+".new", content); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	if err := f.Rename(target+".new", target); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	if err := f.SyncDir(dir); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return nil
}

func writeNew(f FS, name string, content []byte) error {
	file, err := f.Create(name)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt(content, 0); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// ReadFile reads a file of at most maxBytes; a longer one is an error.
func ReadFile(f FS, name string, maxBytes int64) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read from
	size, err := file.SizeBytes()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if size > maxBytes {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d are expected", name, size, maxBytes)
	}
	b := make([]byte, size)
	if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
