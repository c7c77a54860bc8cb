package watch

import (
	"bytes"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

type watcherState uint8

const (
	live      watcherState = iota // in the hub's index
	lagging                       // replays history
	compacted                     // ended by compaction; its ID stays taken until the client cancels it
	gone                          // cancelled, or its stream ended
)

// watcher is one watched key or range of a stream.
type watcher struct {
	stream *Stream
	id     int64
	key    []byte
	end    []byte // nil: without bound, unless single
	single bool   // key alone
	start  int64  // the first revision the client asked for, resolved

	noPut, noDelete            bool
	prevKV, progress, fragment bool

	// state is guarded by Hub.mu.
	state watcherState
	// next is the lowest revision that was not handed to the watcher. A live
	// watcher's is guarded by Hub.mu and is a lower bound only: it has all up to
	// Hub.rev. A lagging watcher's belongs to the stream's goroutine.
	next int64
	// pick collects the matches of the revision being published, under Hub.mu.
	pick pick

	// busy: events were sent since the last progress tick; out: the events of
	// the current replay step. Both belong to the stream's goroutine.
	busy bool
	out  []*mvccpb.Event
}

// filtered tells whether the watcher does not want this kind of event.
func (w *watcher) filtered(ev *mvccpb.Event) bool {
	if ev.Type == mvccpb.Event_DELETE {
		return w.noDelete
	}
	return w.noPut
}

// emptyRange tells whether end excludes every key from key on.
func emptyRange(key, end []byte) bool {
	return len(end) != 0 && bytes.Compare(key, end) >= 0
}

// pick is an ascending set of positions in a revision's events: a run for as
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

// events are those of one revision, with and without previous values. Watchers
// share the slices and the events: nobody may change them.
type events struct {
	full []*mvccpb.Event
	bare []*mvccpb.Event // made when the first watcher needs it
}

// of takes the events that the watcher picked, and empties its pick.
func (es *events) of(w *watcher) []*mvccpb.Event {
	from := es.seenBy(w)
	p := w.pick
	w.pick = pick{}
	if p.rest == nil {
		return from[p.first : p.first+p.n : p.first+p.n]
	}
	out := make([]*mvccpb.Event, len(p.rest))
	for i, at := range p.rest {
		out[i] = from[at]
	}
	return out
}

// seenBy are all events, in the form that the watcher asked for.
func (es *events) seenBy(w *watcher) []*mvccpb.Event {
	if w.prevKV {
		return es.full
	}
	if es.bare == nil {
		es.bare = make([]*mvccpb.Event, len(es.full))
		for i, ev := range es.full {
			es.bare[i] = withoutPrev(ev)
		}
	}
	return es.bare
}

// withoutPrev is the event without the previous value; the rest is shared.
func withoutPrev(ev *mvccpb.Event) *mvccpb.Event {
	if ev.PrevKv == nil {
		return ev
	}
	return &mvccpb.Event{Type: ev.Type, Kv: ev.Kv}
}

// revision counts who holds the events of one published revision: its bytes are
// among the unsent ones while somebody does.
type revision struct {
	unsent *atomic.Int64
	bytes  int64
	holds  atomic.Int64
}

func (r *revision) hold() {
	if r.holds.Add(1) == 1 {
		r.unsent.Add(r.bytes)
	}
}

func (r *revision) release() {
	if r.holds.Add(-1) == 0 {
		r.unsent.Add(-r.bytes)
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
