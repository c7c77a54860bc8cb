// Package disk is the file system as the store needs it: a contract small
// enough that a simulator can own it, and its implementation on the operating
// system. It promises nothing about durability beyond what File.Sync and
// FS.SyncDir say. The log, the memory engine and the data-dir marker call it.
package disk

import "io"

// FS is a tree of files named by slash-separated paths. All methods may run
// concurrently.
type FS interface {
	// Create makes an empty file, replacing one that is there. The name is
	// durable only after SyncDir of its folder.
	Create(name string) (File, error)
	// Open opens a file that is there for reading and writing; the error of a
	// missing file satisfies errors.Is(err, fs.ErrNotExist).
	Open(name string) (File, error)
	// MkdirAll makes a folder and its parents (mode 0700).
	MkdirAll(dir string) error
	// List names the entries of a folder, sorted.
	List(dir string) ([]string, error)
	// Rename replaces newName atomically; durable only after SyncDir.
	Rename(oldName, newName string) error
	// Remove deletes a file; RemoveAll a tree. Durable only after SyncDir.
	Remove(name string) error
	RemoveAll(name string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on a file, made when missing, and fails at
	// once with ErrLocked when another process holds it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt may run concurrently with everything but Close;
// the rest belongs to one goroutine.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// SizeBytes is the file's length.
	SizeBytes() (int64, error)
	// Truncate sets the length.
	Truncate(sizeBytes int64) error
	// Sync makes all written bytes, and the length, durable.
	Sync() error
}
