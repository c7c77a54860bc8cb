package state

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/lease"
)

// randomEntries are entries 2 to n+1 of every kind. They hold no answers, so
// that many of their commands fail; that has to be equal everywhere, too.
func randomEntries(t *testing.T, seed int64, n int) []Entry {
	t.Helper()
	g := &generator{rng: rand.New(rand.NewSource(seed)), rev: 1, compacted: -1}
	entries := make([]Entry, n)
	for i := range entries {
		e := Entry{Index: uint64(i) + 2, Term: uint64(i)/50 + 1}
		if g.chance(4) {
			e.Change = g.memberChange()
		}
		for range g.rng.Intn(4) {
			if e.Change == nil {
				e.Commands = append(e.Commands, g.command(t, e.Term))
			}
		}
		g.rev += int64(len(e.Commands)) / 2
		entries[i] = e
	}
	return entries
}

func (g *generator) memberChange() *MemberChange {
	id := uint64(g.rng.Intn(8)+1) * 10
	urls := []string{fmt.Sprintf("http://%d:2380", id+uint64(g.rng.Intn(2)))}
	return &MemberChange{Kind: MemberChangeKind(g.rng.Intn(4) + 1), Member: Member{ID: id, PeerURLs: urls}}
}

func (g *generator) command(t *testing.T, term uint64) Command {
	switch n := g.rng.Intn(100); {
	case n < 40:
		return command(t, KindPut, g.put())
	case n < 50:
		return command(t, KindDeleteRange, g.delete())
	case n < 75:
		return command(t, KindTxn, g.txn(2, false))
	case n < 78:
		g.compacted = g.rev / 2
		return command(t, KindCompact, &pb.CompactionRequest{Revision: g.compacted})
	case n < 86:
		return command(t, KindLeaseGrant, g.grant())
	case n < 89:
		return command(t, KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: g.lease()})
	case n < 92:
		return LeaseExpire(term-uint64(g.rng.Intn(2)), []lease.ID{lease.ID(g.lease()), lease.ID(g.lease())})
	case n < 94:
		on := pb.AlarmRequest_DEACTIVATE
		if g.chance(25) {
			on = pb.AlarmRequest_ACTIVATE
		}
		return command(t, KindAlarm, &pb.AlarmRequest{Action: on, Alarm: pb.AlarmType_NOSPACE, MemberID: 10})
	case n < 96:
		return command(t, KindMemberPublish, &pb.Member{ID: 10, Name: "m", ClientURLs: []string{"http://a:2379"}})
	case n < 97:
		return command(t, KindDowngrade, &pb.DowngradeInfo{Enabled: g.chance(60), TargetVersion: fmt.Sprintf("3.%d.0", g.rng.Intn(9))})
	case n < 98:
		return command(t, KindMemberUpdate, &pb.Member{ID: 20, PeerURLs: []string{"http://b2:2380"}})
	}
	return Command{Kind: KindClusterVersion, Body: fmt.Appendf(nil, "3.%d.0", g.rng.Intn(9))}
}

// applyInBatches applies entries in batches of random sizes, with steps of
// background work between them.
func (m *testMachine) applyInBatches(rng *rand.Rand, maxBatch int, entries []Entry) {
	m.t.Helper()
	for len(entries) > 0 {
		n := min(rng.Intn(maxBatch)+1, len(entries))
		m.apply(entries[:n]...)
		entries = entries[n:]
		if _, err := m.Step(rng.Intn(50) + 1); err != nil {
			m.t.Fatal(err)
		}
	}
}

// sameState compares everything that two machines can tell.
func sameState(t *testing.T, name string, a, b *testMachine) {
	t.Helper()
	a.settle()
	b.settle()
	ai, at := a.Applied()
	bi, bt := b.Applied()
	if ai != bi || at != bt {
		t.Errorf("%s: applied %d/%d and %d/%d", name, ai, at, bi, bt)
	}
	if a.hashKV() != b.hashKV() {
		t.Errorf("%s: HashKV differs", name)
	}
	if a.hash() != b.hash() {
		t.Errorf("%s: Hash differs; rows\n%q\n%q", name, rowsOf(t, a), rowsOf(t, b))
	}
	for _, view := range []func(*testMachine) string{
		func(m *testMachine) string { return fmt.Sprint(m.KV().Rev(), m.KV().CompactRev()) },
		func(m *testMachine) string {
			return fmt.Sprint(m.Members(), m.ConfState(), m.ClusterVersion(), m.Downgrade(), m.Alarms())
		},
		func(m *testMachine) string {
			s := fmt.Sprint(m.Leases().List())
			for _, id := range m.Leases().List() {
				l, _ := m.Leases().Lookup(id)
				s += fmt.Sprintf(" %v %q", l, m.Leases().Keys(id))
			}
			return s
		},
	} {
		if view(a) != view(b) {
			t.Errorf("%s:\n%s\n%s", name, view(a), view(b))
		}
	}
}

// TestDeterminism: invariant 2. The same entries give the same bytes, whatever
// the batches and the engine.
func TestDeterminism(t *testing.T) {
	entries := randomEntries(t, 5, 900)
	reference := newMachine(t)
	reference.applyInBatches(rand.New(rand.NewSource(1)), 1, entries)
	for name, opener := range testEngines() {
		for _, maxBatch := range []int{3, 200} {
			m := openMachine(t, opener, t.TempDir())
			m.bootstrap()
			m.applyInBatches(rand.New(rand.NewSource(int64(maxBatch))), maxBatch, entries)
			sameState(t, fmt.Sprintf("%s, up to %d entries a batch", name, maxBatch), reference, m)
		}
	}
	if reference.KV().Rev() < 300 || reference.KV().CompactRev() < 100 {
		t.Errorf("the entries made little: revision %d, compacted %d", reference.KV().Rev(), reference.KV().CompactRev())
	}
}

