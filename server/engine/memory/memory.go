// Package memory is the engine that keeps its rows in memory. It promises what
// package engine asks for; what it holds is durable once Flush wrote it to one
// checksummed dump file (see dump.go for the format), and everything later is
// replayed from the raft log. A snapshot is a sequence number: it costs nothing
// to take, never blocks the writer, and makes superseded rows stay only where
// it sees them. node hands the engine out; it does not lock the folder, which
// is the business of the data dir that it lies in.
package memory

import (
	"fmt"
	"log/slog"
	"sync"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
)

// Opener opens memory engines. The zero value works on the operating system's
// files and logs nothing.
type Opener struct {
	FS     disk.FS
	Logger *slog.Logger
}

// Name is the engine's name in flags and markers.
func (o Opener) Name() string { return "memory" }

// Open loads the dump in a folder; without one the engine is empty. A dump that
// does not verify is an error that wraps engine.ErrCorrupt and names the file
// and the offset.
func (o Opener) Open(dir string) (engine.Engine, error) {
	if o.FS == nil {
		o.FS = disk.OS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &memory{fs: o.FS, dir: dir, log: o.Logger}
	for i := range e.spaces {
		e.spaces[i] = newSpace()
	}
	if err := e.load(); err != nil {
		return nil, fmt.Errorf("open memory engine: %w", err)
	}
	return e, nil
}

// memory implements engine.Engine.
type memory struct {
	fs  disk.FS
	dir string
	log *slog.Logger

	// mu is held for writing while a batch is applied, whole, and for reading
	// while a reader collects references to rows; never across a callback or
	// I/O. So a reader sees all of a batch or nothing of it.
	mu sync.RWMutex
	// spaces are guarded by mu.
	spaces [engine.SpaceCount]*space
	// seq is the number of the newest batch. Guarded by mu.
	seq uint64
	// closed is guarded by mu.
	closed bool

	snapshots snapshots
	// open is Apply's own, kept to spare allocations.
	open []uint64
}

// collectRows is how many superseded versions an Apply frees beyond four per
// operation: enough to keep up, too few to be felt.
const collectRows = 128

// Apply writes a batch.
func (e *memory) Apply(b *engine.Batch) error {
	if err := b.Each(func(op engine.Op) error { return checkSpace(op.Space) }); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return engine.ErrClosed
	}
	w := e.begin()
	_ = b.Each(func(op engine.Op) error { // returns only what the function does
		s := e.spaces[op.Space]
		switch op.Kind {
		case engine.OpPut:
			s.put(w, op.Key, op.Value)
		case engine.OpDelete:
			s.remove(w, op.Key)
		case engine.OpDeleteRange:
			s.removeRange(w, op.Key, op.To)
		}
		return nil
	})
	e.collect(w, collectRows+4*b.Len())
	return nil
}

// begin starts the next batch. The caller holds mu for writing.
func (e *memory) begin() *write {
	e.seq++
	e.open = e.snapshots.list(e.open[:0])
	return &write{seq: e.seq, open: e.open}
}

func (e *memory) collect(w *write, limit int) (more bool) {
	for _, s := range e.spaces {
		more = s.collect(w, limit) || more
	}
	return more
}

// Size counts keys, values and the tree.
func (e *memory) Size() engine.Size {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var size engine.Size
	for _, s := range e.spaces {
		size.TotalBytes += s.totalBytes()
		size.UsedBytes += s.usedBytes()
	}
	return size
}

// FlushCostBytes is about the size of the next dump.
func (e *memory) FlushCostBytes() int64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var n int64
	for _, s := range e.spaces {
		n += s.liveBytes
	}
	return n
}

// Defragment frees the versions that no snapshot needs and empties chunks that
// hold garbage, a few rows at a time. The garbage collector returns the memory.
func (e *memory) Defragment() error {
	e.mu.Lock()
	for _, s := range e.spaces {
		s.heap.noteGarbage()
	}
	e.mu.Unlock()
	for more := true; more; {
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return engine.ErrClosed
		}
		more = e.collect(&write{seq: e.seq, open: e.snapshots.list(nil)}, collectRows)
		e.mu.Unlock()
	}
	return nil
}

// Close frees the rows; open snapshots answer ErrClosed.
func (e *memory) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return engine.ErrClosed
	}
	e.closed = true
	for i := range e.spaces {
		e.spaces[i] = newSpace()
	}
	return nil
}

func checkSpace(s engine.Space) error {
	if s >= engine.SpaceCount {
		return fmt.Errorf("space %d: there are %d", s, engine.SpaceCount)
	}
	return nil
}
