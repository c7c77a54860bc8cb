package mvcc

import (
	"errors"
	"fmt"
	"testing"
)

// Who asked for the hash before a compaction compares well with who asks after
// it, for as many compactions as are remembered.
func TestHashOutlivesItsCompaction(t *testing.T) {
	s := openStore(t, openEngine(t, t.TempDir()))
	type answer struct {
		hash      uint32
		compacted int64
	}
	ask := func(rev int64) (a answer, err error) {
		a.hash, a.compacted, _, err = s.HashKV(rev)
		return a, err
	}
	before := map[int64]answer{}
	var revs []int64
	for i := range maxHashes + 2 {
		put(t, s, "a", fmt.Sprint(i))
		put(t, s, fmt.Sprint("b", i), "x")
		rev := del(t, s, "a", "")
		a, err := ask(rev)
		if err != nil {
			t.Fatal(err)
		}
		before[rev], revs = a, append(revs, rev)
		compact(t, s, rev)
		sweepAll(t, s, 1+i)
	}
	for i, rev := range revs {
		got, err := ask(rev)
		if i < len(revs)-maxHashes {
			if !errors.Is(err, ErrCompacted) {
				t.Errorf("a compaction too far back: %+v, %v", got, err)
			}
		} else if err != nil || got != before[rev] {
			t.Errorf("hash at %d is %+v, before the compaction %+v, %v", rev, got, before[rev], err)
		}
	}
}

// A sweep that an earlier run began has lost rows, so its hash would be of what
// no other member has.
func TestHashOfResumedSweepIsNotRemembered(t *testing.T) {
	e := openEngine(t, t.TempDir())
	s := openStore(t, e)
	for i := range 10 {
		put(t, s, "a", fmt.Sprint(i))
	}
	rev := s.Rev()
	compact(t, s, rev)
	for rowCount(t, s) == 10 {
		if _, err := s.CompactStep(1); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, e)
	sweepAll(t, s, 3)
	if len(s.hashes) != 0 {
		t.Fatalf("remembered %+v", s.hashes)
	}
	put(t, s, "a", "new")
	compact(t, s, s.Rev())
	sweepAll(t, s, 3)
	if len(s.hashes) != 1 || s.hashes[0].compacted != rev {
		t.Fatalf("the next compaction remembered %+v", s.hashes)
	}
}

// Revision 0 is the newest one, also when the store was compacted to 0.
func TestHashOfTheNewestAfterCompactionTo0(t *testing.T) {
	s := openStore(t, openEngine(t, t.TempDir()))
	put(t, s, "a", "1")
	want, _, _, err := s.HashKV(s.Rev())
	if err != nil {
		t.Fatal(err)
	}
	compact(t, s, 0)
	sweepAll(t, s, 1)
	if got, _, _, err := s.HashKV(0); err != nil || got != want {
		t.Errorf("the newest hash is %x, want %x, %v", got, want, err)
	}
}
