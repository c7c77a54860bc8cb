package watch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

const (
	// AutoID asks for an ID chosen by the stream.
	AutoID = 0
	// InvalidID is the watch ID of responses that belong to no watcher.
	InvalidID = -1
)

// Reasons for which a watcher is not created; the texts are etcd's.
var (
	ErrEmptyRange  = errors.New("mvcc: watcher range is empty")
	ErrDuplicateID = errors.New("mvcc: duplicate watch ID provided on the WatchStream")
)

// Response is one message to the client.
type Response struct {
	WatchID int64
	// Revision: all events of the watcher (of all watchers, where WatchID is
	// InvalidID) up to it were sent with this response or before it.
	Revision int64
	// Parts are the events, in order; each part has whole revisions.
	Parts             []*Events
	Created, Canceled bool
	// CompactRevision is set when the watcher ended because its next revision
	// is compacted.
	CompactRevision int64
	// Err is why a watcher was not created.
	Err error
	// Fragment: the client allows this response to be split.
	Fragment bool
}

// Events are those of all parts. They are shared with other watchers: do not
// change them.
func (r Response) Events() []*mvccpb.Event {
	if len(r.Parts) == 1 {
		return r.Parts[0].List
	}
	var all []*mvccpb.Event
	for _, p := range r.Parts {
		all = append(all, p.List...)
	}
	return all
}

// Count is how many events there are.
func (r Response) Count() int {
	n := 0
	for _, p := range r.Parts {
		n += len(p.List)
	}
	return n
}

// Request describes a watcher, in etcd's terms.
type Request struct {
	ID int64 // AutoID, or chosen by the client
	// Key and End: an empty Key is the lowest key; an empty End is the one key;
	// {0} is without bound.
	Key, End []byte
	// StartRevision: 0 is from now on; at most the current one replays history.
	StartRevision              int64
	NoPut, NoDelete            bool
	PrevKV, Progress, Fragment bool
}

// maxControls is how many responses to requests may wait in a stream before
// further requests wait.
const maxControls = 128

type itemKind uint8

const (
	eventsItem itemKind = iota
	createdItem
	canceledItem
	progressItem
	joinedItem // its events went with an earlier item
)

// item is one waiting response.
type item struct {
	kind itemKind
	id   int64
	rev  int64
	w    *watcher // eventsItem
	evs  *Events  // held until they are sent
	err  error    // createdItem: why it was not
	// more are the events of later items, and about what they take.
	more      []*Events
	moreBytes int
}

// Stream is the sequence of responses to one client. Create, Cancel and
// RequestProgress are called by the goroutine that reads the client's requests,
// Run by the one that writes.
type Stream struct {
	hub *Hub
	// watchers by ID and nextID are guarded by Hub.mu. Compacted ones stay
	// until the client cancels them.
	watchers map[int64]*watcher
	nextID   int64
	sent     atomic.Uint64

	// mu guards the fields below; held for a few instructions.
	mu sync.Mutex
	// box is what waits to be sent, in order. Invariant: boxBytes and boxEvents
	// stay within the hub's limits, or there are those of one run only.
	box                 []item
	boxBytes, boxEvents int
	// sending: Run has not sent all that it took from the box.
	sending    bool
	controls   int
	newLagging []*watcher    // live until now; all their earlier events are in box or sent
	room       chan struct{} // closed when controls drops; nil when nobody waits
	wake       chan struct{} // holds one token when there may be work
	done       chan struct{} // closed by Close
	closeOnce  sync.Once
	spare      []item     // Run's, the emptied box before
	lag        []*watcher // Run's: the watchers to replay, round robin
	joining    uint64     // Run's: the round of join
}

