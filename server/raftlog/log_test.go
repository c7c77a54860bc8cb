package raftlog

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/disk/memdisk"
)

func TestEmptyLog(t *testing.T) {
	l := mustOpen(t, testOptions(newDisk(t, 1)))
	g := l.Group(1)
	if g.FirstIndex() != 1 || g.LastIndex() != 0 || g.HardState() != nil || g.BytesSince(0) != 0 {
		t.Fatalf("first %d, last %d, hard state %v", g.FirstIndex(), g.LastIndex(), g.HardState())
	}
	if term, err := g.Term(0); term != 0 || err != nil {
		t.Fatalf("term of 0: %d, %v", term, err)
	}
	if _, err := g.Term(1); !errors.Is(err, raft.ErrUnavailable) {
		t.Fatalf("term of 1: %v", err)
	}
	if _, err := g.Entries(1, 2, 10); !errors.Is(err, raft.ErrUnavailable) {
		t.Fatalf("entries 1: %v", err)
	}
	must(t, l.Close())
	if err := l.Append(nil); err == nil {
		t.Fatal("append after close")
	}
}

// Entries and Term agree with raft's own storage for all bounds, from cache
// and disk, also after a suffix was replaced and a prefix compacted.
func TestReadsAgreeWithRaftsMemoryStorage(t *testing.T) {
	for _, cacheBytes := range []int64{1, 400, 1 << 20} {
		t.Run(fmt.Sprint(cacheBytes), func(t *testing.T) {
			o := testOptions(newDisk(t, 1))
			o.CacheBytes = cacheBytes
			l := mustOpen(t, o)
			g, want := l.Group(3), raft.NewMemoryStorage()
			confChange := entry(7, 3, "")
			confChange.Type, confChange.Data = raftpb.EntryConfChange.Enum(), nil
			for _, entries := range [][]*raftpb.Entry{run(1, 1, 8, 20), run(5, 2, 2, 300), {confChange}, run(8, 3, 4, 0)} {
				must(t, l.Append([]Write{{Group: 9, Entries: entries}, {Group: 3, Entries: entries}}))
				must(t, want.Append(entries))
			}
			compareReads(t, g, want)
			must(t, l.Compact(3, 4))
			must(t, want.Compact(4))
			compareReads(t, g, want)
			must(t, l.Close())
			l = mustOpen(t, o)
			compareReads(t, l.Group(3), want)
		})
	}
}

func compareReads(t *testing.T, g *Group, want *raft.MemoryStorage) {
	t.Helper()
	first, _ := want.FirstIndex()
	last, _ := want.LastIndex()
	if g.FirstIndex() != first || g.LastIndex() != last {
		t.Fatalf("entries %d to %d, want %d to %d", g.FirstIndex(), g.LastIndex(), first, last)
	}
	for lo := uint64(0); lo <= last+2; lo++ {
		term, err := g.Term(lo)
		wantTerm, wantErr := want.Term(lo)
		if term != wantTerm || !errors.Is(err, wantErr) {
			t.Fatalf("term of %d: %d, %v; want %d, %v", lo, term, err, wantTerm, wantErr)
		}
		for hi := lo; hi <= last+1; hi++ {
			for _, maxBytes := range []uint64{0, 1, 40, 90, 350, 700, math.MaxUint64} {
				entries, err := g.Entries(lo, hi, maxBytes)
				if lo == hi && err == nil {
					continue // raft never asks; its storage does not allow it
				}
				wanted, wantErr := want.Entries(lo, hi, maxBytes)
				if diff := sameEntries(entries, wanted); diff != "" || !errors.Is(err, wantErr) {
					t.Fatalf("entries [%d,%d) of %d bytes: %s, %v", lo, hi, maxBytes, diff, err)
				}
			}
		}
	}
}

func TestHardStateAndReset(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	must(t, l.Append([]Write{{Group: 1, HardState: hard(2, 7, 0), Entries: run(1, 2, 5, 10)}}))
	before := d.Operations()
	must(t, l.Append([]Write{{Group: 1, HardState: hard(2, 7, 4)}}))
	if d.Operations() != before {
		t.Fatal("a commit index alone went to the disk")
	}
	if h := hardStateOf(l.Group(1).HardState()); h != (hardState{2, 7, 4}) {
		t.Fatalf("hard state %+v", h)
	}
	syncs := d.Syncs()
	must(t, l.Append([]Write{{Group: 1, HardState: hard(3, 0, 4)}, {Group: 2, Entries: run(1, 1, 1, 1)}}))
	if d.Syncs() != syncs+1 || d.Operations() != before+3 {
		t.Fatalf("%d syncs, %d operations for an append", d.Syncs()-syncs, d.Operations()-before)
	}
	must(t, l.Append([]Write{{Group: 1, Reset: &Position{100, 5}, Entries: run(101, 6, 2, 10)}}))
	check := func(l *Log) {
		t.Helper()
		c := mustContent(t, l.Group(1))
		if diff := sameEntries(c.entries, run(101, 6, 2, 10)); diff != "" || c.compacted != (Position{100, 5}) {
			t.Fatalf("after the reset: %+v, %s", c.compacted, diff)
		}
		if c.hard != (hardState{3, 0, 100}) {
			t.Fatalf("hard state %+v: the commit index has to be at least the reset's", c.hard)
		}
	}
	check(l)
	must(t, l.Close())
	check(mustOpen(t, testOptions(d)))
}

