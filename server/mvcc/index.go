package mvcc

import (
	"bytes"
	"hash/maphash"
)

// index finds the revisions of keys: a hash for single keys, a tree for
// ranges and counts. It holds staged revisions as well as published ones; its
// users tell them apart by their numbers. Its own methods take no lock.
type index struct {
	keys keyTable
	tree tree
	// points finds records by the hash of their keys. The seed differs from
	// process to process, and nothing depends on it: the table is looked up,
	// never iterated.
	points points
	seed   maphash.Seed
	// leases are the leases of live keys that have one, by record.
	leases map[uint32]int64
	// flips are the changes of liveness since the last publish, in order: what
	// the tree's counts are ahead of the published state.
	flips []flip
}

// flip is one change of liveness.
type flip struct {
	id   uint32
	born bool
}

func newIndex() *index {
	x := &index{
		keys:   keyTable{arena: newArena()},
		points: newPoints(),
		seed:   maphash.MakeSeed(),
		leases: map[uint32]int64{},
	}
	x.tree = newTree(&x.keys)
	return x
}

func (x *index) hash(key []byte) uint64 { return maphash.Bytes(x.seed, key) }

// find is the record of a key, or 0.
func (x *index) find(key []byte) uint32 { return x.findHashed(key, x.hash(key)) }

func (x *index) findHashed(key []byte, h uint64) uint32 {
	id := *x.points.first(h)
	for id != 0 && !bytes.Equal(x.keys.key(id), key) {
		id = x.keys.records.at(id).next
	}
	return id
}

func (x *index) record(id uint32) *keyRecord { return x.keys.records.at(id) }

// add makes the record of a key that has none.
func (x *index) add(key []byte, h uint64, first stamp) (uint32, *keyRecord) {
	id := x.keys.add(key, first)
	r := x.record(id)
	x.link(id, r, h)
	x.tree.insert(id, key, !first.dead)
	return id, r
}

// drop forgets a key. Its newest revision is a tombstone.
func (x *index) drop(id uint32) {
	key := x.keys.key(id)
	x.tree.remove(key)
	x.unlink(id, x.hash(key))
	x.keys.drop(id)
}

// change is what a put or a delete found and decided.
type change struct {
	// created and version go into the row of a put.
	created, version int64
	// prev is the revision of the key before the running command, when the
	// change's event has a previous value.
	prev    stamp
	hasPrev bool
	// prevLease is the lease that the key had, 0 when none.
	prevLease int64
}

// put adds a revision of a key.
func (x *index) put(key []byte, at stamp, lease int64) change {
	h := x.hash(key)
	id := x.findHashed(key, h)
	c := change{created: at.main, version: 1}
	var r *keyRecord
	switch {
	case id == 0:
		id, r = x.add(key, h, at)
		x.flips = append(x.flips, flip{id, true})
	case x.record(id).live():
		r = x.record(id)
		c.created, c.version = r.created, r.version+1
		c.prev, c.hasPrev = x.before(r, at.main)
		c.hasPrev = c.hasPrev && c.created < at.main
		c.prevLease = x.lease(id)
		x.keys.push(r, at)
	default:
		r = x.record(id)
		x.keys.push(r, at)
		x.tree.setLive(key, true)
		x.flips = append(x.flips, flip{id, true})
	}
	r.created, r.version = c.created, c.version
	x.setLease(id, c.prevLease, lease)
	return c
}

// kill adds a tombstone to a live key.
func (x *index) kill(id uint32, at stamp) change {
	r := x.record(id)
	var c change
	c.prev, c.hasPrev = x.before(r, at.main)
	c.prevLease = x.lease(id)
	x.keys.push(r, at)
	x.tree.setLive(x.keys.key(id), false)
	x.flips = append(x.flips, flip{id, false})
	x.setLease(id, c.prevLease, 0)
	return c
}

// before is what a read just before the command main finds, which is how etcd
// defines the previous value of an event.
func (x *index) before(r *keyRecord, main int64) (stamp, bool) {
	return x.keys.visible(r, main-1)
}

func (x *index) lease(id uint32) int64 {
	if len(x.leases) == 0 {
		return 0
	}
	return x.leases[id]
}

func (x *index) setLease(id uint32, was, lease int64) {
	switch {
	case was == lease:
	case lease == 0:
		delete(x.leases, id)
	default:
		x.leases[id] = lease
	}
}

// restore adds the revision of a stored row. Rows come in ascending order.
func (x *index) restore(key []byte, at stamp, created, version, lease int64) {
	h := x.hash(key)
	id := x.findHashed(key, h)
	var r *keyRecord
	if id == 0 {
		id, r = x.add(key, h, at)
	} else {
		r = x.record(id)
		if r.live() == at.dead {
			x.tree.setLive(key, !at.dead)
		}
		x.keys.push(r, at)
	}
	r.created, r.version = created, version
	x.setLease(id, x.lease(id), lease)
}

// published is how many keys of from <= key < to are live without the changes
// since the last publish.
func (x *index) published(from, to []byte) int64 {
	n := x.tree.count(from, to)
	for _, f := range x.flips {
		key := x.keys.key(f.id)
		if bytes.Compare(key, from) < 0 || to != nil && bytes.Compare(key, to) >= 0 {
			continue
		}
		if f.born {
			n--
		} else {
			n++
		}
	}
	return n
}
