//go:build rocksdb

package rocksdb

import (
	"fmt"
	"sync"
	"time"

	"github.com/linxGnu/grocksdb"

	"metastore.io/metastore/server/engine"
)

// rocks implements engine.Engine.
type rocks struct {
	db  *grocksdb.DB
	cfs []*grocksdb.ColumnFamilyHandle
	h   handle
	// gate keeps Close from freeing the database under a call.
	gate gate
	// batch is Apply's own.
	batch batchBuilder
	sizes sizeCache

	mu sync.Mutex
	// snapshots are open; Close releases them. Guarded by mu.
	snapshots map[*snapshot]struct{}
}

func newRocks(db *grocksdb.DB, cfs []*grocksdb.ColumnFamilyHandle) (*rocks, error) {
	e := &rocks{db: db, cfs: cfs, gate: newGate(), snapshots: map[*snapshot]struct{}{}}
	spaces := [engine.SpaceCount]*grocksdb.ColumnFamilyHandle(cfs[1:])
	for s, cf := range spaces {
		e.batch.families[s] = cf.ID()
	}
	var err error
	if e.h, err = newHandle(db, spaces); err != nil {
		return nil, err
	}
	e.sizes = sizeCache{measure: e.measure, now: time.Now}
	return e, nil
}

// Apply writes a batch in one call into RocksDB, without its log.
func (e *rocks) Apply(b *engine.Batch) error {
	if !e.gate.enter() {
		return engine.ErrClosed
	}
	defer e.gate.leave()
	rep, err := e.batch.build(b, &e.h)
	if err == nil {
		err = e.h.write(rep)
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	e.sizes.added.Add(int64(b.SizeBytes()))
	e.batch.shrink()
	return nil
}

// Flush writes the memtables of both spaces to table files as one step.
func (e *rocks) Flush() error {
	if !e.gate.enter() {
		return engine.ErrClosed
	}
	defer e.gate.leave()
	if err := e.h.flush(); err != nil {
		return fmt.Errorf("flush RocksDB: %w", err)
	}
	return nil
}

// FlushCostBytes is 0: a flush writes the new rows only.
func (e *rocks) FlushCostBytes() int64 { return 0 }

// Defragment rewrites all table files without what was deleted.
func (e *rocks) Defragment() error {
	if !e.gate.enter() {
		return engine.ErrClosed
	}
	defer e.gate.leave()
	for s := range engine.Space(engine.SpaceCount) {
		if err := e.h.compact(s); err != nil {
			return fmt.Errorf("compact RocksDB: %w", err)
		}
	}
	e.sizes.expire()
	return nil
}

// Close waits for the calls that are inside, releases the snapshots and closes
// the database. Rows that were not flushed are left to the raft log.
func (e *rocks) Close() error {
	if !e.gate.close() {
		return engine.ErrClosed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.snapshots {
		e.h.release(s.at)
	}
	e.snapshots = nil
	for _, cf := range e.cfs {
		cf.Destroy()
	}
	e.db.Close()
	return nil
}

func checkSpace(s engine.Space) error {
	if s >= engine.SpaceCount {
		return fmt.Errorf("space %d: there are %d", s, engine.SpaceCount)
	}
	return nil
}
