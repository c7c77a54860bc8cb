package sim

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// owner is one of host's goroutines, or what stands for it here.
type owner int

const (
	raftOwner owner = iota
	logOwner
	applyOwner
	upkeepOwner
	owners
)

// process is one run of a member, with what host holds.
type process struct {
	w           *world
	m           *member
	fs          *processFS
	incarnation uint64

	log     *raftlog.Log
	engines *replica.Engines
	machine atomic.Pointer[state.Machine]
	hub     *watch.Hub
	replica *replica.Replica
	applier *replica.Applier

	// awake owners have a step coming.
	awake [owners]bool
	inbox []*raftpb.Message
	done  []func(*replica.Replica) error

	appends []*replica.Append
	// writing is what the log owner has taken; it waits while a snapshot in it is
	// being installed.
	writing    *writing
	installing bool
	applies    []applyJob

	appliedIndex, flushedIndex uint64
	leader, leaderTerm         uint64
	primary                    *lease.Registry

	offered   *imported
	accepted  map[uint64]*imported
	sending   map[uint64]bool
	receiving *transfer
	queued    []*transfer
	transfers []*transfer

	// ops are the clients' operations that wait here.
	ops      []*op
	changing *change
	renewals []*renewal
	streams  []*watcher
}

type applyJob struct {
	entries *replica.Apply
	install *replica.Append
}

type writing struct {
	appends []*replica.Append
	next    int
}

func (r *process) group() *raftlog.Group { return r.log.Group(group) }

// after lets the process do something later, unless it is gone by then; while
// it is paused, everything waits.
func (r *process) after(delay int64, do func()) {
	r.w.after(delay, func() { r.run(do) })
}

func (r *process) run(do func()) {
	if r.m.process != r {
		return
	}
	if wait := r.m.pausedUntil - r.w.now; wait > 0 {
		r.after(wait, do)
		return
	}
	r.guard(do)
}

// guard turns raft's panics into a stop where a disk that is gone is the
// reason.
func (r *process) guard(do func()) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if _, ok := p.(failure); ok || r.fs.fault == nil || r.m.process != r {
			if !ok {
				p = failure{fmt.Sprintf("at %s: member %d: panic: %v\n%s", r.w.clock(), r.m.id, p, debug.Stack())}
			}
			panic(p)
		}
		r.fail(fmt.Errorf("panic after a fault: %v: %w", p, r.fs.fault))
	}()
	do()
	if r.m.process == r {
		r.answerClients()
		r.checkState()
	}
}

// wake gives an owner a step soon.
func (r *process) wake(o owner) {
	if r.awake[o] {
		return
	}
	r.awake[o] = true
	w := r.w
	delay := w.between(5, 100)
	switch {
	case o == logOwner:
		delay += w.about(w.p.sync)
		if !w.calm && w.now < w.nemesis.slowDiskUntil {
			delay += w.about(500 * millisecond)
		}
	case w.chance(0.05):
		delay += w.about(5 * millisecond)
	}
	r.after(delay, func() {
		r.awake[o] = false
		steps := [owners]func(){r.stepRaft, r.stepLog, r.stepApply, r.stepUpkeep}
		steps[o]()
	})
}

// later is host's inbox.do.
func (r *process) later(f func(*replica.Replica) error) {
	r.done = append(r.done, f)
	r.wake(raftOwner)
}

// begin starts the clocks.
func (r *process) begin() {
	conf := r.machine.Load().ConfState()
	if len(conf.Voters) == 1 && conf.Voters[0] == r.m.id {
		if err := r.replica.Campaign(); err != nil {
			r.fail(err)
			return
		}
	} else if len(conf.Voters) > 0 {
		for range electionTicks - 2 {
			r.replica.Tick()
		}
	}
	r.wake(raftOwner)
	r.wake(applyOwner)
	r.after(r.w.between(0, r.w.p.tick), r.tick)
}

