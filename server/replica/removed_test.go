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

// newReplica makes member 1 of two, with a log and an engine of its own.
func newReplica(t *testing.T) *Replica {
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
	if err := m.Bootstrap(7, []state.Member{{ID: 1}, {ID: 2}}); err != nil {
		t.Fatal(err)
	}
	one := uint64(1)
	group := raftlog.GroupID(testGroup)
	err = log.Append([]raftlog.Write{{
		Group: group, Reset: &raftlog.Position{Index: 1, Term: 1}, HardState: &raftpb.HardState{Term: &one, Commit: &one},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var machine atomic.Pointer[state.Machine]
	machine.Store(m)
	r, err := New(Config{
		ID: 1, ClusterID: 7, Group: group, Log: log.Group(group), Machine: &machine, Incarnation: 1,
		ElectionTicks: 10, HeartbeatTicks: 1, Logger: slog.New(slog.DiscardHandler),
	})
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
	r := newReplica(t)
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
