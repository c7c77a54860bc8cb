package watch

import (
	"bytes"

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

	// busy: events were sent since the last progress tick; out: the events of
	// the current replay step; joined and head: which of the items being sent the
	// watcher's later ones go with, in which round of Stream.join. All belong to
	// the stream's goroutine.
	busy   bool
	out    []*mvccpb.Event
	joined uint64
	head   int
}

// wants is how many kinds of watchers of the same keys there are.
const wants = 8

// wants tells the kinds apart.
func (w *watcher) wants() (kind int) {
	for i, on := range []bool{w.noPut, w.noDelete, w.prevKV} {
		if on {
			kind |= 1 << i
		}
	}
	return kind
}

// filter leaves out what the watcher does not want.
func (w *watcher) filter(list []*mvccpb.Event) []*mvccpb.Event {
	if !w.noPut && !w.noDelete {
		return list
	}
	var out []*mvccpb.Event
	for _, ev := range list {
		if !w.filtered(ev) {
			out = append(out, ev)
		}
	}
	return out
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
