package mvcc

import (
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// Store keeps the revisions of one group.
type Store struct {
	engine engine.Engine
	group  engine.GroupID

	// mu guards index, published, compacted and epoch. The writer holds it for
	// the index work of one change (or a bounded number of them), readers for a
	// bounded number of keys; nobody holds it across the engine.
	mu    sync.RWMutex
	index *index
	// published is the newest revision that readers see; compacted the oldest
	// one that they may ask for. Written under mu by the writer, so that under
	// mu both belong together; Rev and CompactRev load them without.
	// Invariant: compacted <= published; neither ever falls.
	published, compacted atomic.Int64

	// hashes are those of the last compactions, the oldest first. Guarded by
	// mu; written by the sweep.
	hashes []compactionHash

	// pinned counts the readers that are under way, by the epoch in which they
	// began. A reader checks its revision against compacted and pins itself
	// under one hold of mu; a sweep turns the epoch, then waits until the old
	// one is empty. So whoever runs beside a sweep asked for a revision at or
	// above the one that is swept, and everything visible there stays.
	// Invariant: outside of a sweep's wait, pinned[1-epoch] is 0.
	pinned [2]atomic.Int64
	epoch  int

	// The rest belongs to the applying goroutine.
	writer Writer
	// sweep is the compaction under way; finished the newest one done. resumed
	// is one that an earlier run began, so that rows may be gone already.
	sweep             *sweep
	swept             Swept // by the goroutine of CompactStep
	finished, resumed int64
}

// Open reads the group's rows and rebuilds the index. A compaction that was
// under way counts from the start; CompactStep goes on with it.
func Open(e engine.Engine, g engine.GroupID) (*Store, error) {
	c, err := ReadCompaction(e, g)
	if err != nil {
		return nil, err
	}
	s := newStore(e, g, c, newIndex())
	last, err := s.restore()
	if err != nil {
		return nil, fmt.Errorf("restore revisions of group %d: %w", g, err)
	}
	s.published.Store(c.newest(last))
	return s, nil
}

// restore rebuilds the index in no more memory than it has from then on, unlike a
// Loader: a member that ran within its limit starts within it.
func (s *Store) restore() (last int64, err error) {
	var kv mvccpb.KeyValue
	prefix := s.group.Key()
	err = s.engine.Scan(engine.Revisions, prefix, engine.PrefixEnd(prefix), func(key, row []byte) (bool, error) {
		at, err := readRow(key, row, &kv)
		if err != nil {
			return false, err
		}
		s.index.restore(kv.Key, at, kv.CreateRevision, kv.Version, kv.Lease)
		last = at.main
		return true, nil
	})
	return last, err
}

// readRow decodes a row as an engine has it. The pair shares the row's memory.
func readRow(key, row []byte, kv *mvccpb.KeyValue) (stamp, error) {
	at, err := parseRowKey(key)
	if err != nil {
		return stamp{}, err
	}
	kv.Key, kv.CreateRevision, kv.Version, kv.Lease = nil, 0, 0, 0
	if err := decodeRow(row, kv); err != nil {
		return stamp{}, fmt.Errorf("revision %d.%d: %w", at.main, at.sub, err)
	}
	return at, nil
}

func newStore(e engine.Engine, g engine.GroupID, c Compaction, x *index) *Store {
	s := &Store{engine: e, group: g, index: x, finished: c.Finished, resumed: c.Scheduled}
	s.writer.init(s)
	s.compacted.Store(c.Scheduled)
	return s
}

// Rev is the newest published revision.
func (s *Store) Rev() int64 { return s.published.Load() }

// CompactRev is the revision of the last compaction, the oldest one that can
// be read; -1 when there was none.
func (s *Store) CompactRev() int64 { return s.compacted.Load() }

// AttachedKeys calls fn for every live key that has a lease, in key order, with
// a key that fn may keep. It belongs to the applying goroutine.
func (s *Store) AttachedKeys(fn func(lease int64, key []byte)) {
	s.index.tree.ascend(nil, nil, func(id uint32, _ bool) bool {
		if lease := s.index.lease(id); lease != 0 {
			fn(lease, append([]byte(nil), s.index.keys.key(id)...))
		}
		return true
	})
}

// pin registers a reader that has checked its revision. The caller holds mu
// since that check. unpin needs no lock.
func (s *Store) pin() *atomic.Int64 {
	p := &s.pinned[s.epoch]
	p.Add(1)
	return p
}

func unpin(p *atomic.Int64) { p.Add(-1) }
