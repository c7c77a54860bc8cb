package replica

import (
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/state"
)

// Applier is the apply owner's half: it brings committed entries into the state
// machine, in order, and answers those who wait for them.
type Applier struct {
	machine   *atomic.Pointer[state.Machine]
	proposals *Proposals
	reads     *Reads
	publish   func([]state.RevisionEvents)
	prevs     func() bool
}

// Applied is what the raft owner has to know of applied entries.
type Applied struct {
	// Index is the highest applied index.
	Index uint64
	// Changes are the membership changes that took effect, in order.
	Changes []state.MemberChange
	// MembersUpdated: members changed without a membership change, as when one
	// gets new peer URLs.
	MembersUpdated bool
	// Superseded: commands went back to Proposals, so the raft owner has to
	// look there.
	Superseded bool
}

// Applier makes the other half of r. publish gets the events of each revision
// once, in order, after the revision is readable (invariant 5). Before each run
// prevs says whether somebody wants their previous values.
func (r *Replica) Applier(publish func([]state.RevisionEvents), prevs func() bool) *Applier {
	return &Applier{
		machine: r.storage.machine, publish: publish, prevs: prevs,
		proposals: r.Proposals, reads: r.Reads,
	}
}

// identity says whose proposal an entry is.
type identity struct {
	origin state.Origin
	seq    uint64
	change bool
}

// Apply applies a run of committed entries. An error means that the engine
// failed or that an entry cannot be understood: the member has to stop.
func (a *Applier) Apply(w *Apply) (Applied, error) {
	entries := make([]state.Entry, len(w.Entries))
	ids := make([]identity, len(w.Entries))
	for i, e := range w.Entries {
		var err error
		if entries[i], ids[i], err = decodeEntry(e); err != nil {
			return Applied{}, fmt.Errorf("decode entry %d: %w", e.GetIndex(), err)
		}
	}
	m := a.machine.Load()
	m.Bare(!a.prevs())
	out, err := m.Apply(entries)
	if err != nil {
		return Applied{}, fmt.Errorf("apply entries %d–%d: %w", entries[0].Index, entries[len(entries)-1].Index, err)
	}
	if len(out.Events) > 0 {
		a.publish(out.Events)
	}
	done := Applied{Index: entries[len(entries)-1].Index}
	for i, e := range entries {
		a.answer(ids[i], e, out.Entries[i])
		for _, c := range e.Commands {
			done.MembersUpdated = done.MembersUpdated || c.Kind == state.KindMemberUpdate
		}
		if e.Change != nil && out.Entries[i].Change.Applied {
			done.Changes = append(done.Changes, *e.Change)
		}
	}
	done.Superseded = a.proposals.superseded(done.Index)
	a.reads.advance(done.Index)
	return done, nil
}

// Installed tells the waiters that a snapshot replaced the state.
func (a *Applier) Installed(index uint64) {
	a.proposals.displace()
	a.reads.advance(index)
}

func (a *Applier) answer(id identity, e state.Entry, r state.EntryResult) {
	if e.Change == nil && len(e.Commands) == 0 {
		return
	}
	a.proposals.resolve(id.origin, id.seq, func(i int) Reply {
		reply := Reply{Term: e.Term, Index: e.Index}
		if id.change {
			reply.Change = r.Change
		} else {
			reply.Result = r.Results[i]
		}
		return reply
	})
}

func decodeEntry(e *raftpb.Entry) (state.Entry, identity, error) {
	out := state.Entry{Index: e.GetIndex(), Term: e.GetTerm()}
	var id identity
	var err error
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		var cc raftpb.ConfChange
		if err = proto.Unmarshal(e.GetData(), &cc); err != nil {
			return out, id, err
		}
		var c state.MemberChange
		id.origin, id.seq, c, err = decodeChange(cc.GetContext())
		id.change = true
		out.Change = &c
	case e.GetType() != raftpb.EntryNormal:
		err = fmt.Errorf("entry type %s is not known", e.GetType())
	case len(e.GetData()) > 0:
		id.origin, id.seq, out.Commands, err = state.DecodeCommands(e.GetData())
	}
	return out, id, err
}
