package mvcc

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	betesting "go.etcd.io/etcd/server/v3/storage/backend/testing"
	etcd "go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"

	"metastore.io/metastore/server/engine"
)

// oracle runs the same commands on etcd's own store and on ours.
type oracle struct {
	t    *testing.T
	rnd  *rand.Rand
	ours *Store
	// theirs is etcd's store, as far as it is used here.
	theirs interface {
		Write(trace *traceutil.Trace) etcd.TxnWrite
		Compact(trace *traceutil.Trace, rev int64) (<-chan struct{}, error)
		Range(ctx context.Context, key, end []byte, ro etcd.RangeOptions) (*etcd.RangeResult, error)
		HashStorage() etcd.HashStorage
		Rev() int64
	}
	backend backend.Backend
	// etcd answers the hash of a revision that it compacted to from what it
	// computed on the way. forgotten are those where ours did not, since one
	// sweep did several, or since it started anew. unswept: the last compaction
	// waits for a sweep.
	forgotten map[int64]bool
	unswept   bool
	// liveKeys biases the commands: with few keys everything gets deleted.
	keys int
}

func newOracle(t *testing.T, keys int) *oracle {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	be, _ := betesting.NewDefaultTmpBackend(t)
	store := etcd.NewStore(zap.NewNop(), be, &lease.FakeLessor{}, etcd.StoreConfig{})
	t.Cleanup(func() {
		store.Close()
		betesting.Close(t, be)
	})
	return &oracle{
		t: t, rnd: rand.New(rand.NewPCG(seed, 3)), keys: keys,
		ours: openStore(t, openEngine(t, t.TempDir())), theirs: store, backend: be,
		forgotten: map[int64]bool{},
	}
}

func TestAgainstEtcd(t *testing.T) {
	for _, keys := range []int{2, 10, 200} {
		t.Run(fmt.Sprintf("%d keys", keys), func(t *testing.T) {
			o := newOracle(t, keys)
			o.hash(0)
			for range 300 {
				switch n := o.rnd.IntN(20); {
				case n < 16:
					o.command()
				case n < 17:
					o.compact()
				case n < 19:
					if _, err := o.ours.CompactStep(1 + o.rnd.IntN(5)); err != nil {
						t.Fatal(err)
					}
				default:
					o.reopen()
				}
				o.compare()
			}
			sweepAll(t, o.ours, 100)
			o.compare()
			o.rows()
		})
	}
}

func (o *oracle) key() []byte { return fmt.Appendf(nil, "k%03d", o.rnd.IntN(o.keys)) }

// command is a transaction as etcd's API admits it: no key changes twice.
func (o *oracle) command() {
	tx := o.theirs.Write(traceutil.TODO())
	command(o.t, o.ours, func(w *Writer) {
		changed := map[string]bool{}
		for range o.rnd.IntN(4) {
			key := o.key()
			if changed[string(key)] {
				continue
			}
			changed[string(key)] = true
			switch o.rnd.IntN(5) {
			case 0, 1, 2:
				value, id := fmt.Appendf(nil, "%d", o.rnd.IntN(1000)), o.rnd.Int64N(3)
				w.Put(key, value, id)
				tx.Put(key, value, lease.LeaseID(id))
			case 3:
				o.deleteRange(w, tx, key, nil)
			case 4:
				if len(changed) == 1 {
					o.deleteRange(w, tx, key, fmt.Appendf(nil, "k%03d", o.rnd.IntN(o.keys+1)))
					return
				}
			}
		}
	})
	tx.End()
	if o.ours.Rev() != o.theirs.Rev() {
		o.t.Fatalf("revision %d, etcd's is %d", o.ours.Rev(), o.theirs.Rev())
	}
}

func (o *oracle) deleteRange(w *Writer, tx etcd.TxnWrite, key, end []byte) {
	_, n := w.DeleteRange(key, end)
	if want, _ := tx.DeleteRange(key, end); n != want {
		o.t.Fatalf("delete [%q, %q): %d, etcd %d", key, end, n, want)
	}
}

func (o *oracle) compact() {
	rev := o.rnd.Int64N(o.ours.Rev() + 2)
	if o.rnd.IntN(2) == 0 {
		rev = o.ours.Rev()
	}
	// Of revision 0 see Store.remember. Where the last key went at rev itself,
	// etcd hashes other rows while it compacts than when it is asked before.
	etcdDiffers := !o.ours.anyVisible(rev)
	done, want := o.theirs.Compact(traceutil.TODO(), rev)
	var err error
	batch(o.t, o.ours, func(w *Writer) { err = w.Compact(rev) })
	if fmt.Sprint(err) != fmt.Sprint(want) {
		o.t.Fatalf("compact %d: %v, etcd %v", rev, err, want)
	}
	if err != nil {
		return
	}
	<-done
	o.forgotten[rev] = o.unswept || o.rnd.IntN(4) == 0 || etcdDiffers
	if o.unswept = o.forgotten[rev] && o.rnd.IntN(2) == 0; !o.unswept {
		sweepAll(o.t, o.ours, 1+o.rnd.IntN(20))
	}
}