func (r *process) tick() {
	r.replica.Tick()
	r.expireLeases()
	r.stepRaft()
	if r.m.process == r {
		r.after(r.w.p.tick, r.tick)
	}
}

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

// stepLog is one turn of host's log goroutine; it ends in the middle where that
// one waits for the apply goroutine.
func (r *process) stepLog() {
	if r.installing {
		return // the apply owner wakes this one
	}
	if r.writing == nil {
		if len(r.appends) == 0 {
			return
		}
		r.writing = &writing{appends: r.appends}
		r.appends = nil
	}
	b := r.writing
	for b.next < len(b.appends) {
		a := b.appends[b.next]
		b.next++
		if a.Snapshot != nil {
			r.installing = true
			r.applies = append(r.applies, applyJob{install: a})
			r.wake(applyOwner)
			return
		}
	}
	if err := r.writeAppends(b.appends); err != nil {
		r.fail(fmt.Errorf("append to the log: %w", err))
		return
	}
	r.writing = nil
	if r.w.planted != plantAckBeforeSync {
		r.appendsDone(b.appends)
	}
	if len(r.appends) > 0 {
		r.wake(logOwner)
	}
}

func (r *process) writeAppends(appends []*replica.Append) error {
	var writes []raftlog.Write
	for _, a := range appends {
		if !a.Empty() {
			writes = append(writes, r.faulty(a.Write))
		}
	}
	if len(writes) == 0 {
		return nil
	}
	if err := r.log.Append(writes); err != nil {
		return err
	}
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
	if len(r.applies) > 0 {
		job := r.applies[0]
		r.applies = r.applies[1:]
		if err := r.apply(job); err != nil {
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

func (r *process) apply(job applyJob) error {
	if job.install != nil {
		if err := r.installSnapshot(job.install); err != nil {
			return err
		}
		r.after(r.w.between(5, 1000), func() {
			r.installing = false
			r.stepLog()
		})
		return nil
	}
	r.w.truth.applying(r, job.entries)
	done, err := r.applier.Apply(job.entries)
	if err != nil {
		return err
	}
	r.later(func(p *replica.Replica) error { return p.ApplyDone(job.entries, done) })
	r.w.tracef("%d applied up to %d, revision %d", r.m.id, done.Index, r.machine.Load().KV().Rev())
	r.w.truth.applied(r, done)
	r.appliedIndex = done.Index
	r.wake(upkeepOwner)
	if done.Removed {
		r.m.gone = true
		r.after(r.w.between(0, second), func() {
			r.w.tracef("%d leaves", r.m.id)
			r.end()
		})
	}
	return nil
}

func (r *process) publish(revisions []state.RevisionEvents) {
	r.w.truth.publishing(r, revisions)
	if r.w.planted == plantLostEvents && r.w.chance(0.02) {
		revisions = []state.RevisionEvents{{Rev: revisions[len(revisions)-1].Rev}}
	}
	r.hub.Publish(revisions)
}

// stepUpkeep flushes the engine and shortens the log by host's rules.
func (r *process) stepUpkeep() {
	m := r.machine.Load()
	due := r.appliedIndex-r.flushedIndex >= r.w.p.snapshotEntries &&
		r.group().BytesSince(r.flushedIndex) >= m.FlushCostBytes()
	if !due && !r.w.chance(0.02) {
		return
	}
	var durable uint64
	var err error
	if r.w.planted == plantNoFlush {
		durable, _ = m.Applied()
	} else if durable, err = m.Flush(); err != nil {
		r.fail(fmt.Errorf("flush the engine: %w", err))
		return
	} else {
		r.m.flushedIndex = max(r.m.flushedIndex, durable)
	}
	r.flushedIndex = max(r.flushedIndex, durable)
	r.w.tracef("%d flushed %d", r.m.id, durable)
	if keep := r.compactTo(durable); keep > 0 {
		if err := r.log.Compact(group, keep); err != nil {
			r.fail(fmt.Errorf("shorten the log: %w", err))
		}
	}
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
	case r.writing == nil && applied > r.group().LastIndex():
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
