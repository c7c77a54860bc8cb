package host

import (
	"fmt"
	"sync"
	"time"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/state"
)

const (
	// expireRate is how many leases expire a second, at most, and expireBatch how
	// many by one entry: whoever writes meanwhile waits for one of those.
	expireRate  = 40_000
	expireBatch = 5_000
)

// leaderWatch tells who waits that the leader changed.
type leaderWatch struct {
	mu      sync.Mutex
	changed chan struct{}
	leader  uint64
	term    uint64
	// primary is the registry whose clocks run, with the machine it belongs to.
	// Owned by the raft goroutine.
	primary *lease.Registry
}

func (l *leaderWatch) init() { l.changed = make(chan struct{}) }

// LeaderChanged is closed at the next change of the leader.
func (h *Host) LeaderChanged() <-chan struct{} {
	h.leader.mu.Lock()
	defer h.leader.mu.Unlock()
	return h.leader.changed
}

// noteLeader wakes who waits for a change and starts or stops the clocks of the
// leases: they run on the leader only. A new leader gives each lease its whole
// time anew, since it cannot know when it was last kept alive.
func (h *Host) noteLeader() {
	s := h.replica.Status()
	h.leader.mu.Lock()
	if s.Leader != h.leader.leader {
		h.leader.leader = s.Leader
		close(h.leader.changed)
		h.leader.changed = make(chan struct{})
	}
	h.leader.mu.Unlock()
	if !s.IsLeader() {
		if h.leader.primary != nil {
			h.leader.primary.Demote()
			h.leader.primary = nil
		}
		return
	}
	if h.leader.primary == nil || h.leader.term != s.Term {
		h.leader.primary, h.leader.term = h.machine.Load().Leases(), s.Term
		h.leader.primary.Promote(time.Now(), h.c.TickInterval*time.Duration(h.c.ElectionTicks))
		h.c.Logger.Info("leads", "member", fmt.Sprintf("%x", h.c.ID), "term", s.Term)
	}
}

// expireLeases proposes to revoke the leases whose time is over. The term goes
// along: should another member lead by the time that the entry is committed,
// it changes nothing, since that member's clocks count then.
func (h *Host) expireLeases() {
	r := h.leader.primary
	if r == nil {
		return
	}
	due := min(expireBatch, max(1, int(expireRate*h.c.TickInterval/time.Second)))
	ids := r.Expired(time.Now(), due)
	if len(ids) == 0 {
		return
	}
	h.counters.expiredLeases.Add(uint64(len(ids)))
	// Nobody waits for the reply: a lease that is still there is reported again.
	if _, err := h.replica.Proposals.Add(state.LeaseExpire(h.leader.term, ids)); err != nil {
		h.c.Logger.Warn("leases not revoked yet", "leases", len(ids), "error", err)
	}
}
