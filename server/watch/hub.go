package watch

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"metastore.io/metastore/server/state"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// ErrClosed is returned by a stream whose hub was closed.
var ErrClosed = errors.New("watch: closed")

// Source is the store that holds the history of the published revisions. All
// methods may run concurrently with each other and with writers.
type Source interface {
	// Rev is the newest readable revision, CompactRev the newest compacted one.
	Rev() int64
	CompactRev() int64
	// History calls fn for the whole revisions from..to, ascending, stops after
	// about maxBytes and returns the next revision to ask for. Events have their
	// previous values where prevs asks for them, as far as those are not
	// compacted, and may be kept.
	History(from, to int64, maxBytes int, prevs bool, fn func(rev int64, evs []*mvccpb.Event) error) (next int64, err error)
}

// Options are the limits of a hub; zero values are replaced by the defaults.
type Options struct {
	// OutboxBytes and OutboxEvents bound what waits in one stream before its
	// watchers lag. Defaults: 2 MiB, 4096.
	OutboxBytes, OutboxEvents int
	// OutboxesBytes bounds what waits in all streams together, where what they
	// share counts once. Beyond it a stream lags that has not sent all it was
	// handed. Default: 256 MiB.
	OutboxesBytes int64
	// ReplayBytes bounds the history read, and sent as one response, by one
	// step of a lagging watcher. Default: 128 KiB. ReplaysBytes is for all streams
	// together: the more replay at a time, the smaller are their steps, down to
	// minReplayBytes. Default: 128 MiB.
	ReplayBytes  int
	ReplaysBytes int64
	// ProgressInterval is how long a watcher with progress notifications stays
	// without events before it gets one. Up to a tenth is added at random, so
	// that watchers created together do not report together. Default: 10
	// minutes; at least 100 ms.
	ProgressInterval time.Duration
}

const (
	minProgressInterval = 100 * time.Millisecond
	minReplayBytes      = 16 << 10
	// runShare of an outbox is what goes into it at a time, where revisions can
	// be taken apart.
	runShare = 8
)

func (o Options) withDefaults() Options {
	if o.OutboxBytes <= 0 {
		o.OutboxBytes = 2 << 20
	}
	if o.OutboxEvents <= 0 {
		o.OutboxEvents = 4096
	}
	if o.OutboxesBytes <= 0 {
		o.OutboxesBytes = 256 << 20
	}
	if o.ReplayBytes <= 0 {
		o.ReplayBytes = 128 << 10
	}
	if o.ReplaysBytes <= 0 {
		o.ReplaysBytes = 128 << 20
	}
	if o.ProgressInterval <= 0 {
		o.ProgressInterval = 10 * time.Minute
	}
	o.ProgressInterval = max(o.ProgressInterval, minProgressInterval)
	return o
}

func (o Options) progressInterval() time.Duration {
	return o.ProgressInterval + rand.N(o.ProgressInterval/10)
}

// Stats are counts for metrics.
type Stats struct {
	Streams, Watchers, Lagging int
	// Puts and Deletes count the events published since start, Sent those
	// handed to watchers.
	Puts, Deletes, Sent uint64
	// PutBytes are those of the keys and values of all Puts.
	PutBytes uint64
	// Pending counts the events that wait in outboxes now.
	Pending int
}

// Hub is the one place through which all events of a store pass. All methods
// may be called concurrently, but Publish and Reset have one caller.
type Hub struct {
	o Options

	// mu guards the fields below, and of every watcher the fields that say so.
	// It is never held across a read of the source's history, nor while a
	// response is sent. Lock order: Hub.mu before Stream.mu.
	mu  sync.Mutex
	src Source
	// rev is the newest published revision. Invariant: for every live watcher,
	// all its events up to rev are in its stream's outbox or were sent.
	rev int64
	// live holds exactly the live watchers.
	live    *index
	streams map[*Stream]struct{}
	// asking are the streams that wait for a progress response: it is sent when
	// all their watchers are live and the revision is published.
	asking map[*Stream]int64
	// done is closed by Close.
	done   chan struct{}
	closed bool
	stats  Stats
	// unsent are the bytes of the runs that streams hold and have not sent;
	// replaying counts the streams that hold events of a replay.
	unsent, replaying atomic.Int64
	// matched is Publish's scratch: the groups that the current run concerns.
	matched []*group
}

