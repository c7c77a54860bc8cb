package replica

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"metastore.io/metastore/server/state"
)

// Limits of what one member proposes.
const (
	// maxEntryBytes closes an entry: further commands go into the next one. A
	// single command may be larger.
	maxEntryBytes = 512 << 10
	// maxEntryCommands bounds the work of one apply step.
	maxEntryCommands = 4096
	// maxPending and maxPendingBytes bound the proposals that wait for a result
	// on one member; beyond them Add refuses.
	maxPending      = 50_000
	maxPendingBytes = 256 << 20
	// minAbandoned is how many forgotten waiters may stay in a queue that
	// nothing empties, beside as many as are not forgotten.
	minAbandoned = 1024
)

// Reply is what became of one proposal.
type Reply struct {
	// Result is set when the proposal was a command and Err is nil.
	Result state.Result
	// Change is set when the proposal was a membership change and Err is nil.
	Change state.ChangeResult
	// Term and Index place the entry that carried the proposal.
	Term, Index uint64
	// Err: the proposal was not applied as far as this member knows.
	Err error
}

// Waiter stands for one proposal on the member that made it. Its channel gets
// exactly one Reply, unless Forget is called first.
type Waiter struct {
	command state.Command
	change  *state.MemberChange
	reply   chan Reply
	// over: replied to, or forgotten. Guarded by Proposals.mu.
	over bool
	// ticket is the entry that it is in; nil while it waits for one. Guarded by
	// Proposals.mu.
	ticket *ticket
}

// Done delivers the reply once.
func (w *Waiter) Done() <-chan Reply { return w.reply }

// ticket is one entry in flight: the waiters of its commands in order.
type ticket struct {
	seq     uint64
	waiters []*Waiter
	// open counts the waiters that are not over. A ticket without any is
	// dropped: its entry may have been lost on the way to a leader, and then
	// nothing else would ever end it.
	open int
	// index is known where this member, as leader, appended the entry itself;
	// 0 otherwise. Used to tell a superseded entry for sure.
	index uint64
}

// Proposals holds this member's proposals from Add to their reply. An entry is
// identified by (member, incarnation, first sequence number): the incarnation
// is fresh for each start, so that no entry of an earlier run, nor of another
// member, wakes a waiter of this one (invariant 6). All methods may run
// concurrently.
type Proposals struct {
	origin state.Origin

	mu sync.Mutex
	// waiting are not in an entry yet, in the order of Add.
	waiting []*Waiter
	// changes wait apart: each is an entry of its own.
	changes []*Waiter
	// abandoned counts the forgotten waiters in waiting and changes.
	abandoned int
	nextSeq   uint64
	// limitBytes refuses what is beyond it.
	limitBytes int
	// inflight is keyed by the first sequence number of the entry.
	inflight map[uint64]*ticket
	// pending and pendingBytes are of the waiters that are not over. Counts reads
	// pending and failed without mu.
	pending      atomic.Int64
	pendingBytes int
	stopped      bool
	failed       atomic.Uint64
	added        uint64
}

// NewProposals makes the book of one run of a member. The origin must never
// have been used before.
func NewProposals(origin state.Origin) *Proposals {
	return &Proposals{origin: origin, nextSeq: 1, limitBytes: maxPendingBytes, inflight: map[uint64]*ticket{}}
}

// Add queues a command. The caller then wakes the raft owner.
func (p *Proposals) Add(c state.Command) (*Waiter, error) {
	return p.add(&Waiter{command: c, reply: make(chan Reply, 1)})
}

// AddChange queues a membership change.
func (p *Proposals) AddChange(c state.MemberChange) (*Waiter, error) {
	return p.add(&Waiter{change: &c, reply: make(chan Reply, 1)})
}

func (p *Proposals) add(w *Waiter) (*Waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return nil, ErrStopped
	case p.pending.Load() >= maxPending || p.pendingBytes >= p.limitBytes:
		p.failed.Add(1)
		return nil, ErrTooManyRequests
	}
	p.added++
	p.pending.Add(1)
	p.pendingBytes += len(w.command.Body)
	if w.change != nil {
		p.changes = append(p.changes, w)
		return w, nil
	}
	p.waiting = append(p.waiting, w)
	return w, nil
}

// Forget gives up waiting: a proposal that is not in an entry yet is dropped,
// any other may still take effect.
func (p *Proposals) Forget(w *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.over {
		return
	}
	p.failed.Add(1)
	p.end(w)
	if w.ticket != nil {
		return
	}
	if p.abandoned++; p.abandoned > minAbandoned+(len(p.waiting)+len(p.changes))/2 {
		p.waiting, p.changes, p.abandoned = remaining(p.waiting), remaining(p.changes), 0
	}
}

// end takes a waiter, and its ticket with the last one, out of the books. The
// caller holds mu.
func (p *Proposals) end(w *Waiter) {
	w.over = true
	p.pending.Add(-1)
	p.pendingBytes -= len(w.command.Body)
	w.command.Body = nil
	if t := w.ticket; t != nil {
		if t.open--; t.open == 0 {
			delete(p.inflight, t.seq)
		}
	}
}

// remaining drops the waiters that are over.
func remaining(waiters []*Waiter) []*Waiter {
	return slices.DeleteFunc(waiters, func(w *Waiter) bool { return w.over })
}

// Counts tells the proposals without a reply, and those ever given up or
// refused. It waits for nobody: each request asks.
func (p *Proposals) Counts() (pending int, failed uint64) {
	return int(p.pending.Load()), p.failed.Load()
}

