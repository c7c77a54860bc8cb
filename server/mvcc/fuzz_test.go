package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/disk/memdisk"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/engine/memory"
)

// FuzzRowKey: what parses is what the encoder writes.
func FuzzRowKey(f *testing.F) {
	f.Add(appendRowKey(nil, 7, stamp{2, 1, true}))
	f.Add(appendRowKey(nil, 7, stamp{1 << 62, maxSub, false}))
	f.Add([]byte("\x00\x00\x00\x07\xff\xff\xff\xff\xff\xff\xff\xff_\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, key []byte) {
		at, err := parseRowKey(key)
		if err != nil {
			if !errors.Is(err, engine.ErrCorrupt) {
				t.Fatalf("%x: %v", key, err)
			}
			return
		}
		group := engine.GroupID(binary.BigEndian.Uint32(key))
		if again := appendRowKey(nil, group, at); !bytes.Equal(again, key) {
			t.Fatalf("%x gives %+v, and that %x", key, at, again)
		}
	})
}

// fuzzRows is the script with the rows that fn leaves in a store.
func fuzzRows(t testing.TB, fn func(s *Store)) []byte {
	t.Helper()
	e := openEngine(t, t.TempDir())
	s := openStore(t, e)
	fn(s)
	var script []byte
	prefix := s.group.Key()
	err := e.Scan(engine.Revisions, prefix, engine.PrefixEnd(prefix), func(k, v []byte) (bool, error) {
		k = k[len(prefix):]
		script = append(script, byte(len(k)), byte(len(v)))
		script = append(append(script, k...), v...)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return script
}

// FuzzOpenRows opens stores whose rows say anything. What opens can be read at
// every revision, hashed, compacted and swept, and opens to the same again.
func FuzzOpenRows(f *testing.F) {
	f.Add(fuzzRows(f, func(s *Store) { put(f, s, "a", "1"); put(f, s, "a", "2"); del(f, s, "a", ""); put(f, s, "a", "3") }), int64(3))
	f.Add(fuzzRows(f, func(s *Store) { put(f, s, "a", "1"); put(f, s, "b", "2"); del(f, s, "\x00", "\x00") }), int64(-1))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, script []byte, compacted int64) {
		e, err := memory.Opener{FS: memdisk.New(1)}.Open("/engine")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = e.Close() }()
		b := engine.NewBatch()
		for len(script) >= 2 {
			n, m := min(int(script[0]), len(script)-2), int(script[1])
			key := engine.GroupID(1).Key(script[2 : 2+n])
			script = script[2+n:]
			value := script[:min(m, len(script))]
			script = script[len(value):]
			b.Put(engine.Revisions, key, value)
		}
		if compacted >= 0 {
			Compaction{Scheduled: compacted, Finished: -1}.Stage(b, 1)
		}
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
		s, err := Open(e, 1)
		if err != nil {
			if !errors.Is(err, engine.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		want, hash := readAll(t, s)
		again, err := Open(e, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got, hash2 := readAll(t, again); got != want || hash2 != hash {
			t.Fatalf("opened again:\n%s\nwant\n%s", got, want)
		}
		for done := false; !done; {
			if done, err = s.CompactStep(10); err != nil && !errors.Is(err, engine.ErrCorrupt) {
				t.Fatal(err)
			}
		}
	})
}

// readAll reads everything at the oldest and the newest revision.
func readAll(t *testing.T, s *Store) (all string, hash uint32) {
	t.Helper()
	for _, rev := range []int64{0, max(s.CompactRev(), 1)} {
		r, err := s.Range([]byte{0}, []byte{0}, RangeOptions{Rev: rev})
		if err != nil && !errors.Is(err, engine.ErrCorrupt) {
			t.Fatalf("range at %d: %v", rev, err)
		}
		all += showRange(r, err)
	}
	_, err := s.History(max(s.CompactRev(), 1), s.Rev(), 100, true, func(rev int64, evs []*mvccpb.Event) error {
		all += showEvents(evs)
		return nil
	})
	if err != nil && !errors.Is(err, engine.ErrCorrupt) {
		t.Fatalf("history: %v", err)
	}
	hash, _, _, err = s.HashKV(0)
	if err != nil && !errors.Is(err, engine.ErrCorrupt) {
		t.Fatalf("hash: %v", err)
	}
	return all, hash
}
