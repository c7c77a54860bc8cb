package state

import (
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
)

// maxKeptBatchBytes bounds the memory that the reused batch holds on to.
const maxKeptBatchBytes = 8 << 20

// Apply applies committed entries, in order and without a gap after the last
// applied index. All their effects and the applied index are one engine batch
// (invariant 1); readers see them, keys first, when it is written.
//
// ErrReplay and ErrUnknownCommand change nothing. Any other error is a failure
// of the engine: the member has to stop, and every further call fails.
func (m *Machine) Apply(entries []Entry) (Outcome, error) {
	if m.failed != nil {
		return Outcome{}, m.failed
	}
	if err := m.checkEntries(entries); err != nil {
		return Outcome{}, err
	}
	out, err := m.apply(entries)
	if err != nil {
		m.failed = fmt.Errorf("apply after index %d: %w", m.published.Load().index, err)
		return Outcome{}, m.failed
	}
	return out, nil
}

// checkEntries refuses what must not be applied before anything is staged.
func (m *Machine) checkEntries(entries []Entry) error {
	next := m.published.Load().index + 1
	for i, e := range entries {
		if e.Index != next+uint64(i) {
			return fmt.Errorf("entry %d where %d is next: %w", e.Index, next+uint64(i), ErrReplay)
		}
		for _, c := range e.Commands {
			if c.Kind < KindPut || c.Kind > lastKind {
				return fmt.Errorf("entry %d: kind %d: %w", e.Index, c.Kind, ErrUnknownCommand)
			}
		}
	}
	return nil
}

// applier is the work of one call of Apply.
type applier struct {
	group  engine.GroupID
	leases *lease.Registry
	batch  *engine.Batch
	w      *mvcc.Writer
	// cluster is the newest, also where it is not published yet.
	cluster *cluster
	// compacted is the newest compact revision, likewise.
	compacted int64
	// auth is the newest, likewise.
	auth   *auth.State
	tokens *auth.Tokens
	// index and term are those of the entry being applied, by is who asks for
	// the command being applied.
	index, term uint64
	by          auth.Identity
	// events are those of all revisions made, rev the newest revision.
	events []RevisionEvents
	rev    int64
	// bare says that events have no previous values.
	bare bool
	// now and request are the command that is applied just now: nobody keeps them.
	now     change
	request pb.PutRequest
}

func (m *Machine) apply(entries []Entry) (Outcome, error) {
	p := m.published.Load()
	if len(entries) == 0 {
		return Outcome{Rev: m.kv.Rev(), ConfState: p.cluster.confState()}, nil
	}
	a := m.newApplier(p)
	if a.bare = m.bare; a.bare {
		a.w.Bare()
	}
	next := &published{}
	out := Outcome{Entries: make([]EntryResult, len(entries))}
	for i, e := range entries {
		r, err := a.entry(e)
		if err != nil {
			return Outcome{}, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		out.Entries[i] = r
		next.index, next.term = e.Index, e.Term
	}
	if err := a.w.Finish(); err != nil {
		return Outcome{}, fmt.Errorf("read previous pairs: %w", err)
	}
	putApplied(m.batch, m.group, next.index, next.term, a.rev)
	if err := m.engine.Apply(m.batch); err != nil {
		return Outcome{}, fmt.Errorf("write batch: %w", err)
	}
	a.w.Publish()
	next.cluster, next.auth = a.cluster, a.auth
	m.published.Store(next)
	out.Events, out.Rev, out.ConfState = a.events, a.rev, a.cluster.confState()
	return out, nil
}

func (m *Machine) newApplier(p *published) *applier {
	if m.batch.SizeBytes() > maxKeptBatchBytes {
		m.batch = engine.NewBatch()
	}
	m.batch.Reset()
	return &applier{
		group: m.group, leases: m.leases, batch: m.batch, w: m.kv.Writer(m.batch),
		auth: p.auth, tokens: m.tokens, cluster: p.cluster, compacted: m.kv.CompactRev(), rev: m.kv.Rev(),
	}
}

func (a *applier) entry(e Entry) (EntryResult, error) {
	var r EntryResult
	a.index, a.term = e.Index, e.Term
	if e.Change != nil {
		r.Change = a.change(*e.Change)
	}
	if len(e.Commands) > 0 {
		r.Results = make([]Result, len(e.Commands))
	}
	for i, c := range e.Commands {
		a.by = c.By
		resp, err := a.command(c)
		if err != nil && !isResult(err) {
			return EntryResult{}, fmt.Errorf("command %d: %w", i, err)
		}
		if err != nil {
			r.Results[i].Err = err
		} else {
			r.Results[i].Response = resp
		}
	}
	return r, nil
}

// isResult tells an error of a command, which is the same on every member
// (invariant 9), from a failure of the engine.
func isResult(err error) bool {
	for _, known := range []error{
		ErrKeyNotFound, ErrNoSpace, ErrCorrupt, ErrMalformed,
		ErrIDRemoved, ErrMemberNotFound, ErrPeerURLExists,
		mvcc.ErrCompacted, mvcc.ErrFutureRev,
		lease.ErrNotFound, lease.ErrExists, lease.ErrTTLTooLarge,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return auth.IsResult(err)
}

// command applies one command; an error that isResult changed nothing.
func (a *applier) command(c Command) (proto.Message, error) {
	switch c.Kind {
	case KindPut:
		return a.put(c.Body)
	case KindDeleteRange:
		return a.deleteRange(c.Body)
	case KindTxn:
		return a.txn(c.Body)
	case KindCompact:
		return a.compact(c.Body)
	case KindLeaseGrant:
		return a.leaseGrant(c.Body)
	case KindLeaseRevoke:
		return a.leaseRevoke(c.Body)
	case KindLeaseExpire:
		return a.leaseExpire(c.Body)
	case KindAlarm:
		return a.alarm(c.Body)
	case KindMemberPublish:
		return a.memberPublish(c.Body)
	case KindMemberUpdate:
		return a.memberUpdate(c.Body)
	case KindClusterVersion:
		return a.clusterVersion(c.Body)
	case KindDowngrade:
		return a.downgrade(c.Body)
	}
	return a.authCommand(c)
}

// decode unmarshals a body. Protobuf accepts fields that it does not know, so
// that a request of a newer version is applied as an older member understands
// it; kinds and formats are what guards against that.
func decode(body []byte, into proto.Message) error {
	if err := proto.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %T: %w", ErrMalformed, into, err)
	}
	return nil
}

// change applies a membership change, checked again: it may have become invalid
// since it was proposed.
func (a *applier) change(c MemberChange) ChangeResult {
	if err := a.cluster.check(c); err != nil {
		return ChangeResult{Err: err}
	}
	id := c.Member.ID
	switch c.Kind {
	case AddVoter, AddLearner:
		member := c.Member.Clone()
		member.Learner = c.Kind == AddLearner
		a.setMember(member)
	case Promote:
		i, _ := a.cluster.find(id)
		member := a.cluster.members[i].Clone()
		member.Learner = false
		a.setMember(member)
	case Remove:
		putRemoved(a.batch, a.group, id)
		a.cluster = a.cluster.withoutMember(id)
	}
	return ChangeResult{Applied: true}
}

func (a *applier) setMember(member Member) {
	putMember(a.batch, a.group, member)
	a.cluster = a.cluster.withMember(member)
}
