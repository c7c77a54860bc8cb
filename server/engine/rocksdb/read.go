//go:build rocksdb

package rocksdb

import (
	"metastore.io/metastore/server/engine"
)

// getManyKeys bounds how many values one call holds twice, in RocksDB and here.
const getManyKeys = 4096

// Get reads the newest version of a key.
func (e *rocks) Get(s engine.Space, key []byte) ([]byte, bool, error) {
	return e.get(s, nil, key)
}

// GetMany reads several keys, of one moment.
func (e *rocks) GetMany(s engine.Space, keys, values [][]byte) error {
	if len(keys) <= getManyKeys {
		return e.getMany(s, nil, keys, values)
	}
	snap, err := e.Snapshot()
	if err != nil {
		return err
	}
	defer func() { _ = snap.Close() }() // closing a snapshot cannot fail
	return snap.GetMany(s, keys, values)
}

// Scan reads rows of one moment: an iterator does not move with the writes.
func (e *rocks) Scan(s engine.Space, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	return e.scan(s, nil, from, to, fn)
}

// Snapshot freezes the newest state.
func (e *rocks) Snapshot() (engine.Snapshot, error) {
	if !e.gate.enter() {
		return nil, engine.ErrClosed
	}
	defer e.gate.leave()
	s := &snapshot{e: e, gate: newGate(), at: e.h.snapshot()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.snapshots[s] = struct{}{}
	return s, nil
}

func (e *rocks) get(s engine.Space, at view, key []byte) ([]byte, bool, error) {
	var value [1][]byte
	err := e.getMany(s, at, [][]byte{key}, value[:])
	return value[0], value[0] != nil, err
}

func (e *rocks) getMany(s engine.Space, at view, keys, values [][]byte) error {
	if err := checkSpace(s); err != nil {
		return err
	}
	if !e.gate.enter() {
		return engine.ErrClosed
	}
	defer e.gate.leave()
	for len(keys) > 0 {
		n := min(len(keys), getManyKeys)
		if err := e.h.get(s, at, keys[:n], values[:n]); err != nil {
			return err
		}
		keys, values = keys[n:], values[n:]
	}
	return nil
}

func (e *rocks) scan(s engine.Space, at view, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	if err := checkSpace(s); err != nil {
		return err
	}
	if !e.gate.enter() {
		return engine.ErrClosed
	}
	defer e.gate.leave()
	if to != nil && string(from) >= string(to) {
		return nil
	}
	sc := e.h.openScan(s, at, from, to)
	defer sc.close()
	return sc.each(fn)
}

// snapshot implements engine.Snapshot.
type snapshot struct {
	e  *rocks
	at view
	// gate keeps Close from releasing the snapshot under a read.
	gate gate
}

func (s *snapshot) Get(sp engine.Space, key []byte) ([]byte, bool, error) {
	if !s.gate.enter() {
		return nil, false, engine.ErrClosed
	}
	defer s.gate.leave()
	return s.e.get(sp, s.at, key)
}

func (s *snapshot) GetMany(sp engine.Space, keys, values [][]byte) error {
	if !s.gate.enter() {
		return engine.ErrClosed
	}
	defer s.gate.leave()
	return s.e.getMany(sp, s.at, keys, values)
}

func (s *snapshot) Scan(sp engine.Space, from, to []byte, fn func(key, value []byte) (bool, error)) error {
	if !s.gate.enter() {
		return engine.ErrClosed
	}
	defer s.gate.leave()
	return s.e.scan(sp, s.at, from, to, fn)
}

// Close releases the snapshot, unless the engine did when it closed.
func (s *snapshot) Close() error {
	if !s.gate.close() {
		return nil
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if _, open := s.e.snapshots[s]; open {
		delete(s.e.snapshots, s)
		s.e.h.release(s.at)
	}
	return nil
}
