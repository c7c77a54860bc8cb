package memory

import (
	"sync/atomic"

	"metastore.io/metastore/server/engine"
)

const (
	// firstChunkRows and maxChunkRows bound how many rows a scan takes under
	// one lock: few at first, because many scans stop early.
	firstChunkRows, maxChunkRows = 16, 512
	// getChunkKeys bounds how many keys GetMany looks up under one lock.
	getChunkKeys = 256
)

// newest is the sequence number that always names the newest version.
const newest = seqMask

// Get reads the newest version of a key.
func (e *memory) Get(s engine.Space, key []byte) ([]byte, bool, error) {
	return e.get(s, key, newest)
}

// GetMany reads several keys, of one moment.
func (e *memory) GetMany(s engine.Space, keys, values [][]byte) error {
	if len(keys) <= getChunkKeys {
		return e.getMany(s, keys, values, newest)
	}
	snap, err := e.snapshot()
	if err != nil {
		return err
	}
	defer snap.release()
	return snap.GetMany(s, keys, values)
}

// Scan reads rows of one moment: it takes a snapshot.
func (e *memory) Scan(s engine.Space, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	snap, err := e.snapshot()
	if err != nil {
		return err
	}
	defer snap.release()
	return snap.Scan(s, from, to, fn)
}

// Snapshot freezes the newest state.
func (e *memory) Snapshot() (engine.Snapshot, error) {
	s, err := e.snapshot()
	if err != nil {
		return nil, err // not s: it would be a non-nil interface
	}
	return s, nil
}

func (e *memory) snapshot() (*snapshot, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, engine.ErrClosed
	}
	e.snapshots.add(e.seq)
	return &snapshot{e: e, seq: e.seq}, nil
}

func (e *memory) get(s engine.Space, key []byte, seq uint64) ([]byte, bool, error) {
	if err := checkSpace(s); err != nil {
		return nil, false, err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, false, engine.ErrClosed
	}
	sp := e.spaces[s]
	if r := sp.tree.get(key); r != nil {
		if r = sp.at(r, seq); r != nil {
			_, value := sp.heap.row(r.place)
			return value, true, nil
		}
	}
	return nil, false, nil
}

// getMany looks keys up under one lock.
func (e *memory) getMany(s engine.Space, keys, values [][]byte, seq uint64) error {
	if err := checkSpace(s); err != nil {
		return err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return engine.ErrClosed
	}
	sp := e.spaces[s]
	var near finger
	for i, key := range keys {
		values[i] = nil
		if r := sp.tree.getNear(&near, key); r != nil {
			if r = sp.at(r, seq); r != nil {
				_, values[i] = sp.heap.row(r.place)
			}
		}
	}
	return nil
}

// chunk takes references to the next rows of a scan under the lock.
func (e *memory) chunk(s engine.Space, dst []pair, from, to []byte, seq uint64) ([]pair, []byte, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, nil, engine.ErrClosed
	}
	rows, next := e.spaces[s].chunk(dst, from, to, seq, maxChunkRows)
	return rows, next, nil
}

// snapshot implements engine.Snapshot.
type snapshot struct {
	e   *memory
	seq uint64
	// closed makes a second Close harmless.
	closed atomic.Bool
}

func (s *snapshot) Get(sp engine.Space, key []byte) ([]byte, bool, error) {
	if s.closed.Load() {
		return nil, false, engine.ErrClosed
	}
	return s.e.get(sp, key, s.seq)
}

func (s *snapshot) GetMany(sp engine.Space, keys, values [][]byte) error {
	for len(keys) > 0 {
		if s.closed.Load() {
			return engine.ErrClosed
		}
		n := min(len(keys), getChunkKeys)
		if err := s.e.getMany(sp, keys[:n], values[:n], s.seq); err != nil {
			return err
		}
		keys, values = keys[n:], values[n:]
	}
	return nil
}

// Scan holds no lock while it calls fn: it takes references to some rows, which
// never change, and goes on from the row after them.
func (s *snapshot) Scan(sp engine.Space, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	if err := checkSpace(sp); err != nil {
		return err
	}
	rows := make([]pair, 0, firstChunkRows)
	for {
		if s.closed.Load() {
			return engine.ErrClosed
		}
		var err error
		rows, from, err = s.e.chunk(sp, rows[:0], from, to, s.seq)
		if err != nil {
			return err
		}
		for i := range rows {
			if more, err := fn(rows[i].key, rows[i].value); err != nil || !more {
				return err
			}
		}
		if from == nil {
			return nil
		}
		if n := cap(rows); n < maxChunkRows {
			rows = make([]pair, 0, min(4*n, maxChunkRows))
		}
	}
}

// Close lets go of the rows that only this snapshot sees.
func (s *snapshot) Close() error {
	s.release()
	return nil
}

func (s *snapshot) release() {
	if s.closed.CompareAndSwap(false, true) {
		s.e.snapshots.remove(s.seq)
	}
}
