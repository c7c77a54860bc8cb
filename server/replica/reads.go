package replica

import (
	"encoding/binary"
	"slices"
	"sync"

	"metastore.io/metastore/server/state"
)

// Reads answers linearizable reads: one ReadIndex round serves all reads that
// wait when it starts. A read that arrives during a round joins the next one,
// since the round's index may be older than writes acknowledged before the read
// began (invariant 7). All methods may run concurrently.
type Reads struct {
	origin state.Origin

	mu sync.Mutex
	// waiting join the next round.
	waiting []chan error
	// round are served by the round in flight, whose context is roundSeq.
	round    []chan error
	roundSeq uint64
	// ticks since the round was sent to the leader.
	roundTicks int
	// confirmed rounds wait for their index to be applied.
	confirmed []confirmedRound
	// forgotten are reads that nobody waits for any more, until they are
	// pruned from waiting and round.
	forgotten map[<-chan error]struct{}
	applied   uint64
	// alone: this member leads, has proved it, and is the only voter, so that
	// nothing is committed but here. committed is then at least what others may
	// have heard to be committed.
	alone     bool
	committed uint64
	stopped   bool
	// slow counts the rounds that had to be asked again.
	slow uint64
}

type confirmedRound struct {
	index   uint64
	waiters []chan error
}

// readRetryTicks: a round without an answer for so long is asked again, since
// its messages may have been lost or dropped by a new leader.
const readRetryTicks = 5

// maxForgotten is how many forgotten reads are kept: without a leader nothing
// else would ever end them.
const maxForgotten = 1024

// NewReads makes the book of one run of a member.
func NewReads(origin state.Origin, applied uint64) *Reads {
	return &Reads{origin: origin, applied: applied, forgotten: map[<-chan error]struct{}{}}
}

// ready is what Add returns for a read that need not wait.
var ready = func() chan error { c := make(chan error); close(c); return c }()

// Add queues a read; its channel gets nil when the read may be served from the
// published state, or the error that it failed with. The caller then wakes the
// raft owner, unless the channel is ready: a leader alone needs no round.
func (r *Reads) Add() (<-chan error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil, ErrStopped
	}
	if r.alone && r.committed <= r.applied {
		return ready, nil
	}
	c := make(chan error, 1)
	r.waiting = append(r.waiting, c)
	return c, nil
}

// Forget gives up waiting for a read.
func (r *Reads) Forget(c <-chan error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten[c] = struct{}{}
	if len(r.forgotten) <= maxForgotten {
		return
	}
	over := func(c chan error) bool {
		_, over := r.forgotten[c]
		return over
	}
	r.waiting, r.round = slices.DeleteFunc(r.waiting, over), slices.DeleteFunc(r.round, over)
	clear(r.forgotten)
}

// AddAt queues a read of what is known to be committed at index: it needs no
// round, only that the index is applied here.
func (r *Reads) AddAt(index uint64) (<-chan error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil, ErrStopped
	}
	c := make(chan error, 1)
	if index <= r.applied {
		c <- nil
	} else {
		r.confirmed = append(r.confirmed, confirmedRound{index, []chan error{c}})
	}
	return c, nil
}

// Slow counts the rounds that got no answer in time, or whose leader was lost,
// and that were asked again.
func (r *Reads) Slow() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slow
}

// Stop fails every read with ErrStopped.
func (r *Reads) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, c := range append(r.waiting, r.round...) {
		c <- ErrStopped
	}
	for _, w := range r.confirmed {
		for _, c := range w.waiters {
			c <- ErrStopped
		}
	}
	r.waiting, r.round, r.confirmed = nil, nil, nil
}

// start begins a round when reads wait and none is in flight, or repeats one
// that is overdue or whose leader is gone. It returns the context to ask raft
// with, nil for nothing to ask.
func (r *Reads) start(again bool) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.round) > 0 && !again {
		return nil
	}
	if len(r.round) == 0 && len(r.waiting) == 0 {
		return nil
	}
	if len(r.round) > 0 {
		r.slow++
	}
	r.round = append(r.round, r.waiting...)
	r.waiting = nil
	r.roundSeq++
	r.roundTicks = 0
	b := binary.BigEndian.AppendUint64(nil, r.origin.Member)
	b = binary.BigEndian.AppendUint64(b, r.origin.Incarnation)
	return binary.BigEndian.AppendUint64(b, r.roundSeq)
}

// lead takes the raft owner's word on whether this member leads alone, and up to
// where entries are committed. It comes before any message that tells another
// member of either.
func (r *Reads) lead(alone bool, committed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alone, r.committed = alone, committed
}

// tick reports whether the round in flight is overdue.
func (r *Reads) tick() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.round) == 0 {
		return false
	}
	r.roundTicks++
	return r.roundTicks >= readRetryTicks
}

// confirm takes raft's answer to the round with this context; answers to
// earlier rounds, or to an earlier run of this member, are ignored.
func (r *Reads) confirm(context []byte, index uint64) {
	if len(context) != 24 ||
		binary.BigEndian.Uint64(context) != r.origin.Member ||
		binary.BigEndian.Uint64(context[8:]) != r.origin.Incarnation {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if binary.BigEndian.Uint64(context[16:]) != r.roundSeq || len(r.round) == 0 {
		return
	}
	waiters := r.round
	r.round = nil
	if index <= r.applied {
		release(waiters)
		return
	}
	r.confirmed = append(r.confirmed, confirmedRound{index, waiters})
}

// advance releases the rounds whose index is applied and published.
func (r *Reads) advance(applied uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = applied
	kept := r.confirmed[:0]
	for _, c := range r.confirmed {
		if c.index <= applied {
			release(c.waiters)
		} else {
			kept = append(kept, c)
		}
	}
	clear(r.confirmed[len(kept):])
	r.confirmed = kept
}

func release(waiters []chan error) {
	for _, c := range waiters {
		c <- nil
	}
}
