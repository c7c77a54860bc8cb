package sim

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/replica"
)

// link is one direction between two members.
type link struct{ from, to uint64 }

// network carries messages between members.
type network struct {
	// cut holds the directions in which nothing gets through.
	cut map[link]bool
}

func (w *world) connected(from, to uint64) bool { return !w.net.cut[link{from, to}] }

// lost says whether something sent now does not arrive.
func (w *world) lost(from, to uint64) bool {
	return !w.connected(from, to) || (!w.calm && w.chance(w.p.drop))
}

func (w *world) travelTime() int64 {
	d := w.about(w.p.delay) + 50
	if !w.calm && w.chance(w.p.late) {
		d += w.about(w.p.delay * 50)
	}
	return d
}

// send takes the place of peer.Transport.Send.
func (r *process) send(messages []*raftpb.Message) {
	w := r.w
	for _, m := range messages {
		r.checkSent(m)
		if m.GetType() == raftpb.MsgSnap {
			r.startSnapshot(m)
			continue
		}
		to := m.GetTo()
		b, err := proto.Marshal(m)
		if err != nil {
			w.failf("encode a message: %v", err)
		}
		if w.lost(r.m.id, to) {
			if m.GetType() == raftpb.MsgProp && w.chance(0.5) {
				r.later(func(p *replica.Replica) error { p.Unsent(m.GetEntries()); return nil })
			}
			if w.chance(0.5) {
				r.later(func(p *replica.Replica) error { p.ReportUnreachable(to); return nil })
			}
			continue
		}
		w.after(w.travelTime(), func() { w.deliver(r.m.id, to, b) })
		mayDouble := m.GetType() != raftpb.MsgProp || w.planted == plantDoubleProposal
		if !w.calm && mayDouble && w.chance(w.p.double) {
			w.after(w.travelTime(), func() { w.deliver(r.m.id, to, b) })
		}
	}
}

// hungUp tells most of the members that can hear it that a process ended.
func (w *world) hungUp(id uint64) {
	for _, m := range w.members {
		if m.id != id && m.process != nil && w.connected(id, m.id) && w.chance(0.7) {
			m.process.hears(id)
		}
	}
}

// hears takes the place of peer.Transport's word that a peer closed its connection.
func (r *process) hears(id uint64) {
	r.after(r.w.travelTime(), func() {
		r.later(func(p *replica.Replica) error { return p.HungUp(id) })
	})
}

// checkSent asserts invariant 3 for what a member tells its peers.
func (r *process) checkSent(m *raftpb.Message) {
	hard := &r.m.hard
	switch {
	case m.GetReject() || hard.GetTerm() > m.GetTerm():
	case m.GetType() == raftpb.MsgAppResp && (hard.GetTerm() < m.GetTerm() || m.GetIndex() > r.group().LastIndex()):
		r.w.failf("member %d acknowledges index %d of term %d, but only index %d of term %d is durable",
			r.m.id, m.GetIndex(), m.GetTerm(), r.group().LastIndex(), hard.GetTerm())
	case m.GetType() == raftpb.MsgVoteResp && (hard.GetTerm() < m.GetTerm() || hard.GetVote() != m.GetTo()):
		r.w.failf("member %d gives its vote in term %d to %d, but what is durable is %d in term %d",
			r.m.id, m.GetTerm(), m.GetTo(), hard.GetVote(), hard.GetTerm())
	case m.GetType() == raftpb.MsgVote && (hard.GetTerm() < m.GetTerm() || hard.GetVote() != r.m.id):
		r.w.failf("member %d asks for votes in term %d, but what is durable is the vote %d in term %d",
			r.m.id, m.GetTerm(), hard.GetVote(), hard.GetTerm())
	case m.GetType() == raftpb.MsgApp && hard.GetTerm() < m.GetTerm():
		r.w.failf("member %d leads in term %d, but only term %d is durable", r.m.id, m.GetTerm(), hard.GetTerm())
	}
}

func (w *world) deliver(from, to uint64, b []byte) {
	target := w.member(to)
	if target == nil || target.process == nil || !w.connected(from, to) {
		return
	}
	r := target.process
	if replica.TellsRemoved(r.machine.Load(), to, from) {
		// A peer answers who was removed, and that member stops for good.
		if s := w.member(from); s != nil && s.process != nil {
			s.process.removedByPeers()
		}
		return
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(b, m); err != nil {
		w.failf("decode a message: %v", err)
	}
	w.tracef("%d receives %s of %d, term %d, index %d, %d entries", to, m.GetType(), from, m.GetTerm(), m.GetIndex(), len(m.GetEntries()))
	r.inbox = append(r.inbox, m)
	r.wake(raftOwner)
}
