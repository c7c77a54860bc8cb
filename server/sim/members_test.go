package sim

import (
	"slices"

	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
)

// change is a membership change under way on the leader.
type change struct {
	what   state.MemberChange
	began  int64
	read   <-chan error
	waiter *replica.Waiter
}

// changeMembers begins a random membership change on the leader.
func (w *world) changeMembers() {
	r := w.leader()
	if r == nil || r.changing != nil {
		return
	}
	what, ok := w.chooseChange(r)
	if !ok {
		return
	}
	read, err := r.replica.Reads.Add()
	if err != nil {
		w.failf("read: %v", err)
	}
	w.tracef("%d is asked to %s %d", r.m.id, what.Kind, what.Member.ID)
	r.changing = &change{what: what, began: w.now, read: read}
	r.wake(raftOwner)
}

func (w *world) chooseChange(r *process) (state.MemberChange, bool) {
	conf := r.machine.Load().ConfState()
	fresh := newcomer(uint64(len(w.members)) + 1)
	for _, m := range w.members {
		if m.lost && (slices.Contains(conf.Voters, m.id) || slices.Contains(conf.Learners, m.id)) {
			return state.MemberChange{Kind: state.Remove, Member: state.Member{ID: m.id}}, true
		}
	}
	switch n := w.rng.IntN(10); {
	case len(conf.Learners) > 0 && n < 6:
		return state.MemberChange{Kind: state.Promote, Member: state.Member{ID: conf.Learners[0]}}, true
	case len(conf.Voters)+len(conf.Learners) < 5 && len(w.members) < 12 && n < 7:
		kind := state.AddLearner
		if w.chance(0.3) {
			kind = state.AddVoter
		}
		return state.MemberChange{Kind: kind, Member: fresh}, true
	case len(conf.Voters) > 1:
		all := append(conf.Voters, conf.Learners...)
		id := all[w.rng.IntN(len(all))]
		if id == r.m.id {
			// A leader that is to be removed hands over; the removal is asked of
			// the next one.
			to := conf.Voters[w.rng.IntN(len(conf.Voters))]
			r.later(func(p *replica.Replica) error { p.TransferLeader(to); return nil })
			return state.MemberChange{}, false
		}
		return state.MemberChange{Kind: state.Remove, Member: state.Member{ID: id}}, true
	}
	return state.MemberChange{}, false
}

// lose takes a member away for ever, when the others can do without it also
// after the membership change that may be under way. It is to be replaced:
// changeMembers removes it before all else, and adds others.
func lose(w *world, r *process) {
	conf, lost := w.truth.conf, slices.ContainsFunc(w.members, func(m *member) bool { return m.lost && w.isMember(m.id) })
	enough := len(conf.Voters) >= 4 || (len(conf.Voters) >= 2 && slices.Contains(conf.Learners, r.m.id))
	if lost || !enough || !w.isMember(r.m.id) {
		return
	}
	w.tracef("%d is lost with its disk", r.m.id)
	w.stats[lostCount]++
	r.end()
	r.m.gone, r.m.lost = true, true
}

// replaceLost removes the lost members also when the load is over.
func (w *world) replaceLost() {
	for _, m := range w.members {
		if m.lost && w.isMember(m.id) {
			w.changeMembers()
			return
		}
	}
}

// goOnChanging is host's changeMembers.
func (r *process) goOnChanging() {
	c := r.changing
	switch {
	case c == nil:
	case r.w.now-c.began > requestTimeout:
		r.changing = nil
		if c.waiter != nil {
			r.replica.Proposals.Forget(c.waiter)
		}
	case c.waiter == nil:
		select {
		case <-c.read:
			r.proposeChange(c)
		default: // not yet
		}
	default:
		select {
		case reply := <-c.waiter.Done():
			r.changing = nil
			r.w.tracef("%d: %s %d: %v, %v", r.m.id, c.what.Kind, c.what.Member.ID, reply.Change, reply.Err)
			if reply.Change.Applied {
				r.w.stats[changesCount]++
			}
		default: // not yet
		}
	}
}

func (r *process) proposeChange(c *change) {
	w, id := r.w, c.what.Member.ID
	s := r.replica.Status()
	match := s.Progress[id]
	late := c.what.Kind == state.Promote && match*100 < s.Progress[s.ID]*90
	if r.machine.Load().CheckChange(c.what) != nil || late || !s.IsLeader() {
		r.changing = nil
		return
	}
	waiter, err := r.replica.Proposals.AddChange(c.what)
	if err != nil {
		w.failf("propose: %v", err)
	}
	c.waiter = waiter
	if (c.what.Kind == state.AddLearner || c.what.Kind == state.AddVoter) && w.member(id) == nil {
		w.after(w.about(500*millisecond), w.newMember(id, nil).start)
	}
	r.wake(raftOwner)
}
