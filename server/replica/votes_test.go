package replica

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// A candidate asks for votes when its term and its own vote are durable.
// The others' votes could make it a leader before, and a power failure then have
// it lead twice in one term.
func TestVotesAreAskedForInADurableTerm(t *testing.T) {
	r := newReplica(t)
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
