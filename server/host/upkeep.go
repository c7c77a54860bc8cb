package host

import (
	"fmt"
	"sync"
	"time"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// maxCatchUpBytes bounds the entries that are kept for slow followers.
const maxCatchUpBytes = 64 << 20

// upkeep decides when the engine is flushed and the log shortened.
type upkeep struct {
	wake chan struct{}

	mu sync.Mutex
	// appliedIndex is the newest applied index, flushedIndex the one that the
	// engine has surely made durable. Invariant: flushedIndex <= appliedIndex.
	appliedIndex, flushedIndex uint64
	// fetching are the members that a snapshot is on its way to, or has reached
	// and that have not caught up since, by ID.
	fetching map[uint64]fetch
}

// fetch is one member's snapshot.
type fetch struct {
	// index is at most the snapshot's.
	index uint64
	sent  bool
}

func (u *upkeep) init(m *state.Machine) {
	u.wake = make(chan struct{}, 1)
	u.fetching = map[uint64]fetch{}
	u.appliedIndex, _ = m.Applied()
	u.flushedIndex = u.appliedIndex
}

func (u *upkeep) applied(index uint64) {
	u.mu.Lock()
	u.appliedIndex = index
	u.mu.Unlock()
	signal(u.wake)
}

func (u *upkeep) installed(_ *state.Machine, index uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.appliedIndex, u.flushedIndex = index, index
}

// sending notes that a member gets a snapshot of what is applied now or later.
func (u *upkeep) sending(id uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fetching[id] = fetch{index: u.appliedIndex}
}

// sent notes how that ended.
func (u *upkeep) sent(id uint64, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		delete(u.fetching, id)
		return
	}
	u.fetching[id] = fetch{index: u.fetching[id].index, sent: true}
}

// neededFrom is the first entry that a member with a snapshot needs next, and
// at most keepFrom. Without it the member would need another snapshot at once,
// and where entries come faster than a snapshot gets there, one after another
// for ever. It keeps up by itself when it has stored all but near entries.
func (u *upkeep) neededFrom(keepFrom, near uint64, progress map[uint64]uint64) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	needed := keepFrom
	for id, f := range u.fetching {
		match, known := progress[id] // nothing is known where another leads now
		if f.sent && (!known || match+near >= u.appliedIndex) {
			delete(u.fetching, id)
			continue
		}
		needed = min(needed, max(f.index, match)+1)
	}
	return needed
}

func (u *upkeep) entriesSinceFlush() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.appliedIndex - u.flushedIndex
}

// runUpkeep flushes the engine when enough has been applied since the last
// time. An engine that writes a full dump is flushed when the log has grown by
// the size of the dump, so that the disk sees each byte about twice.
func (h *Host) runUpkeep() {
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.upkeep.wake:
		}
		if !h.flushIsDue() {
			continue
		}
		if err := h.flush(); err != nil {
			h.fail(err)
			return
		}
	}
}

func (h *Host) flushIsDue() bool {
	if h.upkeep.entriesSinceFlush() < h.c.SnapshotEntries {
		return false
	}
	h.upkeep.mu.Lock()
	flushed := h.upkeep.flushedIndex
	h.upkeep.mu.Unlock()
	return h.c.Log.Group(h.c.Group).BytesSince(flushed) >= h.machine.Load().FlushCostBytes()
}

// flush makes the state durable and drops the entries that it covers from the
// log, but for some that a slow follower may ask for (invariant 4: never one
// that the engine has not made durable).
func (h *Host) flush() error {
	m, begin := h.machine.Load(), time.Now()
	durable, err := m.Flush()
	synced := time.Since(begin)
	if h.machine.Load() != m {
		return nil // a snapshot was installed meanwhile and the old state closed
	}
	if err != nil {
		return fmt.Errorf("flush the engine: %w", err)
	}
	h.upkeep.mu.Lock()
	h.upkeep.flushedIndex = max(h.upkeep.flushedIndex, durable)
	h.upkeep.mu.Unlock()
	if keep := h.compactTo(durable); keep > 0 {
		if err := h.c.Log.Compact(h.c.Group, keep); err != nil {
			return fmt.Errorf("shorten the log: %w", err)
		}
	}
	h.c.Observer.Flushed(synced, time.Since(begin))
	return nil
}

// Rest leaves log and state so that the next start is quick. It is called between
// Close and the closing of both, does nothing in a member that failed or was never
// started, and what does not succeed costs time at the next start and nothing else.
func (h *Host) Rest() {
	if h.Err() != nil || h.peers == nil {
		return
	}
	h.upkeep.mu.Lock()
	flushed := h.upkeep.flushedIndex
	h.upkeep.mu.Unlock()
	err := replica.Rest(h.c.Log, h.c.Group, h.c.Engines, h.machine.Load(), flushed, h.restTo)
	if err != nil {
		h.c.Logger.Warn("the next start will take longer: the state was not left in full", "error", err)
	}
}

// restTo is compactTo at a stop: a member that is alone has no follower that
// could ask for entries.
func (h *Host) restTo(durable uint64) uint64 {
	if len(h.machine.Load().Members()) == 1 {
		return durable
	}
	return h.compactTo(durable)
}

// compactTo is the highest index that the log need not keep; 0 for none.
func (h *Host) compactTo(durable uint64) uint64 {
	group := h.c.Log.Group(h.c.Group)
	first := group.FirstIndex()
	keepFrom := first
	if durable > h.c.CatchUpEntries {
		keepFrom = max(first, durable-h.c.CatchUpEntries)
	}
	keepFrom = max(first, h.upkeep.neededFrom(keepFrom, h.c.CatchUpEntries/2, h.replica.Status().Progress))
	// Halve the distance while too many bytes would stay.
	for keepFrom < durable && group.BytesSince(keepFrom) > maxCatchUpBytes {
		keepFrom += (durable-keepFrom)/2 + 1
	}
	if keepFrom = min(keepFrom, durable); keepFrom <= first {
		return 0
	}
	return keepFrom - 1
}
