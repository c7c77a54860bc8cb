package watch

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"metastore.io/metastore/server/state"
)

var seed = flag.Uint64("seed", 0, "seed of the model test; 0 takes the time")

// TestModel runs random watchers of random ranges, slow and fast, that
// reconnect, against random transactions, snapshots and tiny outboxes. Each
// must see exactly the events that the history has for it, in order.
func TestModel(t *testing.T) {
	n := *seed
	if n == 0 {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("reproduce with -seed=%d", n)
	rng := rand.New(rand.NewPCG(n, 1))
	const revisions, watchers = 600, 24
	m := &model{st: newStore()}
	m.hub = NewHub(m.st, Options{
		OutboxEvents: 1 + rng.IntN(40),
		OutboxBytes:  200 + rng.IntN(20000),
		ReplayBytes:  1 + rng.IntN(4000),
	})
	var wg sync.WaitGroup
	for i := range watchers {
		wg.Go(func() { m.watch(t, rand.New(rand.NewPCG(n, uint64(i+2))), revisions+1) })
	}
	var batch []state.RevisionEvents
	for range revisions {
		batch = append(batch, m.st.write(randomTxn(rng)...))
		switch rng.IntN(50) {
		case 0: // a snapshot that has what was not published yet
			batch = nil
			m.st = m.st.clone()
			m.hub.Reset(m.st)
		case 1:
			runtime.Gosched()
		}
		if rng.IntN(3) == 0 {
			m.hub.Publish(batch)
			batch = nil
		}
	}
	m.hub.Publish(batch)
	wg.Wait()
	if got := m.hub.Stats(); got.Streams != 0 || got.Watchers != 0 || got.Lagging != 0 {
		t.Errorf("left over: %+v", got)
	}
}

type model struct {
	st  *store // the writer's
	hub *Hub
}

func randomTxn(rng *rand.Rand) []op {
	var ops []op
	for _, k := range rng.Perm(12)[:1+rng.IntN(4)] {
		key := fmt.Sprintf("k%02d", k)
		if rng.IntN(4) == 0 {
			ops = append(ops, del(key))
		} else {
			ops = append(ops, put(key, fmt.Sprint(rng.IntN(1000))))
		}
	}
	return ops
}

// watch follows one random range to revision last, over several connections.
func (m *model) watch(t *testing.T, rng *rand.Rand, last int64) {
	r := Request{Key: fmt.Appendf(nil, "k%02d", rng.IntN(12)), PrevKV: rng.IntN(2) == 0}
	switch rng.IntN(4) {
	case 0:
		r.End = fmt.Appendf(nil, "k%02d", rng.IntN(12))
	case 1:
		r.End = []byte{0}
	case 2:
		r.Key, r.End = nil, []byte{0}
	}
	if emptyRange(r.Key, r.End) {
		r.Key, r.End = r.End, r.Key
		if bytes.Equal(r.Key, r.End) {
			r.End = nil
		}
	}
	r.NoPut, r.NoDelete = rng.IntN(4) == 0, rng.IntN(4) == 0
	first := 1 + rng.Int64N(m.hub.Rev()+1)
	slow := rng.IntN(3) == 0
	var got []string
	next := first
	for next <= last {
		until := min(last, next+rng.Int64N(300))
		r.StartRevision = next
		next = m.connection(t, r, until, slow, &got)
	}
	want := m.expected(r, first, next)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("watch %q %q: event %d of %d differs from %d expected ones:\n got %.200q\nwant %.200q",
				r.Key, r.End, i, len(got), len(want), got[min(i, len(got)):], want[min(i, len(want)):])
			return
		}
	}
}

// connection watches from r.StartRevision until progress says that it has all
// up to until, and returns the revision to go on from.
func (m *model) connection(t *testing.T, r Request, until int64, slow bool, got *[]string) int64 {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := m.hub.NewStream()
	next := r.StartRevision
	if err := s.Create(ctx, r); err != nil {
		t.Errorf("create: %v", err)
	}
	ask := make(chan struct{}, 1)
	asked := make(chan struct{})
	go func() { // progress requests, while the events come
		defer close(asked)
		for range ask {
			if s.RequestProgress(ctx) != nil {
				return
			}
		}
	}()
	defer func() { close(ask); <-asked }()
	ask <- struct{}{}
	_ = s.Run(ctx, func(resp Response) error {
		if slow {
			for range 20 {
				runtime.Gosched()
			}
		}
		for _, ev := range resp.Events() {
			*got = append(*got, showEvent(ev))
			if ev.Kv.ModRevision < next || ev.Kv.ModRevision > resp.Revision {
				t.Errorf("event %s after revision %d, in a response of %d", showEvent(ev), next, resp.Revision)
			}
			next = ev.Kv.ModRevision
		}
		if resp.WatchID == InvalidID || len(resp.Parts) > 0 {
			// Both promise that everything up to the revision was sent.
			next = max(next, resp.Revision+1)
		}
		if next > until {
			cancel()
			return ctx.Err()
		}
		if resp.WatchID == InvalidID {
			select {
			case ask <- struct{}{}:
			default:
			}
		}
		return nil
	})
	return next
}

// expected is what the final history holds for the watcher, from first to before next.
func (m *model) expected(r Request, first, next int64) []string {
	w := newWatcher(nil, r)
	var want []string
	m.st.mu.Lock()
	defer m.st.mu.Unlock()
	for _, rev := range m.st.revs {
		for _, ev := range rev.Events {
			in := bytes.Compare(ev.Kv.Key, w.key) >= 0 && (w.end == nil || bytes.Compare(ev.Kv.Key, w.end) < 0)
			if w.single {
				in = bytes.Equal(ev.Kv.Key, w.key)
			}
			if !in || w.filtered(ev) || rev.Rev < first || rev.Rev >= next {
				continue
			}
			if !r.PrevKV {
				ev = withoutPrev(ev)
			}
			want = append(want, showEvent(ev))
		}
	}
	return want
}
