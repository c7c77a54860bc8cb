package etcdfile

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
	"metastore.io/metastore/server/state"
)

// What is written and read again leaves the same rows, but for the members and
// the place in the log.
func TestCopyIsTheSame(t *testing.T) {
	s := newFullStore(t)
	s.raise()
	f := open(t, s.file(), HashRequired)
	into := newEngine(t)
	if _, err := f.CopyTo(t.Context(), into, testGroup, 0); err != nil {
		t.Fatal(err)
	}
	for _, of := range []struct {
		space engine.Space
		under string
	}{{engine.Revisions, ""}, {engine.Meta, "mvcc/"}, {engine.Meta, "lease/"}, {engine.Meta, "auth/"}, {engine.Meta, "state/alarm/"}} {
		got, want := rows(t, into, of.space, of.under), rows(t, s.engine, of.space, of.under)
		if !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("rows %q: got\n%s\nwant\n%s", of.under, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	m, err := state.Open(state.Options{Engine: into, Group: testGroup})
	if err != nil {
		t.Fatal(err)
	}
	if index, _ := m.Applied(); index != 0 || len(m.Members()) != 0 || m.ClusterID() != 0 {
		t.Errorf("the copy has index %d, cluster %x and members %v", index, m.ClusterID(), m.Members())
	}
}

func TestBump(t *testing.T) {
	s := newFullStore(t)
	f := open(t, s.file(), HashRequired)
	rev := s.KV().Rev()
	if c, err := f.Inspect(9); err != nil || c.Revision != rev || c.Compaction != (mvcc.Compaction{Scheduled: 40, Finished: 30}) {
		t.Errorf("the file has %+v: %v", c, err)
	}
	if _, err := f.Inspect(math.MaxInt64); err == nil || !strings.Contains(err.Error(), "--bump-revision=9223372036854775807 is not valid") {
		t.Errorf("a bump beyond all revisions: %v", err)
	}
	into := newEngine(t)
	if _, err := f.CopyTo(t.Context(), into, testGroup, 9); err != nil {
		t.Fatal(err)
	}
	kv, err := mvcc.Open(into, testGroup)
	if err != nil {
		t.Fatal(err)
	}
	if kv.Rev() != rev+9 || kv.CompactRev() != rev+9 {
		t.Errorf("revision %d, compacted to %d, want both to be %d", kv.Rev(), kv.CompactRev(), rev+9)
	}
	got, err := kv.Range([]byte{0}, []byte{0}, mvcc.RangeOptions{})
	if err != nil || got.Count != 12 {
		t.Errorf("%d keys after the bump: %v", got.Count, err)
	}
}

// The newest revision may have no row any more: a bump counts from there.
func TestBumpCountsFromTheCompaction(t *testing.T) {
	f := open(t, bolt(t, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(metaFinished, appendRevision(nil, 50))
	}), HashSkipped)
	into := newEngine(t)
	if _, err := f.CopyTo(t.Context(), into, testGroup, 5); err != nil {
		t.Fatal(err)
	}
	kv, err := mvcc.Open(into, testGroup)
	if err != nil || kv.Rev() != 55 {
		t.Errorf("revision %d: %v", kv.Rev(), err)
	}
}

// bolt makes a database as an old etcd leaves it in a data dir: the buckets key
// and meta alone.
func bolt(t testing.TB, fill func(tx *bbolt.Tx) error) string {
	t.Helper()
	name := writeFile(t, nil)
	db, err := bbolt.Open(name, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketKey, bucketMeta} {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		return fill(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBadFiles(t *testing.T) {
	good := newFullStore(t).file()
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(content)
	flipped[len(flipped)/2] ^= 1
	noKeys := bolt(t, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketKey) })
	newer := bolt(t, func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaStorageVersion, []byte("3.8.0")) })
	for _, c := range []struct {
		name, path string
		check      HashCheck
		want       string
	}{
		{"missing", good + ".not", HashRequired, "no such file or directory"},
		{"folder", t.TempDir(), HashRequired, "it is not a file"},
		{"empty", writeFile(t, nil), HashRequired, "it is empty, not a bbolt file"},
		{"text", writeFile(t, bytes.Repeat([]byte("text\n"), 4000)), HashRequired, "it is not a bbolt file"},
		{"truncated", writeFile(t, content[:len(content)-5000]), HashRequired, "it is truncated: it has "},
		{"truncated without hash", writeFile(t, content[:len(content)-5000]), HashSkipped, "it is truncated: it has "},
		{"without hash", writeFile(t, content[:len(content)-sumBytes]), HashRequired, "it does not end with a sha256"},
		{"half a hash", writeFile(t, content[:len(content)-sumBytes/2]), HashRequired, "it does not end with a sha256"},
		{"flipped bit", writeFile(t, flipped), HashRequired, "it is damaged: its sha256 is "},
		{"flipped bit in status", writeFile(t, flipped), HashIfPresent, "it is damaged: its sha256 is "},
		{"other bbolt file", noKeys, HashSkipped, `none of etcd: it has no bucket "key"`},
		{"newer", newer, HashSkipped, "its storage version is 3.8.0, this version knows up to 3.7"},
	} {
		f, err := Open(c.path, c.check)
		if err == nil {
			_ = f.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), c.path+": ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for _, ok := range []string{good, writeFile(t, content[:len(content)-sumBytes])} {
		open(t, ok, HashSkipped)
		open(t, ok, HashIfPresent)
	}
}

