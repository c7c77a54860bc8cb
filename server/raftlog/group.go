package raftlog

import (
	"fmt"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// GroupID names a raft group within the process.
type GroupID uint32

// Position is an entry's index and term.
type Position struct{ Index, Term uint64 }

// entryOverheadBytes is what a cached entry costs beside its data.
const entryOverheadBytes = 128

// Group is one group's log. Its methods may run concurrently with everything
// but the log's Close, and see an Append's effects when it returns.
type Group struct {
	id GroupID

	// recorded is what replay of the written records gives; newest is the hard
	// state with a commit index that may not be written yet. keepFrom is the
	// first segment with an entry that recorded still needs, 0: none.
	// Owner: the goroutine in Append, Open or Close.
	recorded state
	newest   hardState
	keepFrom uint64

	mu        sync.RWMutex // guards what follows; never held across I/O
	hard      hardState
	compacted Position // at or after recorded.compacted
	// positions[i] is the entry compacted.Index+1+i. Invariant: their segments
	// never descend, as an entry's rewriting drops all after it.
	positions []position
	// base is the cumulative size at compacted; see position.total.
	base int64
	// cache holds the newest entries, up to the last one.
	cache      []*raftpb.Entry
	cacheBytes int64
	// compacting: the group is in the log's list of compactions to record.
	compacting bool
}

// position is where an entry lies.
type position struct {
	term  uint64
	seg   *segment // nil only during recovery: in a segment that is gone
	total int64    // bytes of the group's entries up to and with this one
	place
}

// HardState is the newest one, nil when there is none. The caller owns it.
func (g *Group) HardState() *raftpb.HardState {
	g.mu.RLock()
	defer g.mu.RUnlock()
	h := g.hard
	if h == (hardState{}) {
		return nil
	}
	return &raftpb.HardState{Term: &h.term, Vote: &h.vote, Commit: &h.commit}
}

// FirstIndex is the first entry's index, or the one that it will have.
func (g *Group) FirstIndex() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.compacted.Index + 1
}

// LastIndex is FirstIndex-1 when there are no entries.
func (g *Group) LastIndex() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.lastIndex()
}

func (g *Group) lastIndex() uint64 { return g.compacted.Index + uint64(len(g.positions)) }

// Term is the term of entry i, also of FirstIndex-1. Errors: raft.ErrCompacted,
// raft.ErrUnavailable.
func (g *Group) Term(i uint64) (uint64, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	switch {
	case i < g.compacted.Index:
		return 0, raft.ErrCompacted
	case i > g.lastIndex():
		return 0, raft.ErrUnavailable
	}
	return g.termAt(i), nil
}

func (g *Group) termAt(i uint64) uint64 {
	if i == g.compacted.Index {
		return g.compacted.Term
	}
	return g.positions[i-g.compacted.Index-1].term
}

// BytesSince is about the bytes of the entries after index.
func (g *Group) BytesSince(index uint64) int64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.totalAt(g.lastIndex()) - g.totalAt(min(max(index, g.compacted.Index), g.lastIndex()))
}

// totalAt is the cumulative size at index i, which is in the log or the one
// before its first.
func (g *Group) totalAt(i uint64) int64 {
	if i == g.compacted.Index {
		return g.base
	}
	return g.positions[i-g.compacted.Index-1].total
}

// publish shows readers one record that lies in seg, and that recorded has
// taken. It fails only when entries were compacted that this record replaces.
func (g *Group) publish(c *change, seg *segment, cacheLimit int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch c.kind {
	case recordEntries:
		if first := c.entries[0].GetIndex(); first <= g.compacted.Index {
			return fmt.Errorf("entries from index %d on were compacted up to %d while they were appended", first, g.compacted.Index)
		}
		g.addEntries(c, seg, cacheLimit)
		if g.keepFrom == 0 {
			g.keepFrom = seg.seq
		}
	case recordReset:
		g.dropAll(c.at)
		g.keepFrom = 0
	case recordCompact:
		if c.at.Index > g.compacted.Index { // else Compact has shown it
			g.dropTo(c.at)
		}
	case recordCheckpoint:
		g.fillFrom(c)
	}
	if c.hard != nil {
		g.hard = *c.hard
	}
	g.hard = g.hard.atLeast(g.compacted.Index)
	return nil
}

