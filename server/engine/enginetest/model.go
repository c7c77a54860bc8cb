package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"metastore.io/metastore/server/engine"
)

// model is what an engine should hold: a sorted map a space.
type model [engine.SpaceCount]map[string]string

func newModel() model {
	var m model
	for s := range m {
		m[s] = map[string]string{}
	}
	return m
}

func (m model) clone() model {
	for s := range m {
		m[s] = maps.Clone(m[s])
	}
	return m
}

func (m model) apply(b *engine.Batch) {
	_ = b.Each(func(op engine.Op) error {
		rows := m[op.Space]
		switch op.Kind {
		case engine.OpPut:
			rows[string(op.Key)] = string(op.Value)
		case engine.OpDelete:
			delete(rows, string(op.Key))
		case engine.OpDeleteRange:
			maps.DeleteFunc(rows, func(k, _ string) bool {
				return k >= string(op.Key) && (op.To == nil || k < string(op.To))
			})
		}
		return nil
	})
}

// scan lists rows as scanned does.
func (m model) scan(s engine.Space, from, to []byte) []string {
	var rows []string
	for _, k := range slices.Sorted(maps.Keys(m[s])) {
		if k >= string(from) && (to == nil || k < string(to)) {
			rows = append(rows, formatRow([]byte(k), []byte(m[s][k])))
		}
	}
	return rows
}

// testModel compares an engine with the model through random steps.
func testModel(t *testing.T, o engine.Opener) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := &modelRun{
		t: t, o: o, dir: t.TempDir() + "/engine", want: newModel(),
		rand: rand.New(rand.NewPCG(seed, 0)),
	}
	r.e = openDir(t, o, r.dir)
	for range 1500 {
		r.step()
		if t.Failed() {
			return
		}
	}
	r.check(r.e, r.want)
}

type modelRun struct {
	t    *testing.T
	o    engine.Opener
	dir  string
	rand *rand.Rand
	e    *testEngine
	want model
	// snaps are open snapshots with what they should show.
	snaps []modelSnap
	// next makes ascending keys in Revisions.
	next int
}

type modelSnap struct {
	engine.Snapshot
	want model
}

func (r *modelRun) step() {
	switch n := r.rand.IntN(100); {
	case n < 60:
		b := r.batch()
		r.want.apply(b)
		if err := r.e.Apply(b); err != nil {
			r.t.Fatalf("apply: %v", err)
		}
	case n < 80:
		r.read(r.e, r.want)
	case n < 87 && len(r.snaps) < 6:
		s, err := r.e.Snapshot()
		if err != nil {
			r.t.Fatalf("snapshot: %v", err)
		}
		r.snaps = append(r.snaps, modelSnap{s, r.want.clone()})
	case n < 93 && len(r.snaps) > 0:
		i := r.rand.IntN(len(r.snaps))
		r.check(r.snaps[i], r.snaps[i].want)
		if err := r.snaps[i].Close(); err != nil {
			r.t.Fatalf("close snapshot: %v", err)
		}
		r.snaps = slices.Delete(r.snaps, i, i+1)
	case n < 97:
		r.e.flush()
	case n == 97:
		if err := r.e.Defragment(); err != nil {
			r.t.Fatalf("defragment: %v", err)
		}
	case n == 98:
		r.check(r.e, r.want)
	default:
		r.reopen()
	}
}

func (r *modelRun) reopen() {
	for _, s := range r.snaps {
		r.check(s, s.want)
		if err := s.Close(); err != nil {
			r.t.Fatalf("close snapshot: %v", err)
		}
	}
	r.snaps = nil
	r.e.flush()
	r.e.close()
	r.e = openDir(r.t, r.o, r.dir)
	r.check(r.e, r.want)
}

func (r *modelRun) batch() *engine.Batch {
	b := engine.NewBatch()
	for range 1 + r.rand.IntN(40) {
		s := engine.Space(r.rand.IntN(engine.SpaceCount))
		switch n := r.rand.IntN(20); {
		case n < 6:
			r.next++
			b.Put(revisions, fmt.Appendf(nil, "r%08d", r.next), r.value())
		case n < 12:
			b.Put(s, r.key(s), r.value())
		case n < 19:
			b.Delete(s, r.key(s))
		case r.rand.IntN(20) == 0:
			b.DeleteRange(s, r.key(s), nil)
		default:
			key := r.key(s)
			b.DeleteRange(s, key, engine.PrefixEnd(key[:max(1, len(key)-1)]))
		}
	}
	return b
}