func TestBadRows(t *testing.T) {
	for _, c := range []struct {
		name   string
		fill   func(tx *bbolt.Tx) error
		refuse string
	}{
		{"short revision", func(tx *bbolt.Tx) error { return tx.Bucket(bucketKey).Put([]byte("short"), nil) }, "malformed"},
		{"negative revision", func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketKey).Put(appendRevision(nil, -1), nil)
		}, "out of bounds"},
		{"compaction", func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaScheduled, []byte{1}) }, "malformed"},
		{"lease", func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket(bucketLease)
			if err != nil {
				return err
			}
			return b.Put(leaseKey(1), appendLease(nil, lease.Lease{ID: 2, TTLSeconds: 5}))
		}, "its row says ID 2"},
		{"alarm", func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket(bucketAlarm)
			if err != nil {
				return err
			}
			return b.Put([]byte{0xff}, nil)
		}, "alarm ff"},
	} {
		f := open(t, bolt(t, c.fill), HashSkipped)
		if _, err := f.CopyTo(t.Context(), newEngine(t), testGroup, 0); err == nil || !strings.Contains(err.Error(), c.refuse) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refuse)
		}
	}
}

// No damage takes the process down, and with its hash none goes unnoticed.
func TestDamageIsFound(t *testing.T) {
	content, err := os.ReadFile(newFullStore(t).file())
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(os.Getpid())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	path := writeFile(t, nil)
	for range 150 {
		bad := bytes.Clone(content)
		switch r.IntN(3) {
		case 0:
			bad = bad[:r.IntN(len(bad))]
		case 1: // any byte
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		case 2: // where pages have their structure
			bad[r.IntN(len(bad)/4096)*4096+r.IntN(64)] = byte(r.Uint32())
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(path, HashRequired); err == nil {
			_ = f.Close()
			if !bytes.Equal(bad, content) {
				t.Fatal("a damaged file was taken")
			}
		}
		f, err := Open(path, HashSkipped)
		if err != nil {
			continue
		}
		if _, err := f.CopyTo(t.Context(), newEngine(t), testGroup, 0); err == nil {
			_, _ = f.Status() // what it says does not matter
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParseLease(f *testing.F) {
	f.Add(leaseKey(7), appendLease(nil, lease.Lease{ID: 7, TTLSeconds: 60}))
	f.Add(leaseKey(-7), []byte{0x18, 0x05})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		l, err := parseLease(key, value)
		if err != nil {
			return
		}
		again, err := parseLease(leaseKey(l.ID), appendLease(nil, l))
		if err != nil || again != l || l.ID == 0 || l.TTLSeconds < 1 {
			t.Errorf("%x = %x gives %+v, and that %+v: %v", key, value, l, again, err)
		}
	})
}
