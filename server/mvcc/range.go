package mvcc

import "go.etcd.io/etcd/api/v3/mvccpb"

// rangeChunk is how many keys a reader visits, at most, in one hold of the
// index lock.
const rangeChunk = 256

const (
	// fillRows is how many rows are asked of the engine at once, at most.
	fillRows = 16 * rangeChunk
	// firstPart is how many rows are read before their size is known, where it
	// matters, and partBytes how many bytes are wanted at once from then on.
	firstPart = 8
	partBytes = 1 << 20
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
		return res, v.load(f, &res, o)
	}
	to := bounds(end)
	known := rev == v.current
	if known {
		res.Count = v.live(key, to)
		if o.CountOnly {
			v.store.mu.RUnlock()
			return res, nil
		}
		f.wanted = wanted(res.Count, o.Limit)
		if o.EncodeTag == 0 {
			res.KVs = make([]*mvccpb.KeyValue, 0, f.wanted)
		}
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
	var total, pairsRead int64
	for {
		more := walk.chunk(v.store.index, func(id uint32, _ bool) bool {
			full := o.CountOnly || limit > 0 && pairsRead >= limit
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
				pairsRead++
			}
			return true
		})
		v.store.mu.RUnlock()
		if pairs && (!more || len(f.missing) >= fillRows || len(f.kvs) > len(f.missing)) {
			if err := v.load(f, res, o); err != nil {
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

// collect adds the pair of a key, if it is visible at rev. The caller holds mu.
func (v *view) collect(f *fetch, id uint32, rev int64, o RangeOptions) bool {
	x := v.store.index
	r := x.record(id)
	at, ok := x.keys.visible(r, rev)
	if !ok || o.CountOnly {
		return ok
	}
	if o.EncodeTag != 0 {
		f.missing = append(f.missing, missing{at: at})
		return true
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
		f.missing = append(f.missing, missing{kv: kv, at: at, keysOnly: o.KeysOnly})
	}
	return true
}
