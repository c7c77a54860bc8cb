package replica

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/state"
)

// A candidate asks for votes when its term and its own vote are durable.
// The others' votes could make it a leader before, and a power failure then have
// it lead twice in one term.
func TestVotesAreAskedForInADurableTerm(t *testing.T) {
	r := newReplica(t, 1, 2)
	if err := r.Campaign(); err != nil {
		t.Fatal(err)
	}
	asked := func(messages []*raftpb.Message) (n int) {
		for _, m := range messages {
			if m.GetType() == raftpb.MsgVote {
				n++
			}
		}
		return n
	}
	var votes int
	for {
		w, ok := r.Ready()
		if !ok {
			break
		}
		if n := asked(w.Messages); n > 0 {
			t.Fatalf("%d votes are asked for at once", n)
		}
		if w.Append == nil {
			continue
		}
		term := w.Append.Write.HardState.GetTerm()
		out, err := r.AppendDone(w.Append)
		if err != nil {
			t.Fatal(err)
		}
		if n := asked(out); n > 0 && term != r.Status().Term {
			t.Fatalf("votes for term %d are asked for when term %d is durable", r.Status().Term, term)
		}
		votes += asked(out)
	}
	if votes != 1 {
		t.Fatalf("%d votes were asked for", votes)
	}
}

// A removed member gives the only voter that stays its vote, though it has an
// entry more; one that was not removed, or not from two, compares the logs.
func TestTheOnlyVoterIsElected(t *testing.T) {
	for name, c := range map[string]struct {
		voters  []uint64
		removed uint64
		granted bool
	}{
		"the only voter":     {[]uint64{1, 2}, 1, true},
		"one of two":         {[]uint64{1, 2, 3}, 1, false},
		"not the only voter": {[]uint64{1, 3}, 1, false},
		"never a member":     {[]uint64{2, 3}, 3, false},
	} {
		for ask, answer := range map[raftpb.MessageType]raftpb.MessageType{
			raftpb.MsgPreVote: raftpb.MsgPreVoteResp, raftpb.MsgVote: raftpb.MsgVoteResp,
		} {
			r := newReplica(t, c.voters...)
			removal := state.MemberChange{Kind: state.Remove, Member: state.Member{ID: c.removed}}
			if _, err := r.storage.machine.Load().Apply([]state.Entry{{Index: 2, Term: 1, Change: &removal}}); err != nil {
				t.Fatal(err)
			}
			// The candidate's log ends with the removal.
			one, two := uint64(1), uint64(2)
			if err := r.Step(&raftpb.Message{Type: ask.Enum(), From: &two, To: &one, Term: &two, Index: &two, LogTerm: &one}); err != nil {
				t.Fatal(err)
			}
			got := sent(t, r)
			if len(got) != 1 || got[0].GetType() != answer || got[0].GetReject() == c.granted {
				t.Errorf("%s: %v was answered with %v", name, ask, got)
			}
		}
	}
}

// sent does all work but what is to be applied, and gives what leaves.
func sent(t *testing.T, r *Replica) (messages []*raftpb.Message) {
	t.Helper()
	for w, ok := r.Ready(); ok; w, ok = r.Ready() {
		messages = append(messages, w.Messages...)
		if w.Append == nil {
			continue
		}
		out, err := r.AppendDone(w.Append)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, out...)
	}
	return messages
}

// A member leaves on the word of a voter, which knows durably that the removal is
// committed, and not of a learner or of one that was removed as well.
func TestOnlyVotersTellWhoWasRemoved(t *testing.T) {
	m := newReplica(t, 1, 2, 3).storage.machine.Load()
	changes := []state.MemberChange{
		{Kind: state.AddLearner, Member: state.Member{ID: 4}},
		{Kind: state.Remove, Member: state.Member{ID: 2}},
		{Kind: state.Remove, Member: state.Member{ID: 1}},
	}
	for i := range changes {
		if _, err := m.Apply([]state.Entry{{Index: uint64(i) + 2, Term: 1, Change: &changes[i]}}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[uint64]bool{1: false, 2: false, 3: true, 4: false} {
		if got := TellsRemoved(m, id, 1); got != want {
			t.Errorf("%d tells 1 that it was removed: %v", id, got)
		}
	}
	if TellsRemoved(m, 3, 4) {
		t.Error("a member that stays is told that it was removed")
	}
}
