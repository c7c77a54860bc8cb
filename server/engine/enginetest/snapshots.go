package enginetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"metastore.io/metastore/server/engine"
)

func testSnapshotIsFrozen(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	e.apply(func(b *engine.Batch) {
		for _, k := range []string{"changed", "deleted", "kept", "range1", "range2"} {
			b.Put(meta, []byte(k), []byte("1"))
		}
	})
	first := e.snapshot()
	e.apply(func(b *engine.Batch) {
		b.Put(meta, []byte("changed"), []byte("2"))
		b.Delete(meta, []byte("deleted"))
		b.DeleteRange(meta, []byte("range"), []byte("rangf"))
		b.Put(meta, []byte("added"), []byte("2"))
	})
	second := e.snapshot()
	e.apply(func(b *engine.Batch) {
		b.Put(meta, []byte("changed"), []byte("3"))
		b.Put(meta, []byte("deleted"), []byte("3"))
		b.Delete(meta, []byte("added"))
		b.DeleteRange(meta, []byte("kept"), []byte("keptz"))
	})
	e.flush()
	if err := e.Defragment(); err != nil {
		t.Fatalf("defragment: %v", err)
	}

	wantRows(t, first, meta, "changed=1", "deleted=1", "kept=1", "range1=1", "range2=1")
	wantRows(t, second, meta, "added=2", "changed=2", "kept=1")
	wantRows(t, e, meta, "changed=3", "deleted=3")
	wantGet(t, first, meta, "deleted", "1")
	wantMissing(t, first, meta, "added")
	wantGet(t, second, meta, "added", "2")
	wantMissing(t, second, meta, "deleted")
	wantScan(t, first, meta, []byte("d"), []byte("l"), "deleted=1", "kept=1")

	if err := first.Close(); err != nil {
		t.Fatalf("close snapshot: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("second close of a snapshot: %v", err)
	}
	if _, _, err := first.Get(meta, []byte("kept")); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("get from a closed snapshot: got %v, want %v", err, engine.ErrClosed)
	}
	e.put(meta, "changed", "4")
	wantRows(t, second, meta, "added=2", "changed=2", "kept=1")
}

// writeGenerations applies batches that each set all rows to one number, and
// move a window of Revisions rows along, until stop is closed.
func writeGenerations(e *testEngine, stop <-chan struct{}, done *atomic.Uint64) error {
	b := engine.NewBatch()
	for i := uint64(1); ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		b.Reset()
		generation(b, i)
		if err := e.Apply(b); err != nil {
			return err
		}
		done.Store(i)
	}
}

const (
	generationRows = 20
	windowRows     = 50
)

// generation is the batch that makes state i of state i-1.
func generation(b *engine.Batch, i uint64) {
	number := binary.BigEndian.AppendUint64(nil, i)
	for row := range generationRows {
		b.Put(meta, []byte{byte(row)}, number)
	}
	b.Put(revisions, number, number)
	if i > windowRows {
		last := binary.BigEndian.AppendUint64(nil, i-windowRows)
		if i%2 == 0 {
			b.DeleteRange(revisions, binary.BigEndian.AppendUint64(nil, i-windowRows-1), append(last, 0))
		} else {
			b.Delete(revisions, last)
		}
	}
}

// checkGeneration checks that a reader sees one state whole and returns which.
func checkGeneration(r engine.Reader) (uint64, error) {
	var states []uint64
	err := r.Scan(meta, nil, nil, func(_, value []byte) (bool, error) {
		states = append(states, binary.BigEndian.Uint64(value))
		return true, nil
	})
	if err != nil || len(states) == 0 {
		return 0, err
	}
	state := states[0]
	for _, s := range states {
		if s != state || len(states) != generationRows {
			return 0, fmt.Errorf("rows of different batches: %v", states)
		}
	}
	low := uint64(1)
	if state > windowRows {
		low = state - windowRows + 1
	}
	next := low
	err = r.Scan(revisions, nil, nil, func(key, value []byte) (bool, error) {
		if k := binary.BigEndian.Uint64(key); k != next || string(value) != string(key) {
			return false, fmt.Errorf("state %d: found row %d, want %d", state, k, next)
		}
		next++
		return true, nil
	})
	if err == nil && next != state+1 {
		err = fmt.Errorf("state %d: the last row is %d", state, next-1)
	}
	return state, err
}

// testSnapshotsUnderWrites checks that snapshots are whole, fresh and stay as
// they are while a writer goes on.
func testSnapshotsUnderWrites(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	stop := make(chan struct{})
	var done atomic.Uint64
	var readers, writer sync.WaitGroup
	writer.Go(func() {
		if err := writeGenerations(e, stop, &done); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	for range 3 {
		readers.Go(func() {
			for range 60 {
				if err := checkSnapshot(e, &done); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writer.Wait()
	if err := checkSnapshot(e, &done); err != nil {
		t.Error(err)
	}
}

func checkSnapshot(e *testEngine, done *atomic.Uint64) (err error) {
	before := done.Load()
	s, err := e.Snapshot()
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	first, err := checkGeneration(s)
	if err != nil {
		return err
	}
	if first < before {
		return fmt.Errorf("the snapshot shows state %d, but %d was applied before", first, before)
	}
	for range 3 {
		if again, err := checkGeneration(s); err != nil || again != first {
			return fmt.Errorf("the snapshot moved from state %d to %d (%v)", first, again, err)
		}
	}
	return nil
}

// testReadersSeeWholeBatches checks Get, GetMany and Scan of the engine itself
// while a writer goes on.
func testReadersSeeWholeBatches(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	stop := make(chan struct{})
	var done atomic.Uint64
	var readers, writer sync.WaitGroup
	writer.Go(func() {
		if err := writeGenerations(e, stop, &done); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	keys, values := make([][]byte, generationRows), make([][]byte, generationRows)
	for i := range keys {
		keys[i] = []byte{byte(i)}
	}
	readers.Go(func() {
		for range 300 {
			before := done.Load()
			if err := e.GetMany(meta, keys, values); err != nil {
				t.Errorf("get many: %v", err)
				return
			}
			for i, v := range values {
				if string(v) != string(values[0]) || (v == nil && before > 0) {
					t.Errorf("get many: row %d is %x, row 0 is %x, applied before: %d", i, v, values[0], before)
					return
				}
			}
		}
	})
	readers.Go(func() {
		for range 300 {
			before := done.Load()
			v, ok, err := e.Get(meta, keys[3])
			if err != nil || (before > 0 && (!ok || binary.BigEndian.Uint64(v) < before)) {
				t.Errorf("get: %x, %v, %v, applied before: %d", v, ok, err, before)
				return
			}
		}
	})
	readers.Wait()
	close(stop)
	writer.Wait()
}
