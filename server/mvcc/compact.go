package mvcc

import (
	"errors"
	"fmt"
	"sync/atomic"

	"metastore.io/metastore/server/engine"
)

// sweep is the removal of what one compaction made unreadable.
type sweep struct {
	target int64
	// wait counts the readers that began before the sweep.
	wait *atomic.Int64
	// hash is that of the rows before any is removed; nil when it is done, or
	// when an earlier run removed some already.
	hash *hasher
	// next is the key to go on with. Keys that come in before it have revisions
	// above the target only.
	next []byte
	// cut is the scratch of one step: how many of the oldest revisions of a
	// key go.
	cut []cut
}

// Swept counts what compaction has removed since a store was opened.
type Swept struct {
	Sweeps, Rows uint64
}

type cut struct {
	id uint32
	n  int
}

// visitsPerRow bounds a step by the keys it looks at as well: most have
// nothing to remove.
const visitsPerRow = 16

var errBatchOpen = errors.New("mvcc: compaction step inside of a batch")

// CompactStep removes up to about maxRows rows that no read at or after
// CompactRev can see, and says whether none is left. It applies a batch of its
// own; between Store.Writer and Publish it must not be called. While readers
// are under way that began before the compaction it returns without having
// done anything. Before it removes the first row it hashes them all, in steps
// of as many rows.
//
// Whatever the step, the oldest revisions of a key go first and its tombstone
// last, so that a sweep that is cut off leaves no deleted key alive.
func (s *Store) CompactStep(maxRows int) (done bool, err error) {
	if s.writer.open {
		return false, errBatchOpen
	}
	if s.sweep == nil {
		if s.finished >= s.CompactRev() {
			return true, nil
		}
		s.beginSweep()
	}
	w := s.sweep
	if w.wait.Load() > 0 {
		return false, nil
	}
	if hashed, err := s.hashStep(maxRows); err != nil || !hashed {
		return false, err
	}
	b := engine.NewBatch()
	more := s.collectGarbage(b, max(maxRows, 1))
	if !more {
		s.putMarker(b, finishedName, w.target)
	}
	if b.Len() > 0 {
		if err := s.engine.Apply(b); err != nil {
			return false, fmt.Errorf("compact to revision %d: %w", w.target, err)
		}
	}
	s.forget(w.cut)
	for _, c := range w.cut {
		s.swept.Rows += uint64(c.n)
	}
	if more {
		return false, nil
	}
	s.swept.Sweeps++
	s.finished, s.sweep = w.target, nil
	return s.finished >= s.CompactRev(), nil
}

// Swept counts what CompactStep has removed. Its goroutine may call it.
func (s *Store) Swept() Swept { return s.swept }

func (s *Store) beginSweep() {
	s.mu.Lock()
	s.sweep = &sweep{target: s.compacted.Load(), wait: &s.pinned[s.epoch]}
	s.epoch = 1 - s.epoch
	s.mu.Unlock()
	if s.finished >= s.resumed {
		s.sweep.hash = &hasher{store: s, compacted: s.finished}
		s.sweep.hash.begin(s.sweep.target)
	}
}

// hashStep hashes up to maxRows rows before the sweep removes any, and says
// whether none is left.
func (s *Store) hashStep(maxRows int) (done bool, err error) {
	w := s.sweep
	if w.hash == nil {
		return true, nil
	}
	if done, err = w.hash.run(max(maxRows, 1)); err != nil || !done {
		return false, err
	}
	s.remember(compactionHash{rev: w.target, compacted: w.hash.compacted, hash: w.hash.sum})
	w.hash = nil
	return true, nil
}

// collectGarbage stages the removal of up to maxRows rows and says whether the
// sweep has to go on.
func (s *Store) collectGarbage(b *engine.Batch, maxRows int) (more bool) {
	w := s.sweep
	w.cut = w.cut[:0]
	rows, visits := maxRows, maxRows*visitsPerRow
	s.index.tree.ascend(w.next, nil, func(id uint32, _ bool) bool {
		n := s.index.keys.garbage(s.index.record(id), w.target)
		now := min(n, rows)
		if now > 0 {
			s.deleteRows(b, id, now)
			w.cut = append(w.cut, cut{id, now})
			rows -= now
		}
		visits--
		if now == n && visits > 0 {
			return true
		}
		w.next = append(w.next[:0], s.index.keys.key(id)...)
		more = true
		return false
	})
	return more
}

// deleteRows stages the removal of the n oldest revisions of a key.
func (s *Store) deleteRows(b *engine.Batch, id uint32, n int) {
	r := s.index.record(id)
	var key []byte
	for i := range n {
		key = appendRowKey(key[:0], s.group, s.index.keys.revision(r, i))
		b.Delete(engine.Revisions, key)
	}
}

// forget takes removed revisions out of the index.
func (s *Store) forget(cuts []cut) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range cuts {
		r := s.index.record(c.id)
		if c.n == r.revisions() {
			s.index.drop(c.id)
			continue
		}
		s.index.keys.trim(r, c.n)
	}
}
