package replica

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// When the leader hangs up, followers stand for election one after the other, and
// go on until they hear of a leader; they ask first whether they could win.
func TestStandingWhenTheLeaderHungUp(t *testing.T) {
	r := newReplicaWith(t, func(c *Config) { c.ID, c.PreVote = 3, true }, 1, 2, 3, 4)
	hear := func(leader, term uint64) {
		t.Helper()
		three := uint64(3)
		if err := r.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &leader, To: &three, Term: &term}); err != nil {
			t.Fatal(err)
		}
		sent(t, r)
		if got := r.Status().Leader; got != leader {
			t.Fatalf("leader %d, want %d", got, leader)
		}
	}
	asks := func() (n int) {
		for _, m := range sent(t, r) {
			switch m.GetType() {
			case raftpb.MsgPreVote:
				n++
			case raftpb.MsgVote:
				t.Fatalf("asks for votes at once: %v", m)
			}
		}
		return n
	}
	hangUp := func(id uint64) {
		t.Helper()
		if err := r.HungUp(id); err != nil {
			t.Fatal(err)
		}
	}
	hear(1, 2)
	hangUp(2)
	if n := asks(); n != 0 || r.Status().Leader != 1 {
		t.Fatalf("a follower hung up: %d asked, leader %d", n, r.Status().Leader)
	}

	hangUp(1) // 2 stands first, then 3, then 4, then 2
	if n := asks(); n != 0 || r.Status().Leader != 0 {
		t.Fatalf("before its turn: %d asked, leader %d", n, r.Status().Leader)
	}
	for tick := 1; tick < 10; tick++ { // then raft's own election timeout may end
		r.Tick()
		want := 0
		if tick%3 == 1 {
			want = 3
		}
		if n := asks(); n != want {
			t.Errorf("tick %d: %d are asked, want %d", tick, n, want)
		}
	}

	hear(2, 2)
	hangUp(2) // 1, 3, 4
	hear(4, 2)
	r.Tick()
	if n := asks(); n != 0 || r.Status().Leader != 4 {
		t.Errorf("there is a leader: %d asked, leader %d", n, r.Status().Leader)
	}
}

// Without asking first, a follower that alone lost its connection would depose a
// leader that works.
func TestNoStandingWithoutPreVote(t *testing.T) {
	r := newReplica(t, 1, 2, 3)
	one, two := uint64(1), uint64(2)
	if err := r.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &two, To: &one, Term: &two}); err != nil {
		t.Fatal(err)
	}
	if err := r.HungUp(2); err != nil {
		t.Fatal(err)
	}
	sent(t, r)
	if s := r.Status(); s.Leader != 2 || s.Term != 2 {
		t.Errorf("status %+v", s)
	}
}
