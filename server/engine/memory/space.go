package memory

import "sort"

// space is one key space: the newest version of every key in a tree, and the
// older ones that an open snapshot still sees beside it, so that rows stay
// small and all of this costs nothing while no snapshot is open.
type space struct {
	heap *heap
	tree tree
	// older holds the superseded versions of a key, oldest first. A key is in
	// it exactly if its row has olderFlag.
	older map[string][]row
	// retired names the keys in older, in the order of supersession; a key may
	// be named more often than it has versions.
	retired []retired
	// liveRows and liveBytes count undeleted rows and their keys and values;
	// olderBytes counts the keys and values of all other versions.
	liveRows, liveBytes, olderBytes int64
	// sweptTo is how far the first sparse chunk is emptied.
	sweptTo int
}

type retired struct {
	key string
	// seq is the batch that superseded the version.
	seq uint64
}

func newSpace() *space {
	h := &heap{}
	return &space{heap: h, tree: newTree(h), older: map[string][]row{}}
}

// write is one batch being applied.
type write struct {
	seq uint64
	// open ascends: the numbers of the open snapshots, all below seq.
	open []uint64
}

// seen tells whether an open snapshot sees a version that was written at seq
// and superseded at next.
func (w *write) seen(seq, next uint64) bool {
	i := sort.Search(len(w.open), func(i int) bool { return w.open[i] >= seq })
	return i < len(w.open) && w.open[i] < next
}

// dataBytes is the length of a row's key and value.
func (s *space) dataBytes(r *row) int64 {
	key, value := s.heap.row(r.place)
	return int64(len(key) + len(value))
}

// put sets a key.
func (s *space) put(w *write, key, value []byte) {
	r := row{s.heap.put(key, value), w.seq}
	s.liveRows++
	s.liveBytes += int64(len(key) + len(value))
	if s.tree.append(key, r) {
		return
	}
	old := s.tree.get(key)
	if old == nil {
		s.tree.insert(key, r)
		return
	}
	was := old.place
	older, kept := s.retire(w, key, old)
	if older {
		r.stamp |= olderFlag
	}
	*old = r
	if !kept {
		s.heap.drop(was)
	}
}

// load adds a row whose bytes are in the heap already. Keys come in ascending order.
func (s *space) load(w *write, p place, key, value []byte) {
	s.liveRows++
	s.liveBytes += int64(len(key) + len(value))
	if r := (row{p, w.seq}); !s.tree.append(key, r) {
		s.tree.insert(key, r)
	}
}

// remove deletes a key.
func (s *space) remove(w *write, key []byte) {
	old := s.tree.get(key)
	if old == nil || old.deleted() {
		return
	}
	was := old.place
	older, kept := s.retire(w, key, old)
	if older {
		// The row is there for the key alone; the value goes with older.
		*old = row{s.heap.put(key, nil), w.seq | deletedFlag | olderFlag}
		s.olderBytes += int64(len(key))
	} else {
		s.tree.remove(key)
	}
	if !kept {
		s.heap.drop(was)
	}
}

// retire moves a row that is superseded to older if a snapshot sees it, which
// kept tells, drops what no snapshot sees, and tells whether older versions
// remain. The caller drops the bytes of what is not kept.
func (s *space) retire(w *write, key []byte, old *row) (older, kept bool) {
	size := s.dataBytes(old)
	if old.deleted() {
		s.olderBytes -= size
	} else {
		s.liveRows--
		s.liveBytes -= size
	}
	var versions []row
	if old.older() {
		versions = s.older[string(key)]
	}
	kept = w.seen(old.seq(), w.seq)
	if !kept && len(versions) == 0 {
		return false, false
	}
	if kept {
		r := *old
		r.stamp &^= olderFlag
		versions = append(versions, r)
		s.olderBytes += size
		s.retired = append(s.retired, retired{string(key), w.seq})
	}
	return s.prune(w, key, versions, w.seq), kept
}

