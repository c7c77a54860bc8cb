package sim

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// watcher is a client that watches and remembers how far it got. It connects to
// a member, reads nothing for a while, reads what there is or a part of it, and
// connects again, mostly to another one.
type watcher struct {
	w      *world
	prefix string
	// prev: it wants previous values.
	prev bool
	// next is the revision that it has not got yet.
	next int64

	process *process
	stream  *watch.Stream
}

var errEnough = errors.New("enough")

func (w *world) beginWatchers() {
	for i := range w.p.watchers {
		x := &watcher{w: w, prefix: []string{"", "k", "lease/"}[i%3], prev: w.chance(0.5), next: 1}
		w.watches = append(w.watches, x)
		w.after(w.about(second), x.connect)
	}
}

func (x *watcher) connect() {
	if x.w.calm {
		return
	}
	if r := x.w.anyProcess(); r != nil {
		x.connectTo(r)
	}
	x.w.after(x.w.about(second), x.read)
}

func (x *watcher) connectTo(r *process) {
	x.process, x.stream = r, r.hub.NewStream()
	req := watch.Request{Key: []byte(x.prefix), End: []byte{0}, StartRevision: x.next, PrevKV: x.prev}
	if x.prefix != "" {
		req.End = []byte(x.prefix[:len(x.prefix)-1] + string(x.prefix[len(x.prefix)-1]+1))
	}
	x.w.tracef("watcher of %q goes on at %d on %d", x.prefix, x.next, r.m.id)
	if err := x.stream.Create(context.Background(), req); err != nil {
		x.w.failf("watch on member %d: %v", r.m.id, err)
	}
}

func (x *watcher) read() {
	if x.w.calm {
		return
	}
	responses := noLimit
	if x.w.chance(0.3) {
		responses = 1 + x.w.rng.IntN(4)
	}
	x.collect(responses)
	x.w.after(x.w.about(300*millisecond), x.connect)
}

// collect reads what the stream has, up to the revision that its hub has
// published, or so many responses, and ends it.
func (x *watcher) collect(responses int) {
	s, r := x.stream, x.process
	if s == nil {
		return
	}
	x.stream = nil
	if r.m.process != r || r.m.pausedUntil > x.w.now || x.next > r.hub.Rev()+1 {
		s.Close() // the member is gone, or does not know the revision yet
		return
	}
	if err := s.RequestProgress(context.Background()); err != nil {
		x.w.failf("watch on member %d: %v", r.m.id, err)
	}
	var got []*mvccpb.Event
	err := s.Run(context.Background(), func(resp watch.Response) error {
		got = append(got, resp.Events()...)
		responses--
		switch {
		case resp.Canceled:
			x.compacted(got, resp.CompactRevision)
			return errEnough
		case resp.WatchID == watch.InvalidID:
			x.complete(got, resp.Revision)
			return errEnough
		case responses <= 0 && len(got) > 0:
			// A client that loses the connection here goes on after the last
			// revision that it saw: it has to be whole.
			x.complete(got, got[len(got)-1].Kv.ModRevision)
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		x.w.failf("watch on member %d: %v", r.m.id, err)
	}
}

// drain gets all that a member has. A compaction ends the watcher once.
func (x *watcher) drain(r *process) {
	for range 2 {
		x.connectTo(r)
		x.collect(noLimit)
	}
}

// complete asserts that the watcher got each event up to a revision once and in
// order.
func (x *watcher) complete(got []*mvccpb.Event, rev int64) {
	want := x.expected(x.next, rev)
	x.compare(got, want)
	x.w.stats[watchedCount] += len(got)
	x.next = max(x.next, rev+1)
}

// compacted asserts that what came before the end is a beginning of what there
// is, and goes on after the compaction.
func (x *watcher) compacted(got []*mvccpb.Event, compact int64) {
	want := x.expected(x.next, x.w.truth.rev)
	if len(got) > len(want) {
		x.w.failf("watcher of %q: %d events from revision %d on, there are %d", x.prefix, len(got), x.next, len(want))
	}
	x.compare(got, want[:len(got)])
	if compact <= x.next {
		x.w.failf("watcher of %q at revision %d ends for the compaction of %d", x.prefix, x.next, compact)
	}
	x.next = compact
}

func (x *watcher) expected(from, to int64) (want []*mvccpb.Event) {
	for _, ev := range x.w.truth.list {
		if rev := ev.Kv.ModRevision; rev >= from && rev <= to && strings.HasPrefix(string(ev.Kv.Key), x.prefix) {
			want = append(want, ev)
		}
	}
	return want
}

func (x *watcher) compare(got, want []*mvccpb.Event) {
	for i := range max(len(got), len(want)) {
		g, v := "nothing", "nothing"
		if i < len(got) {
			g = describe(got[i])
			x.comparePrev(got[i])
		}
		if i < len(want) {
			v = describe(want[i])
		}
		if g != v {
			x.w.failf("watcher of %q on member %d from revision %d on: event %d of %d is\n%s\nnot\n%s", x.prefix, x.process.m.id, x.next, i, len(want), g, v)
		}
	}
}

// comparePrev asserts that a previous value is the one before, and that it is
// there unless it may be compacted.
func (x *watcher) comparePrev(ev *mvccpb.Event) {
	before := x.w.truth.at(string(ev.Kv.Key), ev.Kv.ModRevision-1)
	if ev.PrevKv == nil {
		if x.prev && before != "" && x.process.machine.Load().KV().CompactRev() < ev.Kv.ModRevision-1 {
			x.w.failf("watcher of %q on member %d: the event of %s at revision %d lacks the previous value %q",
				x.prefix, x.process.m.id, ev.Kv.Key, ev.Kv.ModRevision, before)
		}
		return
	}
	if !x.prev || !bytes.Equal(ev.PrevKv.Value, []byte(before)) {
		x.w.failf("watcher of %q on member %d: the event of %s at revision %d has the previous value %q, which was %q",
			x.prefix, x.process.m.id, ev.Kv.Key, ev.Kv.ModRevision, ev.PrevKv.Value, before)
	}
}

// forgetful is planted: a source whose history leaves out what a full outbox
// held back.
type forgetful struct {
	watch.Source
	w *world
}

func (f forgetful) History(from, to int64, maxBytes int, prevs bool, fn func(rev int64, evs []*mvccpb.Event) error) (int64, error) {
	dropped := f.w.chance(0.1)
	return f.Source.History(from, to, maxBytes, prevs, func(rev int64, evs []*mvccpb.Event) error {
		if dropped && rev == from {
			return nil
		}
		return fn(rev, evs)
	})
}

// source is what the hub reads history from.
func (r *process) source(m *state.Machine) watch.Source {
	if r.w.planted == plantDropLagging {
		return forgetful{m.KV(), r.w}
	}
	return m.KV()
}
