package mvcc

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// History calls fn for the revisions from..to in ascending order, each whole
// and with its events in order, and returns the revision to go on with: it
// stops after about maxBytes of rows (but not before one revision is whole),
// at the newest revision, or when fn returns an error. Events carry PrevKv
// where prevs wants it and the key was there before the revision, as far as it
// was not compacted.
// They share memory with each other and must not be changed.
//
// from may be the compact revision itself, as in etcd, but not lower:
// ErrCompacted. The events are read before fn sees the first one, so fn may be
// slow and holds up nothing.
func (s *Store) History(from, to int64, maxBytes int, prevs bool, fn func(rev int64, evs []*mvccpb.Event) error) (next int64, err error) {
	to = min(to, s.Rev())
	if from < s.CompactRev() {
		return from, ErrCompacted
	}
	if from > to {
		return from, nil
	}
	h := history{store: s, next: to + 1, maxBytes: maxBytes}
	start := appendMain(nil, s.group, max(from, 0))
	if err := s.engine.Scan(engine.Revisions, start, appendMain(nil, s.group, to+1), h.row); err != nil {
		return from, fmt.Errorf("scan revisions from %d: %w", from, err)
	}
	evs, err := h.events(prevs)
	// A compaction announces itself before it removes anything: what was read
	// is whole if the revision may still be asked for.
	if from < s.CompactRev() {
		return from, ErrCompacted
	}
	if err != nil {
		return from, err
	}
	return h.deliver(evs, fn)
}

// history is one call's progress.
type history struct {
	store *Store
	// rows are copies, those of a revision follow each other.
	rows     []historyRow
	copies   copies
	bytes    int
	maxBytes int
	// next is the revision after the ones that were read.
	next int64
}

type historyRow struct {
	at   stamp
	data []byte
}

// row takes one row of the scan.
func (h *history) row(key, row []byte) (bool, error) {
	at, err := parseRowKey(key)
	if err != nil {
		return false, err
	}
	if n := len(h.rows); n > 0 && h.bytes >= h.maxBytes && h.rows[n-1].at.main != at.main {
		h.next = at.main
		return false, nil
	}
	h.rows = append(h.rows, historyRow{at, h.copies.copy(row)})
	h.bytes += len(row)
	return true, nil
}

// events decodes the rows and finds the previous values where they are wanted.
func (h *history) events(prevs bool) ([]*mvccpb.Event, error) {
	evs := make([]*mvccpb.Event, len(h.rows))
	slots := make([]eventSlot, len(h.rows))
	for i, r := range h.rows {
		slot := &slots[i]
		if err := decodeRow(r.data, &slot.kv); err != nil {
			return nil, fmt.Errorf("revision %d.%d: %w", r.at.main, r.at.sub, err)
		}
		slot.event.Kv = &slot.kv
		if r.at.dead {
			slot.event.Type = mvccpb.Event_DELETE
			slot.kv.ModRevision = r.at.main
		}
		evs[i] = &slot.event
	}
	for i := 0; prevs && i < len(slots); i += rangeChunk {
		if err := h.store.prevs(slots[i:min(i+rangeChunk, len(slots))]); err != nil {
			return nil, err
		}
	}
	return evs, nil
}

// prevs reads the previous values of some events.
func (s *Store) prevs(slots []eventSlot) error {
	f := fetches.Get().(*fetch)
	defer f.release()
	s.mu.RLock()
	p := s.pin()
	defer unpin(p)
	compacted := s.compacted.Load()
	for i := range slots {
		slot := &slots[i]
		main := slot.kv.ModRevision
		created := slot.event.Type == mvccpb.Event_PUT && slot.kv.CreateRevision == main
		if created || main-1 < compacted {
			continue
		}
		id := s.index.find(slot.kv.Key)
		if id == 0 {
			continue
		}
		if at, ok := s.index.before(s.index.record(id), main); ok {
			slot.event.PrevKv = f.pairs.next()
			f.missing = append(f.missing, missing{kv: slot.event.PrevKv, at: at})
		}
	}
	s.mu.RUnlock()
	return s.fill(f, nil)
}

// deliver hands the events to fn, revision by revision.
func (h *history) deliver(evs []*mvccpb.Event, fn func(int64, []*mvccpb.Event) error) (int64, error) {
	for i := 0; i < len(evs); {
		main := h.rows[i].at.main
		end := i + 1
		for end < len(evs) && h.rows[end].at.main == main {
			end++
		}
		if err := fn(main, evs[i:end:end]); err != nil {
			return main, err
		}
		i = end
	}
	return h.next, nil
}
