package mvcc

import (
	"fmt"
	"strconv"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/disk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
)

func openEngine(t testing.TB, dir string) engine.Engine {
	t.Helper()
	e, err := memory.Opener{FS: disk.OS()}.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func openStore(t testing.TB, e engine.Engine) *Store {
	t.Helper()
	s, err := Open(e, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// batch runs fn as one batch and publishes it.
func batch(t testing.TB, s *Store, fn func(w *Writer)) {
	t.Helper()
	b := engine.NewBatch()
	w := s.Writer(b)
	fn(w)
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := s.engine.Apply(b); err != nil {
		t.Fatal(err)
	}
	w.Publish()
}

// command runs fn as a batch of one command.
func command(t testing.TB, s *Store, fn func(w *Writer)) (rev int64, evs []*mvccpb.Event) {
	t.Helper()
	batch(t, s, func(w *Writer) {
		w.Begin()
		fn(w)
		rev, evs = w.End()
	})
	return rev, evs
}

func put(t testing.TB, s *Store, key, value string) int64 {
	t.Helper()
	rev, _ := command(t, s, func(w *Writer) { w.Put([]byte(key), []byte(value), 0) })
	return rev
}

func del(t testing.TB, s *Store, key, end string) int64 {
	t.Helper()
	rev, _ := command(t, s, func(w *Writer) { w.DeleteRange([]byte(key), []byte(end)) })
	return rev
}

func compact(t testing.TB, s *Store, rev int64) {
	t.Helper()
	batch(t, s, func(w *Writer) {
		if err := w.Compact(rev); err != nil {
			t.Fatal(err)
		}
	})
}

func sweepAll(t testing.TB, s *Store, step int) {
	t.Helper()
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(step); err != nil {
			t.Fatal(err)
		}
	}
}

// show quotes bytes that would not print as one word.
func show(b []byte) string {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return strconv.QuoteToASCII(string(b))
		}
	}
	return string(b)
}

func showKV(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "-"
	}
	s := fmt.Sprintf("%s=%s c%d m%d v%d", show(kv.Key), show(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version)
	if kv.Lease != 0 {
		s += fmt.Sprintf(" l%d", kv.Lease)
	}
	return s
}

func showEvents(evs []*mvccpb.Event) string {
	s := ""
	for _, e := range evs {
		s += fmt.Sprintf("%s %s (before: %s)\n", e.Type, showKV(e.Kv), showKV(e.PrevKv))
	}
	return s
}

func showRange(r RangeResult, err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	s := fmt.Sprintf("count %d at %d\n", r.Count, r.Rev)
	for _, kv := range r.KVs {
		s += showKV(kv) + "\n"
	}
	return s
}

// rowCount is how many rows the group has in the engine.
func rowCount(t testing.TB, s *Store) (n int) {
	t.Helper()
	from := s.group.Key()
	err := s.engine.Scan(engine.Revisions, from, engine.PrefixEnd(from), func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
