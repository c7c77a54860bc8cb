package mvcc

import "math/bits"

const (
	pointsChunkBits = 12
	pointsChunkLen  = 1 << pointsChunkBits
)

// points finds records by the hash of their keys: buckets that are chains of
// records (keyRecord.next), about one a record. It grows by linear hashing, a
// bucket at a time, so that no put waits for the table to be rebuilt, and takes a
// fifth of the memory of a Go map.
type points struct {
	// chunks hold the first record of each bucket, 0 for none.
	chunks []*[pointsChunkLen]uint32
	// n is the number of buckets, at least 1.
	n uint32
}

func newPoints() points { return points{chunks: []*[pointsChunkLen]uint32{{}}, n: 1} }

// expect makes room for so many records in an empty table.
func (p *points) expect(records uint32) {
	for p.n < records {
		p.addBucket()
	}
}

// bucket is that of a hash. Buckets are numbered by the hash's lowest bits: as
// many as n has where there is such a bucket, else one less.
func (p *points) bucket(h uint64) uint32 {
	top := bits.Len32(p.n - 1)
	b := uint32(h) & (1<<top - 1)
	if b >= p.n {
		b &= 1<<(top-1) - 1
	}
	return b
}

// first is the head of a hash's chain.
func (p *points) first(h uint64) *uint32 { return p.head(p.bucket(h)) }

func (p *points) head(bucket uint32) *uint32 {
	return &p.chunks[bucket>>pointsChunkBits][bucket&(pointsChunkLen-1)]
}

func (p *points) addBucket() {
	if int(p.n>>pointsChunkBits) == len(p.chunks) {
		p.chunks = append(p.chunks, new([pointsChunkLen]uint32))
	}
	p.n++
}

// splits tells which bucket shares its records with the one that addBucket adds.
func (p *points) splits() uint32 { return p.n &^ (1 << (bits.Len32(p.n) - 1)) }

// link puts a record into its chain, and splits one when there are more records
// than buckets.
func (x *index) link(id uint32, r *keyRecord, h uint64) {
	first := x.points.first(h)
	r.next, *first = *first, id
	if x.keys.records.count() > int(x.points.n) {
		x.split()
	}
}

// split adds a bucket and gives it those records of another that belong there.
func (x *index) split() {
	p := &x.points
	from, to := p.splits(), p.n
	p.addBucket()
	stay, move := p.head(from), p.head(to)
	for id := *stay; id != 0; {
		r := x.record(id)
		next := r.next
		if p.bucket(x.hash(x.keys.key(id))) == from {
			*stay = id
			stay = &r.next
		} else {
			*move = id
			move = &r.next
		}
		id = next
	}
	*stay, *move = 0, 0
}

// unlink takes a record out of its chain.
func (x *index) unlink(id uint32, h uint64) {
	at := x.points.first(h)
	for *at != id {
		at = &x.record(*at).next
	}
	*at = x.record(id).next
}
