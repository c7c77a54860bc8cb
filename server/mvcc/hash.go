package mvcc

import (
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hashSeed is the name of etcd's bucket, which its hash begins with.
const hashSeed = "key"

// maxHashes is how many hashes of compactions are remembered, as many as etcd
// does.
const maxHashes = 10

// compactionHash is the hash of the rows up to a revision as they were before
// the compaction to it took rows away.
type compactionHash struct {
	rev, compacted int64
	hash           uint32
}

// HashKV is the CRC-32C over the rows up to a revision (0: the newest) as
// etcd's HashKV computes it (server/storage/mvcc/hash.go of v3.7): key and
// value of each row in order, without the rows that compactions make
// unreadable, whether they are gone yet or not. It also tells the compact
// revision that it took into account and the newest revision.
//
// Of a revision that was compacted to since the start, and of a few before, it
// is the hash of before that compaction, as in etcd: whoever asked before
// compares well with who asks afterwards.
func (s *Store) HashKV(rev int64) (hash uint32, compactRev, currentRev int64, err error) {
	s.mu.RLock()
	h := hasher{store: s, compacted: s.compacted.Load()}
	currentRev = s.published.Load()
	if i := slices.IndexFunc(s.hashes, func(c compactionHash) bool { return c.rev == rev }); i >= 0 {
		c := s.hashes[i]
		s.mu.RUnlock()
		return c.hash, c.compacted, currentRev, nil
	}
	switch {
	case rev > 0 && rev < h.compacted:
		err = ErrCompacted
	case rev > currentRev:
		err = ErrFutureRev
	}
	if err != nil {
		s.mu.RUnlock()
		return 0, h.compacted, currentRev, err
	}
	if rev == 0 {
		rev = currentRev
	}
	p := s.pin()
	defer unpin(p)
	s.mu.RUnlock()

	h.begin(rev)
	if _, err := h.run(math.MaxInt); err != nil {
		return 0, h.compacted, currentRev, err
	}
	return h.sum, h.compacted, currentRev, nil
}

// Hash is the hash of the rows up to Rev as they were when CompactRev was the
// compact revision.
type Hash struct {
	Rev, CompactRev int64
	Sum             uint32
}

// CompactionHashes are those of the last compactions since the start, the newest
// first.
func (s *Store) CompactionHashes() []Hash {
	s.mu.RLock()
	defer s.mu.RUnlock()
	hashes := make([]Hash, len(s.hashes))
	for i, c := range s.hashes {
		hashes[len(hashes)-1-i] = Hash{Rev: c.rev, CompactRev: c.compacted, Sum: c.hash}
	}
	return hashes
}

// remember keeps the hash of a compaction and forgets the oldest one. Nothing is
// up to revision 0, and HashKV takes it for the newest; etcd remembers it, and
// tells the hash of nothing for that of everything from then on.
func (s *Store) remember(c compactionHash) {
	if c.rev == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hashes) == maxHashes {
		s.hashes = slices.Delete(s.hashes, 0, 1)
	}
	s.hashes = append(s.hashes, c)
}

// anyVisible says whether any key is there at rev. The caller is pinned.
func (s *Store) anyVisible(rev int64) (found bool) {
	var walk walker
	for more := true; more && !found; {
		s.mu.RLock()
		more = walk.chunk(s.index, func(id uint32, _ bool) bool {
			_, found = s.index.keys.visible(s.index.record(id), rev)
			return !found
		})
		s.mu.RUnlock()
	}
	return found
}

// hasher computes one hash, at once or in steps. It belongs to a pinned reader
// or to the sweep.
type hasher struct {
	store     *Store
	compacted int64
	// keepAt is the revision at which a row up to compacted must be visible to
	// count. It is the hashed revision, as if it were compacted to; but when
	// nothing is visible there, etcd hashes what the last compaction left.
	keepAt int64
	sum    uint32
	// next and end are the rows that are still to be hashed, left how many the
	// step may take.
	next, end []byte
	left      int
}

func (h *hasher) begin(rev int64) {
	h.keepAt = h.compacted
	if h.store.anyVisible(rev) {
		h.keepAt = rev
	}
	h.sum = crc32.Update(0, castagnoli, []byte(hashSeed))
	g := h.store.group
	h.next, h.end = g.Key(), appendMain(nil, g, rev+1)
	if rev < 0 {
		h.end = h.next
	}
}

// run hashes up to maxRows rows and says whether none is left.
func (h *hasher) run(maxRows int) (done bool, err error) {
	h.left = maxRows
	err = h.store.engine.Scan(engine.Revisions, h.next, h.end, h.row)
	if err != nil {
		return false, fmt.Errorf("hash rows: %w", err)
	}
	return h.left > 0, nil
}

func (h *hasher) row(key, row []byte) (bool, error) {
	at, err := parseRowKey(key)
	if err != nil {
		return false, err
	}
	counts := true
	if at.main <= h.compacted {
		if counts, err = h.kept(at, row); err != nil {
			return false, err
		}
	}
	if counts {
		h.sum = crc32.Update(h.sum, castagnoli, key[groupLen:])
		h.sum = crc32.Update(h.sum, castagnoli, row)
	}
	if h.left--; h.left == 0 {
		h.next = append(append(h.next[:0], key...), 0)
		return false, nil
	}
	return true, nil
}

// kept says whether a row up to the compact revision counts. A tombstone never
// does: below the compact revision it goes, and at it etcd leaves it out.
func (h *hasher) kept(at stamp, row []byte) (bool, error) {
	if at.dead {
		return false, nil
	}
	var kv mvccpb.KeyValue
	if err := decodeRow(row, &kv); err != nil {
		return false, fmt.Errorf("revision %d.%d: %w", at.main, at.sub, err)
	}
	h.store.mu.RLock()
	defer h.store.mu.RUnlock()
	x := h.store.index
	id := x.find(kv.Key)
	if id == 0 {
		return false, nil
	}
	seen, ok := x.keys.visible(x.record(id), h.keepAt)
	return ok && seen.same(at), nil
}