// NewStream opens a stream without watchers. Close it, or Run it.
func (h *Hub) NewStream() *Stream {
	s := &Stream{
		hub:      h,
		watchers: make(map[int64]*watcher),
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams[s] = struct{}{}
	return s
}

// Create adds a watcher. The response that says so, or why not, comes before
// all its events. It waits while the client does not read its responses; the
// error is then ctx's, or ErrClosed.
func (s *Stream) Create(ctx context.Context, r Request) error {
	if err := s.awaitRoom(ctx); err != nil {
		return err
	}
	w := newWatcher(s, r)
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.open() {
		return ErrClosed
	}
	rev := max(h.rev, h.src.Rev())
	if err := s.admit(w); err != nil {
		s.control(item{kind: createdItem, id: InvalidID, rev: rev, err: err})
		return nil
	}
	if w.start == 0 {
		w.start = rev + 1
	}
	w.next = w.start
	s.watchers[w.id] = w
	s.control(item{kind: createdItem, id: w.id, rev: rev})
	if w.start > h.rev {
		h.live.add(w)
		return nil
	}
	w.state = lagging
	h.stats.Lagging++
	s.addLagging(w)
	return nil
}

func newWatcher(s *Stream, r Request) *watcher {
	w := &watcher{
		stream: s, id: r.ID, key: r.Key, end: r.End, start: r.StartRevision,
		noPut: r.NoPut, noDelete: r.NoDelete,
		prevKV: r.PrevKV, progress: r.Progress, fragment: r.Fragment,
	}
	if len(w.key) == 0 {
		w.key = []byte{0}
	}
	switch {
	case len(w.end) == 0:
		w.single = true
	case len(w.end) == 1 && w.end[0] == 0:
		w.end = nil
	}
	return w
}

// admit gives a new watcher its ID. It holds Hub.mu.
func (s *Stream) admit(w *watcher) error {
	if emptyRange(w.key, w.end) {
		return ErrEmptyRange
	}
	if w.id == AutoID {
		for s.watchers[s.nextID] != nil {
			s.nextID++
		}
		w.id = s.nextID
		s.nextID++
	} else if s.watchers[w.id] != nil {
		return ErrDuplicateID
	}
	return nil
}

// Refuse answers a create request that the caller found invalid.
func (s *Stream) Refuse(ctx context.Context, reason error) error {
	if err := s.awaitRoom(ctx); err != nil {
		return err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.open() {
		return ErrClosed
	}
	s.control(item{kind: createdItem, id: InvalidID, rev: max(h.rev, h.src.Rev()), err: reason})
	return nil
}

// Cancel ends a watcher; nothing of it follows the response. An ID that is not
// in use is not answered, as in etcd; one that compaction ended is.
func (s *Stream) Cancel(ctx context.Context, id int64) error {
	if err := s.awaitRoom(ctx); err != nil {
		return err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.open() {
		return ErrClosed
	}
	w := s.watchers[id]
	if w == nil {
		return nil
	}
	delete(s.watchers, id)
	h.end(w)
	s.control(item{kind: canceledItem, id: id, rev: max(h.rev, h.src.Rev())})
	return nil
}

// end takes a watcher out of service. It holds h.mu.
func (h *Hub) end(w *watcher) {
	switch w.state {
	case live:
		h.live.remove(w)
	case lagging:
		h.stats.Lagging--
	}
	w.state = gone
}

// RequestProgress asks for one response, with InvalidID, that tells up to
// which revision all watchers of the stream have their events. It is sent once
// none of them lags. Without watchers, or with one that waits for a future
// revision, there is none, as in etcd.
func (s *Stream) RequestProgress(ctx context.Context) error {
	if err := s.awaitRoom(ctx); err != nil {
		return err
	}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.open() {
		return ErrClosed
	}
	rev := max(h.rev, h.src.Rev())
	if len(s.watchers) == 0 {
		return nil
	}
	for _, w := range s.watchers {
		if w.start > rev+1 {
			return nil
		}
	}
	h.asking[s] = rev
	h.answerProgress(s, rev)
	return nil
}

// Close ends the stream and all its watchers. It does not wait for Run.
func (s *Stream) Close() {
	s.closeOnce.Do(func() {
		close(s.done)
		h := s.hub
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, w := range s.watchers {
			h.end(w)
		}
		clear(s.watchers)
		s.dropBox()
		delete(h.streams, s)
		delete(h.asking, s)
		h.stats.Sent += s.sent.Load()
	})
}

// dropBox gives up what will not be sent any more.
func (s *Stream) dropBox() {
	s.mu.Lock()
	defer s.mu.Unlock()
	releaseAll(s.box)
	s.box, s.boxBytes, s.boxEvents = nil, 0, 0
}

// releaseAll lets go of the events that items hold.
func releaseAll(items []item) {
	for i := range items {
		if evs := items[i].evs; evs != nil {
			evs.held.release()
		}
	}
}

// open tells whether neither the stream nor the hub was closed. It holds Hub.mu.
func (s *Stream) open() bool {
	_, ok := s.hub.streams[s]
	return ok && !s.hub.closed
}

// awaitRoom waits until the client has read enough responses to its requests.
func (s *Stream) awaitRoom(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.controls < maxControls {
			s.mu.Unlock()
			return nil
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-s.done:
			return ErrClosed
		case <-s.hub.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// offer puts events of a run into the box, unless that is full, or all boxes
// together are and this stream is behind.
func (s *Stream) offer(w *watcher, evs *Events) bool {
	n, size := len(evs.List), evs.bytes
	o := &s.hub.o
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boxEvents > 0 && (s.boxEvents+n > o.OutboxEvents || s.boxBytes+size > o.OutboxBytes) {
		return false
	}
	if (s.boxEvents > 0 || s.sending) && s.hub.unsent.Load() > o.OutboxesBytes {
		return false
	}
	evs.held.hold()
	rev := evs.List[n-1].Kv.ModRevision
	s.box = append(s.box, item{kind: eventsItem, id: w.id, rev: rev, w: w, evs: evs})
	s.boxEvents += n
	s.boxBytes += size
	s.signal()
	return true
}

// pending is how many events wait in the box.
func (s *Stream) pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boxEvents
}

// control puts a response without events into the box.
func (s *Stream) control(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box = append(s.box, it)
	s.controls++
	s.signal()
}

// addLagging hands a watcher to Run for replay. It holds Hub.mu.
func (s *Stream) addLagging(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newLagging = append(s.newLagging, w)
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// progressTick reports progress for the watchers that asked for it and had no
// events since the last tick. Called by Run.
func (s *Stream) progressTick() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range s.watchers {
		if !w.progress {
			continue
		}
		if !w.busy && w.state == live && h.rev >= w.start-1 {
			s.control(item{kind: progressItem, id: w.id, rev: h.rev})
		}
		w.busy = false
	}
}
