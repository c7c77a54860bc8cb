package memory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"metastore.io/metastore/server/engine"
)

// checkHeap checks that the chunks account for exactly the rows that are there.
func checkHeap(t *testing.T, s *space) {
	t.Helper()
	live := make([]int, len(s.heap.chunks))
	count := func(r *row) {
		key, value := s.heap.row(r.place)
		live[r.chunk] += rowLen(len(key), len(value))
	}
	for l, _ := s.tree.seek(nil); l != nil; l = l.next {
		for i := range l.n {
			count(&l.rows[i])
		}
	}
	for _, versions := range s.older {
		for i := range versions {
			count(&versions[i])
		}
	}
	var all int64
	for i, c := range s.heap.chunks {
		all += int64(len(c.data))
		if c.live != live[i] || c.live > c.used || c.used > len(c.data) {
			t.Errorf("chunk %d: %d of %d bytes live, %d used; its rows have %d", i, c.live, len(c.data), c.used, live[i])
		}
	}
	if all != s.heap.bytes {
		t.Errorf("the heap counts %d bytes, has %d", s.heap.bytes, all)
	}
}

// Rows that come and go among ones that stay do not keep the memory, and those
// that a snapshot or a reader has are what they were.
func TestHeapEmptiesSparseChunks(t *testing.T) {
	e := openMemory(t)
	rng := rand.New(rand.NewPCG(1, 2))
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 100+i%3000+i%7/6*(40<<10)) }
	const rows = 2000
	for i := range rows {
		apply(t, e, func(b *engine.Batch) { b.Put(engine.Revisions, fmt.Appendf(nil, "%05d", i), value(i)) })
	}
	snap, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	kept := make([][]byte, rows)
	for i := range kept {
		kept[i], _, _ = snap.Get(engine.Revisions, fmt.Appendf(nil, "%05d", i))
	}
	for n := range 10 * rows {
		if n == 5*rows {
			for i := range kept {
				if got, _, err := snap.Get(engine.Revisions, fmt.Appendf(nil, "%05d", i)); err != nil || !bytes.Equal(got, value(i)) {
					t.Fatalf("row %d of the snapshot: %d bytes, %v", i, len(got), err)
				}
			}
			_ = snap.Close()
		}
		apply(t, e, func(b *engine.Batch) {
			i := rng.IntN(rows)
			key := fmt.Appendf(nil, "%05d", i)
			if n%3 == 0 {
				b.Delete(engine.Revisions, key)
			} else {
				b.Put(engine.Revisions, key, value(i+n))
			}
		})
		if n%2000 == 0 {
			checkHeap(t, e.spaces[engine.Revisions])
		}
	}
	for i := range kept {
		if !bytes.Equal(kept[i], value(i)) {
			t.Fatalf("value %d changed in a reader's hands", i)
		}
	}
	s := e.spaces[engine.Revisions]
	if most := 5*s.liveBytes/2 + 4*chunkBytes; s.heap.bytes > most {
		t.Errorf("%d bytes for %d live ones", s.heap.bytes, s.liveBytes)
	}
	if err := e.Defragment(); err != nil {
		t.Fatal(err)
	}
	checkHeap(t, s)
	if most := 5*s.liveBytes/4 + 2*chunkBytes; s.heap.bytes > most {
		t.Errorf("%d bytes for %d live ones after a defragmentation", s.heap.bytes, s.liveBytes)
	}
}
