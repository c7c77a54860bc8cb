package watch

import (
	"sync"
	"sync/atomic"

	"metastore.io/metastore/server/state"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Events are what one group of watchers gets of a run of revisions. Streams
// share them: nobody may change them.
type Events struct {
	List []*mvccpb.Event
	// bytes is about what List takes in memory.
	bytes int
	// held is the run that they are of; nil for those of a replay.
	held *published

	once  sync.Once
	coded []byte
}

// Coded is the events in the form that encode gives them. That is done once,
// by who needs it first, and the bytes are shared, too.
func (e *Events) Coded(encode func([]*mvccpb.Event) []byte) []byte {
	e.once.Do(func() {
		e.coded = encode(e.List)
		if e.held != nil {
			e.held.grow(len(e.coded))
		}
	})
	return e.coded
}

// pick is an ascending set of positions in a run's events: a stretch for as
// long as there are no gaps, then a list.
type pick struct {
	first, n int
	rest     []int // all positions, once there was a gap
}

// add adds a position and reports whether it is the first one.
func (p *pick) add(i int) bool {
	switch {
	case p.n == 0:
		p.first = i
	case p.rest == nil && i != p.first+p.n:
		for j := range p.n {
			p.rest = append(p.rest, p.first+j)
		}
		p.rest = append(p.rest, i)
	case p.rest != nil:
		p.rest = append(p.rest, i)
	}
	p.n++
	return p.n == 1
}

// of are the elements at the positions.
func (p *pick) of(list []*mvccpb.Event) []*mvccpb.Event {
	if p.rest == nil {
		return list[p.first : p.first+p.n : p.first+p.n]
	}
	out := make([]*mvccpb.Event, len(p.rest))
	for i, at := range p.rest {
		out[i] = list[at]
	}
	return out
}

// run is one or more revisions that are handed out together: their events with
// and without previous values.
type run struct {
	first int64 // revision
	full  []*mvccpb.Event
	bare  []*mvccpb.Event // made when the first watcher needs it
	held  *published      // nil in a replay
	// lacking says that full has events without the previous values that they
	// should have.
	lacking bool
}

func newRun(revs []state.RevisionEvents) *run {
	r := &run{first: revs[0].Rev, full: revs[0].Events, lacking: revs[0].Bare}
	for _, more := range revs[1:] {
		r.lacking = r.lacking || more.Bare
		r.full = append(r.full[:len(r.full):len(r.full)], more.Events...)
	}
	return r
}

// offer puts what a watcher of the group gets into its stream's outbox; false
// says that there is no room.
func (r *run) offer(g *group, w *watcher) bool {
	out := r.of(g, w)
	return out == nil || w.stream.offer(w, out)
}

// of is what a watcher of the group gets, nil for nothing.
func (r *run) of(g *group, w *watcher) *Events {
	out := g.shared[w.wants()]
	if out == nil {
		out = r.events(w.filter(g.picked.of(r.seenBy(w))))
		g.shared[w.wants()] = out
	}
	if w.next > r.first {
		out = r.events(since(out.List, w.next))
	}
	if len(out.List) == 0 {
		return nil
	}
	return out
}

func (r *run) events(list []*mvccpb.Event) *Events {
	return &Events{List: list, bytes: sizeBytes(list), held: r.held}
}

// since are the events of a revision and those after it.
func since(list []*mvccpb.Event, rev int64) []*mvccpb.Event {
	for len(list) > 0 && list[0].Kv.ModRevision < rev {
		list = list[1:]
	}
	return list
}

// seenBy are all events, in the form that the watcher asked for.
func (r *run) seenBy(w *watcher) []*mvccpb.Event {
	if w.prevKV {
		return r.full
	}
	if r.bare == nil {
		r.bare = make([]*mvccpb.Event, len(r.full))
		for i, ev := range r.full {
			r.bare[i] = withoutPrev(ev)
		}
	}
	return r.bare
}

// withoutPrev is the event without the previous value; the rest is shared.
func withoutPrev(ev *mvccpb.Event) *mvccpb.Event {
	if ev.PrevKv == nil {
		return ev
	}
	return &mvccpb.Event{Type: ev.Type, Kv: ev.Kv}
}

// published counts who holds the events of one published run, the publisher
// included while it hands them out: until nobody does, their bytes are among the
// unsent ones.
type published struct {
	unsent *atomic.Int64
	bytes  atomic.Int64
	holds  atomic.Int64
}

func (p *published) hold() { p.holds.Add(1) }

// grow counts more bytes. Only who holds may call it.
func (p *published) grow(n int) {
	p.bytes.Add(int64(n))
	p.unsent.Add(int64(n))
}

func (p *published) release() {
	if p.holds.Add(-1) == 0 {
		p.unsent.Add(-p.bytes.Load())
	}
}

// eventOverheadBytes is about what an event takes beside its key and values.
const eventOverheadBytes = 96

func sizeBytes(evs []*mvccpb.Event) int {
	n := 0
	for _, ev := range evs {
		n += eventOverheadBytes + len(ev.Kv.Key) + len(ev.Kv.Value)
		if ev.PrevKv != nil {
			n += len(ev.PrevKv.Value)
		}
	}
	return n
}
