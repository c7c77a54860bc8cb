package sim

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// transfer is one snapshot on its way.
type transfer struct {
	from    *process
	to      uint64
	message *raftpb.Message
	stream  []byte
	ended   bool
}

// imported is a received snapshot beside the engine in use.
type imported struct {
	index uint64
	*replica.Import
	// waiting is the task that waits for raft's decision, taken what it is.
	waiting *task
	taken   bool
}

// startSnapshot takes the place of host's: freeze, stream, hear how it went.
func (r *process) startSnapshot(m *raftpb.Message) {
	to := m.GetTo()
	if r.sending[to] {
		return
	}
	r.sending[to] = true
	m = proto.Clone(m).(*raftpb.Message)
	r.after(r.w.about(millisecond), func() {
		snap, err := r.machine.Load().Snapshot()
		if err != nil {
			r.snapshotSent(to, false)
			return
		}
		lead := replica.SnapshotMessage(m, snap.Index, snap.Term, r.announced(snap.ConfState))
		r.w.tracef("%d sends snapshot %d to %d", r.m.id, snap.Index, to)
		r.after(r.w.about(20*millisecond), func() { r.streamSnapshot(lead, snap) })
	})
}

// streamSnapshot writes the frozen view after others may have gone on.
func (r *process) streamSnapshot(lead *raftpb.Message, snap *state.Snapshot) {
	w, to := r.w, lead.GetTo()
	var stream bytes.Buffer
	err := replica.WriteSnapshot(&stream, engine.GroupID(group), snap.Index, snap.Term, snap)
	cerr := snap.Close()
	if err != nil || cerr != nil {
		// The engine was replaced meanwhile: this member got a snapshot itself.
		w.tracef("%d cannot send: %v", r.m.id, errors.Join(err, cerr))
		r.snapshotSent(to, false)
		return
	}
	t := &transfer{from: r, to: to, message: proto.Clone(lead).(*raftpb.Message), stream: stream.Bytes()}
	if w.lost(r.m.id, to) {
		t.end(false)
		return
	}
	if !w.calm && w.chance(0.05) {
		t.stream = t.stream[:w.rng.IntN(len(t.stream))]
	}
	w.after(w.travelTime()+w.about(20*millisecond), func() {
		target := w.member(to)
		if target == nil || target.process == nil || !w.connected(r.m.id, to) {
			t.end(false)
			return
		}
		p := target.process
		p.transfers = append(p.transfers, t)
		p.run(func() { p.receive(t) })
	})
}

// end tells the sender how it went, once.
func (t *transfer) end(ok bool) {
	if t.ended {
		return
	}
	t.ended = true
	r := t.from
	r.after(r.w.travelTime(), func() { r.snapshotSent(t.to, ok) })
}

func (r *process) snapshotSent(to uint64, ok bool) {
	delete(r.sending, to)
	r.later(func(p *replica.Replica) error { p.ReportSnapshot(to, ok); return nil })
}

// abandonTransfers breaks what was being received when the process ended.
func (r *process) abandonTransfers() {
	for _, t := range r.transfers {
		t.end(false)
	}
}

// receive takes one snapshot at a time, in a task of its own.
func (r *process) receive(t *transfer) {
	if r.receiving != nil {
		r.queued = append(r.queued, t)
		return
	}
	r.receiving = t
	r.spawn(func() {
		ok, err := r.takeSnapshot(t)
		if err != nil {
			r.fail(fmt.Errorf("receive a snapshot: %w", err))
			return
		}
		t.end(ok)
		r.receiving = nil
		if len(r.queued) > 0 {
			next := r.queued[0]
			r.queued = r.queued[1:]
			r.after(0, func() { r.receive(next) })
		}
	})
}

// takeSnapshot is host's ReceiveSnapshot.
func (r *process) takeSnapshot(t *transfer) (ok bool, err error) {
	imp, err := r.importSnapshot(t)
	if errors.Is(err, replica.ErrSnapshotDamaged) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.later(func(p *replica.Replica) error {
		r.offered = imp
		return p.Step(t.message)
	})
	if err := r.suspend(parked); err != nil {
		return false, err
	}
	if imp.taken {
		return true, nil
	}
	if err := imp.Abandon(); err != nil {
		return false, fmt.Errorf("remove an unused snapshot: %w", err)
	}
	return true, nil
}

func (r *process) importSnapshot(t *transfer) (*imported, error) {
	imp, err := r.engines.Import()
	if err != nil {
		return nil, err
	}
	index, term, err := replica.ReadSnapshot(bytes.NewReader(t.stream), engine.GroupID(group), imp.Engine)
	md := t.message.GetSnapshot().GetMetadata()
	if err == nil && (index != md.GetIndex() || term != md.GetTerm()) {
		r.w.failf("member %d: snapshot %d of term %d was announced as %d of term %d", r.m.id, index, term, md.GetIndex(), md.GetTerm())
	}
	if err != nil {
		return nil, errors.Join(err, imp.Abandon())
	}
	return &imported{index: index, Import: imp, waiting: r.fs.task}, nil
}

// decide settles what became of an offered snapshot, as host's does.
func (r *process) decide(a *replica.Append) {
	imp := r.offered
	if imp == nil {
		return
	}
	imp.taken = a != nil && a.Snapshot.GetMetadata().GetIndex() == imp.index
	if imp.taken {
		r.accepted[imp.index] = imp
	}
	if imp.taken || a == nil {
		r.offered = nil
		r.wakeTask(imp.waiting)
	}
}

// installSnapshot is host's, on the apply owner.
func (r *process) installSnapshot(a *replica.Append) error {
	index := a.Snapshot.GetMetadata().GetIndex()
	imp := r.accepted[index]
	if imp == nil {
		return fmt.Errorf("install snapshot %d: it is not here", index)
	}
	delete(r.accepted, index)
	machine, err := state.Open(r.stateOptions(imp.Engine))
	if err != nil {
		return fmt.Errorf("install snapshot %d: %w", index, err)
	}
	if applied, _ := machine.Applied(); applied != index {
		return fmt.Errorf("install snapshot %d: its state is at index %d", index, applied)
	}
	if err := imp.Adopt(); err != nil {
		return fmt.Errorf("install snapshot %d: %w", index, err)
	}
	r.w.tracef("%d installs snapshot %d, revision %d", r.m.id, index, machine.KV().Rev())
	r.w.stats[snapshotsCount]++
	r.m.flushedIndex = max(r.m.flushedIndex, index)
	old := r.machine.Swap(machine)
	r.installing = true
	if r.w.planted != plantWatchOldStore {
		r.hub.Reset(r.source(machine))
	}
	r.applier.Installed(index)
	r.appliedIndex, r.flushedIndex = index, index
	r.w.truth.installed(r, index)
	if err := old.Close(); err != nil {
		return fmt.Errorf("close the replaced state: %w", err)
	}
	if err := r.engines.RemoveReplaced(); err != nil {
		return fmt.Errorf("remove the replaced state: %w", err)
	}
	return nil
}
