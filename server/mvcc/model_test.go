package mvcc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/engine"
)

// model is the naive store: the pairs at every revision, and every event.
type model struct {
	// at[r] are the pairs at revision r; events[r] what led there.
	at        map[int64]map[string]*mvccpb.KeyValue
	events    map[int64][]*mvccpb.Event
	rev       int64
	compacted int64
	// next is the running command's state.
	next map[string]*mvccpb.KeyValue
}

func newModel() *model {
	return &model{
		at:        map[int64]map[string]*mvccpb.KeyValue{1: {}},
		events:    map[int64][]*mvccpb.Event{},
		rev:       1,
		compacted: notCompacted,
	}
}

func (m *model) begin() { m.next = maps.Clone(m.at[m.rev]) }

func (m *model) put(key, value string, lease int64) (prevLease int64) {
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), Lease: lease, CreateRevision: m.rev + 1, ModRevision: m.rev + 1, Version: 1}
	if old := m.next[key]; old != nil {
		kv.CreateRevision, kv.Version, prevLease = old.CreateRevision, old.Version+1, old.Lease
	}
	m.next[key] = kv
	ev := &mvccpb.Event{Kv: kv}
	if kv.CreateRevision <= m.rev {
		ev.PrevKv = m.at[m.rev][key]
	}
	m.events[m.rev+1] = append(m.events[m.rev+1], ev)
	return prevLease
}

func (m *model) del(key, end string) (n int64) {
	for _, k := range m.keys(m.next, key, end) {
		delete(m.next, k)
		n++
		m.events[m.rev+1] = append(m.events[m.rev+1], &mvccpb.Event{
			Type:   mvccpb.Event_DELETE,
			Kv:     &mvccpb.KeyValue{Key: []byte(k), ModRevision: m.rev + 1},
			PrevKv: m.at[m.rev][k],
		})
	}
	return n
}

func (m *model) end() {
	if len(m.events[m.rev+1]) > 0 {
		m.rev++
		m.at[m.rev] = m.next
	}
	m.next = nil
}

