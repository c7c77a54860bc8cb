package memory

import (
	"fmt"
	"testing"

	"metastore.io/metastore/server/engine"
)

func openMemory(t testing.TB) *memory {
	t.Helper()
	e, err := Opener{}.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return e.(*memory)
}

func apply(t testing.TB, e *memory, fill func(b *engine.Batch)) {
	t.Helper()
	b := engine.NewBatch()
	fill(b)
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
}

// held counts what is kept for snapshots.
func held(e *memory) (keys, versions, retired int) {
	for _, s := range e.spaces {
		keys += len(s.older)
		retired += len(s.retired)
		for _, v := range s.older {
			versions += len(v)
		}
	}
	return keys, versions, retired
}

func TestNothingIsKeptWithoutSnapshots(t *testing.T) {
	e := openMemory(t)
	for i := range 100 {
		apply(t, e, func(b *engine.Batch) {
			b.Put(engine.Meta, []byte("hot"), fmt.Append(nil, i))
			b.Put(engine.Revisions, number(i), nil)
			b.Delete(engine.Revisions, number(i-1))
		})
	}
	if k, v, r := held(e); k != 0 || v != 0 || r != 0 {
		t.Errorf("kept %d versions of %d keys and %d notes", v, k, r)
	}
	if n := e.spaces[engine.Revisions].tree.rows; n != 1 {
		t.Errorf("got %d rows, want 1", n)
	}
}

func TestHotRowKeepsOneVersionASnapshot(t *testing.T) {
	e := openMemory(t)
	var snaps []engine.Snapshot
	for range 3 {
		for i := range 50 {
			apply(t, e, func(b *engine.Batch) { b.Put(engine.Meta, []byte("hot"), fmt.Append(nil, i)) })
		}
		s, err := e.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		snaps = append(snaps, s)
	}
	apply(t, e, func(b *engine.Batch) { b.Put(engine.Meta, []byte("hot"), nil) })
	if _, v, _ := held(e); v != 3 {
		t.Errorf("kept %d versions for 3 snapshots", v)
	}
	// The one in the middle goes first: the next write drops its version.
	for i, want := range map[int]int{1: 2} {
		if err := snaps[i].Close(); err != nil {
			t.Fatal(err)
		}
		apply(t, e, func(b *engine.Batch) { b.Put(engine.Meta, []byte("hot"), nil) })
		if _, v, _ := held(e); v != want {
			t.Errorf("kept %d versions, want %d", v, want)
		}
	}
	_, _ = snaps[0].Close(), snaps[2].Close()
	apply(t, e, func(*engine.Batch) {})
	if k, v, r := held(e); k != 0 || v != 0 || r != 0 {
		t.Errorf("kept %d versions of %d keys and %d notes after all snapshots closed", v, k, r)
	}
}

func TestDeletedRowsGoWithTheirSnapshot(t *testing.T) {
	e := openMemory(t)
	const rows = 5000
	apply(t, e, func(b *engine.Batch) {
		for i := range rows {
			b.Put(engine.Revisions, number(i), []byte("value"))
		}
	})
	before := e.Size()
	s, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, e, func(b *engine.Batch) { b.DeleteRange(engine.Revisions, nil, nil) })
	if size := e.Size(); size.UsedBytes != 0 || size.TotalBytes < before.UsedBytes-rows*rowBytes {
		t.Errorf("with the rows deleted and a snapshot open the size is %+v, before %+v", size, before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Defragment(); err != nil {
		t.Fatal(err)
	}
	if k, v, r := held(e); k != 0 || v != 0 || r != 0 || e.spaces[engine.Revisions].tree.rows != 0 {
		t.Errorf("kept %d versions of %d keys, %d notes and %d rows", v, k, r, e.spaces[engine.Revisions].tree.rows)
	}
	if got, most := e.Size().TotalBytes, int64(engine.SpaceCount)*(leafBytes+chunkBytes); got > most {
		t.Errorf("the empty engine takes %d bytes, want at most %d", got, most)
	}
}

func TestApplyFreesALittleAtATime(t *testing.T) {
	e := openMemory(t)
	const rows = 3000
	apply(t, e, func(b *engine.Batch) {
		for i := range rows {
			b.Put(engine.Revisions, number(i), nil)
		}
	})
	s, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, e, func(b *engine.Batch) { b.DeleteRange(engine.Revisions, nil, nil) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for ; e.spaces[engine.Revisions].tree.rows > 0; steps++ {
		before := e.spaces[engine.Revisions].tree.rows
		apply(t, e, func(*engine.Batch) {})
		if freed := before - e.spaces[engine.Revisions].tree.rows; freed != min(before, collectRows) {
			t.Fatalf("step %d freed %d rows, want %d", steps, freed, collectRows)
		}
	}
	if want := (rows + collectRows - 1) / collectRows; steps != want {
		t.Errorf("got %d steps, want %d", steps, want)
	}
}
