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

	// tasks are under way; busy says which owner has one.
	tasks []*task
	busy  [owners]bool

	appends []*replica.Append
	applies []applyJob
	// installing: the state of a snapshot may be in place and the log not be
	// reset yet.
	installing bool

	appliedIndex, flushedIndex uint64
	leaderTerm                 uint64
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
}

// applyJob is a run of entries, or a snapshot to install, for which a task of
// the log owner waits.
type applyJob struct {
	entries *replica.Apply
	install *replica.Append
	waiting *task
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
		if _, ok := p.(failure); ok {
			panic(p)
		}
		if r.m.process == r && r.replica != nil && r.replica.Err() != nil {
			r.fail(r.replica.Err()) // host does the same
			return
		}
		if r.m.process == r && r.fs.fault != nil {
			r.fail(fmt.Errorf("panic after a fault: %v: %w", p, r.fs.fault))
			return
		}
		panic(failure{"panic", fmt.Sprintf("at %s: member %d: panic: %v\n%s", r.w.clock(), r.m.id, p, debug.Stack())})
	}()
	do()
	if r.m.process == r {
		if err := r.replicaErr(); err != nil {
			r.fail(err)
			return
		}
		r.answerClients()
		r.checkState()
	}
}

// replicaErr is what host looks for after each turn.
func (r *process) replicaErr() error {
	if r.replica == nil {
		return nil
	}
	return r.replica.Err()
}

// wake gives an owner a step soon.
func (r *process) wake(o owner) {
	if r.awake[o] {
		return
	}
	r.awake[o] = true
	w := r.w
	delay := w.between(5, 100)
	if w.chance(0.05) {
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
	if r.m.clock.rate > 0 {
		r.replica.Tick()
		r.expireLeases()
		r.stepRaft()
	}
	if r.m.process == r {
		r.leave()
	}
	if r.m.process == r {
		r.after(r.m.untilTick(), r.tick)
	}
}