// TestCrash: what was flushed is there after a crash, whole, and the rest of
// the log leads to the same bytes.
func TestCrash(t *testing.T) {
	for name, opener := range testEngines() {
		t.Run(name, func(t *testing.T) {
			entries := randomEntries(t, 6, 600)
			rng := rand.New(rand.NewSource(2))
			reference := newMachine(t)
			reference.applyInBatches(rng, 20, entries)

			dir := t.TempDir()
			m := openMachine(t, opener, dir)
			m.bootstrap()
			for _, stop := range []int{150, 151, 400} {
				index, _ := m.Applied()
				m.applyInBatches(rng, 20, entries[index-1:stop])
				durable, err := m.Flush()
				if err != nil {
					t.Fatal(err)
				}
				m.applyInBatches(rng, 20, entries[stop:stop+70]) // lost
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				m = openMachine(t, opener, dir)
				if index, _ := m.Applied(); durable != uint64(stop)+1 || index < durable {
					t.Fatalf("applied is %d after a flush up to %d at entry %d", index, durable, stop+1)
				}
			}
			index, _ := m.Applied()
			m.applyInBatches(rng, 20, entries[index-1:])
			sameState(t, "after crashes", reference, m)
		})
	}
}

// TestReplayIsRefused: invariant 1.
func TestReplayIsRefused(t *testing.T) {
	m := newMachine(t)
	m.do(KindPut, put("a", "1"))
	before := m.hash()
	for _, indexes := range [][]uint64{{2}, {1}, {4}, {3, 3}, {3, 5}, {2, 3}} {
		var entries []Entry
		for _, i := range indexes {
			entries = append(entries, Entry{Index: i, Term: 1, Commands: []Command{command(t, KindPut, put("a", "2"))}})
		}
		if _, err := m.Apply(entries); !errors.Is(err, ErrReplay) {
			t.Errorf("entries %v after index 2: %v", indexes, err)
		}
	}
	if _, err := m.Apply([]Entry{m.entry(command(t, KindPut, put("a", "2")), Command{Kind: 99})}); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("unknown command: %v", err)
	}
	if m.hash() != before {
		t.Error("something was changed")
	}
	if out := m.apply(); len(out.Entries) != 0 || out.Rev != 2 {
		t.Errorf("no entries gave %+v", out)
	}
	m.do(KindPut, put("a", "3"))
	m.settle()
}

// TestEngineFailureStopsTheMachine: nothing is published, and nothing can be
// applied on top of what memory holds.
func TestEngineFailureStopsTheMachine(t *testing.T) {
	inner, err := memory.Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := &brokenEngine{Engine: inner}
	machine, err := Open(Options{Engine: broken, Group: testGroup})
	if err != nil {
		t.Fatal(err)
	}
	m := &testMachine{Machine: machine, t: t}
	m.bootstrap()
	m.do(KindPut, put("a", "1"))
	broken.fail = true
	if _, err := m.Apply([]Entry{m.entry(command(t, KindPut, put("a", "2")))}); !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	broken.fail = false
	if _, err := m.Apply([]Entry{m.entry()}); !errors.Is(err, errBroken) {
		t.Errorf("it goes on: %v", err)
	}
	if _, err := m.Step(1); !errors.Is(err, errBroken) {
		t.Errorf("it goes on: %v", err)
	}
	index, _ := m.Applied()
	r, err := m.Range(&pb.RangeRequest{Key: []byte("a")})
	if err != nil || index != 2 || string(r.Kvs[0].Value) != "1" {
		t.Errorf("readers see index %d, %v, %v", index, r, err)
	}
}

var errBroken = errors.New("broken")

type brokenEngine struct {
	engine.Engine
	fail bool
}

func (e *brokenEngine) Apply(b *engine.Batch) error {
	if e.fail {
		return errBroken
	}
	return e.Engine.Apply(b)
}

// TestReadersSeeWholeBatches: who sees an applied index sees its effects, and a
// snapshot carries its own position.
func TestReadersSeeWholeBatches(t *testing.T) {
	m := newMachine(t)
	const batches = 300
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			index, _ := m.Applied()
			r, err := m.ReadTxn(&pb.TxnRequest{Success: []*pb.RequestOp{
				opRange(&pb.RangeRequest{Key: []byte("a")}), opRange(&pb.RangeRequest{Key: []byte("b")}),
			}})
			if err != nil {
				t.Error(err)
				return
			}
			a, b := r.Responses[0].GetResponseRange().Kvs, r.Responses[1].GetResponseRange().Kvs
			if len(a) != len(b) || len(a) > 0 && string(a[0].Value) != string(b[0].Value) || r.Header.Revision < int64(index) {
				t.Errorf("at index %d: %v, %v, revision %d", index, a, b, r.Header.Revision)
				return
			}
			s, err := m.Snapshot()
			if err != nil {
				t.Error(err)
				return
			}
			if s.Index < index || !slices.Equal(s.ConfState.Voters, []uint64{10, 20, 30}) {
				t.Errorf("snapshot of %d, %v at index %d", s.Index, s.ConfState, index)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
				return
			}
			if index > batches {
				return
			}
		}
	}()
	for i := range batches {
		value := fmt.Sprint(i)
		m.do(KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{opPut(put("a", value)), opPut(put("b", value))}})
		if i%10 == 9 {
			// Every entry makes one revision, so that index and revision are equal.
			compact := command(t, KindCompact, &pb.CompactionRequest{Revision: m.KV().Rev()})
			m.runAll(compact, command(t, KindPut, put("c", "")))
		}
	}
	<-done
}