// setNewest takes a hard state that the caller gave.
func (g *Group) setNewest(hard hardState) { g.newest = hard.atLeast(g.recorded.compacted.Index) }

// publishHard shows the newest hard state, written or not.
func (g *Group) publishHard() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hard = g.newest.atLeast(g.compacted.Index)
}

// fillFrom makes room for the entries that a checkpoint promises. It matters
// in recovery's first segment only; later the entries are there.
func (g *Group) fillFrom(c *change) {
	if len(g.positions) == 0 && g.compacted == (Position{}) {
		g.compacted = c.at
		g.positions = make([]position, c.last-c.at.Index)
	}
}

func (g *Group) addEntries(c *change, seg *segment, cacheLimit int64) {
	g.dropFrom(c.entries[0].GetIndex())
	total := g.totalAt(g.lastIndex())
	for i, e := range c.entries {
		total += int64(c.places[i].length)
		g.positions = append(g.positions, position{term: e.GetTerm(), seg: seg, total: total, place: c.places[i]})
		g.cacheBytes += cacheCost(e)
	}
	g.cache = append(g.cache, c.entries...)
	n := 0
	for g.cacheBytes > cacheLimit {
		g.cacheBytes -= cacheCost(g.cache[n])
		n++
	}
	g.trimCache(n)
}

// trimCache forgets the n oldest entries, which are already out of cacheBytes.
func (g *Group) trimCache(n int) {
	clear(g.cache[:n])
	g.cache = g.cache[n:]
}

func cacheCost(e *raftpb.Entry) int64 { return int64(len(e.Data)) + entryOverheadBytes }

// dropFrom forgets entry i and all after it.
func (g *Group) dropFrom(i uint64) {
	if i > g.lastIndex() {
		return
	}
	dropped := min(g.lastIndex()-i+1, uint64(len(g.cache)))
	kept := len(g.cache) - int(dropped)
	for _, e := range g.cache[kept:] {
		g.cacheBytes -= cacheCost(e)
	}
	clear(g.cache[kept:])
	g.cache = g.cache[:kept]
	g.positions = g.positions[:i-g.compacted.Index-1]
}

// dropTo forgets the entries up to at.
func (g *Group) dropTo(at Position) {
	g.base = g.totalAt(at.Index)
	g.positions = g.positions[at.Index-g.compacted.Index:]
	g.compacted = at
	surplus := max(0, len(g.cache)-len(g.positions))
	for _, e := range g.cache[:surplus] {
		g.cacheBytes -= cacheCost(e)
	}
	g.trimCache(surplus)
}

func (g *Group) dropAll(at Position) {
	g.compacted, g.positions, g.base = at, nil, 0
	g.cache, g.cacheBytes = nil, 0
}

// compact forgets the entries up to index for readers, and says whether the
// group is to be listed for Append to record it.
func (g *Group) compact(index uint64) (list bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if index > g.lastIndex() {
		return false, fmt.Errorf("compact group %d to index %d of %d: %w", g.id, index, g.lastIndex(), raft.ErrUnavailable)
	}
	if index <= g.compacted.Index {
		return false, nil
	}
	g.dropTo(Position{Index: index, Term: g.termAt(index)})
	g.hard = g.hard.atLeast(index)
	list = !g.compacting
	g.compacting = true
	return list, nil
}

// takeCompaction is the compaction that readers see and the first segment with
// an entry after it, 0 when there is none.
func (g *Group) takeCompaction() (at Position, keepFrom uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.compacting = false
	if len(g.positions) > 0 {
		keepFrom = g.positions[0].seg.seq
	}
	return g.compacted, keepFrom
}