// prune keeps the versions that an open snapshot sees; next is the number of
// the version after the last. It tells whether any is left.
func (s *space) prune(w *write, key []byte, versions []row, next uint64) bool {
	kept := len(versions)
	for i := len(versions) - 1; i >= 0; i-- {
		v := versions[i]
		if w.seen(v.seq(), next) {
			kept--
			versions[kept] = v
		} else {
			s.olderBytes -= s.dataBytes(&v)
			s.heap.drop(v.place)
		}
		next = v.seq()
	}
	if kept == len(versions) {
		delete(s.older, string(key))
		return false
	}
	n := copy(versions, versions[kept:])
	clear(versions[n:])
	s.older[string(key)] = versions[:n]
	return true
}

// collect frees versions that were superseded before the oldest snapshot and
// empties sparse chunks, at most limit rows of each, and tells whether any are
// left that can go.
func (s *space) collect(w *write, limit int) (more bool) {
	oldest := w.seq
	if len(w.open) > 0 {
		oldest = w.open[0]
	}
	n := 0
	for ; n < len(s.retired) && s.retired[n].seq <= oldest; n++ {
		if n == limit {
			more = true
			break
		}
		s.collectKey(w, []byte(s.retired[n].key))
	}
	clear(s.retired[:n])
	s.retired = s.retired[n:]
	return s.sweep(limit) || more
}

func (s *space) collectKey(w *write, key []byte) {
	r := s.tree.get(key)
	if r == nil || !r.older() || s.prune(w, key, s.older[string(key)], r.seq()) {
		return
	}
	r.stamp &^= olderFlag
	if r.deleted() {
		was := r.place
		s.olderBytes -= s.dataBytes(r)
		s.tree.remove(key)
		s.heap.drop(was)
	}
}

// at is the version of r that a snapshot at seq sees, nil when it sees none.
func (s *space) at(r *row, seq uint64) *row {
	if r.seq() <= seq {
		return undeleted(r)
	}
	if !r.older() {
		return nil
	}
	versions := s.older[string(s.heap.key(r.place))]
	for i := len(versions) - 1; i >= 0; i-- {
		if versions[i].seq() <= seq {
			return undeleted(&versions[i])
		}
	}
	return nil
}

func undeleted(r *row) *row {
	if r.deleted() {
		return nil
	}
	return r
}

// chunk appends the rows from <= key < to that a snapshot at seq sees to dst,
// until it is full or limit rows were looked at. It returns the key to go on
// from, nil at the end.
func (s *space) chunk(dst []pair, from, to []byte, seq uint64, limit int) (rows []pair, next []byte) {
	l, i := s.tree.seek(from)
	for looked := 0; l != nil; l, i = l.next, 0 {
		for ; i < l.n; i++ {
			r := &l.rows[i]
			if to != nil && s.tree.compare(r, to) >= 0 {
				return dst, nil
			}
			if looked == limit || len(dst) == cap(dst) {
				return dst, s.heap.key(r.place)
			}
			looked++
			if v := s.at(r, seq); v != nil {
				key, value := s.heap.row(v.place)
				dst = append(dst, pair{key, value})
			}
		}
	}
	return dst, nil
}

// removeRange deletes the keys from <= key < to.
func (s *space) removeRange(w *write, from, to []byte) {
	rows := make([]pair, 0, rangeChunkRows)
	for more := true; more; more = from != nil {
		rows, from = s.chunk(rows[:0], from, to, w.seq, rangeChunkRows)
		for i := range rows {
			s.remove(w, rows[i].key)
		}
	}
}

// rangeChunkRows bounds the memory that a range delete takes.
const rangeChunkRows = 256

// totalBytes is what the space takes, usedBytes what its live rows need.
func (s *space) totalBytes() int64 {
	return s.heap.bytes + int64(s.tree.leaves)*leafBytes
}

func (s *space) usedBytes() int64 { return s.liveBytes + s.liveRows*rowBytes }
