package host

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

const (
	// stepRows is the background work that the apply goroutine does between two
	// applies.
	stepRows = 512
	// stepPause keeps the background work from filling the goroutine, also
	// while it has to wait for readers.
	stepPause = time.Millisecond
)

// applyJob is a run of entries or, with install set, a received snapshot.
type applyJob struct {
	entries *replica.Apply
	install *replica.Append
	done    chan error
}

// runRaft owns the replica. Raft's panic stops the member like any error where
// the log that cannot be read is its reason; any other one is a defect.
func (h *Host) runRaft() {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		err := h.replica.Err()
		if err == nil {
			panic(p)
		}
		h.fail(err)
	}()
	if err := h.startElection(); err != nil {
		h.fail(err)
		return
	}
	ticker := time.NewTicker(h.c.TickInterval)
	defer ticker.Stop()
	beats := lateness{interval: h.c.TickInterval}
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.inbox.wake:
		case <-ticker.C:
			h.replica.Tick()
			h.noteHeartbeat(&beats)
			h.expireLeases()
		}
		if err := h.takeInbox(); err != nil {
			h.fail(err)
			return
		}
		for {
			w, ok := h.replica.Ready()
			if !ok {
				break
			}
			h.dispatch(w)
		}
		if err := h.replica.Err(); err != nil {
			h.fail(err)
			return
		}
		h.decide(nil)
		h.noteLeader()
	}
}

// startElection shortens the first wait: a group of one campaigns at once, any
// other moves its clock so that one tick is left before it may.
func (h *Host) startElection() error {
	conf := h.machine.Load().ConfState()
	if len(conf.Voters) == 1 && conf.Voters[0] == h.c.ID {
		return h.replica.Campaign()
	}
	if h.c.InitialElectionTickAdvance && len(conf.Voters) > 0 {
		for range h.c.ElectionTicks - 2 {
			h.replica.Tick()
		}
	}
	return nil
}

func (h *Host) noteHeartbeat(beats *lateness) {
	s := h.replica.Status()
	by, late := beats.late(time.Now(), s.IsLeader() && len(s.Progress) > 1)
	if late {
		h.counters.lateHeartbeats.Add(1)
		h.c.Logger.Warn("leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
			"heartbeat-interval", h.c.TickInterval.String(), "exceeded-duration", by.String())
	}
}

func (h *Host) takeInbox() error {
	messages, done, hungUp := h.inbox.take()
	for _, f := range done {
		if err := f(h.replica); err != nil {
			return err
		}
	}
	for _, m := range messages {
		if err := h.replica.Step(m); err != nil {
			h.c.Logger.Debug("message not taken", "from", fmt.Sprintf("%x", m.GetFrom()), "type", m.GetType().String(), "error", err)
		}
	}
	for _, peer := range hungUp {
		if err := h.replica.HungUp(peer); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) dispatch(w replica.Work) {
	if w.Append != nil {
		if w.Append.Snapshot != nil {
			h.decide(w.Append)
		}
		h.appends.put(w.Append)
	}
	if w.Apply != nil {
		h.applies.put(applyJob{entries: w.Apply})
	}
	h.send(w.Messages)
}

// send hands messages to the transport; snapshots go their own way.
func (h *Host) send(messages []*raftpb.Message) {
	rest := messages[:0:0]
	for _, m := range messages {
		if m.GetType() == raftpb.MsgSnap {
			h.startSnapshot(m)
		} else {
			rest = append(rest, m)
		}
	}
	h.peers.Send(rest)
}

// runLog makes appends durable: one write and one sync for all that wait.
func (h *Host) runLog() {
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.appends.wake:
		}
		if err := h.writeAppends(h.appends.take()); err != nil {
			h.fail(err)
			return
		}
	}
}

func (h *Host) writeAppends(appends []*replica.Append) error {
	begin := 0
	for i, a := range appends {
		if a.Snapshot == nil {
			continue
		}
		// What came before is written first, since an apply before the
		// installation may wait for it. The state comes before the log: a log
		// that begins after an index that no state holds could not be recovered
		// from.
		if err := h.write(appends[begin:i]); err != nil {
			return err
		}
		if err := h.install(a); err != nil {
			return err
		}
		begin = i
	}
	if err := h.write(appends[begin:]); err != nil {
		return err
	}
	h.inbox.do(func(r *replica.Replica) error {
		for _, a := range appends {
			messages, err := r.AppendDone(a)
			if err != nil {
				return err
			}
			h.send(messages)
		}
		return nil
	})
	return nil
}

// write makes a run of appends durable.
func (h *Host) write(appends []*replica.Append) error {
	writes := make([]raftlog.Write, 0, len(appends))
	for _, a := range appends {
		if !a.Empty() {
			writes = append(writes, a.Write)
		}
	}
	if len(writes) > 0 {
		if err := h.c.Log.Append(writes); err != nil {
			return fmt.Errorf("append to the log: %w", err)
		}
	}
	for _, a := range appends {
		a.Durable()
	}
	return nil
}

// install has the apply goroutine replace the state by the received snapshot
// and waits for it.
func (h *Host) install(a *replica.Append) error {
	job := applyJob{install: a, done: make(chan error, 1)}
	h.applies.put(job)
	select {
	case err := <-job.done:
		return err
	case <-h.ctx.Done():
		return replica.ErrStopped
	}
}

// runApply owns the state machine's writing side.
func (h *Host) runApply() {
	more := true // an unfinished compaction may have been left
	pause := time.NewTimer(0)
	defer pause.Stop()
	sweeps := sweepClock{o: h.c.Observer}
	for {
		var step <-chan time.Time
		if more {
			pause.Reset(stepPause)
			step = pause.C
		}
		select {
		case <-h.ctx.Done():
			return
		case <-h.applies.wake:
		case <-step:
		}
		for _, job := range h.applies.take() {
			if err := h.apply(job); err != nil {
				h.fail(err)
				return
			}
		}
		begin, m := time.Now(), h.machine.Load()
		before := m.Swept()
		var err error
		if more, err = m.Step(stepRows); err != nil {
			h.fail(fmt.Errorf("compact: %w", err))
			return
		}
		sweeps.step(begin, more, before, m.Swept())
	}
}

func (h *Host) apply(job applyJob) error {
	if job.install != nil {
		err := h.installSnapshot(job.install)
		job.done <- err
		return err
	}
	if gate := job.entries.Gate(); gate != nil {
		select {
		case <-gate:
		case <-h.ctx.Done():
			return replica.ErrStopped
		}
	}
	begin := time.Now()
	done, err := h.applier.Apply(job.entries)
	took := time.Since(begin)
	if h.c.WarnApplyAfter > 0 && took > h.c.WarnApplyAfter {
		h.counters.slowApplies.Add(1)
		h.c.Logger.Warn("apply request took too long", "took", took, "expected-duration", h.c.WarnApplyAfter,
			"last-index", done.Index)
	}
	if err != nil {
		return err
	}
	h.c.Observer.Applied(took)
	h.inbox.do(func(r *replica.Replica) error {
		return r.ApplyDone(job.entries, done)
	})
	if len(done.Changes) > 0 || done.MembersUpdated {
		h.membersChanged(done.Changes)
	}
	h.upkeep.applied(done.Index)
	return nil
}

func (h *Host) membersChanged(changes []state.MemberChange) {
	h.setPeers()
	for _, c := range changes {
		h.c.Logger.Info("member change applied", "change", c.Kind.String(), "member", fmt.Sprintf("%x", c.Member.ID))
	}
}
