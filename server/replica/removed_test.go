package replica

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

// newReplica makes member 1, with a log of entries 2 and 3 and an engine of its own
// that knows the voters and has applied neither.
func newReplica(t *testing.T, voters ...uint64) *Replica {
	t.Helper()
	return newReplicaWith(t, func(*Config) {}, voters...)
}

func newReplicaWith(t *testing.T, change func(*Config), voters ...uint64) *Replica {
	t.Helper()
	f := memdisk.New(1)
	log, err := raftlog.Open(raftlog.Options{FS: f, Dir: "log", SegmentSizeBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	_, e, err := OpenEngines(f, "engine", memory.Opener{FS: f})
	if err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(state.Options{Engine: e, Group: testGroup})
	if err != nil {
		t.Fatal(err)
	}
	var members []state.Member
	for _, id := range voters {
		members = append(members, state.Member{ID: id})
	}
	if err := m.Bootstrap(7, members); err != nil {
		t.Fatal(err)
	}
	one, two, three := uint64(1), uint64(2), uint64(3)
	group := raftlog.GroupID(testGroup)
	err = log.Append([]raftlog.Write{{
		Group: group, Reset: &raftlog.Position{Index: 1, Term: 1}, HardState: &raftpb.HardState{Term: &one, Commit: &one},
	}, {
		Group: group, Entries: []*raftpb.Entry{{Index: &two, Term: &one}, {Index: &three, Term: &one}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var machine atomic.Pointer[state.Machine]
	machine.Store(m)
	c := Config{
		ID: 1, ClusterID: 7, Group: group, Log: log.Group(group), Machine: &machine, Incarnation: 1,
		ElectionTicks: 10, HeartbeatTicks: 1, Logger: slog.New(slog.DiscardHandler),
	}
	change(&c)
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// works takes all work that there is and gives its appends.
func works(r *Replica) (appends []*Append) {
	for {
		w, ok := r.Ready()
		if !ok {
			return appends
		}
		if w.Append != nil {
			appends = append(appends, w.Append)
		}
	}
}

// A leader whose removal takes effect while an append is under way gets the
// log's answer as a member no more. That is no failure.
func TestAppendDoneAfterRemoval(t *testing.T) {
	r := newReplica(t, 1, 2)
	if err := r.Campaign(); err != nil {
		t.Fatal(err)
	}
	for _, a := range works(r) {
		if _, err := r.AppendDone(a); err != nil {
			t.Fatal(err)
		}
	}
	one, two, term := uint64(1), uint64(2), r.Status().Term
	if err := r.Step(&raftpb.Message{Type: raftpb.MsgVoteResp.Enum(), From: &two, To: &one, Term: &term}); err != nil {
		t.Fatal(err)
	}
	appends := works(r)
	if !r.Status().IsLeader() || len(appends) == 0 {
		t.Fatalf("leads: %v, with %d appends under way", r.Status().IsLeader(), len(appends))
	}
	r.node.ApplyConfChange(confChange(state.MemberChange{Kind: state.Remove, Member: state.Member{ID: 1}}, nil))
	for _, a := range appends {
		if _, err := r.AppendDone(a); err != nil {
			t.Fatal(err)
		}
	}
}
