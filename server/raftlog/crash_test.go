package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/disk/memdisk"
)

// model is what the log has promised about one group.
type model struct {
	hard      hardState // newest
	reset     Position  // where entries start; compaction does not move it
	compacted uint64
	entries   []*raftpb.Entry
}

func (m *model) last() uint64 { return m.reset.Index + uint64(len(m.entries)) }

func (m *model) applyTo(w Write) model {
	c := *m
	if w.HardState != nil {
		c.hard = hardStateOf(w.HardState)
	}
	if w.Reset != nil {
		c.reset, c.compacted, c.entries = *w.Reset, w.Reset.Index, nil
	}
	if len(w.Entries) > 0 {
		keep := w.Entries[0].GetIndex() - c.reset.Index - 1
		c.entries = append(append([]*raftpb.Entry(nil), c.entries[:keep]...), w.Entries...)
	}
	return c
}

// accepts says how the recovered content breaks the promise, "" if it keeps it.
// Compaction and the commit index may have fallen back.
func (m *model) accepts(c content) string {
	switch at := c.compacted.Index; {
	case at < m.reset.Index || at > m.compacted:
		return fmt.Sprintf("compacted to %d, want %d to %d", at, m.reset.Index, m.compacted)
	case c.hard.term != m.hard.term || c.hard.vote != m.hard.vote:
		return fmt.Sprintf("hard state %+v, want %+v", c.hard, m.hard)
	case c.hard.commit > max(m.hard.commit, at) || c.hard != (hardState{}) && c.hard.commit < at:
		return fmt.Sprintf("commit index %d, newest %d, compacted %d", c.hard.commit, m.hard.commit, at)
	case at > m.reset.Index && m.entries[at-m.reset.Index-1].GetTerm() != c.compacted.Term:
		return fmt.Sprintf("term %d of compacted entry %d", c.compacted.Term, at)
	}
	return sameEntries(c.entries, m.entries[c.compacted.Index-m.reset.Index:])
}

// crashRun drives a log, a disk that crashes and a model from one seed.
type crashRun struct {
	t      *testing.T
	rng    *rand.Rand
	d      *memdisk.FS
	l      *Log
	models [3]model

	recoveries, kept, dropped int
}

func TestCrashes(t *testing.T) {
	seeds, steps := uint64(30), 300
	if testing.Short() {
		seeds = 10
	}
	var kept, dropped int
	ran := uint64(0) // fewer than seeds when one is run alone
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := &crashRun{t: t, rng: rand.New(rand.NewPCG(seed, 1)), d: newDisk(t, seed)}
			r.l = mustOpen(t, testOptions(r.d))
			for range steps {
				r.step()
			}
			r.crash(nil)
			kept, dropped, ran = kept+r.kept, dropped+r.dropped, ran+1
		})
	}
	if ran == seeds && (kept < 10 || dropped < 10) {
		t.Errorf("of the appends under way in a crash %d were kept and %d dropped: the test wants both", kept, dropped)
	}
}

func (r *crashRun) step() {
	switch p := r.rng.IntN(100); {
	case p < 12:
		r.compact()
	case p < 14:
		r.check(nil)
	case p < 17:
		if err := r.l.Close(); err != nil {
			r.failed(err) // a fault that was set earlier
		}
		r.reopen(nil)
	case p < 20:
		r.crash(nil)
	case p < 26:
		r.d.CrashAfter(r.rng.IntN(8)) // in one of the next steps
		r.append()
	case p < 27:
		r.d.FailSync(r.rng.IntN(3))
		r.append()
	default:
		r.append()
	}
}

func (r *crashRun) append() {
	var writes []Write
	after := r.models
	for range 1 + r.rng.IntN(3) {
		g := r.rng.IntN(len(r.models))
		w := r.write(&after[g])
		w.Group = GroupID(g)
		writes = append(writes, w)
		after[g] = after[g].applyTo(w)
	}
	if err := r.l.Append(writes); err != nil {
		r.failed(err)
		r.crash(&after)
		return
	}
	r.models = after
}

// write makes a change as raft might: what is compacted is never replaced.
func (r *crashRun) write(m *model) (w Write) {
	if r.rng.IntN(25) == 0 {
		at := m.last() + uint64(r.rng.IntN(5))
		w.Reset = &Position{Index: at, Term: m.hard.term + 1}
	}
	n := m.applyTo(w)
	if r.rng.IntN(4) > 0 {
		first := n.last() + 1
		if n.last() > n.compacted && r.rng.IntN(5) == 0 {
			first -= r.rng.Uint64N(n.last() - n.compacted)
		}
		w.Entries = run(first, r.rng.Uint64N(1000), 1+r.rng.IntN(6), r.rng.IntN(400))
	}
	if r.rng.IntN(2) == 0 {
		n = n.applyTo(w)
		h := hardState{max(1, n.hard.term), n.hard.vote, n.last()}
		if r.rng.IntN(3) == 0 {
			h.term, h.vote = h.term+1, r.rng.Uint64N(3)
		}
		w.HardState = hard(h.term, h.vote, max(h.commit, n.hard.commit))
	}
	return w
}

func (r *crashRun) compact() {
	g := r.rng.IntN(len(r.models))
	m := &r.models[g]
	if m.last() > m.compacted {
		m.compacted += 1 + r.rng.Uint64N(m.last()-m.compacted)
		if err := r.l.Compact(GroupID(g), m.compacted); err != nil {
			r.failed(err)
		}
	}
}

func (r *crashRun) failed(err error) {
	if !errors.Is(err, memdisk.ErrCrashed) && !errors.Is(err, memdisk.ErrSync) {
		r.t.Fatal(err)
	}
}

