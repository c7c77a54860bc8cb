package replica

import (
	"math"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/state"
)

// holdVotes has requests for votes wait until the term that they are for is
// durable here. Raft lets them go at once and only counts this member's own vote
// when it is durable; but the others' votes may be enough. The leader that they
// make could forget its term when the power fails, ask for the same term again,
// get the same votes, and fill it with other entries.
func (r *Replica) holdVotes(w *Work, votes []*raftpb.Message) {
	if len(votes) == 0 {
		return
	}
	r.needAppend(w)
	w.Append.responses = slices.Concat(w.Append.responses, votes)
}

// ofOnlyVoter has a candidate's log count as no shorter than this one when this
// member has applied its own removal, which left the candidate as the only voter.
// The candidate asks since it does not know yet that the removal is committed;
// that took its own log, where all that is committed since is too. What this
// member appended as the leader behind that is not committed, but would have raft
// refuse the candidate for ever, while this member may not stand any more.
// A member that is not removed could only lag with what it has applied.
func (r *Replica) ofOnlyVoter(m *raftpb.Message) *raftpb.Message {
	if m.GetType() != raftpb.MsgVote && m.GetType() != raftpb.MsgPreVote {
		return m
	}
	machine := r.storage.machine.Load()
	if v := machine.ConfState().Voters; len(v) != 1 || v[0] != m.GetFrom() || !machine.Removed(r.id) {
		return m
	}
	m = proto.CloneOf(m)
	m.LogTerm, m.Index = m.Term, proto.Uint64(math.MaxUint64)
	return m
}

// TellsRemoved tells whether a member has to say to another that it was removed,
// whereupon that one leaves. Until then it stays and votes, since the voters may
// need it to learn that its removal is committed. A voter knows it durably, see
// gate; a learner may be ahead of the only voter that stays.
func TellsRemoved(m *state.Machine, id, other uint64) bool {
	return m.Removed(other) && slices.Contains(m.ConfState().Voters, id)
}
