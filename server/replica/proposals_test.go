package replica

import (
	"errors"
	"slices"
	"testing"

	"metastore.io/metastore/server/state"
)

func put(body string) state.Command {
	return state.Command{Kind: state.KindPut, Body: []byte(body)}
}

func TestProposalsOfAnotherRunWakeNobody(t *testing.T) {
	p := NewProposals(state.Origin{Member: 1, Incarnation: 2})
	w, err := p.Add(put("a"))
	if err != nil {
		t.Fatal(err)
	}
	_, seq := p.takeEntry()
	reply := func(int) Reply { return Reply{Index: 7} }
	for _, other := range []state.Origin{{Member: 1, Incarnation: 1}, {Member: 2, Incarnation: 2}} {
		p.resolve(other, seq, reply)
		select {
		case r := <-w.Done():
			t.Fatalf("an entry of %+v woke a waiter of another run: %+v", other, r)
		default:
		}
	}
	p.resolve(state.Origin{Member: 1, Incarnation: 2}, seq, reply)
	if r := <-w.Done(); r.Index != 7 {
		t.Fatalf("got %+v", r)
	}
}

func TestProposalsBatchInOrder(t *testing.T) {
	origin := state.Origin{Member: 1, Incarnation: 1}
	p := NewProposals(origin)
	var waiters []*Waiter
	for _, b := range []string{"a", "b", "c"} {
		w, err := p.Add(put(b))
		if err != nil {
			t.Fatal(err)
		}
		waiters = append(waiters, w)
	}
	p.Forget(waiters[1])
	data, seq := p.takeEntry()
	gotOrigin, gotSeq, cmds, err := state.DecodeCommands(data)
	if err != nil || gotOrigin != origin || gotSeq != seq {
		t.Fatalf("origin %+v, seq %d, %v", gotOrigin, gotSeq, err)
	}
	if len(cmds) != 2 || string(cmds[0].Body) != "a" || string(cmds[1].Body) != "c" {
		t.Fatalf("a forgotten command is not left out, or the order changed: %v", cmds)
	}
	p.resolve(origin, seq, func(i int) Reply { return Reply{Index: uint64(i + 1)} })
	if r := <-waiters[0].Done(); r.Index != 1 {
		t.Fatalf("first waiter got %+v", r)
	}
	if r := <-waiters[2].Done(); r.Index != 2 {
		t.Fatalf("third waiter got %+v", r)
	}
	if n, _ := p.Counts(); n != 0 {
		t.Fatalf("%d proposals are still pending", n)
	}
}

// An entry that this member appended as leader, and whose index was applied
// with something else in it, goes back to be proposed again; one whose place is
// unknown does not, since it may still be committed.
func TestProposalsSuperseded(t *testing.T) {
	p := NewProposals(state.Origin{Member: 1, Incarnation: 1})
	if _, err := p.Add(put("placed")); err != nil {
		t.Fatal(err)
	}
	placed, _ := p.takeEntry()
	if _, err := p.Add(put("forwarded")); err != nil {
		t.Fatal(err)
	}
	p.takeEntry()
	p.placed(placed, 10)
	if p.superseded(9) {
		t.Fatal("superseded below its index")
	}
	if !p.superseded(10) {
		t.Fatal("not superseded at its index")
	}
	data, _ := p.takeEntry()
	_, _, cmds, err := state.DecodeCommands(data)
	if err != nil || len(cmds) != 1 || string(cmds[0].Body) != "placed" {
		t.Fatalf("proposed again: %v, %v", cmds, err)
	}
	p.placed(data, 12)
	p.displace()
	if p.superseded(100) {
		t.Fatal("after a snapshot an entry's fate is unknown, so it must not be proposed again")
	}
}

// Entries that are superseded together are proposed again in the order of Add.
func TestProposalsSupersededInOrder(t *testing.T) {
	p := NewProposals(state.Origin{Member: 1, Incarnation: 1})
	var want []string
	for i := range 20 {
		want = append(want, string(rune('a'+i)))
		if _, err := p.Add(put(want[i])); err != nil {
			t.Fatal(err)
		}
		data, _ := p.takeEntry()
		p.placed(data, uint64(10+i))
	}
	if !p.superseded(100) {
		t.Fatal("not superseded")
	}
	data, _ := p.takeEntry()
	_, _, cmds, err := state.DecodeCommands(data)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range cmds {
		got = append(got, string(c.Body))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("proposed again in the order %v, want %v", got, want)
	}
}

func TestProposalsLimit(t *testing.T) {
	p := NewProposals(state.Origin{Member: 1, Incarnation: 1})
	for range maxPending {
		if _, err := p.Add(put("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Add(put("x")); !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("got %v, want %v", err, ErrTooManyRequests)
	}
	p.Stop()
	if _, err := p.Add(put("x")); !errors.Is(err, ErrStopped) {
		t.Fatalf("got %v, want %v", err, ErrStopped)
	}
}

// Entries that got lost on the way to a leader, and commands that nobody waits
// for any more, take no place for ever.
func TestForgottenProposalsLeaveNothing(t *testing.T) {
	p := NewProposals(state.Origin{Member: 1, Incarnation: 1})
	var waiters []*Waiter
	for range 10 {
		w, err := p.Add(put("lost"))
		if err != nil {
			t.Fatal(err)
		}
		waiters = append(waiters, w)
	}
	_, seq := p.takeEntry()
	for i, w := range waiters {
		p.Forget(w)
		p.Forget(w)
		if n, _ := p.Counts(); n != len(waiters)-i-1 {
			t.Fatalf("%d pending after %d were forgotten", n, i+1)
		}
	}
	if len(p.inflight) != 0 || p.pendingBytes != 0 {
		t.Fatalf("%d tickets and %d bytes are left", len(p.inflight), p.pendingBytes)
	}
	p.resolve(p.origin, seq, func(int) Reply { t.Error("a forgotten proposal is replied to"); return Reply{} })

	// Without a leader no entry is taken.
	kept, err := p.Add(put("kept"))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 * minAbandoned {
		w, err := p.Add(put("given up"))
		if err != nil {
			t.Fatal(err)
		}
		p.Forget(w)
	}
	if n := len(p.waiting); n > 2*minAbandoned+2 {
		t.Fatalf("%d commands wait, 1 of them for somebody", n)
	}
	data, seq := p.takeEntry()
	if _, _, cmds, err := state.DecodeCommands(data); err != nil || len(cmds) != 1 {
		t.Fatalf("the entry holds %d commands, %v", len(cmds), err)
	}
	p.resolve(p.origin, seq, func(int) Reply { return Reply{Index: 3} })
	if r := <-kept.Done(); r.Index != 3 {
		t.Fatalf("got %+v", r)
	}
	if n, failed := p.Counts(); n != 0 || failed != 10+10*minAbandoned || p.abandoned != 0 {
		t.Fatalf("pending %d, failed %d, abandoned %d", n, failed, p.abandoned)
	}
}