func (o *oracle) reopen() {
	o.ours = openStore(o.t, o.ours.engine)
	for rev := range o.forgotten {
		o.forgotten[rev] = true
	}
}

func (o *oracle) compare() {
	o.t.Helper()
	o.hash(0)
	o.hash(o.rnd.Int64N(o.ours.Rev() + 2))
	for range 4 {
		key, end := o.key(), [][]byte{nil, o.key(), {}}[o.rnd.IntN(3)]
		opt := RangeOptions{
			Rev: o.rnd.Int64N(o.ours.Rev() + 2), Limit: o.rnd.Int64N(4),
			CountOnly: o.rnd.IntN(4) == 0, KeysOnly: o.rnd.IntN(3) == 0,
		}
		o.rangeBoth(key, end, opt)
	}
}

func (o *oracle) rangeBoth(key, end []byte, opt RangeOptions) {
	o.t.Helper()
	want, wantErr := o.theirs.Range(context.Background(), key, end, etcd.RangeOptions{
		Rev: opt.Rev, Limit: opt.Limit, CountOnly: opt.CountOnly, FastKeysOnly: opt.KeysOnly, WithTotalCount: true,
	})
	// Below the API, etcd's unbounded end is an empty slice that is not nil.
	ourEnd := end
	if end != nil && len(end) == 0 {
		ourEnd = []byte{0}
	}
	got, err := o.ours.Range(key, ourEnd, opt)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		o.t.Fatalf("range [%q, %q) %+v: %v, etcd %v", key, end, opt, err, wantErr)
	}
	if err != nil {
		return
	}
	theirs := RangeResult{KVs: want.KVs, Count: int64(want.Count), Rev: want.Rev}
	if !sameRange(got, theirs) {
		o.t.Fatalf("range [%q, %q) %+v:\n%setcd:\n%s", key, end, opt, showRange(got, nil), showRange(theirs, nil))
	}
}

func (o *oracle) hash(rev int64) {
	o.t.Helper()
	if o.forgotten[rev] {
		return
	}
	want, wantRev, wantErr := o.theirs.HashStorage().HashByRev(rev)
	got, compacted, current, err := o.ours.HashKV(rev)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		o.t.Fatalf("hash at %d: %v, etcd %v", rev, err, wantErr)
	}
	if err == nil && (got != want.Hash || compacted != want.CompactRevision || current != wantRev) {
		o.t.Fatalf("hash at %d: %08x compacted %d current %d, etcd %08x %d %d", rev,
			got, compacted, current, want.Hash, want.CompactRevision, wantRev)
	}
}

// rows compares what is stored, byte for byte.
func (o *oracle) rows() {
	o.t.Helper()
	tx := o.backend.ReadTx()
	tx.RLock()
	defer tx.RUnlock()
	keys, values := tx.UnsafeRange(schema.Key, make([]byte, 17), bytes.Repeat([]byte{0xff}, 18), math.MaxInt64)
	i := 0
	from := o.ours.group.Key()
	err := o.ours.engine.Scan(engine.Revisions, from, engine.PrefixEnd(from), func(key, row []byte) (bool, error) {
		if i >= len(keys) || !bytes.Equal(key[groupLen:], keys[i]) || !bytes.Equal(row, values[i]) {
			o.t.Fatalf("row %d: %x %x differs from etcd's", i, key, row)
		}
		i++
		return true, nil
	})
	if err != nil || i != len(keys) {
		o.t.Fatalf("%d rows, etcd has %d, %v", i, len(keys), err)
	}
}

// TestHashOfAnEmptyKeyspaceAgainstEtcd is the case where etcd keeps nothing and
// therefore skips nothing.
func TestHashOfAnEmptyKeyspaceAgainstEtcd(t *testing.T) {
	o := newOracle(t, 1)
	both := func(fn func(w *Writer, tx etcd.TxnWrite)) {
		tx := o.theirs.Write(traceutil.TODO())
		command(t, o.ours, func(w *Writer) { fn(w, tx) })
		tx.End()
	}
	for range 3 {
		both(func(w *Writer, tx etcd.TxnWrite) {
			w.Put([]byte("a"), []byte("v"), 0)
			tx.Put([]byte("a"), []byte("v"), 0)
		})
	}
	done, err := o.theirs.Compact(traceutil.TODO(), 3)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	compact(t, o.ours, 3)
	both(func(w *Writer, tx etcd.TxnWrite) { o.deleteRange(w, tx, []byte("a"), nil) })
	o.hash(0)
	sweepAll(t, o.ours, 1)
	o.hash(0)
	o.rows()
}
