package lease_test

import (
	"errors"
	"slices"
	"testing"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
	"metastore.io/metastore/server/lease"
)

func openEngine(t testing.TB, dir string) engine.Engine {
	t.Helper()
	e, err := memory.Opener{}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func openRegistry(t *testing.T, e engine.Engine, g engine.GroupID) *lease.Registry {
	t.Helper()
	r, err := lease.Open(e, g)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// newRegistry has the leases 1, 2, ... with the TTLs, in seconds.
func newRegistry(t *testing.T, ttls ...int64) *lease.Registry {
	t.Helper()
	e := openEngine(t, t.TempDir())
	t.Cleanup(func() { e.Close() })
	r := openRegistry(t, e, 1)
	for i, ttl := range ttls {
		grant(t, r, lease.ID(i+1), ttl)
	}
	return r
}

func grant(t *testing.T, r *lease.Registry, id lease.ID, ttl int64) {
	t.Helper()
	if err := r.Grant(engine.NewBatch(), id, ttl); err != nil {
		t.Fatalf("grant %d: %v", id, err)
	}
}

func texts(keys [][]byte) []string {
	out := []string{}
	for _, k := range keys {
		out = append(out, string(k))
	}
	return out
}

func TestGrantRefusals(t *testing.T) {
	r := newRegistry(t, 10)
	for _, c := range []struct {
		name string
		id   lease.ID
		ttl  int64
		want error
	}{
		{"no ID", 0, 10, lease.ErrNotFound},
		{"taken", 1, 10, lease.ErrExists},
		{"too long", 2, lease.MaxTTLSeconds + 1, lease.ErrTTLTooLarge},
	} {
		b := engine.NewBatch()
		if err := r.Grant(b, c.id, c.ttl); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if b.Len() != 0 {
			t.Errorf("%s: a refused grant staged %d operations", c.name, b.Len())
		}
	}
	if err := r.Grant(engine.NewBatch(), 3, lease.MaxTTLSeconds); err != nil {
		t.Errorf("the longest TTL: %v", err)
	}
	grant(t, r, 4, -5)
	if l, _ := r.Lookup(4); l.TTLSeconds != 1 {
		t.Errorf("a negative TTL became %d", l.TTLSeconds)
	}
}

func TestGrantsSurviveReopenPerGroup(t *testing.T) {
	dir := t.TempDir()
	e := openEngine(t, dir)
	b := engine.NewBatch()
	one, two := openRegistry(t, e, 1), openRegistry(t, e, 2)
	for id := range lease.ID(3) {
		if err := one.Grant(b, id+1, int64(id)+60); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.Grant(b, -7, 5); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Revoke(b, 2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Apply(b), e.Flush(), e.Close()); err != nil {
		t.Fatal(err)
	}

	e = openEngine(t, dir)
	defer e.Close()
	one, two = openRegistry(t, e, 1), openRegistry(t, e, 2)
	if got := one.List(); !slices.Equal(got, []lease.ID{1, 3}) {
		t.Errorf("group 1 holds %v", got)
	}
	if l, ok := one.Lookup(3); !ok || l.TTLSeconds != 62 {
		t.Errorf("lease 3 is %+v, %v", l, ok)
	}
	if got := two.List(); !slices.Equal(got, []lease.ID{-7}) {
		t.Errorf("group 2 holds %v", got)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	prefix := engine.GroupID(1).Key([]byte("lease/"))
	for name, row := range map[string][2][]byte{
		"short ID":       {append(slices.Clone(prefix), 1, 2), append([]byte{1}, make([]byte, 8)...)},
		"newer format":   {append(slices.Clone(prefix), make([]byte, 8)...), append([]byte{2}, make([]byte, 8)...)},
		"truncated":      {append(slices.Clone(prefix), make([]byte, 8)...), []byte{1, 0}},
		"nothing inside": {append(slices.Clone(prefix), make([]byte, 8)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := openEngine(t, t.TempDir())
			defer e.Close()
			b := engine.NewBatch()
			b.Put(engine.Meta, row[0], row[1])
			if err := e.Apply(b); err != nil {
				t.Fatal(err)
			}
			if _, err := lease.Open(e, 1); !errors.Is(err, engine.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A row written by the first format must open for ever.
func TestRowFormat(t *testing.T) {
	e := openEngine(t, t.TempDir())
	defer e.Close()
	b := engine.NewBatch()
	b.Put(engine.Meta, []byte("\x00\x00\x00\x09lease/\x00\x00\x00\x00\x00\x00\x01\x02"), []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x3c"))
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
	r := openRegistry(t, e, 9)
	if l, ok := r.Lookup(0x102); !ok || l.TTLSeconds != 60 {
		t.Errorf("got %+v, %v", l, ok)
	}
}

func TestKeysAreSortedAndDetach(t *testing.T) {
	r := newRegistry(t, 10, 10)
	for _, k := range []string{"b", "a\x00", "a", "c"} {
		if err := r.Attach(1, []byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	r.Detach(1, []byte("c"))
	r.Detach(1, []byte("never attached"))
	r.Detach(99, []byte("a"))
	if err := r.Attach(99, []byte("a")); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("attach to no lease: %v", err)
	}
	want := []string{"a", "a\x00", "b"}
	if got := texts(r.Keys(1)); !slices.Equal(got, want) {
		t.Errorf("keys are %q", got)
	}
	b := engine.NewBatch()
	keys, err := r.Revoke(b, 1)
	if err != nil || !slices.Equal(texts(keys), want) {
		t.Errorf("revoke gave %q, %v", keys, err)
	}
	if b.Len() != 1 {
		t.Errorf("revoke staged %d operations", b.Len())
	}
	b.Reset()
	if _, err := r.Revoke(b, 1); !errors.Is(err, lease.ErrNotFound) || b.Len() != 0 {
		t.Errorf("second revoke: %v, %d operations", err, b.Len())
	}
	if r.Len() != 1 || r.Keys(1) != nil {
		t.Error("the lease is still there")
	}
}
