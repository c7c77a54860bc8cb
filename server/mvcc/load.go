package mvcc

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// Loader builds the index of rows on their way into an engine that is filled, in
// the order in which engines keep them, so that they need not be read again. It
// is faster than Open and takes up to half of the index's memory more meanwhile.
// One goroutine uses it.
type Loader struct {
	index *index
	group engine.GroupID
	kv    mvccpb.KeyValue
	// last is the main revision of the newest row.
	last int64
	// seen finds records by the hash of their keys; the next numbers are tried
	// where another key has it. The index's own table comes at the end, when its
	// size is known: growing it reads every key again, cold.
	seen map[uint64]uint32
	// Invariant: while it is true, the keys of the records ascend with their
	// numbers.
	ascending bool
}

// NewLoader makes a Loader for the rows of a group.
func NewLoader(g engine.GroupID) *Loader {
	return &Loader{index: newIndex(), group: g, seen: map[uint64]uint32{}, ascending: true}
}

// Add takes a row of the space Revisions. It keeps neither slice.
func (l *Loader) Add(key, row []byte) error {
	kv := &l.kv
	at, err := readRow(key, row, kv)
	if err != nil {
		return err
	}
	l.restore(kv.Key, at, kv.CreateRevision, kv.Version, kv.Lease)
	l.last = at.main
	return nil
}

// Open is Open for an engine that holds the rows which were added, and whose
// compaction is known by now.
func (l *Loader) Open(e engine.Engine) (*Store, error) {
	c, err := ReadCompaction(e, l.group)
	if err != nil {
		return nil, err
	}
	l.seen = nil
	l.index.linkAll()
	l.index.order(l.ascending)
	s := newStore(e, l.group, c, l.index)
	s.published.Store(c.newest(l.last))
	return s, nil
}

// restore adds a revision to the records.
func (l *Loader) restore(key []byte, at stamp, created, version, lease int64) {
	x := l.index
	id, h := l.find(key)
	if id == 0 {
		n := x.keys.records.used
		l.ascending = l.ascending && (n == 0 || string(x.keys.key(n)) < string(key))
		id = x.keys.add(key, at)
		l.seen[h] = id
	} else {
		x.keys.push(x.record(id), at)
	}
	r := x.record(id)
	r.created, r.version = created, version
	x.setLease(id, x.lease(id), lease)
}

// find is the record of a key, or 0 and where to note it.
func (l *Loader) find(key []byte) (id uint32, h uint64) {
	for h = l.index.hash(key); ; h++ {
		if id = l.seen[h]; id == 0 || string(l.index.keys.key(id)) == string(key) {
			return id, h
		}
	}
}

// linkAll fills the hash table, which is empty, with all records.
func (x *index) linkAll() {
	n := x.keys.records.used
	x.points.expect(n)
	for id := uint32(1); id <= n; id++ {
		x.link(id, x.record(id), x.hash(x.keys.key(id)))
	}
}

// order fills the tree, which is empty, with all records. No record was ever
// dropped; sorted says that their keys ascend with their numbers.
func (x *index) order(sorted bool) {
	all := make([]headed, x.keys.records.used)
	for i := range all {
		all[i].id = uint32(i + 1)
	}
	if !sorted {
		x.keys.sort(all, 0)
	}
	build := treeBuilder{tree: &x.tree}
	for _, k := range all {
		build.add(k.id, x.record(k.id).live())
	}
	build.finish()
}