// NewHub starts at the newest revision of the source.
func NewHub(src Source, o Options) *Hub {
	return &Hub{
		o:       o.withDefaults(),
		src:     src,
		rev:     src.Rev(),
		live:    newIndex(),
		streams: make(map[*Stream]struct{}),
		asking:  make(map[*Stream]int64),
		done:    make(chan struct{}),
	}
}

// Publish hands out the events of revisions that the source can already read,
// in ascending order. It must be called with every revision exactly once. It
// does not wait for any watcher.
func (h *Hub) Publish(revs []state.RevisionEvents) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	for len(revs) > 0 && revs[0].Rev <= h.rev {
		revs = revs[1:] // a snapshot that was installed has it already
	}
	for len(revs) > 0 {
		n := h.together(revs)
		h.publish(revs[:n])
		revs = revs[n:]
	}
	for s, rev := range h.asking {
		h.answerProgress(s, rev)
	}
}

// WantsPrevs tells whether a live watcher wants previous values. Events that come
// without them nevertheless, since it was asked before the watcher came, have it
// replay them.
func (h *Hub) WantsPrevs() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live.prevs > 0
}

// together is how many of the revisions, which were committed together, are
// handed out as one run: not more than a part of what a stream may hold.
func (h *Hub) together(revs []state.RevisionEvents) int {
	events, size := 0, 0
	for i, r := range revs {
		events += len(r.Events)
		size += sizeBytes(r.Events)
		if i > 0 && (events > h.o.OutboxEvents/runShare || size > min(joinedBytes, h.o.OutboxBytes/runShare)) {
			return i
		}
	}
	return len(revs)
}

// publish hands out a run of revisions. It holds h.mu.
func (h *Hub) publish(revs []state.RevisionEvents) {
	h.rev = revs[len(revs)-1].Rev
	r := newRun(revs)
	for i, ev := range r.full {
		if ev.Type == mvccpb.Event_DELETE {
			h.stats.Deletes++
		} else {
			h.stats.Puts++
			h.stats.PutBytes += uint64(len(ev.Kv.Key) + len(ev.Kv.Value))
		}
		h.live.match(ev.Kv.Key, func(g *group) {
			if g.picked.add(i) {
				h.matched = append(h.matched, g)
			}
		})
	}
	if len(h.matched) == 0 {
		return
	}
	r.held = &published{unsent: &h.unsent}
	r.held.hold()
	r.held.grow(sizeBytes(r.full))
	for i, g := range h.matched {
		h.matched[i] = nil
		for w := range g.watchers {
			if w.prevKV && r.lacking || !r.offer(g, w) {
				h.lag(w, max(w.next, r.first)) // takes it out of the group
			}
		}
		g.picked, g.shared = pick{}, [wants]*Events{}
	}
	r.held.release()
	h.matched = h.matched[:0]
}

// lag makes a live watcher replay from next on. It holds h.mu.
func (h *Hub) lag(w *watcher, next int64) {
	h.live.remove(w)
	w.state = lagging
	w.next = next
	h.stats.Lagging++
	w.stream.addLagging(w)
}

// Reset continues on another store, after a snapshot was installed: every
// watcher goes on at its next revision by replay from the new source, or is
// told that the revision is compacted. Call it before the old source is closed.
func (h *Hub) Reset(src Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.rev
	h.src, h.rev = src, src.Rev()
	for s := range h.streams {
		for _, w := range s.watchers {
			if w.state == live {
				h.lag(w, max(w.next, old+1))
			}
		}
	}
}

// Rev is the newest published revision.
func (h *Hub) Rev() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rev
}

// Stats counts streams, watchers and events.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.stats
	st.Streams = len(h.streams)
	for s := range h.streams {
		st.Watchers += len(s.watchers)
		st.Sent += s.sent.Load()
		st.Pending += s.pending()
	}
	return st
}

// Close ends all streams with ErrClosed. Call it before the source is closed;
// streams may read history until their Run returned.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
}

// answerProgress sends the progress response that a stream asked for, when it
// can: the revision the client may know of is published and none of the
// stream's watchers lags. It holds h.mu.
func (h *Hub) answerProgress(s *Stream, atLeast int64) {
	if h.rev < atLeast {
		return
	}
	for _, w := range s.watchers {
		if w.state == lagging {
			return
		}
	}
	delete(h.asking, s)
	s.control(item{kind: progressItem, id: InvalidID, rev: h.rev})
}
