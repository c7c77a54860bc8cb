package host

import (
	"context"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// snapshotTimeout ends a snapshot that takes for ever; its bytes stop moving
// long before that when the peer is gone.
const snapshotTimeout = 6 * time.Hour

// startSnapshot sends the state to a follower that lags too far, beside
// everything else, one at a time a follower.
func (h *Host) startSnapshot(m *raftpb.Message) {
	to := m.GetTo()
	if _, busy := h.sending.LoadOrStore(to, struct{}{}); busy {
		return // raft hears how that one ends
	}
	h.workers.Add(1)
	go func() {
		defer h.workers.Done()
		defer h.sending.Delete(to)
		h.upkeep.sending(to) // before the snapshot is taken
		err := h.sendSnapshot(m)
		h.upkeep.sent(to, err)
		if err != nil {
			h.c.Logger.Warn("snapshot not sent", "peer", fmt.Sprintf("%x", to), "error", err)
		}
		h.inbox.do(func(r *replica.Replica) error {
			r.ReportSnapshot(to, err == nil)
			return nil
		})
	}()
}

func (h *Host) sendSnapshot(m *raftpb.Message) error {
	snap, err := h.machine.Load().Snapshot()
	if err != nil {
		return fmt.Errorf("freeze the state: %w", err)
	}
	defer func() { _ = snap.Close() }() // a frozen view holds nothing to lose
	lead := replica.SnapshotMessage(m, snap.Index, snap.Term, snap.ConfState)
	ctx, cancel := context.WithTimeout(h.ctx, snapshotTimeout)
	defer cancel()
	started := time.Now()
	h.c.Logger.Info("sending snapshot", "peer", fmt.Sprintf("%x", m.GetTo()), "index", snap.Index)
	err = h.peers.SendSnapshot(ctx, lead, func(w io.Writer) error {
		return replica.WriteSnapshot(w, h.engineGroup(), snap.Index, snap.Term, snap)
	})
	if err == nil {
		h.c.Logger.Info("snapshot sent", "peer", fmt.Sprintf("%x", m.GetTo()), "index", snap.Index, "took", time.Since(started).String())
	}
	return err
}

// imported is a received snapshot, durable beside the engine in use.
type imported struct {
	index uint64
	*replica.Import
	// decided gets raft's decision, once: whether it is to be installed.
	decided chan bool
}

// ReceiveSnapshot stores a peer's snapshot beside the engine in use, whole,
// verified and durable, and then offers it to raft, which decides whether it is
// installed. One at a time.
func (h *Host) ReceiveSnapshot(_ context.Context, m *raftpb.Message, r io.Reader) error {
	h.receiving.Lock()
	defer h.receiving.Unlock()
	if h.ctx.Err() != nil {
		return replica.ErrStopped
	}
	imp, err := h.importSnapshot(m, r)
	if err != nil {
		return err
	}
	h.inbox.do(func(r *replica.Replica) error {
		h.offered = imp
		return r.Step(m)
	})
	accepted := false
	select {
	case accepted = <-imp.decided:
	case <-h.ctx.Done():
		// Both may have happened: whoever took it from the channel owns it.
		select {
		case accepted = <-imp.decided:
		default:
		}
	}
	if accepted {
		return nil
	}
	if err := imp.Abandon(); err != nil { // raft has no use for it
		return fmt.Errorf("remove an unused snapshot: %w", err)
	}
	return nil
}

func (h *Host) importSnapshot(m *raftpb.Message, r io.Reader) (*imported, error) {
	imp, err := h.c.Engines.Import()
	if err != nil {
		return nil, err
	}
	begin, into := time.Now(), &timedFlush{Engine: imp.Engine}
	index, term, err := replica.ReadSnapshot(r, h.engineGroup(), into)
	md := m.GetSnapshot().GetMetadata()
	if err == nil && (index != md.GetIndex() || term != md.GetTerm()) {
		err = fmt.Errorf("%w: it holds index %d of term %d where %d of term %d was announced",
			replica.ErrSnapshotDamaged, index, term, md.GetIndex(), md.GetTerm())
	}
	if err != nil {
		if aerr := imp.Abandon(); aerr != nil {
			h.c.Logger.Warn("partial snapshot not removed", "error", aerr)
		}
		return nil, err
	}
	h.c.Observer.SnapshotStored(into.took, time.Since(begin))
	h.c.Logger.Info("snapshot received", "peer", fmt.Sprintf("%x", m.GetFrom()), "index", index)
	return &imported{index: index, Import: imp, decided: make(chan bool, 1)}, nil
}

// decide settles what became of an offered snapshot, on the raft goroutine,
// after raft's work was taken: accepted ones are in the accepted map.
func (h *Host) decide(a *replica.Append) {
	if h.offered == nil {
		return
	}
	taken := a != nil && a.Snapshot.GetMetadata().GetIndex() == h.offered.index
	if taken {
		h.accepted.Store(h.offered.index, h.offered)
	}
	if taken || a == nil {
		h.offered.decided <- taken
		h.offered = nil
	}
}

// installSnapshot replaces the state by the received one. It runs on the apply
// goroutine, after every entry that was committed before.
func (h *Host) installSnapshot(a *replica.Append) error {
	h.counters.installing.Store(true)
	defer h.counters.installing.Store(false)
	index := a.Snapshot.GetMetadata().GetIndex()
	v, ok := h.accepted.LoadAndDelete(index)
	if !ok {
		return fmt.Errorf("install snapshot %d: it is not here", index)
	}
	imp := v.(*imported)
	tokens, o := h.machine.Load().Tokens(), h.machine.Load().Options()
	o.Engine = imp.Engine
	machine, err := state.Open(o)
	if err != nil {
		return fmt.Errorf("install snapshot %d: %w", index, err)
	}
	if applied, _ := machine.Applied(); applied != index {
		return fmt.Errorf("install snapshot %d: its state is at index %d", index, applied)
	}
	if err := imp.Adopt(); err != nil {
		return fmt.Errorf("install snapshot %d: %w", index, err)
	}
	if machine.Auth().Revision() != h.machine.Load().Auth().Revision() {
		tokens.Clear() // one of their users may have another password now
	}
	old := h.machine.Swap(machine)
	h.c.Hub.Reset(machine.KV())
	h.applier.Installed(index)
	h.setPeers()
	h.upkeep.installed(machine, index)
	h.c.Logger.Info("snapshot installed", "index", index, "revision", machine.KV().Rev())
	// Requests that still read the old state end with an error that makes their
	// client ask again.
	if err := old.Close(); err != nil {
		return fmt.Errorf("close the replaced state: %w", err)
	}
	if err := h.c.Engines.RemoveReplaced(); err != nil {
		return fmt.Errorf("remove the replaced state: %w", err)
	}
	return nil
}
