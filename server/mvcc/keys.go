package mvcc

import "encoding/binary"

const (
	// deadBit marks a tombstone in a stored sub revision; the rest counts.
	deadBit = 1 << 31
	maxSub  = deadBit - 1
	// olderLen is the length of one older revision: main 8, sub and dead bit 4,
	// unused 4, little endian.
	olderLen = 16
)

// keyRecord is all that the index knows of one key. It holds no pointer.
type keyRecord struct {
	// main is the newest revision, staged ones included.
	main int64
	// created and version belong to the generation of the newest revision;
	// meaningless after a tombstone.
	created, version int64
	// sub belongs to main and carries deadBit.
	sub uint32
	// keyRef and keyLen are the key's bytes in the arena.
	keyRef ref
	keyLen uint32
	// next is the next key in the same bucket of points.
	next uint32
	// older are the revisions before main in ascending order, capacity
	// olderCap(olderN). Most keys have none.
	older  ref
	olderN uint32
}

func (r *keyRecord) newest() stamp {
	return stamp{main: r.main, sub: r.sub &^ deadBit, dead: r.sub&deadBit != 0}
}

func (r *keyRecord) live() bool { return r.sub&deadBit == 0 }

func (r *keyRecord) setNewest(at stamp) {
	r.main, r.sub = at.main, at.sub
	if at.dead {
		r.sub |= deadBit
	}
}

// keyTable stores the records, their keys and their older revisions.
type keyTable struct {
	records slab[keyRecord]
	arena   arena
}

// add makes a record with one revision.
func (t *keyTable) add(key []byte, first stamp) uint32 {
	id := t.records.add()
	r := t.records.at(id)
	if len(key) > 0 {
		var b []byte
		r.keyRef, b = t.arena.alloc(len(key))
		copy(b, key)
	}
	r.keyLen = uint32(len(key))
	r.setNewest(first)
	return id
}

// drop forgets a record.
func (t *keyTable) drop(id uint32) {
	r := t.records.at(id)
	if r.keyLen > 0 {
		t.arena.free(r.keyRef, int(r.keyLen))
	}
	t.setOlderLen(r, 0, 0)
	t.records.drop(id)
}

// key is the key's bytes; they stay valid until the record is dropped.
func (t *keyTable) key(id uint32) []byte {
	r := t.records.at(id)
	if r.keyLen == 0 {
		return nil
	}
	return t.arena.bytes(r.keyRef, int(r.keyLen))
}

// push makes at the newest revision. at is greater than all before it.
func (t *keyTable) push(r *keyRecord, at stamp) {
	n := r.olderN
	t.setOlderLen(r, n+1, 0)
	b := t.olderBytes(r)[n*olderLen:]
	binary.LittleEndian.PutUint64(b, uint64(r.main))
	binary.LittleEndian.PutUint32(b[8:], r.sub)
	r.setNewest(at)
}

// trim drops the n oldest revisions; the newest one stays.
// Invariant: n <= r.olderN.
func (t *keyTable) trim(r *keyRecord, n int) {
	t.setOlderLen(r, r.olderN-uint32(n), n)
}

// setOlderLen resizes the list of older revisions, keeping those from the skip
// oldest on.
func (t *keyTable) setOlderLen(r *keyRecord, n uint32, skip int) {
	was, had := t.olderBytes(r), olderCap(r.olderN)
	if olderCap(n) == had {
		if skip > 0 {
			copy(was, was[skip*olderLen:])
		}
		r.olderN = n
		return
	}
	oldRef := r.older
	r.older, r.olderN = 0, n
	if n > 0 {
		var b []byte
		r.older, b = t.arena.alloc(olderCap(n) * olderLen)
		copy(b, was[skip*olderLen:])
	}
	if oldRef != 0 {
		t.arena.free(oldRef, had*olderLen)
	}
}

// fillOlder gives a record without older revisions its own, the newest first.
func (t *keyTable) fillOlder(r *keyRecord, older []stamp) {
	if len(older) == 0 {
		return
	}
	t.setOlderLen(r, uint32(len(older)), 0)
	b := t.olderBytes(r)
	for i, at := range older {
		place := b[(len(older)-1-i)*olderLen:]
		binary.LittleEndian.PutUint64(place, uint64(at.main))
		sub := at.sub
		if at.dead {
			sub |= deadBit
		}
		binary.LittleEndian.PutUint32(place[8:], sub)
	}
}

// olderCap is the capacity of a list of n: the next power of two.
func olderCap(n uint32) int {
	c := 1
	for c < int(n) {
		c <<= 1
	}
	if n == 0 {
		return 0
	}
	return c
}

func (t *keyTable) olderBytes(r *keyRecord) []byte {
	if r.older == 0 {
		return nil
	}
	return t.arena.bytes(r.older, olderCap(r.olderN)*olderLen)
}

// revisions is how many revisions a key has.
func (r *keyRecord) revisions() int { return int(r.olderN) + 1 }

// revision is the i-th revision, from the oldest.
func (t *keyTable) revision(r *keyRecord, i int) stamp {
	if i == int(r.olderN) {
		return r.newest()
	}
	b := t.olderBytes(r)[i*olderLen:]
	sub := binary.LittleEndian.Uint32(b[8:])
	return stamp{
		main: int64(binary.LittleEndian.Uint64(b)),
		sub:  sub &^ deadBit,
		dead: sub&deadBit != 0,
	}
}

// upTo is how many revisions have a main revision of at most rev.
func (t *keyTable) upTo(r *keyRecord, rev int64) int {
	if r.main <= rev {
		return r.revisions()
	}
	if r.olderN == 0 {
		return 0
	}
	b := t.olderBytes(r)
	lo, hi := 0, int(r.olderN)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if int64(binary.LittleEndian.Uint64(b[mid*olderLen:])) <= rev {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// visible is the revision of the key that a read at rev finds.
func (t *keyTable) visible(r *keyRecord, rev int64) (stamp, bool) {
	if r.main <= rev {
		return r.newest(), r.live()
	}
	n := t.upTo(r, rev)
	if n == 0 {
		return stamp{}, false
	}
	at := t.revision(r, n-1)
	return at, !at.dead
}

// garbage is how many of the oldest revisions a compaction at rev removes: all
// before the newest one at or below rev, and that one too when it is a
// tombstone below rev. A tombstone at rev itself stays, so that a watch from
// rev on still sees it, as in etcd.
func (t *keyTable) garbage(r *keyRecord, rev int64) int {
	n := t.upTo(r, rev)
	if n == 0 {
		return 0
	}
	if last := t.revision(r, n-1); last.dead && last.main < rev {
		return n
	}
	return n - 1
}
