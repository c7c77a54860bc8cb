package mvcc

import (
	"fmt"
	"testing"
)

// A read that is not counted ends at its limit, at old revisions too, and finds
// what a counted one finds.
func TestUncountedRangeEndsAtItsLimit(t *testing.T) {
	s := openStore(t, openEngine(t, t.TempDir()))
	const keys = 3 * rangeChunk
	for i := range keys {
		put(t, s, fmt.Sprintf("k%04d", i), "v")
	}
	old := s.Rev()
	put(t, s, "l", "v")
	for _, rev := range []int64{old, s.Rev()} {
		o := RangeOptions{Rev: rev, Limit: rangeChunk + 5}
		counted, err := s.Range([]byte("k"), []byte("l"), o)
		if err != nil || counted.Count != keys {
			t.Fatalf("revision %d: count %d, %v", rev, counted.Count, err)
		}
		o.Uncounted = true
		got, err := s.Range([]byte("k"), []byte("l"), o)
		if err != nil {
			t.Fatal(err)
		}
		if rev == old && got.Count != o.Limit {
			t.Errorf("the read went on to %d keys, want %d", got.Count, o.Limit)
		}
		if got.Count = counted.Count; showRange(got, nil) != showRange(counted, nil) {
			t.Errorf("revision %d: got other pairs than a counted read", rev)
		}
	}
	if r, err := s.Range([]byte("k"), []byte("l"), RangeOptions{Rev: old, CountOnly: true, Uncounted: true}); err != nil || r.Count != keys {
		t.Errorf("a read of the count alone gives %d, %v", r.Count, err)
	}
}