// keys are the sorted keys of a state in a range.
func (m *model) keys(state map[string]*mvccpb.KeyValue, key, end string) []string {
	var keys []string
	for k := range state {
		if k == key || end != "" && k > key && (end == "\x00" || k < end) {
			if end == "" || end == "\x00" || k < end {
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return keys
}

func (m *model) read(current int64, key, end string, o RangeOptions) (RangeResult, error) {
	rev := o.Rev
	if rev <= 0 {
		rev = current
	}
	switch {
	case rev > current:
		return RangeResult{}, ErrFutureRev
	case rev < m.compacted:
		return RangeResult{}, ErrCompacted
	}
	state := m.at[rev]
	if rev > m.rev {
		state = m.next
	}
	res := RangeResult{Rev: current}
	for _, k := range m.keys(state, key, end) {
		res.Count++
		if o.CountOnly || o.Limit > 0 && res.Count > o.Limit {
			continue
		}
		kv := proto.Clone(state[k]).(*mvccpb.KeyValue)
		if o.KeysOnly {
			kv.Value, kv.Lease = nil, 0
		}
		res.KVs = append(res.KVs, kv)
	}
	return res, nil
}

func sameRange(got, want RangeResult) bool {
	return got.Count == want.Count && got.Rev == want.Rev && slices.EqualFunc(got.KVs, want.KVs, equalKV)
}

func equalKV(a, b *mvccpb.KeyValue) bool { return proto.Equal(a, b) }

// modelRun plays random commands on a store and on the model.
type modelRun struct {
	t     *testing.T
	rnd   *rand.Rand
	e     engine.Engine
	s     *Store
	m     *model
	space int
}

func TestStoreAgainstModel(t *testing.T) {
	for _, space := range []int{8, 60, 2000} {
		t.Run(fmt.Sprintf("%d keys", space), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			e := openEngine(t, t.TempDir())
			// A neighbour group must not be seen nor touched.
			neighbour, err := Open(e, 2)
			if err != nil {
				t.Fatal(err)
			}
			put(t, neighbour, "key/1", "neighbour")
			run := &modelRun{t: t, rnd: rand.New(rand.NewPCG(seed, 2)), e: e, s: openStore(t, e), m: newModel(), space: space}
			for range 250 {
				run.step()
			}
			run.checkAll()
			if got := rowCount(t, neighbour); got != 1 {
				t.Fatalf("the neighbour has %d rows", got)
			}
		})
	}
}

func (r *modelRun) step() {
	switch n := r.rnd.IntN(20); {
	case n < 12:
		r.batch()
	case n < 13 && r.m.rev > 2:
		r.compact()
	case n < 17:
		if _, err := r.s.CompactStep(1 + r.rnd.IntN(20)); err != nil {
			r.t.Fatal(err)
		}
	case n < 18:
		r.s = openStore(r.t, r.e)
	}
	for range 5 {
		key, end, o := r.query(r.m.rev)
		got, err := r.s.Range([]byte(key), []byte(end), o)
		want, wantErr := r.m.read(r.m.rev, key, end, o)
		r.compare("reader", key, end, o, got, want, err, wantErr)
	}
	r.history()
}

func (r *modelRun) key() string {
	n := r.rnd.IntN(r.space)
	if n%7 == 0 {
		return string([]byte{0xff, byte(n), 0})
	}
	return fmt.Sprintf("key/%d", n)
}

func (r *modelRun) ends(key string) string {
	switch r.rnd.IntN(5) {
	case 0:
		return ""
	case 1:
		return "\x00"
	case 2:
		return key + "~"
	}
	return r.key()
}

func (r *modelRun) query(rev int64) (key, end string, o RangeOptions) {
	key = r.key()
	end = r.ends(key)
	if r.rnd.IntN(2) == 0 {
		o.Rev = r.rnd.Int64N(rev + 2)
	}
	if r.rnd.IntN(2) == 0 {
		o.Limit = r.rnd.Int64N(10)
	}
	o.CountOnly = r.rnd.IntN(3) == 0
	o.KeysOnly = r.rnd.IntN(4) == 0
	return key, end, o
}

func (r *modelRun) compare(who, key, end string, o RangeOptions, got, want RangeResult, err, wantErr error) {
	r.t.Helper()
	if err != wantErr || err == nil && !sameRange(got, want) {
		r.t.Fatalf("%s: range [%q, %q) %+v at revision %d:\ngot %s\nwant %s", who, key, end, o, r.m.rev,
			showRange(got, err), showRange(want, wantErr))
	}
}

// batch runs some commands, with reads of the writer and of readers between.
func (r *modelRun) batch() {
	published, state := r.m.rev, r.m.rev
	events, bare := map[int64][]*mvccpb.Event{}, r.rnd.IntN(4) == 0
	batch(r.t, r.s, func(w *Writer) {
		if bare {
			w.Bare()
		}
		for range 1 + r.rnd.IntN(8) {
			w.Begin()
			r.m.begin()
			state = r.m.rev
			for range r.rnd.IntN(4) {
				r.change(w)
				if len(r.m.events[r.m.rev+1]) > 0 {
					state = r.m.rev + 1
				}
				key, end, o := r.query(state)
				got, err := w.Range([]byte(key), []byte(end), o)
				want, wantErr := r.m.read(state, key, end, o)
				r.compare("writer", key, end, o, got, want, err, wantErr)
				r.readPublished(published)
			}
			r.m.end()
			rev, evs := w.End()
			if rev != r.m.rev {
				r.t.Fatalf("revision %d, want %d", rev, r.m.rev)
			}
			if len(evs) > 0 {
				events[rev] = evs
			}
		}
	})
	for rev, evs := range events {
		want := r.m.events[rev]
		if bare {
			want = withoutPrevs(want)
		}
		if showEvents(evs) != showEvents(want) {
			r.t.Fatalf("revision %d: events\n%swant\n%s", rev, showEvents(evs), showEvents(want))
		}
	}
}

func withoutPrevs(evs []*mvccpb.Event) []*mvccpb.Event {
	out := make([]*mvccpb.Event, len(evs))
	for i, ev := range evs {
		out[i] = &mvccpb.Event{Type: ev.Type, Kv: ev.Kv}
	}
	return out
}

// readPublished checks that a reader sees nothing staged.
func (r *modelRun) readPublished(published int64) {
	key, end, o := r.query(published)
	got, err := r.s.Range([]byte(key), []byte(end), o)
	ahead := r.m.rev
	r.m.rev = max(ahead, published)
	want, wantErr := r.m.read(published, key, end, o)
	r.m.rev = ahead
	r.compare("reader during a batch", key, end, o, got, want, err, wantErr)
}

func (r *modelRun) change(w *Writer) {
	key := r.key()
	if r.rnd.IntN(3) > 0 {
		value, lease := fmt.Sprint(r.rnd.IntN(1000)), int64(r.rnd.IntN(3))
		got, want := w.Put([]byte(key), []byte(value), lease), r.m.put(key, value, lease)
		if got != want {
			r.t.Fatalf("put %q: had lease %d, want %d", key, got, want)
		}
		return
	}
	end := r.ends(key)
	if end == "\x00" && r.rnd.IntN(10) > 0 {
		end = ""
	}
	keys, got := w.DeleteRange([]byte(key), []byte(end))
	if want := r.m.del(key, end); got != want || int64(len(keys)) != got {
		r.t.Fatalf("delete [%q, %q): %d keys of %d, want %d", key, end, len(keys), got, want)
	}
}

func (r *modelRun) compact() {
	rev := max(r.m.compacted, 0) + r.rnd.Int64N(r.m.rev-max(r.m.compacted, 0)+2)
	want := error(nil)
	if rev <= r.m.compacted {
		want = ErrCompacted
	} else if rev > r.m.rev {
		want = ErrFutureRev
	}
	batch(r.t, r.s, func(w *Writer) {
		if err := w.Compact(rev); err != want {
			r.t.Fatalf("compact to %d of %d: %v, want %v", rev, r.m.rev, err, want)
		}
	})
	if want == nil {
		r.m.compacted = rev
	}
}

func (r *modelRun) history() {
	from, to := r.rnd.Int64N(r.m.rev+2), r.rnd.Int64N(r.m.rev+3)
	last := from - 1
	prevs := r.rnd.IntN(2) == 0
	next, err := r.s.History(from, to, r.rnd.IntN(500), prevs, func(rev int64, evs []*mvccpb.Event) error {
		want := r.m.events[rev]
		if !prevs {
			want = withoutPrevs(want)
		}
		if rev == r.m.compacted {
			// The values before are compacted, and so may be all but the last
			// change of a key.
			want, evs = lastOfEach(want), lastOfEach(evs)
		}
		if rev <= last || last > 1 && rev != last+1 || showEvents(evs) != showEvents(want) {
			r.t.Fatalf("history of %d after %d:\n%swant\n%s", rev, last, showEvents(evs), showEvents(want))
		}
		last = rev
		return nil
	})
	if from < r.m.compacted {
		if !errors.Is(err, ErrCompacted) {
			r.t.Fatalf("history from %d, compacted %d: %v", from, r.m.compacted, err)
		}
		return
	}
	if err != nil || from <= min(to, r.m.rev) && next != max(last, 1)+1 && from > 1 {
		r.t.Fatalf("history %d..%d ended at %d: next %d, %v", from, to, last, next, err)
	}
}

func lastOfEach(evs []*mvccpb.Event) []*mvccpb.Event {
	var out []*mvccpb.Event
	for i, e := range evs {
		later := slices.ContainsFunc(evs[i+1:], func(o *mvccpb.Event) bool { return bytes.Equal(o.Kv.Key, e.Kv.Key) })
		if !later {
			out = append(out, &mvccpb.Event{Type: e.Type, Kv: e.Kv})
		}
	}
	return out
}

// checkAll reads everything at every revision, as it is, reopened, and swept.
func (r *modelRun) checkAll() {
	check := func(what string) {
		r.t.Helper()
		for rev := max(r.m.compacted, 1); rev <= r.m.rev; rev++ {
			o := RangeOptions{Rev: rev}
			got, err := r.s.Range([]byte{0}, []byte{0}, o)
			want, wantErr := r.m.read(r.m.rev, "\x00", "\x00", o)
			r.compare(what, "\x00", "\x00", o, got, want, err, wantErr)
		}
		r.checkLeases()
	}
	check("at the end")
	before, _, _, err := r.s.HashKV(0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = openStore(r.t, r.e)
	check("reopened")
	sweepAll(r.t, r.s, 7)
	check("swept")
	r.s = openStore(r.t, r.e)
	check("reopened after the sweep")
	if after, _, _, err := r.s.HashKV(0); err != nil || after != before {
		r.t.Fatalf("hash %d, before the sweep %d, %v", after, before, err)
	}
	if got, want := rowCount(r.t, r.s), r.m.rows(); got != want {
		r.t.Fatalf("%d rows are left, want %d", got, want)
	}
}

// rows is how many rows a finished compaction leaves: what is visible at the
// compact revision, tombstones of it, and everything later.
func (m *model) rows() int {
	n := len(m.at[m.compacted])
	for _, e := range lastOfEach(m.events[m.compacted]) {
		if e.Type == mvccpb.Event_DELETE {
			n++
		}
	}
	for rev := max(m.compacted, 1) + 1; rev <= m.rev; rev++ {
		n += len(m.events[rev])
	}
	return n
}

func (r *modelRun) checkLeases() {
	r.t.Helper()
	type attached struct {
		lease int64
		key   string
	}
	var got, want []attached
	r.s.AttachedKeys(func(lease int64, key []byte) { got = append(got, attached{lease, string(key)}) })
	for k, kv := range r.m.at[r.m.rev] {
		if kv.Lease != 0 {
			want = append(want, attached{kv.Lease, k})
		}
	}
	slices.SortFunc(want, func(a, b attached) int { return cmp.Compare(a.key, b.key) })
	if !slices.Equal(got, want) {
		r.t.Fatalf("attached keys %v, want %v", got, want)
	}
}
