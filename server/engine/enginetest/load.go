package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"metastore.io/metastore/server/engine"
)

// loadRows are more than an engine holds back: small ones, one that is large,
// and an empty one.
func loadRows() (keys, values [][]byte) {
	for i := range 30_000 {
		keys = append(keys, fmt.Appendf(nil, "row-%06d", i))
		values = append(values, bytes.Repeat([]byte{byte(i)}, i%90))
	}
	values[17_000] = bytes.Repeat([]byte("large"), 200_000)
	return keys, values
}

func testLoad(t *testing.T, o engine.Opener) {
	dir := t.TempDir() + "/engine"
	e := openDir(t, o, dir)
	keys, values := loadRows()
	var key, value []byte // put keeps neither
	err := e.Load(revisions, func(put func(key, value []byte) error) error {
		for i := range keys {
			key, value = append(key[:0], keys[i]...), append(value[:0], values[i]...)
			if err := put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		i := 0
		err := e.Scan(revisions, nil, nil, func(k, v []byte) (bool, error) {
			if i >= len(keys) || !bytes.Equal(k, keys[i]) || !bytes.Equal(v, values[i]) {
				return false, fmt.Errorf("row %d is %q", i, k)
			}
			i++
			return true, nil
		})
		if err != nil || i != len(keys) {
			t.Fatalf("%s: %d rows of %d: %v", when, i, len(keys), err)
		}
		wantGet(t, e, revisions, string(keys[17_000]), string(values[17_000]))
		wantMissing(t, e, revisions, "row-0000005")
	}
	check("loaded")
	wantRows(t, e, meta)
	e.put(meta, "applied", "1")
	e.flush()
	e.close()
	e = openDir(t, o, dir)
	check("opened again")
	e.put(revisions, "row-0000031", "new")
	e.apply(func(b *engine.Batch) { b.DeleteRange(revisions, keys[10], nil) })
	e.flush()
	if err := e.Defragment(); err != nil {
		t.Fatal(err)
	}
	if got := scanned(t, e, revisions, nil, nil); len(got) != 10+1 {
		t.Errorf("after changes: %d rows: %q", len(got), got)
	}
	wantGet(t, e, revisions, "row-0000031", "new")
}

func testLoadOfNothing(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	if err := e.Load(revisions, func(func(key, value []byte) error) error { return nil }); err != nil {
		t.Fatal(err)
	}
	wantRows(t, e, revisions)
	e.put(revisions, "a", "1")
	wantRows(t, e, revisions, "a=1")
}

// testLoadFails: what goes wrong is told, early or late, and nothing hangs.
func testLoadFails(t *testing.T, o engine.Opener) {
	broken := errors.New("broken")
	keys, values := loadRows()
	for _, n := range []int{0, 1, len(keys)} {
		e := openNew(t, o)
		err := e.Load(revisions, func(put func(key, value []byte) error) error {
			for i := range n {
				if err := put(keys[i], values[i]); err != nil {
					return err
				}
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("rows fail after %d: %v", n, err)
		}
		e.close()
	}
	for _, at := range []int{1, len(keys) / 2, len(keys) - 1} {
		e := openNew(t, o)
		bad := slices.Clone(keys)
		bad[at] = bad[at-1]
		err := e.Load(revisions, func(put func(key, value []byte) error) error {
			for i := range bad {
				if err := put(bad[i], values[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			t.Errorf("a key comes twice at %d, and that is taken", at)
		}
		e.close()
	}
	e := openNew(t, o)
	e.close()
	if err := e.Load(revisions, func(put func(key, value []byte) error) error { return put(keys[0], values[0]) }); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("a closed engine: %v", err)
	}
	if err := openNew(t, o).Load(engine.SpaceCount, func(put func(key, value []byte) error) error { return put(keys[0], values[0]) }); err == nil {
		t.Error("a space that is not there is filled")
	}
}
