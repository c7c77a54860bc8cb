package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// Machine is the state machine of the moment: a received snapshot replaces it.
func (h *Host) Machine() *state.Machine { return h.machine.Load() }

// Hub is the watch hub.
func (h *Host) Hub() *watch.Hub { return h.c.Hub }

// Status is what is known of the group here.
func (h *Host) Status() replica.Status {
	s := h.replica.Status()
	m := h.machine.Load()
	s.Applied, _ = m.Applied()
	s.Committed = max(s.Committed, s.Applied)
	// As the state says now: raft's owner may not have seen a snapshot yet.
	s.Learner = m.IsLearner(h.c.ID)
	s.Pending, _ = h.replica.Proposals.Counts()
	return s
}

// LogEnd is the last entry of this member's log: of the members that are left
// of a lost group, the one with the highest term, then index, has everything
// that was committed and is not lost with the others.
func (h *Host) LogEnd() (index, term uint64) {
	g := h.c.Log.Group(h.c.Group)
	for {
		index = g.LastIndex()
		if term, err := g.Term(index); err == nil {
			return index, term
		} // the log was cut off or compacted between the two
	}
}

// Propose has a command committed and applied, and returns its result and the
// term of its entry.
func (h *Host) Propose(ctx context.Context, c state.Command) (state.Result, uint64, error) {
	w, err := h.replica.Proposals.Add(c)
	if err != nil {
		return state.Result{}, 0, err
	}
	r, err := h.await(ctx, w)
	return r.Result, r.Term, err
}

func (h *Host) await(ctx context.Context, w *replica.Waiter) (replica.Reply, error) {
	signal(h.inbox.wake)
	timeout := newTimer(h.c.RequestTimeout)
	defer freeTimer(timeout)
	select {
	case r := <-w.Done():
		return r, r.Err
	case <-ctx.Done():
		h.replica.Proposals.Forget(w)
		return replica.Reply{}, ctx.Err()
	case <-timeout.C:
		h.replica.Proposals.Forget(w)
		return replica.Reply{}, h.timeoutError()
	}
}

// timers are used again: a request each that is thrown away costs more.
var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

func newTimer(d time.Duration) *time.Timer {
	t := timers.Get().(*time.Timer)
	t.Reset(d)
	return t
}

// freeTimer stops a timer; a tick that nobody took is gone with that.
func freeTimer(t *time.Timer) {
	t.Stop()
	timers.Put(t)
}

func (h *Host) timeoutError() error {
	if h.replica.Status().Leader == 0 {
		return fmt.Errorf("%w: %w", replica.ErrTimeout, replica.ErrNoLeader)
	}
	return replica.ErrTimeout
}

// ReadBarrier returns when the published state holds every write that was
// acknowledged, by any member, before the call.
func (h *Host) ReadBarrier(ctx context.Context) error {
	done, err := h.replica.Reads.Add()
	if err != nil {
		return err
	}
	select {
	case err := <-done: // this member leads alone
		return err
	default:
	}
	signal(h.inbox.wake)
	return h.awaitRead(ctx, done)
}

// awaitApplied returns when this member has applied and published an entry.
func (h *Host) awaitApplied(ctx context.Context, index uint64) error {
	done, err := h.replica.Reads.AddAt(index)
	if err != nil {
		return err
	}
	return h.awaitRead(ctx, done)
}

func (h *Host) awaitRead(ctx context.Context, done <-chan error) error {
	timeout := newTimer(h.c.RequestTimeout)
	defer freeTimer(timeout)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		h.counters.failedReads.Add(1)
		h.replica.Reads.Forget(done)
		return ctx.Err()
	case <-timeout.C:
		h.counters.failedReads.Add(1)
		h.replica.Reads.Forget(done)
		return h.timeoutError()
	}
}

// MoveLeader hands leadership to another voter; only the leader can.
func (h *Host) MoveLeader(ctx context.Context, target uint64) error {
	s := h.Status()
	m, ok := h.machine.Load().Member(target)
	if !ok || m.Learner {
		return replica.ErrBadTransferee
	}
	if s.Leader == target {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.c.TickInterval*time.Duration(h.c.ElectionTicks))
	defer cancel()
	h.inbox.do(func(r *replica.Replica) error {
		r.TransferLeader(target)
		return nil
	})
	for {
		changed := h.LeaderChanged()
		if h.replica.Status().Leader == target {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return replica.ErrTransferTimeout
		case <-h.ctx.Done():
			return replica.ErrStopped
		}
	}
}

// HandOver moves leadership away before a planned stop, to one of the connected
// voters, the longest connected first; nothing to do for a follower or a member
// alone. It tries until the context ends.
func (h *Host) HandOver(ctx context.Context) error {
	for {
		if !h.Status().IsLeader() {
			return nil
		}
		targets := h.connectedVoters()
		if len(targets) == 0 {
			return nil
		}
		for _, id := range targets {
			err := h.MoveLeader(ctx, id)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return err
			}
		}
	}
}

// connectedVoters are the other voters that can be reached, the longest
// connected first.
func (h *Host) connectedVoters() []uint64 {
	since := map[uint64]time.Time{}
	var ids []uint64
	for _, m := range h.machine.Load().Members() {
		if t := h.peers.Connected(m.ID); m.ID != h.c.ID && !m.Learner && !t.IsZero() {
			since[m.ID] = t
			ids = append(ids, m.ID)
		}
	}
	slices.SortFunc(ids, func(a, b uint64) int { return since[a].Compare(since[b]) })
	return ids
}

// Receive takes a raft message of a peer.
func (h *Host) Receive(m *raftpb.Message) {
	if m.GetTo() == h.c.ID {
		h.inbox.message(m)
	}
}

// Unreachable takes the transport's word that messages were lost.
func (h *Host) Unreachable(id uint64) {
	h.inbox.do(func(r *replica.Replica) error {
		r.ReportUnreachable(id)
		return nil
	})
}

// HungUp takes the transport's word that a peer closed its connection.
func (h *Host) HungUp(id uint64) { h.inbox.end(id) }

// Unsent takes a forwarded proposal back that the transport could not send.
func (h *Host) Unsent(m *raftpb.Message) {
	h.inbox.do(func(r *replica.Replica) error {
		r.Unsent(m.GetEntries())
		return nil
	})
}

// Refuses tells whether a member was removed for ever.
func (h *Host) Refuses(id uint64) bool { return replica.TellsRemoved(h.machine.Load(), h.c.ID, id) }

// RemovedByPeers takes a peer's word that this member was removed. Until then a
// removed member stays and votes, see replica.TellsRemoved.
func (h *Host) RemovedByPeers() {
	h.removed.Do(func() {
		h.c.Logger.Warn("this member was removed from the cluster", "member", fmt.Sprintf("%x", h.c.ID))
		if h.c.OnRemoved != nil {
			h.c.OnRemoved()
		}
	})
}

// errForwarded is a leader's refusal that has no sentinel here.
var errForwarded = errors.New("host: the leader refused")
