package mvcc

import (
	"errors"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/engine"
)

// Writer stages the changes of one batch of commands: rows go into the engine
// batch, revisions into the index, where readers ignore them until Publish.
//
//	w := store.Writer(b)
//	for each command { w.Begin(); w.Put(...); rev, evs := w.End() }
//	if w.Finish() == nil && engine.Apply(b) == nil { w.Publish() }
//
// A batch that was begun must be published: after an error the store is of no
// use any more and has to be opened again.
type Writer struct {
	s *Store
	b *engine.Batch
	// base is the published revision when the batch began; rows above it are
	// staged here, those up to it are in the engine.
	base int64
	// rev is the revision after the commands that ended, compacted the compact
	// revision after them. Invariant: base <= rev.
	rev, compacted int64
	// sub is the number of changes of the running command, which write the
	// revision rev+1.
	sub uint32
	// open is set from Store.Writer to Publish.
	open bool
	// rows are the staged revisions in ascending order.
	rows []stagedRow
	// events are the running command's; cut from eventMem.
	events   []*mvccpb.Event
	eventMem []*mvccpb.Event
	// prevs are the previous values that the running command's events need, unless
	// bare says that nobody wants any.
	prevs []prevRef
	bare  bool
	// slots, pairs and copies are where events come from; key and encoded are the
	// scratch of one row, which the batch copies.
	slots        slabs[eventSlot]
	pairs        slabs[mvccpb.KeyValue]
	copies       copies
	key, encoded []byte
	// fetch has the previous values that Finish is to read.
	fetch fetch
}

// stagedRow is a revision of this batch.
type stagedRow struct {
	at stamp
	kv *mvccpb.KeyValue
}

// prevRef is an event that waits for its previous value.
type prevRef struct {
	event *mvccpb.Event
	at    stamp
}

func (w *Writer) init(s *Store) { w.s = s }

// Writer begins a batch. There is one writer: the one returned before must
// have been published.
func (s *Store) Writer(b *engine.Batch) *Writer {
	w := &s.writer
	clear(w.rows)
	w.b, w.rows, w.open = b, w.rows[:0], true
	w.base, w.rev, w.compacted = s.published.Load(), s.published.Load(), s.compacted.Load()
	w.sub, w.events, w.bare = 0, nil, false
	w.fetch.reset()
	return w
}

// Bare leaves the previous values out of the batch's events. It comes before the
// first command.
func (w *Writer) Bare() { w.bare = true }

// Begin starts a command.
func (w *Writer) Begin() {
	w.sub = 0
	w.events = w.eventMem[:0:cap(w.eventMem)]
	w.prevs = w.prevs[:0]
}

// Rev is the revision before the running command's changes.
func (w *Writer) Rev() int64 { return w.rev }

// Put sets a key and returns the lease that it had, 0 when there was none. The
// command's event keeps key and value: nobody may change their bytes later.
func (w *Writer) Put(key, value []byte, lease int64) (prevLease int64) {
	at := w.stamp(false)
	w.s.mu.Lock()
	c := w.s.index.put(key, at, lease)
	w.s.mu.Unlock()

	slot := w.slots.next()
	slot.kv.Key, slot.kv.Value, slot.kv.Lease = key, value, lease
	slot.kv.CreateRevision, slot.kv.ModRevision, slot.kv.Version = c.created, at.main, c.version
	w.stage(at, slot)
	w.emit(slot, mvccpb.Event_PUT, c)
	return c.prevLease
}

// stamp is the revision of the running command's next change.
func (w *Writer) stamp(dead bool) stamp {
	if w.sub == maxSub {
		panic("mvcc: more than 2^31 changes in one command")
	}
	at := stamp{main: w.rev + 1, sub: w.sub, dead: dead}
	w.sub++
	return at
}

// stage puts the slot's pair into the batch as the row of a revision.
func (w *Writer) stage(at stamp, slot *eventSlot) {
	w.encoded = appendRow(w.encoded[:0], &slot.kv)
	w.key = appendRowKey(w.key[:0], w.s.group, at)
	w.b.Put(engine.Revisions, w.key, w.encoded)
	w.rows = append(w.rows, stagedRow{at, &slot.kv})
}

func (w *Writer) emit(slot *eventSlot, kind mvccpb.Event_EventType, c change) {
	slot.event.Type = kind
	slot.event.Kv = &slot.kv
	w.events = append(w.events, &slot.event)
	if c.hasPrev && !w.bare {
		w.prevs = append(w.prevs, prevRef{&slot.event, c.prev})
	}
}