func TestCommitIndexIsWrittenByClose(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	must(t, l.Append([]Write{{Group: 1, HardState: hard(2, 7, 0), Entries: run(1, 2, 5, 10)}}))
	must(t, l.Append([]Write{{Group: 1, HardState: hard(2, 7, 5)}}))
	must(t, l.Close())
	if h := hardStateOf(mustOpen(t, testOptions(d)).Group(1).HardState()); h != (hardState{2, 7, 5}) {
		t.Fatalf("hard state %+v", h)
	}
}

func TestBytesSince(t *testing.T) {
	l := mustOpen(t, testOptions(newDisk(t, 1)))
	must(t, l.Append([]Write{{Group: 1, Entries: run(1, 1, 10, 96)}}))
	g := l.Group(1)
	must(t, l.Compact(1, 4))
	all, half := g.BytesSince(0), g.BytesSince(7)
	if all < 600 || all > 800 || all < 2*half-2 || all > 2*half+2 || g.BytesSince(10) != 0 || g.BytesSince(99) != 0 {
		t.Fatalf("6 entries: %d bytes, 3 entries: %d bytes", all, half)
	}
}

// Compact frees segments at the next Append; two are kept and used again.
func TestCompactRecyclesSegments(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	must(t, l.Append([]Write{{Group: 2, Entries: run(1, 1, 1, 10)}}))
	for i := range uint64(200) {
		must(t, l.Append([]Write{{Group: 1, Entries: run(i+1, 1, 1, 500)}}))
		if i >= 5 && i < 100 {
			must(t, l.Compact(1, i-5))
		}
	}
	names, err := d.List(testDir)
	must(t, err)
	if names[0] != segmentName(1) {
		t.Fatalf("group 2 still needs segment 1: %v", names)
	}
	must(t, l.Compact(2, 1))
	must(t, l.Compact(1, 195))
	must(t, l.Append([]Write{{Group: 1, Entries: run(201, 1, 1, 500)}}))
	names, err = d.List(testDir)
	must(t, err)
	spares := 0
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) {
			spares++
		}
	}
	if spares != maxSpares || len(names) > spares+3 || l.SizeBytes() > 3*4096 {
		t.Fatalf("%d bytes in %v", l.SizeBytes(), names)
	}
	must(t, l.Compact(1, 250-51)) // readers lose them at once
	if l.Group(1).FirstIndex() != 200 {
		t.Fatalf("first index %d", l.Group(1).FirstIndex())
	}
	if err := l.Compact(1, 202); !errors.Is(err, raft.ErrUnavailable) {
		t.Fatalf("compact beyond the end: %v", err)
	}
	must(t, l.Compact(1, 3))
	must(t, l.Close())
	l = mustOpen(t, testOptions(d))
	wantEntries(t, l.Group(1), run(200, 1, 2, 500))
}

// An append that is larger than a segment has one of its own, which is not
// kept for reuse.
func TestOversizedAppend(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	entries := run(1, 1, 3, 5000)
	must(t, l.Append([]Write{{Group: 1, Entries: entries[:1]}}))
	must(t, l.Append([]Write{{Group: 1, Entries: entries[1:]}}))
	must(t, l.Close())
	l = mustOpen(t, testOptions(d))
	wantEntries(t, l.Group(1), entries)
	must(t, l.Compact(1, 3))
	must(t, l.Append([]Write{{Group: 1, Entries: run(4, 1, 1, 4000)}}))
	must(t, l.Append([]Write{{Group: 1, Entries: run(5, 1, 1, 100)}}))
	for _, spare := range l.spares {
		f, err := d.Open(spare)
		must(t, err)
		if size, _ := f.SizeBytes(); size > 4096 {
			t.Fatalf("%s has %d bytes", spare, size)
		}
	}
}

