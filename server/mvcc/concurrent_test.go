package mvcc

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// TestReadersDuringWritesAndCompaction: every command moves a token among keys
// so that at each revision exactly half of them are there, all with the value
// of the command that made them. Readers check that at the newest revision and
// at older ones, while the writer compacts right behind itself.
func TestReadersDuringWritesAndCompaction(t *testing.T) {
	const pairs, commands, readers = 300, 1500, 3
	s := openStore(t, openEngine(t, t.TempDir()))
	key := func(i, side int) []byte { return fmt.Appendf(nil, "k/%04d/%d", i, side) }
	command(t, s, func(w *Writer) {
		for i := range pairs {
			w.Put(key(i, 0), []byte("v"), 0)
		}
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for r := range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := readerCheck{t: t, s: s, pairs: pairs, rnd: rand.New(rand.NewPCG(uint64(r), 4))}
			for c.ok() {
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	for n := range commands {
		b := engine.NewBatch()
		w := s.Writer(b)
		for j := range 3 {
			i := (n*3 + j) * 7 % pairs
			w.Begin()
			side := 0
			if res, err := w.Range(key(i, 0), nil, RangeOptions{CountOnly: true}); err != nil {
				t.Fatal(err)
			} else if res.Count == 0 {
				side = 1
			}
			w.DeleteRange(key(i, side), nil)
			w.Put(key(i, 1-side), []byte("v"), 0)
			w.End()
		}
		if n%5 == 0 {
			if err := w.Compact(w.Rev()); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Finish(), s.engine.Apply(b)); err != nil {
			t.Fatal(err)
		}
		w.Publish()
		if _, err := s.CompactStep(50); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()
	sweepAll(t, s, 1000)
	if n := rowCount(t, s); n > 2*pairs+20 {
		t.Fatalf("%d rows are left of %d pairs", n, pairs)
	}
}

type readerCheck struct {
	t     *testing.T
	s     *Store
	pairs int
	rnd   *rand.Rand
}

// ok makes one round of reads and says whether all was as promised.
func (c *readerCheck) ok() bool {
	before := c.s.Rev()
	all := []byte{0}
	res, err := c.s.Range(all, all, RangeOptions{})
	if err != nil || res.Count != int64(c.pairs) || len(res.KVs) != c.pairs || res.Rev < before {
		c.t.Errorf("range at %d after %d: count %d, %d pairs, %v", res.Rev, before, res.Count, len(res.KVs), err)
		return false
	}
	for i, kv := range res.KVs {
		if i > 0 && bytes.Equal(kv.Key[:6], res.KVs[i-1].Key[:6]) || kv.ModRevision > res.Rev {
			c.t.Errorf("range at %d: %s beside %s", res.Rev, showKV(kv), showKV(res.KVs[max(i-1, 0)]))
			return false
		}
	}
	if n, err := c.s.Range(all, all, RangeOptions{CountOnly: true}); err != nil || n.Count != int64(c.pairs) {
		c.t.Errorf("count at %d: %d, %v", n.Rev, n.Count, err)
		return false
	}
	old := RangeOptions{Rev: max(2, c.s.Rev()-c.rnd.Int64N(5)), Limit: 10}
	if n, err := c.s.Range(all, all, old); !errors.Is(err, ErrCompacted) && (err != nil || n.Count != int64(c.pairs)) {
		c.t.Errorf("range at old revision %d: count %d, %v", old.Rev, n.Count, err)
		return false
	}
	return c.historyOK() && c.hashOK()
}

// historyOK reads the newest revisions: each has a delete with its previous
// value and a put without one.
func (c *readerCheck) historyOK() bool {
	from := c.s.Rev() - 4
	_, err := c.s.History(from, from+10, 1<<20, true, func(rev int64, evs []*mvccpb.Event) error {
		if rev <= max(2, from) {
			return nil
		}
		if len(evs) != 2 || evs[0].PrevKv == nil || evs[1].PrevKv != nil {
			return fmt.Errorf("revision %d: %s", rev, showEvents(evs))
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrCompacted) {
		c.t.Errorf("history from %d: %v", from, err)
		return false
	}
	return true
}

func (c *readerCheck) hashOK() bool {
	if _, _, _, err := c.s.HashKV(0); err != nil {
		c.t.Errorf("hash: %v", err)
		return false
	}
	return true
}

// TestSweepWaitsForOlderReaders: a reader that began before a compaction keeps
// its rows until it is done, and later readers do not hold the sweep up.
func TestSweepWaitsForOlderReaders(t *testing.T) {
	s := openStore(t, openEngine(t, t.TempDir()))
	put(t, s, "a", "1")
	put(t, s, "a", "2")
	s.mu.RLock()
	older := s.pin()
	s.mu.RUnlock()
	compact(t, s, 3)
	for range 3 {
		if done, err := s.CompactStep(10); done || err != nil {
			t.Fatalf("step beside an older reader: done %v, %v", done, err)
		}
	}
	if n := rowCount(t, s); n != 2 {
		t.Fatalf("%d rows beside an older reader, want 2", n)
	}
	s.mu.RLock()
	later := s.pin()
	s.mu.RUnlock()
	unpin(older)
	if done, err := s.CompactStep(10); !done || err != nil {
		t.Fatalf("step beside a later reader: done %v, %v", done, err)
	}
	unpin(later)
	if n := rowCount(t, s); n != 1 {
		t.Fatalf("%d rows after the sweep, want 1", n)
	}
}

func TestCompactStepInsideOfABatch(t *testing.T) {
	s := openStore(t, openEngine(t, t.TempDir()))
	put(t, s, "a", "1")
	s.Writer(engine.NewBatch())
	if _, err := s.CompactStep(1); !errors.Is(err, errBatchOpen) {
		t.Fatalf("step inside of a batch: %v", err)
	}
}

// TestCrashDuringCompaction reopens from what was flushed between two steps:
// later steps are lost, the compaction goes on and ends in the same rows.
func TestCrashDuringCompaction(t *testing.T) {
	dir := t.TempDir()
	e := openEngine(t, dir)
	s := openStore(t, e)
	for i := range 100 {
		put(t, s, fmt.Sprintf("k%d", i%10), fmt.Sprint(i))
	}
	del(t, s, "k3", "k6")
	rev := s.Rev()
	compact(t, s, rev-5)
	for range 3 {
		if done, err := s.CompactStep(10); done || err != nil {
			t.Fatal(done, err)
		}
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	flushed := rowCount(t, s)
	want := showRange(s.Range([]byte("k"), []byte("l"), RangeOptions{Rev: rev - 5}))
	sweepAll(t, s, 10)
	swept := rowCount(t, s)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	s = openStore(t, openEngine(t, dir))
	if n := rowCount(t, s); n != flushed || flushed == swept {
		t.Fatalf("%d rows after the crash, %d were flushed, %d are left at the end", n, flushed, swept)
	}
	if s.Rev() != rev || s.CompactRev() != rev-5 {
		t.Fatalf("revision %d compacted %d after the crash, want %d and %d", s.Rev(), s.CompactRev(), rev, rev-5)
	}
	if got := showRange(s.Range([]byte("k"), []byte("l"), RangeOptions{Rev: rev - 5})); got != want {
		t.Fatalf("after the crash:\n%swant\n%s", got, want)
	}
	sweepAll(t, s, 10)
	if n := rowCount(t, s); n != swept {
		t.Fatalf("%d rows after the resumed compaction, want %d", n, swept)
	}
}

// TestCorruptRowsStopOpen: what does not verify is named, never skipped.
func TestCorruptRowsStopOpen(t *testing.T) {
	good := appendRowKey(nil, 1, stamp{main: 2})
	for name, row := range map[string]struct{ space, key, value []byte }{
		"key":    {key: good[:10], value: nil},
		"value":  {key: good, value: []byte{0x0a, 0x05, 'a'}},
		"marker": {space: scheduledName, value: []byte{9}},
	} {
		t.Run(name, func(t *testing.T) {
			e := openEngine(t, t.TempDir())
			b := engine.NewBatch()
			if row.space != nil {
				b.Put(engine.Meta, engine.GroupID(1).Key(row.space), row.value)
			} else {
				b.Put(engine.Revisions, row.key, row.value)
			}
			if err := e.Apply(b); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(e, 1); !errors.Is(err, engine.ErrCorrupt) {
				t.Fatalf("open: %v", err)
			}
		})
	}
}
