package watch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"metastore.io/metastore/server/mvcc"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// joinRevisions is how far ahead of the watcher being replayed another one may
// be to share its reading.
const joinRevisions = 1024

// joinedBytes bounds the events that are joined to one response.
const joinedBytes = 256 << 10

// keepItems is how large an emptied box may be to be used again.
const keepItems = 256

// Run sends the stream's responses, in order, until ctx ends, send fails, the
// hub is closed or the history cannot be read. It closes the stream. One
// goroutine, once. send may block: others do not wait for it.
func (s *Stream) Run(ctx context.Context, send func(Response) error) error {
	defer s.Close()
	timer := time.NewTimer(s.hub.o.progressInterval())
	defer timer.Stop()
	for {
		items := s.take()
		if err := s.deliverAll(items, send); err != nil {
			return err
		}
		// Everything that these watchers were handed while they were live has
		// been sent: take moved them here together with it.
		if err := s.replay(send); err != nil {
			return err
		}
		idle := len(items) == 0 && len(s.lag) == 0
		if err := s.pause(ctx, timer, idle); err != nil {
			return err
		}
	}
}

// pause looks for an end and for a progress tick; when the stream is idle it
// waits for them, or for work.
func (s *Stream) pause(ctx context.Context, timer *time.Timer, idle bool) error {
	wake := s.wake
	if !idle {
		wake = workToDo
	}
	select {
	case <-s.hub.done:
		return ErrClosed
	case <-s.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		s.progressTick()
		timer.Reset(s.hub.o.progressInterval())
	case <-wake:
		// Where others can run there is more to send together afterwards.
		runtime.Gosched()
	}
	return nil
}

// workToDo is always ready: a stream with work does not wait.
var workToDo = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// take empties the box and takes over the watchers that began to lag.
func (s *Stream) take() []item {
	if cap(s.spare) > keepItems {
		s.spare = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	items := s.box
	s.box, s.spare = s.spare[:0], items
	s.sending = len(items) > 0
	s.boxBytes, s.boxEvents, s.controls = 0, 0, 0
	s.lag = append(s.lag, s.newLagging...)
	clear(s.newLagging)
	s.newLagging = s.newLagging[:0]
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	return items
}

// deliverAll sends items, and holds the events of each until it is sent.
func (s *Stream) deliverAll(items []item, send func(Response) error) error {
	s.join(items)
	for i := range items {
		if err := s.deliver(&items[i], send); err != nil {
			releaseAll(items[i:])
			return err
		}
		releaseAll(items[i : i+1])
		items[i] = item{}
	}
	return nil
}

// join has what waits for one watcher go as one response, at the place of the
// first: a client that is behind gets fewer and larger ones. Nothing moves past
// the answer to a request, or past a report of progress, which tells what was
// sent before it.
func (s *Stream) join(items []item) {
	s.joining++
	for i := range items {
		it := &items[i]
		if it.kind != eventsItem {
			s.joining++
			continue
		}
		if it.w.joined == s.joining {
			if head := &items[it.w.head]; head.add(it.evs) {
				head.rev, it.kind = it.rev, joinedItem
				continue
			}
		}
		it.w.joined, it.w.head = s.joining, i
	}
}

// add joins later events to the item's, unless they get too many.
func (it *item) add(evs *Events) bool {
	if it.evs.bytes+it.moreBytes+evs.bytes > joinedBytes {
		return false
	}
	it.more = append(it.more, evs)
	it.moreBytes += evs.bytes
	return true
}

func (s *Stream) deliver(it *item, send func(Response) error) error {
	r := Response{WatchID: it.id, Revision: it.rev}
	switch it.kind {
	case eventsItem:
		return s.sendEvents(it.w, it.rev, append([]*Events{it.evs}, it.more...), send)
	case joinedItem:
		return nil
	case createdItem:
		r.Created, r.Err = true, it.err
		r.Canceled = it.err != nil
	case canceledItem:
		r.Canceled = true
	}
	return send(r)
}

func (s *Stream) sendEvents(w *watcher, rev int64, parts []*Events, send func(Response) error) error {
	w.busy = true
	r := Response{WatchID: w.id, Revision: rev, Parts: parts, Fragment: w.fragment}
	s.sent.Add(uint64(r.Count()))
	return send(r)
}

// replay does one step for some of the lagging watchers.
func (s *Stream) replay(send func(Response) error) error {
	if len(s.lag) == 0 {
		return nil
	}
	group, src, to := s.nextGroup()
	if len(group) == 0 {
		return nil
	}
	defer func() { s.lag = append(s.lag, group...) }()
	from := group[0].next
	for _, w := range group {
		from = min(from, w.next)
	}
	h := s.hub
	defer h.replaying.Add(-1)
	step := max(h.o.ReplaysBytes/h.replaying.Add(1), minReplayBytes)
	next, err := s.read(src, group, from, to, int(min(step, int64(h.o.ReplayBytes))))
	if err != nil {
		for _, w := range group {
			w.out = nil
		}
		return s.replayFailed(group, src, from, err, send)
	}
	for _, w := range group {
		evs := w.out
		w.out = nil
		w.next = max(w.next, next)
		if len(evs) == 0 {
			continue
		}
		if err := s.sendEvents(w, next-1, []*Events{{List: evs}}, send); err != nil {
			return err
		}
	}
	return nil
}

// nextGroup makes live again who has everything that was published, and takes
// the next lagging watcher out of the queue, together with those about as far.
// Both under the lock that Publish holds: what is published from now on finds
// the watcher in the index, and what was published before it has replayed.
func (s *Stream) nextGroup() (group []*watcher, src Source, to int64) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	rest := s.lag[:0]
	for _, w := range s.lag {
		switch {
		case w.state != lagging:
		case w.next > h.rev:
			w.state = live
			h.stats.Lagging--
			h.live.add(w)
		case len(group) == 0 || (w.next >= group[0].next && w.next <= group[0].next+joinRevisions):
			group = append(group, w)
		default:
			rest = append(rest, w)
		}
	}
	clear(s.lag[len(rest):])
	s.lag = rest
	if rev, ok := h.asking[s]; ok {
		h.answerProgress(s, rev)
	}
	return group, h.src, h.rev
}

