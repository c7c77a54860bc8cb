package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"metastore.io/metastore/server/engine"
)

const (
	meta      = engine.Meta
	revisions = engine.Revisions
)

func testEmpty(t *testing.T, o engine.Opener) {
	if o.Name() == "" {
		t.Error("the engine has no name")
	}
	e := openNew(t, o)
	wantRows(t, e, meta)
	wantRows(t, e, revisions)
	wantMissing(t, e, meta, "a")
	e.apply(func(*engine.Batch) {})
	e.flush()
	if err := e.Defragment(); err != nil {
		t.Errorf("defragment: %v", err)
	}
}

func testPutOverwriteDelete(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	e.put(meta, "a", "1")
	e.put(revisions, "a", "other space")
	wantGet(t, e, meta, "a", "1")
	e.put(meta, "a", "longer than before")
	wantGet(t, e, meta, "a", "longer than before")
	e.put(meta, "b", "2")
	e.apply(func(b *engine.Batch) { b.Delete(meta, []byte("a")); b.Delete(meta, []byte("not there")) })
	wantMissing(t, e, meta, "a")
	wantRows(t, e, meta, "b=2")
	wantRows(t, e, revisions, "a=other space")
	e.put(meta, "a", "again")
	wantRows(t, e, meta, "a=again", "b=2")
}

func testOrderWithinABatch(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	e.apply(func(b *engine.Batch) {
		b.Put(meta, []byte("put-delete"), []byte("x"))
		b.Delete(meta, []byte("put-delete"))
		b.Delete(meta, []byte("delete-put"))
		b.Put(meta, []byte("delete-put"), []byte("y"))
		b.Put(meta, []byte("twice"), []byte("first"))
		b.Put(meta, []byte("twice"), []byte("second"))
		b.Put(revisions, []byte("r1"), []byte("x"))
		b.Put(revisions, []byte("r2"), []byte("x"))
		b.DeleteRange(revisions, []byte("r1"), []byte("r2"))
		b.DeleteRange(revisions, []byte("s"), nil)
		b.Put(revisions, []byte("s1"), []byte("kept"))
	})
	wantRows(t, e, meta, "delete-put=y", "twice=second")
	wantRows(t, e, revisions, "r2=x", "s1=kept")
}

func testBatchMayBeReused(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	b := engine.NewBatch()
	for i := range 10 {
		b.Reset()
		b.Put(meta, fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "v%d", i))
		if err := e.Apply(b); err != nil {
			t.Fatalf("apply: %v", err)
		}
	}
	for i := range 10 {
		wantGet(t, e, meta, fmt.Sprintf("k%d", i), fmt.Sprintf("v%d", i))
	}
}

func testDeleteRange(t *testing.T, o engine.Opener) {
	for _, c := range []struct {
		name, from, to string
		want           []string
	}{
		{"middle", "b", "d", []string{"a=1", "d=1", "e=1"}},
		{"bounds between keys", "aa", "cc", []string{"a=1", "d=1", "e=1"}},
		{"from the start", "", "c", []string{"c=1", "d=1", "e=1"}},
		{"to the end", "c", "", []string{"a=1", "b=1"}},
		{"everything", "", "", nil},
		{"nothing there", "f", "z", []string{"a=1", "b=1", "c=1", "d=1", "e=1"}},
		{"empty range", "b", "b", []string{"a=1", "b=1", "c=1", "d=1", "e=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := openNew(t, o)
			e.apply(func(b *engine.Batch) {
				for _, k := range []string{"a", "b", "c", "d", "e"} {
					b.Put(revisions, []byte(k), []byte("1"))
				}
				b.Put(meta, []byte("b"), []byte("other space"))
			})
			e.apply(func(b *engine.Batch) { b.DeleteRange(revisions, bound(c.from), bound(c.to)) })
			wantRows(t, e, revisions, c.want...)
			wantRows(t, e, meta, "b=other space")
		})
	}
}