// Stop fails every proposal with ErrStopped.
func (p *Proposals) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, w := range append(p.waiting, p.changes...) {
		p.finish(w, Reply{Err: ErrStopped})
	}
	p.waiting, p.changes, p.abandoned = nil, nil, 0
	for _, t := range p.inflight {
		for _, w := range t.waiters {
			p.finish(w, Reply{Err: ErrStopped})
		}
	}
}

// takeEntry moves waiting commands into one entry and returns its bytes and
// first sequence number; nil when nothing waits. The raft owner proposes it and
// calls either sent or returned.
func (p *Proposals) takeEntry() (data []byte, firstSeq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var cmds []state.Command
	var waiters []*Waiter
	size, taken := 0, 0
	for _, w := range p.waiting {
		if w.over {
			p.abandoned--
			taken++
			continue
		}
		if len(cmds) > 0 && (size+len(w.command.Body) > maxEntryBytes || len(cmds) >= maxEntryCommands) {
			break
		}
		cmds = append(cmds, w.command)
		waiters = append(waiters, w)
		size += len(w.command.Body)
		taken++
	}
	p.waiting = shift(p.waiting, taken)
	if len(cmds) == 0 {
		return nil, 0
	}
	firstSeq = p.issue(waiters)
	return state.EncodeCommands(p.origin, firstSeq, cmds), firstSeq
}

// issue makes the ticket of an entry and returns its first sequence number.
func (p *Proposals) issue(waiters []*Waiter) uint64 {
	t := &ticket{seq: p.nextSeq, waiters: waiters, open: len(waiters)}
	p.nextSeq += uint64(len(waiters))
	p.inflight[t.seq] = t
	for _, w := range waiters {
		w.ticket = t
	}
	return t.seq
}

// withdraw takes an entry back that is in no log, and never will be; it returns
// those who still wait.
func (p *Proposals) withdraw(seq uint64) []*Waiter {
	t := p.inflight[seq]
	if t == nil {
		return nil
	}
	delete(p.inflight, seq)
	waiters := remaining(t.waiters)
	for _, w := range waiters {
		w.ticket = nil
	}
	return waiters
}

// returned puts an entry's commands back: raft refused it, so it is in no log
// and in no message.
func (p *Proposals) returned(firstSeq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.withdraw(firstSeq), p.waiting...)
}

// placed notes the index at which this member, as leader, appended one of its
// own entries.
func (p *Proposals) placed(data []byte, index uint64) {
	origin, firstSeq, ok := state.PeekOrigin(data)
	if !ok || origin != p.origin {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.inflight[firstSeq]; t != nil {
		t.index = index
	}
}

// takeChange returns the next membership change as the context of a raft
// configuration change, and its identity.
func (p *Proposals) takeChange() (context []byte, change *state.MemberChange, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.changes) > 0 {
		w := p.changes[0]
		p.changes = shift(p.changes, 1)
		if w.over {
			p.abandoned--
			continue
		}
		seq = p.issue([]*Waiter{w})
		return encodeChange(p.origin, seq, *w.change), w.change, seq
	}
	return nil, nil, 0
}

// returnedChange puts a change back that raft refused.
func (p *Proposals) returnedChange(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes = append(p.withdraw(seq), p.changes...)
}

// resolve delivers the results of an applied entry to its waiters, when the
// entry is this run's own.
func (p *Proposals) resolve(origin state.Origin, firstSeq uint64, reply func(i int) Reply) {
	if origin != p.origin {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.inflight[firstSeq]
	if t == nil {
		return
	}
	for i, w := range t.waiters {
		p.finish(w, reply(i))
	}
}

// superseded puts the commands of an entry back that this member appended as
// leader at or below an applied index, and that was not what was applied there:
// the log has another entry in its place, so it can never commit and may be
// proposed anew. It reports whether there were any.
func (p *Proposals) superseded(applied uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var gone []uint64
	for seq, t := range p.inflight {
		if t.index != 0 && t.index <= applied {
			gone = append(gone, seq)
		}
	}
	slices.Sort(gone) // proposed anew in the order of Add
	for _, seq := range gone {
		for _, w := range p.withdraw(seq) {
			if w.change != nil {
				p.changes = append(p.changes, w)
			} else {
				p.waiting = append(p.waiting, w)
			}
		}
	}
	return len(gone) > 0
}

// displace forgets where entries were placed: a snapshot replaced the log, and
// with it the means to tell whether they were committed. Their fate is unknown;
// their waiters time out.
func (p *Proposals) displace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.inflight {
		t.index = 0
	}
}

// finish answers a waiter. The caller holds mu; the channel has room for the
// one reply, so this never blocks.
func (p *Proposals) finish(w *Waiter, r Reply) {
	if !w.over {
		p.end(w)
		w.reply <- r
	}
}

func shift[T any](s []T, n int) []T {
	if n == len(s) {
		clear(s)
		return s[:0]
	}
	return s[n:]
}

// encodeChange is the context of a configuration change:
//
//	+---------+-------------+---------+------------------------+
//	| member  | incarnation | seq     | state.MemberChange     |
//	| 8 B, BE | 8 B, BE     | 8 B, BE |                        |
//	+---------+-------------+---------+------------------------+
func encodeChange(o state.Origin, seq uint64, c state.MemberChange) []byte {
	b := binary.BigEndian.AppendUint64(nil, o.Member)
	b = binary.BigEndian.AppendUint64(b, o.Incarnation)
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, c.Encode()...)
}

func decodeChange(b []byte) (o state.Origin, seq uint64, c state.MemberChange, err error) {
	if len(b) < 24 {
		return o, 0, c, errors.New("configuration change without its member change")
	}
	o = state.Origin{Member: binary.BigEndian.Uint64(b), Incarnation: binary.BigEndian.Uint64(b[8:])}
	c, err = state.DecodeMemberChange(b[24:])
	return o, binary.BigEndian.Uint64(b[16:]), c, err
}
