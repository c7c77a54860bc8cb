package sim

import (
	"fmt"

	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// The steps of host's goroutines, each by host's rules. What host changes there
// has to be changed here.

// maxTurns is far beyond the works that one step of raft can give.
const maxTurns = 10_000

// stepRaft is one turn of host's raft goroutine.
func (r *process) stepRaft() {
	done, inbox := r.done, r.inbox
	r.done, r.inbox = nil, nil
	for _, f := range done {
		if err := f(r.replica); err != nil {
			r.fail(err)
			return
		}
	}
	for _, m := range inbox {
		if err := r.replica.Step(m); err != nil {
			r.w.tracef("%d does not take %s of %d: %v", r.m.id, m.GetType(), m.GetFrom(), err)
		}
	}
	for turns := 0; r.m.process == r; turns++ {
		work, ok := r.replica.Ready()
		if !ok {
			break
		}
		if turns > maxTurns {
			r.w.failf("member %d: raft has work without end", r.m.id)
		}
		r.dispatch(work)
	}
	if r.m.process == r {
		r.decide(nil)
		r.noteLeader()
	}
}

func (r *process) dispatch(work replica.Work) {
	if work.Append != nil {
		if work.Append.Snapshot != nil {
			r.decide(work.Append)
		}
		r.appends = append(r.appends, work.Append)
		r.wake(logOwner)
		if r.w.planted == plantAckBeforeSync {
			r.appendsDone([]*replica.Append{work.Append})
		}
	}
	if work.Apply != nil {
		r.applies = append(r.applies, applyJob{entries: work.Apply})
		r.wake(applyOwner)
	}
	r.send(work.Messages)
}

// stepLog lets the log owner take what waits.
func (r *process) stepLog() {
	if r.busy[logOwner] || len(r.appends) == 0 {
		return
	}
	r.busy[logOwner] = true
	r.spawn(func() {
		for len(r.appends) > 0 {
			appends := r.appends
			r.appends = nil
			if err := r.writeAppends(appends); err != nil {
				r.fail(err)
				return
			}
		}
		r.busy[logOwner] = false
	})
}

func (r *process) writeAppends(appends []*replica.Append) error {
	begin := 0
	for i, a := range appends {
		if a.Snapshot == nil {
			continue
		}
		if err := r.write(appends[begin:i]); err != nil {
			return err
		}
		r.applies = append(r.applies, applyJob{install: a, waiting: r.fs.task})
		r.wake(applyOwner)
		if err := r.suspend(parked); err != nil {
			return err
		}
		begin = i
	}
	if err := r.write(appends[begin:]); err != nil {
		return err
	}
	r.installing = false
	if r.w.planted != plantAckBeforeSync {
		r.appendsDone(appends)
	}
	return nil
}

func (r *process) write(appends []*replica.Append) error {
	var writes []raftlog.Write
	for _, a := range appends {
		if !a.Empty() {
			writes = append(writes, r.faulty(a.Write))
		}
	}
	if len(writes) > 0 {
		if err := r.log.Append(writes); err != nil {
			return fmt.Errorf("append to the log: %w", err)
		}
	}
	for _, a := range appends {
		a.Durable()
	}
	r.wake(applyOwner)
	for _, a := range appends {
		if h := a.Write.HardState; h != nil {
			r.m.hard.Term, r.m.hard.Vote = h.Term, h.Vote
		}
	}
	r.w.tracef("%d wrote %d appends, log %d–%d", r.m.id, len(appends), r.group().FirstIndex(), r.group().LastIndex())
	return nil
}

func (r *process) appendsDone(appends []*replica.Append) {
	r.later(func(p *replica.Replica) error {
		for _, a := range appends {
			messages, err := p.AppendDone(a)
			if err != nil {
				return err
			}
			r.send(messages)
		}
		return nil
	})
}

// stepApply is one job of host's apply goroutine and some of its background
// work.
func (r *process) stepApply() {
	if r.busy[applyOwner] || (len(r.applies) > 0 && r.applies[0].gated()) {
		return // the end of the task, or the log owner, wakes this one
	}
	if len(r.applies) > 0 {
		job := r.applies[0]
		r.applies = r.applies[1:]
		if job.install != nil {
			r.stepInstall(job)
			return
		}
		if err := r.apply(job.entries); err != nil {
			r.fail(err)
			return
		}
	}
	if r.m.process != r {
		return
	}
	more, err := r.machine.Load().Step(r.w.p.compactRows)
	if err != nil {
		r.fail(fmt.Errorf("compact: %w", err))
		return
	}
	if len(r.applies) > 0 || more {
		r.wake(applyOwner)
	}
}

// gated: what the job waits for is not durable yet.
func (j applyJob) gated() bool {
	if j.entries == nil || j.entries.Gate() == nil {
		return false
	}
	select {
	case <-j.entries.Gate():
		return false
	default:
		return true
	}
}

// stepInstall has the apply owner install a snapshot, for which the log owner
// waits.
func (r *process) stepInstall(job applyJob) {
	r.busy[applyOwner] = true
	r.spawn(func() {
		if err := r.installSnapshot(job.install); err != nil {
			r.fail(err)
			return
		}
		r.busy[applyOwner] = false
		r.wakeTask(job.waiting)
		r.wake(applyOwner)
	})
}

func (r *process) apply(entries *replica.Apply) error {
	r.w.truth.applying(r, entries)
	done, err := r.applier.Apply(r.reordered(entries))
	if err != nil {
		return err
	}
	r.later(func(p *replica.Replica) error { return p.ApplyDone(entries, done) })
	r.w.tracef("%d applied up to %d, revision %d", r.m.id, done.Index, r.machine.Load().KV().Rev())
	r.w.truth.applied(r, termsOf(entries), done)
	r.appliedIndex = done.Index
	r.wake(upkeepOwner)
	return nil
}

func termsOf(entries *replica.Apply) (terms []uint64) {
	for _, e := range entries.Entries {
		if n := len(terms); n == 0 || terms[n-1] != e.GetTerm() {
			terms = append(terms, e.GetTerm())
		}
	}
	return terms
}

// leave is the transport's part of leaving: a member that was removed stays
// until a voter that knows of it refuses its connection.
func (r *process) leave() {
	if !r.machine.Load().Removed(r.m.id) {
		return
	}
	for _, m := range r.w.members {
		if m != r.m && m.process != nil && r.w.connected(r.m.id, m.id) && replica.TellsRemoved(m.process.machine.Load(), m.id, r.m.id) {
			r.removedByPeers()
			return
		}
	}
}

func (r *process) publish(revisions []state.RevisionEvents) {
	r.w.truth.publishing(r, revisions)
	if r.w.planted == plantLostEvents && r.w.chance(0.02) {
		revisions = []state.RevisionEvents{{Rev: revisions[len(revisions)-1].Rev}}
	}
	r.hub.Publish(revisions)
}

// stepUpkeep flushes the engine and shortens the log by host's rules, and now
// and then without a reason.
func (r *process) stepUpkeep() {
	if r.busy[upkeepOwner] {
		return
	}
	due := r.appliedIndex-r.flushedIndex >= r.w.p.snapshotEntries &&
		r.group().BytesSince(r.flushedIndex) >= r.machine.Load().FlushCostBytes()
	if !due && !r.w.chance(0.02) {
		return
	}
	r.busy[upkeepOwner] = true
	r.spawn(func() {
		if err := r.flush(); err != nil {
			r.fail(err)
			return
		}
		r.busy[upkeepOwner] = false
	})
}

func (r *process) flush() error {
	m := r.machine.Load()
	var durable uint64
	var err error
	if r.w.planted == plantNoFlush {
		durable, _ = m.Applied()
	} else {
		durable, err = m.Flush()
	}
	if r.m.process != r || r.machine.Load() != m {
		return nil // it ended, or a snapshot was installed meanwhile
	}
	if err != nil {
		return fmt.Errorf("flush the engine: %w", err)
	}
	if r.w.planted != plantNoFlush {
		r.m.flushedIndex = max(r.m.flushedIndex, durable)
	}
	r.flushedIndex = max(r.flushedIndex, durable)
	r.w.tracef("%d flushed %d", r.m.id, durable)
	if err := r.suspend(r.w.about(millisecond)); err != nil {
		return err
	}
	if keep := r.compactTo(durable); keep > 0 {
		if err := r.log.Compact(group, keep); err != nil {
			return fmt.Errorf("shorten the log: %w", err)
		}
	}
	return nil
}

func (r *process) compactTo(durable uint64) uint64 {
	first := r.group().FirstIndex()
	keepFrom := first
	if durable > r.w.p.catchUpEntries {
		keepFrom = max(first, durable-r.w.p.catchUpEntries)
	}
	if keepFrom = min(keepFrom, durable); keepFrom <= first {
		return 0
	}
	return keepFrom - 1
}

// checkState asserts what holds between any two steps.
func (r *process) checkState() {
	w := r.w
	s := r.replica.Status()
	applied, _ := r.machine.Load().Applied()
	switch {
	case applied < r.appliedIndex:
		w.failf("member %d: the applied index fell from %d to %d", r.m.id, r.appliedIndex, applied)
	case !r.installing && applied > r.group().LastIndex():
		w.failf("member %d: applied %d, beyond the log's last index %d", r.m.id, applied, r.group().LastIndex())
	case s.Applied > s.Committed:
		w.failf("member %d: applied %d, committed %d", r.m.id, s.Applied, s.Committed)
	case r.group().FirstIndex() > r.m.flushedIndex+1:
		w.failf("member %d: the log begins at %d, but only %d is durable in the engine", r.m.id, r.group().FirstIndex(), r.m.flushedIndex)
	case r.hub.Rev() != r.machine.Load().KV().Rev():
		w.failf("member %d: revision %d is published and %d readable", r.m.id, r.hub.Rev(), r.machine.Load().KV().Rev())
	}
	if s.IsLeader() {
		w.truth.leads(w, s.Term, r.m.id)
	}
}