// testDeleteLargeRange deletes more rows than an engine would delete one by one.
func testDeleteLargeRange(t *testing.T, o engine.Opener) {
	const rows = 3000
	e := openNew(t, o)
	fill := func() {
		e.apply(func(b *engine.Batch) {
			for i := range rows {
				b.Put(revisions, fmt.Appendf(nil, "m%05d", i), []byte("1"))
			}
			b.Put(revisions, []byte("a"), []byte("1"))
			b.Put(revisions, []byte("z"), []byte("1"))
			b.Put(meta, []byte("m"), []byte("other space"))
		})
	}
	fill()
	e.apply(func(b *engine.Batch) {
		b.Put(revisions, []byte("mx"), []byte("put before"))
		b.DeleteRange(revisions, []byte("m"), []byte("n"))
		b.Put(revisions, []byte("m00001"), []byte("put after"))
	})
	wantRows(t, e, revisions, "a=1", "m00001=put after", "z=1")
	fill()
	e.apply(func(b *engine.Batch) {
		b.Put(revisions, []byte("zz"), []byte("put before"))
		b.DeleteRange(revisions, []byte("m"), nil)
		b.Put(revisions, []byte("zzz"), []byte("put after"))
	})
	wantRows(t, e, revisions, "a=1", "zzz=put after")
	e.flush()
	e.apply(func(b *engine.Batch) { b.DeleteRange(revisions, nil, nil) })
	wantRows(t, e, revisions)
	wantRows(t, e, meta, "m=other space")
	e.apply(func(b *engine.Batch) {
		for i := range rows {
			b.Put(revisions, fmt.Appendf(nil, "n%05d", i), []byte("1"))
		}
		b.DeleteRange(revisions, []byte("n"), []byte("n02990"))
		b.DeleteRange(revisions, []byte("n02995"), nil)
	})
	wantRows(t, e, revisions, "n02990=1", "n02991=1", "n02992=1", "n02993=1", "n02994=1")
}