func TestFailuresPoison(t *testing.T) {
	entries := run(1, 1, 1, 3000)
	tests := map[string]struct {
		fault func(*memdisk.FS)
		write Write
		want  string
	}{
		"sync fails":       {func(d *memdisk.FS) { d.FailSync(0) }, Write{Group: 1, Entries: run(1, 1, 1, 10)}, "input/output"},
		"disk is full":     {func(d *memdisk.FS) { d.SetCapacity(5000) }, Write{Group: 1, Entries: run(2, 1, 1, 3000)}, "make log segment /data/wal/00000000000000000002.log of 4096 bytes"},
		"gap":              {func(*memdisk.FS) {}, Write{Group: 1, Entries: run(3, 1, 1, 10)}, "do not continue"},
		"not contiguous":   {func(*memdisk.FS) {}, Write{Group: 1, Entries: []*raftpb.Entry{entry(2, 1, ""), entry(4, 1, "")}}, "entry 4 where 3 belongs"},
		"before the first": {func(*memdisk.FS) {}, Write{Group: 1, Reset: &Position{5, 5}, Entries: run(5, 1, 1, 1)}, "do not continue"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t, 1)
			l := mustOpen(t, testOptions(d))
			must(t, l.Append([]Write{{Group: 1, Entries: entries}}))
			tt.fault(d)
			first := l.Append([]Write{tt.write})
			if first == nil || !strings.Contains(first.Error(), tt.want) {
				t.Fatalf("error %v, want %q", first, tt.want)
			}
			if name == "disk is full" && !errors.Is(first, syscall.ENOSPC) {
				t.Fatalf("error %v, want ENOSPC", first)
			}
			wantEntries(t, l.Group(1), entries)
			d.SetCapacity(-1)
			for _, again := range []error{l.Append([]Write{{Group: 1, Entries: run(2, 1, 1, 1)}}), l.Compact(1, 1), l.Close()} {
				if !errors.Is(again, first) {
					t.Fatalf("later: %v, want %v", again, first)
				}
			}
		})
	}
}

// A process whose sync failed ends; the next one finds the append in the page
// cache and must not trust it to be on the disk.
func TestRecoveryWritesTheLastAppendAgain(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	must(t, l.Append([]Write{{Group: 1, Entries: run(1, 1, 1, 600)}}))
	d.FailSync(0)
	if err := l.Append([]Write{{Group: 1, Entries: run(2, 1, 3, 600)}}); err == nil {
		t.Fatal("the sync did not fail")
	}
	l = mustOpen(t, testOptions(d))
	want := mustContent(t, l.Group(1)).entries
	if len(want) != 4 {
		t.Fatalf("%d entries in the page cache", len(want))
	}
	d.Crash()
	wantEntries(t, mustOpen(t, testOptions(d)).Group(1), want)
}

func TestReaderNoticesDamage(t *testing.T) {
	d := newDisk(t, 1)
	l := mustOpen(t, testOptions(d))
	must(t, l.Append([]Write{{Group: 1, Entries: run(1, 1, 1, 600)}}))
	must(t, l.Append([]Write{{Group: 1, Entries: run(2, 1, 1, 1000)}})) // evicts entry 1
	p := l.Group(1).positions[0]
	must(t, d.FlipBit(p.seg.name, (p.offset+300)*8))
	_, err := l.Group(1).Entries(1, 2, 10)
	wantCorrupt(t, err)
	if !strings.Contains(err.Error(), fmt.Sprintf("%s: offset %d", p.seg.name, p.offset)) {
		t.Fatalf("the error names no file and offset: %v", err)
	}
}

// Readers race with Append, Compact and recycling; run with -race.
func TestConcurrentReaders(t *testing.T) {
	for name, fs := range map[string]disk.FS{"mem": newDisk(t, 1), "os": disk.OS()} {
		t.Run(name, func(t *testing.T) {
			o, count := testOptions(fs), uint64(5000)
			if name == "os" {
				o.Dir, count = t.TempDir(), 400 // each append is a sync
			}
			l := mustOpen(t, o)
			defer func() { must(t, l.Close()) }()
			must(t, l.Append([]Write{{Group: 1, Entries: run(1, 1, 3, 100)}}))
			stop := make(chan struct{})
			var readers sync.WaitGroup
			var reads atomic.Int64
			for i := range 3 {
				readers.Go(func() { readUntil(t, l.Group(1), stop, &reads, rand.New(rand.NewPCG(1, uint64(i)))) })
			}
			rng := rand.New(rand.NewPCG(2, 2))
			for next := uint64(4); next < count || reads.Load() < 100 && !t.Failed(); {
				n := 1 + rng.IntN(5)
				must(t, l.Append([]Write{{Group: 1, HardState: hard(1, 1, next-1), Entries: run(next, 1, n, 100)}}))
				next += uint64(n)
				if next > 40 {
					must(t, l.Compact(1, next-20-rng.Uint64N(20)))
				}
			}
			close(stop)
			readers.Wait()
		})
	}
}

func readUntil(t *testing.T, g *Group, stop chan struct{}, reads *atomic.Int64, rng *rand.Rand) {
	for ; ; reads.Add(1) {
		select {
		case <-stop:
			return
		default:
		}
		first, last := g.FirstIndex(), g.LastIndex()
		lo := first + rng.Uint64N(last-first+1)
		entries, err := g.Entries(lo, last+1, math.MaxUint64)
		if errors.Is(err, raft.ErrCompacted) && g.FirstIndex() > lo {
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		if diff := sameEntries(entries, run(lo, 1, int(last+1-lo), 100)); diff != "" {
			t.Error(diff)
			return
		}
		if h := g.HardState(); h != nil && h.GetCommit() < last-5 && h.GetCommit() < first-1 {
			t.Errorf("commit %d, first index %d", h.GetCommit(), first)
		}
	}
}