// crash ends the process, with the machine or alone, and recovers. after is
// what an append that was under way would have led to.
func (r *crashRun) crash(after *[3]model) {
	if errors.Is(r.l.failed(), memdisk.ErrCrashed) || r.rng.IntN(2) == 0 {
		r.d.Crash()
	}
	r.reopen(after)
}

func (r *crashRun) reopen(after *[3]model) {
	r.recoveries++
	for r.rng.IntN(4) == 0 { // recovery is interrupted
		r.d.CrashAfter(r.rng.IntN(6))
		_, err := Open(testOptions(r.d))
		if err == nil {
			break // nobody uses it; it ends with the crash
		}
		r.failed(err)
		r.d.Crash()
	}
	r.d.Crash()
	var err error
	if r.l, err = Open(testOptions(r.d)); err != nil {
		r.t.Fatal(err)
	}
	r.check(after)
	r.adopt()
}

// check wants the models, or all of after.
func (r *crashRun) check(after *[3]model) {
	r.t.Helper()
	diff := r.diff(&r.models)
	if after == nil {
		if diff != "" {
			r.t.Fatal(diff)
		}
		return
	}
	switch diffAfter := r.diff(after); {
	case diffAfter == "":
		r.models = *after
		r.kept++
	case diff == "":
		r.dropped++
	default:
		r.t.Fatalf("neither the state before the append that was under way: %s\nnor the one after: %s", diff, diffAfter)
	}
}

func (r *crashRun) diff(models *[3]model) string {
	for g := range models {
		c, err := contentOf(r.l.Group(GroupID(g)))
		if err != nil {
			return err.Error()
		}
		if diff := models[g].accepts(c); diff != "" {
			return fmt.Sprintf("group %d: %s", g, diff)
		}
	}
	return ""
}

// adopt takes over what may fall back in a crash.
func (r *crashRun) adopt() {
	for g := range r.models {
		c, err := contentOf(r.l.Group(GroupID(g)))
		must(r.t, err)
		r.models[g].compacted, r.models[g].hard = c.compacted.Index, c.hard
	}
}

// Each single flipped bit of a log is found, or lies where it does not matter.
// Where the power failed, so that the mark behind the last append is missing,
// that append may also be cut.
func TestBitFlips(t *testing.T) {
	for _, end := range []string{"closed", "killed", "power failed"} {
		t.Run(end, func(t *testing.T) {
			d := newDisk(t, 1)
			a := writeLog(t, d, 9)
			l := mustOpen(t, testOptions(d))
			must(t, l.Compact(2, 2))
			must(t, l.Append([]Write{{Group: 2, HardState: hard(4, 4, 4), Entries: run(17, 2, 4, 40)}}))
			before := [2]content{mustContent(t, l.Group(1)), mustContent(t, l.Group(2))}
			must(t, l.Append([]Write{{Group: 1, Entries: run(10, 4, 1, 30)}}))
			after := [2]content{mustContent(t, l.Group(1)), mustContent(t, l.Group(2))}
			switch end {
			case "closed":
				must(t, l.Close())
			case "power failed":
				unvouch(t, d, appended{seg: l.tail().name, end: l.tail().end})
			}
			names := []string{a[0].seg, a[8].seg}
			if names[0] == names[1] {
				t.Fatal("the test wants two segments")
			}
			outcomes := map[string]int{}
			for _, name := range names {
				for bit := int64(0); bit < 4096*8; bit += 13 { // 13 and 8 share no factor: every bit position occurs
					c := d.Clone(2)
					must(t, c.FlipBit(name, bit))
					outcomes[flipOutcome(t, c, name, bit, before, after)]++
				}
			}
			t.Log(outcomes)
			if outcomes["found"] < 2000 || outcomes["harmless"] < 100 || (outcomes["cut"] > 0) != (end == "power failed") {
				t.Errorf("outcomes: %v", outcomes)
			}
		})
	}
}

func flipOutcome(t *testing.T, d *memdisk.FS, name string, bit int64, before, after [2]content) string {
	l, err := Open(testOptions(d))
	if err != nil {
		wantCorrupt(t, err)
		return "found"
	}
	got := [2]content{mustContent(t, l.Group(1)), mustContent(t, l.Group(2))}
	switch {
	case sameContents(got, after):
		return "harmless"
	case sameContents(got, before):
		return "cut"
	}
	t.Fatalf("bit %d of %s changes the log to %+v", bit, name, got)
	return ""
}

func sameContents(a, b [2]content) bool {
	for i := range a {
		if a[i].hard != b[i].hard || a[i].compacted != b[i].compacted || sameEntries(a[i].entries, b[i].entries) != "" {
			return false
		}
	}
	return true
}

// A process that ends between the renaming of a new segment and the sync of the
// folder finds the segment at its next start, appends to it and answers. A power
// cut must not take its name then.
func TestNewSegmentOfACutOffAppendStays(t *testing.T) {
	for seed := range uint64(30) {
		d := newDisk(t, seed)
		l := mustOpen(t, testOptions(d))
		must(t, l.Append([]Write{{Group: 1, Entries: run(1, 1, 3, 1000)}}))
		d.FailSync(1) // the new segment's header, the folder
		if err := l.Append([]Write{{Group: 1, Entries: run(4, 1, 1, 2000)}}); err == nil {
			t.Fatal("the sync of the folder succeeds, so that this tests nothing")
		}
		l = mustOpen(t, testOptions(d))
		must(t, l.Append([]Write{{Group: 1, Entries: run(4, 1, 1, 100)}}))
		d.Crash()
		l = mustOpen(t, testOptions(d))
		if last := l.Group(1).LastIndex(); last != 4 {
			t.Fatalf("seed %d: the log ends at %d after 4 was synced", seed, last)
		}
	}
}
