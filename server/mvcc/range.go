package mvcc

import (
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// rangeChunk is how many keys a reader visits, at most, in one hold of the
// index lock, and how many rows it asks of the engine at once.
const rangeChunk = 256

const (
	// firstPart is how many rows are read before their size is known, where it
	// matters, and partBytes how many bytes are wanted at once from then on.
	firstPart = 8
	partBytes = 256 << 10
	// pairOverheadBytes is what a pair takes on the wire beside key and value.
	pairOverheadBytes = 24
)

// Range reads the pairs of key <= k < end at one revision. A nil or empty end
// is the single key; "\0" is unbounded; any other end at or below key is an
// empty range.
func (s *Store) Range(key, end []byte, o RangeOptions) (RangeResult, error) {
	s.mu.RLock()
	v := view{store: s, current: s.published.Load(), compacted: s.compacted.Load()}
	rev, err := v.resolve(o.Rev)
	if err != nil {
		s.mu.RUnlock()
		return RangeResult{Rev: v.current}, err
	}
	p := s.pin()
	defer unpin(p)
	return v.read(key, end, rev, o)
}

// view is the state that one read sees: the published one, or the writer's.
type view struct {
	store              *Store
	current, compacted int64
	// staged holds the rows that the engine does not have yet; nil for readers.
	staged *Writer
}

// resolve turns the asked revision into the one to read at.
func (v *view) resolve(rev int64) (int64, error) {
	switch {
	case rev <= 0:
		return v.current, nil
	case rev > v.current:
		return 0, ErrFutureRev
	case rev < v.compacted:
		return 0, ErrCompacted
	}
	return rev, nil
}

// bounds turns etcd's end into one where nil is unbounded.
func bounds(end []byte) []byte {
	if len(end) == 1 && end[0] == 0 {
		return nil
	}
	return end
}

// read is called with mu read-locked and releases it.
func (v *view) read(key, end []byte, rev int64, o RangeOptions) (RangeResult, error) {
	res := RangeResult{Rev: v.current}
	f := fetches.Get().(*fetch)
	defer f.release()
	if len(end) == 0 {
		if id := v.store.index.find(key); id != 0 && v.collect(f, id, rev, o) {
			res.Count = 1
		}
		v.store.mu.RUnlock()
		return res, v.load(f, &res, o.Grow)
	}
	to := bounds(end)
	known := rev == v.current
	if known {
		res.Count = v.live(key, to)
		if o.CountOnly {
			v.store.mu.RUnlock()
			return res, nil
		}
		res.KVs = make([]*mvccpb.KeyValue, 0, wanted(res.Count, o.Limit))
	}
	return res, v.readRange(f, &res, key, to, rev, o, known)
}

// wanted is how many pairs a range of count pairs yields under a limit.
func wanted(count, limit int64) int64 {
	if limit > 0 {
		return min(count, limit)
	}
	return count
}

// live is the count at the newest revision of the view. The caller holds mu.
func (v *view) live(from, to []byte) int64 {
	if v.staged != nil {
		return v.store.index.tree.count(from, to)
	}
	return v.store.index.published(from, to)
}

// readRange walks the range in chunks. It is called with mu read-locked; each
// chunk takes the lock anew, which is safe: revisions up to rev do not change,
// later ones are not looked at, and the pin keeps the sweep away.
func (v *view) readRange(f *fetch, res *RangeResult, from, to []byte, rev int64, o RangeOptions, known bool) error {
	walk := walker{from: from, to: to}
	pairs := !o.CountOnly
	limit := o.Limit
	var total int64
	for {
		more := walk.chunk(v.store.index, func(id uint32, _ bool) bool {
			full := o.CountOnly || limit > 0 && int64(len(res.KVs)+len(f.kvs)) >= limit
			if full {
				if known || o.Uncounted && pairs {
					return false
				}
				if _, ok := v.store.index.keys.visible(v.store.index.record(id), rev); ok {
					total++
				}
				return true
			}
			if v.collect(f, id, rev, o) {
				total++
			}
			return true
		})
		v.store.mu.RUnlock()
		if pairs {
			if err := v.load(f, res, o.Grow); err != nil {
				return err
			}
		}
		if !more {
			break
		}
		v.store.mu.RLock()
	}
	if !known {
		res.Count = total
	}
	return nil
}

// walker goes through a range of the index in chunks of bounded length.
type walker struct {
	from, to []byte
	// next is the memory of from after the first chunk.
	next []byte
}

// chunk calls fn for the next keys, until it returns false, and says whether
// there may be more. The caller holds mu.
func (w *walker) chunk(x *index, fn func(id uint32, live bool) bool) (more bool) {
	n := 0
	x.tree.ascend(w.from, w.to, func(id uint32, live bool) bool {
		if n == rangeChunk {
			w.next = append(w.next[:0], x.keys.key(id)...)
			w.from, more = w.next, true
			return false
		}
		n++
		return fn(id, live)
	})
	return more
}

// fetch is the scratch of one read: the pairs of one chunk, and the rows that
// they still need.
type fetch struct {
	// kvs are the chunk's pairs; missing says which rows to read for them.
	kvs     []*mvccpb.KeyValue
	missing []missing
	pairs   slabs[mvccpb.KeyValue]
	keyMem  []byte
	keys    [][]byte
	rows    [][]byte
}

// missing is a pair that waits for its row.
type missing struct {
	kv       *mvccpb.KeyValue
	at       stamp
	keysOnly bool
}

var fetches = sync.Pool{New: func() any { return new(fetch) }}

// release forgets what the read held and keeps the memory.
func (f *fetch) release() {
	f.reset()
	f.pairs = slabs[mvccpb.KeyValue]{}
	fetches.Put(f)
}

func (f *fetch) reset() {
	clear(f.kvs)
	clear(f.missing)
	clear(f.rows)
	f.kvs, f.missing, f.rows = f.kvs[:0], f.missing[:0], f.rows[:0]
}

// collect adds the pair of a key, if it is visible at rev. The caller holds mu.
func (v *view) collect(f *fetch, id uint32, rev int64, o RangeOptions) bool {
	x := v.store.index
	r := x.record(id)
	at, ok := x.keys.visible(r, rev)
	if !ok || o.CountOnly {
		return ok
	}
	kv := f.pairs.next()
	f.kvs = append(f.kvs, kv)
	switch {
	case o.KeysOnly && at.same(r.newest()):
		kv.Key = append([]byte(nil), x.keys.key(id)...)
		kv.CreateRevision, kv.ModRevision, kv.Version = r.created, r.main, r.version
	case v.staged != nil && at.main > v.staged.base:
		row := v.staged.row(at)
		kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version = row.Key, row.CreateRevision, row.ModRevision, row.Version
		if !o.KeysOnly {
			kv.Value, kv.Lease = row.Value, row.Lease
		}
	default:
		f.missing = append(f.missing, missing{kv, at, o.KeysOnly})
	}
	return true
}

// load reads the missing rows and moves the chunk's pairs to the result. mu is
// not held.
func (v *view) load(f *fetch, res *RangeResult, grow func(int) error) error {
	if err := v.store.fill(f, grow); err != nil {
		return err
	}
	if grow != nil && len(f.missing) == 0 {
		if err := grow(pairsBytes(f.kvs)); err != nil {
			return err
		}
	}
	res.KVs = append(res.KVs, f.kvs...)
	f.reset()
	return nil
}

// fill reads the rows that pairs wait for. Each is there: published rows are
// removed by a sweep only, and a sweep leaves what pinned readers see.
func (s *Store) fill(f *fetch, grow func(int) error) error {
	part := rangeChunk
	if grow != nil {
		part = firstPart
	}
	for rest := f.missing; len(rest) > 0; {
		n := min(len(rest), part)
		if err := s.fillChunk(f, rest[:n]); err != nil {
			return err
		}
		if grow != nil {
			size := 0
			for i := range rest[:n] {
				size += pairBytes(rest[i].kv)
			}
			if err := grow(size); err != nil {
				return err
			}
			part = min(max(partBytes*n/size, 1), rangeChunk)
		}
		rest = rest[n:]
	}
	return nil
}

func pairBytes(kv *mvccpb.KeyValue) int { return pairOverheadBytes + len(kv.Key) + len(kv.Value) }

func pairsBytes(kvs []*mvccpb.KeyValue) (n int) {
	for _, kv := range kvs {
		n += pairBytes(kv)
	}
	return n
}

func (s *Store) fillChunk(f *fetch, part []missing) error {
	f.keyMem, f.keys, f.rows = f.keyMem[:0], f.keys[:0], f.rows[:0]
	for i := range part {
		from := len(f.keyMem)
		f.keyMem = appendRowKey(f.keyMem, s.group, part[i].at)
		f.keys = append(f.keys, f.keyMem[from:])
		f.rows = append(f.rows, nil)
	}
	if err := s.getRows(f); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	for i := range part {
		if err := part[i].decode(f.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) getRows(f *fetch) (err error) {
	if len(f.keys) == 1 {
		f.rows[0], _, err = s.engine.Get(engine.Revisions, f.keys[0])
		return err
	}
	return s.engine.GetMany(engine.Revisions, f.keys, f.rows)
}

func (m *missing) decode(row []byte) error {
	if row == nil {
		return fmt.Errorf("mvcc: row of revision %d.%d is missing: %w", m.at.main, m.at.sub, engine.ErrCorrupt)
	}
	if err := decodeRow(row, m.kv); err != nil {
		return fmt.Errorf("revision %d.%d: %w", m.at.main, m.at.sub, err)
	}
	if m.keysOnly {
		m.kv.Value, m.kv.Lease = nil, 0
	}
	return nil
}
