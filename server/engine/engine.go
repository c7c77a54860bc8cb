// Package engine is the contract of a storage engine: ordered key spaces,
// atomic batches, consistent snapshots. It promises that a batch is seen whole
// or not at all, also after a crash, and that batches become durable in the
// order in which they were applied; nothing is durable before Flush says so
// (the raft log is the write-ahead log). mvcc, lease and state write through
// it; replica opens, flushes and replaces engines. Every engine passes
// enginetest.
package engine

import "errors"

// Space is one ordered key space of an engine. The numbers are part of the
// on-disk format.
type Space uint8

const (
	// Meta holds few, small rows that are overwritten in place: applied index,
	// members, leases, alarms.
	Meta Space = 0
	// Revisions holds one row a revision of a key: appended in ascending
	// order, never overwritten, deleted by compaction only.
	Revisions Space = 1
	// SpaceCount is the number of spaces.
	SpaceCount = 2
)

// GroupID names one raft group; it is the first four bytes, big endian, of
// every engine key, so that one engine can hold many groups.
type GroupID uint32

// ErrCorrupt is wrapped by errors that mean that stored bytes do not verify.
var ErrCorrupt = errors.New("engine: stored data does not verify")

// ErrClosed is returned by calls on a closed engine.
var ErrClosed = errors.New("engine: closed")

// Reader reads one consistent view. All methods may run concurrently.
type Reader interface {
	// Get returns the value of a key. The value may be kept but not changed.
	Get(s Space, key []byte) (value []byte, ok bool, err error)
	// GetMany fills values[i] for keys[i], nil where a key is not there; empty
	// values are non-nil. Values may be kept but not changed. It is fastest
	// with keys that ascend, and more so where no others lie between them.
	GetMany(s Space, keys [][]byte, values [][]byte) error
	// Scan calls fn for the rows from <= key < to in ascending order (a nil
	// from or to is unbounded) until fn returns false or an error. The slices
	// are valid only during the call.
	Scan(s Space, from, to []byte, fn func(key, value []byte) (more bool, err error)) error
}

// Snapshot is a frozen view. Close it: rows deleted since stay on until then.
type Snapshot interface {
	Reader
	Close() error
}

// Size tells the bytes that an engine holds. It is cheap enough for every
// request.
type Size struct {
	// TotalBytes is what the engine takes on disk (or in memory, where it
	// keeps its rows there); UsedBytes is the part that holds live rows.
	TotalBytes, UsedBytes int64
}

// Engine is one opened engine. The Reader part sees all batches that Apply
// returned for. All methods may run concurrently, but Apply, Load, Flush and
// Defragment have one caller at a time each, and Close runs alone.
type Engine interface {
	Reader
	// Apply writes a batch atomically. It does not keep the batch's memory.
	Apply(b *Batch) error
	// Load fills an engine that holds nothing yet with the rows of one space:
	// rows gives them to put in ascending order, and put keeps neither key nor
	// value. They are seen once Load returned, and durable as a batch is. Keys
	// that do not ascend are an error. After an error the engine may hold some of
	// the rows and is to be given up.
	Load(s Space, rows func(put func(key, value []byte) error) error) error
	// Snapshot freezes a view of all applied batches, without waiting for
	// writers and without making them wait, in time independent of the data.
	Snapshot() (Snapshot, error)
	// Flush makes every batch that Apply returned for before the call durable.
	// Writers do not wait for it.
	Flush() error
	// FlushCostBytes estimates what Flush writes beyond the batches since the
	// last one: 0, or the whole size for an engine that writes a full dump.
	FlushCostBytes() int64
	// Size tells the bytes held.
	Size() Size
	// Defragment gives freed space back to the operating system.
	Defragment() error
	Close() error
}

// Opener opens engines of one kind.
type Opener interface {
	// Name is the engine's name in flags and markers.
	Name() string
	// Open opens the engine in a folder, or makes an empty one there when the
	// folder is empty or missing. It holds what was flushed, or a later state
	// that is a prefix of the applied batches.
	Open(dir string) (Engine, error)
}
