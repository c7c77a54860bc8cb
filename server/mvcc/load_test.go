package mvcc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"metastore.io/metastore/server/engine"
)

// Keys that share long beginnings, differ in zeros only, or begin each other are
// sorted as bytes.Compare has them.
func TestSortOfRecords(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	keys := [][]byte{nil, {0}, {0, 0}, make([]byte, 8), make([]byte, 9), make([]byte, 40)}
	for i := range 3000 {
		key := bytes.Repeat([]byte("/same"), rnd.IntN(5))
		for range rnd.IntN(12) {
			key = append(key, byte(rnd.IntN(3)))
		}
		keys = append(keys, key, fmt.Appendf(nil, "/registry/pods/%d/%d", i%7, i), append(bytes.Clone(key), make([]byte, i%10)...))
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	table := keyTable{arena: newArena()}
	part := make([]headed, len(keys))
	for i, at := range rnd.Perm(len(keys)) {
		part[i].id = table.add(keys[at], stamp{main: 2})
	}
	table.sort(part, 0)
	for i, key := range keys {
		if got := table.key(part[i].id); !bytes.Equal(got, key) {
			t.Fatalf("key %d is %q, want %q", i, got, key)
		}
	}
}

// What a Loader makes of rows on their way into an engine answers like the store
// that wrote them, whatever the order of their keys, and goes on like it.
func TestLoaderIsLikeTheStoreThatWrote(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	for _, order := range []string{"ascending", "random"} {
		t.Run(order, func(t *testing.T) {
			wrote := openStore(t, openEngine(t, t.TempDir()))
			for i := range 2000 {
				key := fmt.Sprintf("key/%04d", i)
				if order == "random" {
					key = fmt.Sprintf("key/%03d", rnd.IntN(400))
				}
				if order == "random" && i%7 == 0 {
					del(t, wrote, key, key+"5")
					continue
				}
				command(t, wrote, func(w *Writer) { w.Put([]byte(key), fmt.Append(nil, i), int64(i%3)) })
			}
			loaded := load(t, wrote)
			for range 2 {
				wantSame(t, loaded, wrote)
				for _, s := range []*Store{loaded, wrote} {
					put(t, s, "key/0100", "after")
					del(t, s, "key/02", "key/03")
				}
			}
		})
	}
}

// load copies the rows of a store into another engine through a Loader.
func load(t *testing.T, from *Store) *Store {
	t.Helper()
	into, l := openEngine(t, t.TempDir()), NewLoader(from.group)
	err := into.Load(engine.Revisions, func(put func(key, value []byte) error) error {
		return from.engine.Scan(engine.Revisions, nil, nil, func(key, row []byte) (bool, error) {
			if err := l.Add(key, row); err != nil {
				return false, err
			}
			return true, put(key, row)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Open(into)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantSame(t *testing.T, got, want *Store) {
	t.Helper()
	if got.Rev() != want.Rev() || got.CompactRev() != want.CompactRev() {
		t.Fatalf("revision %d, compacted to %d, want %d and %d", got.Rev(), got.CompactRev(), want.Rev(), want.CompactRev())
	}
	for _, rev := range []int64{0, 2, want.Rev() / 2} {
		for _, from := range []string{"\x00", "key/01", "key/0100"} {
			o := RangeOptions{Rev: rev}
			a, b := showRange(got.Range([]byte(from), []byte{0}, o)), showRange(want.Range([]byte(from), []byte{0}, o))
			if a != b {
				t.Fatalf("from %q at revision %d:\n%s\nwant\n%s", from, rev, a, b)
			}
			if a, b = showRange(got.Range([]byte(from), nil, o)), showRange(want.Range([]byte(from), nil, o)); a != b {
				t.Fatalf("%q at revision %d: %s, want %s", from, rev, a, b)
			}
		}
	}
	attached := func(s *Store) (all string) {
		s.AttachedKeys(func(lease int64, key []byte) { all += fmt.Sprintf("%s %d\n", key, lease) })
		return all
	}
	if a, b := attached(got), attached(want); a != b {
		t.Fatalf("leases:\n%s\nwant\n%s", a, b)
	}
}