// bound turns "" into an unbounded bound.
func bound(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func testBinaryKeys(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	keys := []string{
		"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00\x00", "a\x01",
		"\x7f", "\x80", "\xfe", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff",
	}
	values := []string{"", "\x00", "\xff\x00\xff", "plain"}
	var want []string
	e.apply(func(b *engine.Batch) {
		for i, k := range keys {
			v := values[i%len(values)]
			b.Put(revisions, []byte(k), []byte(v))
			want = append(want, formatRow([]byte(k), []byte(v)))
		}
	})
	check := func(e *testEngine) {
		t.Helper()
		if got := scanned(t, e, revisions, nil, nil); !slices.Equal(got, want) {
			t.Errorf("got rows %v, want %v", got, want)
		}
		for i, k := range keys {
			wantGet(t, e, revisions, k, values[i%len(values)])
			from := engine.PrefixEnd([]byte(k))
			if got := scanned(t, e, revisions, []byte(k), append([]byte(k), 0)); len(got) != 1 || got[0] != want[i] {
				t.Errorf("scan of the key %q alone: got %v, want %s", k, got, want[i])
			}
			if from != nil && len(scanned(t, e, revisions, []byte(k), from)) == 0 {
				t.Errorf("scan of the prefix %q found nothing", k)
			}
		}
	}
	check(e)
	e.apply(func(b *engine.Batch) { b.Delete(revisions, []byte("a\x00")) })
	wantMissing(t, e, revisions, "a\x00")
	wantGet(t, e, revisions, "a", values[slices.Index(keys, "a")%len(values)])
	e.apply(func(b *engine.Batch) { b.DeleteRange(revisions, []byte("\x80"), nil) })
	i := slices.Index(keys, "a\x00")
	want = slices.Delete(slices.Clone(want[:slices.Index(keys, "\x80")]), i, i+1)
	if got := scanned(t, e, revisions, nil, nil); !slices.Equal(got, want) {
		t.Errorf("after deletes: got rows %v, want %v", got, want)
	}
}

func testScanBounds(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	for _, k := range []string{"d", "b", "a", "c"} {
		e.put(meta, k, "1")
	}
	all := []string{"a=1", "b=1", "c=1", "d=1"}
	for _, c := range []struct {
		from, to []byte
		want     []string
	}{
		{nil, nil, all},
		{[]byte{}, nil, all},
		{[]byte("a"), []byte("e"), all},
		{[]byte("b"), nil, all[1:]},
		{nil, []byte("c"), all[:2]},
		{[]byte("b"), []byte("d"), all[1:3]},
		{[]byte("aa"), []byte("bb"), all[1:2]},
		{[]byte("b"), []byte("b"), nil},
		{[]byte("c"), []byte("b"), nil},
		{nil, []byte{}, nil},
		{[]byte("x"), nil, nil},
	} {
		wantScan(t, e, meta, c.from, c.to, c.want...)
	}
}

func testScanStops(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	for i := range 50 {
		e.put(revisions, fmt.Sprintf("%03d", i), "x")
	}
	stop := errors.New("stop")
	for _, at := range []int{1, 2, 20, 50} {
		for _, wantErr := range []error{nil, stop} {
			calls := 0
			err := e.Scan(revisions, nil, nil, func(_, _ []byte) (bool, error) {
				calls++
				return calls != at || wantErr != nil, errAt(calls == at, wantErr)
			})
			if calls != at || err != wantErr {
				t.Errorf("stop at row %d with %v: got %d calls and error %v", at, wantErr, calls, err)
			}
		}
	}
}

func errAt(here bool, err error) error {
	if here {
		return err
	}
	return nil
}

// testScanCallsBack uses the engine from within a scan: no lock may be held.
func testScanCallsBack(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	for i := range 40 {
		e.put(meta, fmt.Sprintf("%03d", i), "old")
	}
	n := 0
	err := e.Scan(meta, nil, nil, func(key, value []byte) (bool, error) {
		n++
		if string(value) != "old" {
			t.Errorf("%q: the scan sees the later value %q", key, value)
		}
		e.put(meta, string(key), "new")
		e.put(meta, string(key)+"a", "new")
		e.apply(func(b *engine.Batch) { b.Delete(meta, []byte("039")) })
		wantGet(t, e, meta, string(key)+"a", "new")
		inner := 0
		return true, e.Scan(meta, nil, nil, func(_, _ []byte) (bool, error) { inner++; return inner < 3, nil })
	})
	if err != nil || n != 40 {
		t.Errorf("got %d rows and error %v, want 40 of the moment when the scan began", n, err)
	}
}

func testScanManyRows(t *testing.T, o engine.Opener) {
	const rows = 5000
	e := openNew(t, o)
	big := bytes.Repeat([]byte("v"), 300_000)
	e.apply(func(b *engine.Batch) {
		for i := range rows {
			value := fmt.Appendf(nil, "v%d", i)
			if i%1000 == 500 {
				value = big
			}
			b.Put(revisions, fmt.Appendf(nil, "%06d", i), value)
		}
	})
	for _, from := range []int{0, 1, 499, rows - 1} {
		i := from
		err := e.Scan(revisions, fmt.Appendf(nil, "%06d", from), nil, func(key, value []byte) (bool, error) {
			want := fmt.Appendf(nil, "v%d", i)
			if i%1000 == 500 {
				want = big
			}
			if string(key) != fmt.Sprintf("%06d", i) || !bytes.Equal(value, want) {
				t.Fatalf("row %d: got key %q and %d bytes of value", i, key, len(value))
			}
			i++
			return true, nil
		})
		if err != nil || i != rows {
			t.Errorf("from %d: got up to row %d and error %v, want %d", from, i, err, rows)
		}
	}
}

func testGetMany(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	const rows = 1000
	e.apply(func(b *engine.Batch) {
		for i := range rows {
			b.Put(revisions, fmt.Appendf(nil, "%04d", i), fmt.Appendf(nil, "v%d", i))
		}
		b.Put(revisions, []byte("empty"), nil)
	})
	var keys [][]byte
	for i := range rows {
		keys = append(keys, fmt.Appendf(nil, "%04d", (i*7)%rows), fmt.Appendf(nil, "missing%d", i))
	}
	keys = append(keys, []byte("empty"), []byte("0000"), []byte("0000"), nil)
	for name, r := range map[string]engine.Reader{"engine": e, "snapshot": e.snapshot()} {
		values := make([][]byte, len(keys))
		for i := range values {
			values[i] = []byte("stale")
		}
		if err := r.GetMany(revisions, keys, values); err != nil {
			t.Fatalf("%s: get many: %v", name, err)
		}
		for i, k := range keys {
			want, there := "", string(k) == "empty"
			if len(k) == 4 {
				var n int
				_, _ = fmt.Sscanf(string(k), "%d", &n)
				want, there = fmt.Sprintf("v%d", n), true
			}
			if got := values[i]; string(got) != want || (got != nil) != there {
				t.Errorf("%s: key %q: got %q (nil: %v), want %q", name, k, got, got == nil, want)
			}
		}
		if err := r.GetMany(revisions, nil, nil); err != nil {
			t.Errorf("%s: get many of no keys: %v", name, err)
		}
	}
}

// Ascending keys with few or many others between them, and some that are not
// there: engines may look them up another way.
func testGetManyInOrder(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	const rows = 9000
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i%700) }
	e.apply(func(b *engine.Batch) {
		for i := range rows {
			b.Put(revisions, fmt.Appendf(nil, "%05d", 2*i), value(i))
		}
		b.Put(revisions, []byte("long"), bytes.Repeat([]byte("x"), 3<<20))
	})
	for _, step := range []int{1, 2, 3, 5, 16, 200} {
		for _, r := range []engine.Reader{e, e.snapshot()} {
			var keys [][]byte
			for i := 0; i < 2*rows+2*step; i += step {
				keys = append(keys, fmt.Appendf(nil, "%05d", i))
			}
			keys = append(keys, []byte("long"), []byte("z"))
			values := make([][]byte, len(keys))
			if err := r.GetMany(revisions, keys, values); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			for n, i := 0, 0; i < 2*rows+2*step; n, i = n+1, i+step {
				if there := i%2 == 0 && i < 2*rows; there != (values[n] != nil) || there && !bytes.Equal(values[n], value(i/2)) {
					t.Fatalf("step %d: key %d: got %d bytes (nil: %v)", step, i, len(values[n]), values[n] == nil)
				}
			}
			if n := len(keys); len(values[n-2]) != 3<<20 || values[n-1] != nil {
				t.Errorf("step %d: the last ones have %d and %d bytes", step, len(values[n-2]), len(values[n-1]))
			}
		}
	}
}

