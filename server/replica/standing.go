package replica

import (
	"slices"

	"go.etcd.io/raft/v3"
)

// standing is a follower's plan to stand for election before its election timeout,
// made when its leader hung up. Where the process of the leader ended, all
// followers hear so at once, and the first one is elected within a round trip; the
// others stand a tick after each other, so that no two of them split the votes. A
// follower that only lost its connection does no harm: the others, which hear of
// the leader, refuse it before it begins a term.
type standing struct {
	mayHurry    bool // elections are asked for first (PreVote)
	giveUpAfter int  // ticks
	// wait is the number of ticks to the next attempt, every between two, and left
	// until the plan is given up; 0 when there is none.
	wait, every, left int
}

// HungUp takes the transport's word that a peer closed its connection, as the
// system does for a process that ended.
func (r *Replica) HungUp(id uint64) error {
	s := &r.standing
	lead := r.node.BasicStatus().Lead
	if !s.mayHurry || lead != id || id == r.id {
		return nil
	}
	// From now on others may ask for this member's vote, too.
	if err := r.node.ForgetLeader(); err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Sorted(slices.Values(r.storage.machine.Load().ConfState().Voters)), func(v uint64) bool { return v == id })
	turn := slices.Index(others, r.id)
	if turn < 0 {
		return nil
	}
	r.logger.Info("the leader hung up", "member", idString(r.id), "leader", idString(id))
	s.wait, s.every, s.left = turn, len(others), s.giveUpAfter
	s.try(r)
	return nil
}

func (s *standing) tick(r *Replica) {
	if s.left == 0 {
		return
	}
	s.left--
	s.wait--
	s.try(r)
}

// try stands for election when it is this member's turn.
func (s *standing) try(r *Replica) {
	status := r.node.BasicStatus()
	switch {
	case status.Lead != raft.None || status.RaftState == raft.StateLeader:
		s.left = 0
	case s.wait > 0 || status.RaftState == raft.StateCandidate:
	default:
		s.wait = s.every
		if err := r.Campaign(); err != nil {
			r.logger.Warn("does not stand for election", "member", idString(r.id), "error", err)
		}
	}
}