// DeleteRange deletes the keys of key <= k < end, with the same rules for end
// as in Range, and returns them in ascending order.
func (w *Writer) DeleteRange(key, end []byte) (deleted []DeletedKey, n int64) {
	x := w.s.index
	if len(end) == 0 {
		if id := x.find(key); id != 0 && x.record(id).live() {
			deleted = append(deleted, w.kill(id))
		}
		return deleted, int64(len(deleted))
	}
	// The applying goroutine alone changes the index, so it reads it unlocked.
	walk := walker{from: key, to: bounds(end)}
	ids := make([]uint32, 0, rangeChunk)
	for more := true; more; {
		ids = ids[:0]
		more = walk.chunk(x, func(id uint32, live bool) bool {
			if live {
				ids = append(ids, id)
			}
			return true
		})
		for _, id := range ids {
			deleted = append(deleted, w.kill(id))
		}
	}
	return deleted, int64(len(deleted))
}

func (w *Writer) kill(id uint32) DeletedKey {
	at := w.stamp(true)
	w.s.mu.Lock()
	c := w.s.index.kill(id, at)
	w.s.mu.Unlock()

	slot := w.slots.next()
	slot.kv.Key = w.copies.copy(w.s.index.keys.key(id))
	w.stage(at, slot)
	// The row has the key only; the event tells the revision as well.
	slot.kv.ModRevision = at.main
	w.emit(slot, mvccpb.Event_DELETE, c)
	return DeletedKey{Key: slot.kv.Key, Lease: c.prevLease}
}

// Range reads as Store.Range does, and sees everything staged, the running
// command's changes included.
func (w *Writer) Range(key, end []byte, o RangeOptions) (RangeResult, error) {
	v := view{store: w.s, current: w.rev, compacted: w.compacted, staged: w}
	if w.sub > 0 {
		v.current++
	}
	rev, err := v.resolve(o.Rev)
	if err != nil {
		return RangeResult{Rev: v.current}, err
	}
	w.s.mu.RLock()
	return v.read(key, end, rev, o)
}

// row is a staged pair.
func (w *Writer) row(at stamp) *mvccpb.KeyValue {
	i := sort.Search(len(w.rows), func(i int) bool {
		r := &w.rows[i].at
		return r.main > at.main || r.main == at.main && r.sub >= at.sub
	})
	return w.rows[i].kv
}

// End finishes a command: the revision after it, and its events in order. After
// Finish PrevKv has the pairs as they were before the command. Events may be kept
// but not changed.
func (w *Writer) End() (rev int64, evs []*mvccpb.Event) {
	if w.sub == 0 {
		return w.rev, nil
	}
	for _, p := range w.prevs {
		if p.at.main > w.base {
			p.event.PrevKv = w.row(p.at)
			continue
		}
		p.event.PrevKv = w.pairs.next()
		w.fetch.missing = append(w.fetch.missing, missing{kv: p.event.PrevKv, at: p.at})
	}
	w.rev++
	w.sub = 0
	evs = w.events[:len(w.events):len(w.events)]
	w.eventMem = w.events[len(w.events):]
	if cap(w.eventMem) == 0 {
		w.eventMem = make([]*mvccpb.Event, 0, eventMemLen)
	}
	return w.rev, evs
}

// eventMemLen is how many event pointers are allocated at once.
const eventMemLen = 64

// Finish reads the previous values of all the batch's events together. The batch
// must not be applied when it fails.
func (w *Writer) Finish() error {
	if err := w.s.fill(&w.fetch, nil); err != nil {
		return err
	}
	w.fetch.reset()
	return nil
}

// Compact makes rev the oldest revision that can be read. The rows go later,
// in steps; the marker staged here makes sure that they do.
func (w *Writer) Compact(rev int64) error {
	switch {
	case rev <= w.compacted:
		return ErrCompacted
	case rev > w.rev:
		return ErrFutureRev
	}
	w.compacted = rev
	w.s.putMarker(w.b, scheduledName, rev)
	return nil
}

var errUnread = errors.New("mvcc: publish before Finish has read all previous values")

// Publish shows the batch to readers; the engine has applied it.
func (w *Writer) Publish() {
	if len(w.fetch.missing) > 0 {
		panic(errUnread)
	}
	s := w.s
	s.mu.Lock()
	s.index.flips = s.index.flips[:0]
	s.published.Store(w.rev)
	s.compacted.Store(w.compacted)
	s.mu.Unlock()
	w.open = false
	w.base = w.rev
}