func testValuesMayBeKept(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	value := bytes.Repeat([]byte("a"), 1000)
	e.apply(func(b *engine.Batch) { b.Put(meta, []byte("k"), value) })
	one, _, err := e.Get(meta, []byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	many := make([][]byte, 2)
	if err := e.GetMany(meta, [][]byte{[]byte("k"), []byte("k")}, many); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		e.apply(func(b *engine.Batch) { b.Put(meta, []byte("k"), bytes.Repeat([]byte{byte(i)}, 1000)) })
		_, _, _ = e.Get(meta, []byte("k"))
	}
	e.flush()
	e.close()
	for i, got := range [][]byte{one, many[0], many[1]} {
		if !bytes.Equal(got, value) {
			t.Errorf("value %d changed after it was read", i)
		}
	}
}

func testUnknownSpace(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	const unknown = engine.Space(engine.SpaceCount)
	b := engine.NewBatch()
	b.Put(meta, []byte("a"), []byte("1"))
	b.Put(unknown, []byte("a"), []byte("1"))
	_, _, getErr := e.Get(unknown, []byte("a"))
	for what, err := range map[string]error{
		"apply": e.Apply(b), "get": getErr,
		"get many": e.GetMany(unknown, make([][]byte, 1), make([][]byte, 1)),
		"scan":     e.Scan(unknown, nil, nil, func(_, _ []byte) (bool, error) { return true, nil }),
	} {
		if err == nil {
			t.Errorf("%s took a space that does not exist", what)
		}
	}
	wantRows(t, e, meta)
}
