package replica

import (
	"errors"
	"testing"

	"metastore.io/metastore/server/state"
)

func add(t *testing.T, r *Reads) <-chan error {
	t.Helper()
	c, err := r.Add()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func served(c <-chan error) bool {
	select {
	case err := <-c:
		return err == nil
	default:
		return false
	}
}

func TestReadsJoinTheNextRound(t *testing.T) {
	r := NewReads(state.Origin{Member: 1, Incarnation: 1}, 5)
	first := add(t, r)
	round1 := r.start(false)
	second := add(t, r)
	if r.start(false) != nil {
		t.Fatal("a round started while another was in flight")
	}
	r.confirm(round1, 5)
	if !served(first) {
		t.Fatal("the first read was not served at an index that is applied")
	}
	if served(second) {
		t.Fatal("a read was served by a round that began before it")
	}
	r.confirm(r.start(false), 5)
	if !served(second) {
		t.Fatal("the second read was not served by its own round")
	}
}

func TestReadsWaitForTheIndex(t *testing.T) {
	r := NewReads(state.Origin{Member: 1, Incarnation: 1}, 5)
	c := add(t, r)
	r.confirm(r.start(false), 7)
	r.advance(6)
	if served(c) {
		t.Fatal("a read was served before its index was applied")
	}
	r.advance(7)
	if !served(c) {
		t.Fatal("a read was not served at its index")
	}
}

// What is committed at a known index needs no round.
func TestReadsAtAnIndex(t *testing.T) {
	r := NewReads(state.Origin{Member: 1, Incarnation: 1}, 5)
	at := func(index uint64) <-chan error {
		c, err := r.AddAt(index)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if !served(at(5)) {
		t.Fatal("an applied index was waited for")
	}
	c := at(7)
	r.advance(6)
	if served(c) {
		t.Fatal("a read was served before its index was applied")
	}
	r.advance(7)
	if !served(c) {
		t.Fatal("a read was not served at its index")
	}
	late := at(8)
	r.Stop()
	if err := <-late; !errors.Is(err, ErrStopped) {
		t.Fatalf("a read that waits at the stop gets %v", err)
	}
}

// A leader alone serves at once what it has applied; all that others may know to
// be committed has to be among it.
func TestReadsOfALeaderAlone(t *testing.T) {
	r := NewReads(state.Origin{Member: 1, Incarnation: 1}, 5)
	r.lead(true, 5)
	if !served(add(t, r)) {
		t.Fatal("a leader alone waits for a round")
	}
	r.lead(true, 6)
	late := add(t, r)
	if served(late) {
		t.Fatal("a read was served before what is committed was applied")
	}
	r.confirm(r.start(false), 6)
	r.advance(6)
	if !served(late) || !served(add(t, r)) {
		t.Fatal("a read was not served at what is committed")
	}
	r.lead(false, 6)
	if served(add(t, r)) {
		t.Fatal("a read was served without a round by one that is not alone")
	}
}

func TestReadsIgnoreOtherAnswers(t *testing.T) {
	before := NewReads(state.Origin{Member: 1, Incarnation: 1}, 5)
	add(t, before)
	old := before.start(false)

	r := NewReads(state.Origin{Member: 1, Incarnation: 2}, 5)
	c := add(t, r)
	first := r.start(false)
	again := r.start(true)
	r.confirm(old, 5)   // an answer to an earlier run
	r.confirm(first, 5) // an answer to a round that was asked anew
	if served(c) {
		t.Fatal("a read was served by an answer that is not its own")
	}
	r.confirm(again, 5)
	if !served(c) {
		t.Fatal("a read was not served")
	}
}

// Reads that gave up while there was no leader take no place for ever, and the
// others are served.
func TestForgottenReadsLeaveNothing(t *testing.T) {
	r := NewReads(state.Origin{Member: 1, Incarnation: 1}, 5)
	first := add(t, r)
	r.start(false)
	second := add(t, r)
	for range 5 * maxForgotten {
		r.Forget(add(t, r))
	}
	if n := len(r.waiting) + len(r.round) + len(r.forgotten); n > 2*maxForgotten+2 {
		t.Fatalf("%d reads are kept, 2 of them for somebody", n)
	}
	r.confirm(r.start(true), 5)
	if !served(first) || !served(second) {
		t.Fatal("a read was forgotten that somebody waits for")
	}
}

// A round that has to be asked again is slow; the next one is not.
func TestSlowReads(t *testing.T) {
	r := NewReads(state.Origin{Member: 1, Incarnation: 1}, 5)
	add(t, r)
	r.start(false)
	r.confirm(r.start(true), 5)
	if n := r.Slow(); n != 1 {
		t.Fatalf("%d rounds were slow, want 1", n)
	}
	add(t, r)
	r.confirm(r.start(false), 5)
	if n := r.Slow(); n != 1 {
		t.Errorf("%d rounds were slow, want 1", n)
	}
}