// key is one of few short keys, so that steps meet, or an appended one.
func (r *modelRun) key(s engine.Space) []byte {
	if s == revisions && r.next > 0 && r.rand.IntN(2) == 0 {
		return fmt.Appendf(nil, "r%08d", 1+r.rand.IntN(r.next))
	}
	key := make([]byte, 1+r.rand.IntN(3))
	for i := range key {
		key[i] = []byte{0, 1, 'a', 'r', 0xff}[r.rand.IntN(5)]
	}
	return key
}

func (r *modelRun) value() []byte {
	return bytes.Repeat([]byte{byte(r.rand.Uint32())}, r.rand.IntN(40))
}

// read checks one random read.
func (r *modelRun) read(e engine.Reader, want model) {
	r.t.Helper()
	s := engine.Space(r.rand.IntN(engine.SpaceCount))
	from, to := r.key(s), r.key(s)
	if r.rand.IntN(5) == 0 {
		to = nil
	}
	r.compare(s, scanned(r.t, e, s, from, to), want.scan(s, from, to))
	keys, values := make([][]byte, 5), make([][]byte, 5)
	for i := range keys {
		keys[i] = r.key(s)
	}
	if err := e.GetMany(s, keys, values); err != nil {
		r.t.Fatalf("get many: %v", err)
	}
	for i, k := range keys {
		v, ok, err := e.Get(s, k)
		w, there := want[s][string(k)]
		if err != nil || ok != there || string(v) != w || (values[i] != nil) != there || string(values[i]) != w {
			r.t.Errorf("get %q: got %q, %v, %v; get many: %q; want %q, %v", k, v, ok, err, values[i], w, there)
		}
	}
}

// check compares everything.
func (r *modelRun) check(e engine.Reader, want model) {
	r.t.Helper()
	for s := range engine.Space(engine.SpaceCount) {
		r.compare(s, scanned(r.t, e, s, nil, nil), want.scan(s, nil, nil))
	}
}

func (r *modelRun) compare(s engine.Space, got, want []string) {
	r.t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			r.t.Fatalf("space %d, row %d: got %s, want %s", s, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		r.t.Fatalf("space %d: got %d rows, want %d", s, len(got), len(want))
	}
}

func testSize(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	check := func(when string, low, high int64) {
		t.Helper()
		s := e.Size()
		if s.UsedBytes < 0 || s.TotalBytes < s.UsedBytes {
			t.Errorf("%s: the size %+v makes no sense", when, s)
		}
		if s.TotalBytes < low || s.UsedBytes > high {
			t.Errorf("%s: got size %+v, want at least %d in all and at most %d used", when, s, low, high)
		}
		if cost := e.FlushCostBytes(); cost < 0 || cost > 2*s.TotalBytes {
			t.Errorf("%s: a flush costs %d bytes, the size is %+v", when, cost, s)
		}
	}
	const rows, valueBytes = 4096, 1024
	random := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, valueBytes)
	for i := range rows {
		for j := range value {
			value[j] = byte(random.Uint32())
		}
		e.apply(func(b *engine.Batch) { b.Put(revisions, fmt.Appendf(nil, "%06d", i), value) })
	}
	const all = rows * valueBytes
	check("after writes", all, 2*all)
	e.flush()
	check("after a flush", all, 2*all)
	e.apply(func(b *engine.Batch) { b.DeleteRange(revisions, nil, nil) })
	e.flush()
	if err := e.Defragment(); err != nil {
		t.Fatalf("defragment: %v", err)
	}
	check("after all is deleted", 0, all/4)
	if s := e.Size(); s.TotalBytes > all/2 {
		t.Errorf("after all is deleted and defragmented: got size %+v", s)
	}
}

func testClosed(t *testing.T, o engine.Opener) {
	e := openNew(t, o)
	e.put(meta, "a", "1")
	s, err := e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	e.close()
	b := engine.NewBatch()
	b.Put(meta, []byte("b"), nil)
	_, snapErr := e.Snapshot()
	calls := map[string]error{
		"apply": e.Apply(b), "flush": e.Flush(), "defragment": e.Defragment(),
		"snapshot": snapErr, "close": e.Close(),
	}
	for name, r := range map[string]engine.Reader{"engine": e, "snapshot": s} {
		_, _, calls[name+" get"] = r.Get(meta, []byte("a"))
		calls[name+" get many"] = r.GetMany(meta, [][]byte{[]byte("a")}, make([][]byte, 1))
		calls[name+" scan"] = r.Scan(meta, nil, nil, func(_, _ []byte) (bool, error) { return true, nil })
	}
	for what, err := range calls {
		if !errors.Is(err, engine.ErrClosed) {
			t.Errorf("%s on a closed engine: got %v, want %v", what, err, engine.ErrClosed)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("close a snapshot of a closed engine: %v", err)
	}
	_ = e.Size()
	_ = e.FlushCostBytes()
}
