package member

import (
	"errors"
	"testing"
)

const (
	peer0 = "http://x-0.x-peers.ns.svc:2380"
	peer1 = "http://x-1.x-peers.ns.svc:2380"
	end0  = "http://x-0.x-peers.ns.svc:2379"
)

func TestFakeKeepsTheRulesOfMembership(t *testing.T) {
	f := NewFake()
	if got := f.Start("x-1", "v1", peer1, false, ""); got != ExitOther {
		t.Fatalf("a joiner without a cluster: %d", got)
	}
	f.Start("x-0", "v0", peer0, true, "")
	id, err := f.AddLearner(t.Context(), nil, peer1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Promote(t.Context(), nil, id); !errors.Is(err, ErrNotReady) {
		t.Errorf("promoted before it started: %v", err)
	}
	if got := f.Start("x-1", "v1", peer1, false, ""); got != Running {
		t.Fatalf("the learner: %d", got)
	}
	if err := f.Promote(t.Context(), nil, id); err != nil {
		t.Fatal(err)
	}
	f.Stop("x-1")
	if v := f.Look(t.Context(), []string{end0}); v.ListErr == nil || v.Status[end0].Leader != 0 {
		t.Errorf("one of two voters is a quorum: %+v", v)
	}
	if _, err := f.AddLearner(t.Context(), nil, "http://x-2:2380"); err == nil {
		t.Error("a change without a quorum")
	}
}

func TestFakeNeverTakesAnIdentityBack(t *testing.T) {
	f := NewFake()
	f.Start("x-0", "v0", peer0, true, "")
	id, _ := f.AddLearner(t.Context(), nil, peer1)
	f.Start("x-1", "v1", peer1, false, "")
	if err := f.Remove(t.Context(), nil, id); err != nil {
		t.Fatal(err)
	}
	f.Stop("x-1")
	if _, err := f.AddLearner(t.Context(), nil, peer1); err != nil {
		t.Fatal(err)
	}
	if got := f.Start("x-1", "v1", peer1, false, ""); got != ExitForeign {
		t.Errorf("a removed member's data was started: %d", got)
	}
	if got := f.Start("x-1", "v2", peer1, false, ""); got != Running {
		t.Errorf("an empty volume: %d", got)
	}
	f.Wipe("v2")
	f.Stop("x-1")
	if got := f.Start("x-1", "v2", peer1, false, ""); got != ExitEmpty {
		t.Errorf("a wiped volume: %d", got)
	}
}
