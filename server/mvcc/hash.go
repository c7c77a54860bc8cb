package mvcc

import (
	"fmt"
	"hash/crc32"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hashSeed is the name of etcd's bucket, which its hash begins with.
const hashSeed = "key"

// HashKV is the CRC-32C over the rows up to a revision (0: the newest) as
// etcd's HashKV computes it (server/storage/mvcc/hash.go of v3.7): key and
// value of each row in order, without the rows that compactions make
// unreadable, whether they are gone yet or not. It also tells the compact
// revision that it took into account and the newest revision.
func (s *Store) HashKV(rev int64) (hash uint32, compactRev, currentRev int64, err error) {
	s.mu.RLock()
	h := hasher{store: s, compacted: s.compacted.Load()}
	currentRev = s.published.Load()
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

	h.keepAt = h.compacted
	if s.anyVisible(rev) {
		h.keepAt = rev
	}
	hash, err = h.run(rev)
	return hash, h.compacted, currentRev, err
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

// hasher computes one hash. It belongs to a pinned reader.
type hasher struct {
	store     *Store
	compacted int64
	// keepAt is the revision at which a row up to compacted must be visible to
	// count. It is the hashed revision, as if it were compacted to; but when
	// nothing is visible there, etcd hashes what the last compaction left.
	keepAt int64
	sum    uint32
}

func (h *hasher) run(rev int64) (uint32, error) {
	h.sum = crc32.Update(0, castagnoli, []byte(hashSeed))
	g := h.store.group
	from, to := g.Key(), appendMain(nil, g, rev+1)
	if rev < 0 {
		to = from
	}
	err := h.store.engine.Scan(engine.Revisions, from, to, h.row)
	if err != nil {
		return 0, fmt.Errorf("hash rows: %w", err)
	}
	return h.sum, nil
}

func (h *hasher) row(key, row []byte) (bool, error) {
	at, err := parseRowKey(key)
	if err != nil {
		return false, err
	}
	if at.main <= h.compacted {
		kept, err := h.kept(at, row)
		if err != nil || !kept {
			return err == nil, err
		}
	}
	h.sum = crc32.Update(h.sum, castagnoli, key[groupLen:])
	h.sum = crc32.Update(h.sum, castagnoli, row)
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