// read collects the events of the revisions from..to for the group, up to the
// limit of a step, and returns the next revision to read. It advances nobody.
func (s *Stream) read(src Source, list []*watcher, from, to int64, maxBytes int) (int64, error) {
	x := newIndex()
	for _, w := range list {
		x.add(w)
	}
	next, err := src.History(from, to, maxBytes, x.prevs > 0, func(rev int64, evs []*mvccpb.Event) error {
		r := run{full: evs}
		for i, ev := range evs {
			x.match(ev.Kv.Key, func(g *group) {
				for w := range g.watchers {
					if rev >= w.next && !w.filtered(ev) {
						w.out = append(w.out, r.seenBy(w)[i])
					}
				}
			})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if next <= from {
		return 0, fmt.Errorf("watch: history from revision %d did not advance", from)
	}
	return next, nil
}

// replayFailed ends the watchers whose next revision is compacted. Any other
// error is one of the store, unless the store was replaced meanwhile.
func (s *Stream) replayFailed(group []*watcher, src Source, from int64, err error, send func(Response) error) error {
	h := s.hub
	h.mu.Lock()
	if h.src != src {
		h.mu.Unlock()
		return nil
	}
	if !errors.Is(err, mvcc.ErrCompacted) {
		h.mu.Unlock()
		return fmt.Errorf("replay events from revision %d: %w", from, err)
	}
	var ended []*watcher
	for _, w := range group {
		if w.next == from && w.state == lagging {
			w.state = compacted
			h.stats.Lagging--
			ended = append(ended, w)
		}
	}
	compact, rev := src.CompactRev(), h.rev
	h.mu.Unlock()
	for _, w := range ended {
		if err := send(Response{WatchID: w.id, Revision: rev, Canceled: true, CompactRevision: compact}); err != nil {
			return err
		}
	}
	return nil
}
