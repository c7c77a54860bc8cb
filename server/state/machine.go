package state

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/mvcc"
)

// Options say what a machine works on.
type Options struct {
	Engine engine.Engine
	Group  engine.GroupID
	// Tokens are this member's simple tokens, which outlive a machine that a
	// snapshot replaces. When nil, some are made with etcd's time to live.
	Tokens *auth.Tokens
	// Leases is told what happens to leases; nil for nobody.
	Leases lease.Observer
	// Keys are those of the engine, where they are known already; nil where Open
	// is to open them.
	Keys *mvcc.Store
	// Image is what WriteImage wrote, maybe of this state; nil for none. Only
	// Open reads it. OnImage, when set, is told why it was of no use, nil where
	// the index of the keys came from it.
	Image   io.Reader
	OnImage func(error)
}

// Swept counts the compactions whose rows are all gone, and those rows.
type Swept struct {
	Sweeps, Rows uint64
}

// Machine is the state machine of one group. Apply, Step and Bootstrap belong
// to one goroutine; everything else may run concurrently with it and sees
// published state.
type Machine struct {
	o      Options
	engine engine.Engine
	group  engine.GroupID
	kv     *mvcc.Store
	leases *lease.Registry
	tokens *auth.Tokens

	// published is replaced after each batch, when the engine and mvcc show it:
	// who sees an applied index sees its effects.
	published atomic.Pointer[published]

	// batch is reused by Apply.
	batch *engine.Batch
	// failed is set by the goroutine of Apply when the engine failed after
	// something was staged in memory: nothing may be applied on top of that.
	failed error
	// bare is what Bare was told last. Owned by the goroutine of Apply.
	bare bool
	// imaged is the index that the newest known image is of; 0 for none. Owned by
	// the goroutine of Apply.
	imaged uint64
}

// published is the state beside keys and leases that readers see. Immutable.
type published struct {
	index, term uint64
	cluster     *cluster
	auth        *auth.State
}

// Open reads the state of a group from its engine. An empty engine gives a
// machine with applied index 0 and no members.
func Open(o Options) (*Machine, error) {
	s, err := load(o.Engine, o.Group)
	if err != nil {
		return nil, err
	}
	kv, imaged, err := openKeys(o, s)
	if err != nil {
		return nil, err
	}
	o.Keys, o.Image, o.OnImage = nil, nil, nil
	leases, err := lease.Open(o.Engine, o.Group)
	if err != nil {
		return nil, fmt.Errorf("open leases: %w", err)
	}
	if o.Leases != nil {
		leases.Observe(o.Leases)
	}
	if err := attachKeys(kv, leases); err != nil {
		return nil, err
	}
	users, err := auth.Open(o.Engine, o.Group)
	if err != nil {
		return nil, fmt.Errorf("open users: %w", err)
	}
	if o.Tokens == nil {
		o.Tokens = auth.NewTokens(auth.DefaultTokenTTL, time.Now)
	}
	m := &Machine{o: o, engine: o.Engine, group: o.Group, kv: kv, leases: leases, tokens: o.Tokens, batch: engine.NewBatch(), imaged: imaged}
	m.published.Store(&published{index: s.index, term: s.term, cluster: &s.cluster, auth: users})
	return m, nil
}

// attachKeys tells the leases which keys they hold. A key is put and its lease
// checked in one batch, so that a key without its lease means damaged data.
func attachKeys(kv *mvcc.Store, leases *lease.Registry) error {
	var failed error
	kv.AttachedKeys(func(id int64, key []byte) {
		if err := leases.Attach(lease.ID(id), key); err != nil && failed == nil {
			failed = fmt.Errorf("key %q is attached to lease %x: %w: %w", key, id, err, engine.ErrCorrupt)
		}
	})
	return failed
}

// Bootstrap writes the first state of a new cluster to an empty engine and
// makes it durable: the members, and the applied index 1 of term 1.
func (m *Machine) Bootstrap(clusterID uint64, members []Member) error {
	if m.published.Load().index != 0 {
		return ErrNotEmpty
	}
	c := &cluster{id: clusterID}
	m.batch.Reset()
	putClusterID(m.batch, m.group, clusterID)
	for _, member := range members {
		if _, found := c.find(member.ID); found {
			return fmt.Errorf("bootstrap with member %x twice: %w", member.ID, ErrIDExists)
		}
		c = c.withMember(member.Clone())
		putMember(m.batch, m.group, member)
	}
	putApplied(m.batch, m.group, 1, 1, m.kv.Rev())
	if err := m.engine.Apply(m.batch); err != nil {
		return fmt.Errorf("write first state: %w", err)
	}
	if err := m.engine.Flush(); err != nil {
		return fmt.Errorf("flush first state: %w", err)
	}
	m.published.Store(&published{index: 1, term: 1, cluster: c, auth: m.Auth()})
	return nil
}

// Bare says whether the events of the next entries may come without previous
// values, which have to be read for them. It belongs to the goroutine of Apply.
func (m *Machine) Bare(may bool) { m.bare = may }

// Options are what the machine was opened with.
func (m *Machine) Options() Options { return m.o }

// Applied is the last applied index and its term. A read that begins after it
// was seen sees all its effects.
func (m *Machine) Applied() (index, term uint64) {
	p := m.published.Load()
	return p.index, p.term
}

// KV is the store of keys.
func (m *Machine) KV() *mvcc.Store { return m.kv }

// Leases is the registry of leases.
func (m *Machine) Leases() *lease.Registry { return m.leases }

// Auth is the users and roles of the moment.
func (m *Machine) Auth() *auth.State { return m.published.Load().auth }

// Tokens are this member's simple tokens.
func (m *Machine) Tokens() *auth.Tokens { return m.tokens }

// ClusterID is 0 before Bootstrap.
func (m *Machine) ClusterID() uint64 { return m.published.Load().cluster.id }

// ClusterVersion is empty until it was set.
func (m *Machine) ClusterVersion() string { return m.published.Load().cluster.version }

// Downgrade is the version that the cluster may go down to; empty when it may
// not.
func (m *Machine) Downgrade() string { return m.published.Load().cluster.downgrade }

// Members lists the members by ID.
func (m *Machine) Members() []Member {
	members := slices.Clone(m.published.Load().cluster.members)
	for i := range members {
		members[i] = members[i].Clone()
	}
	return members
}

// Member finds a member.
func (m *Machine) Member(id uint64) (Member, bool) {
	c := m.published.Load().cluster
	i, found := c.find(id)
	if !found {
		return Member{}, false
	}
	return c.members[i].Clone(), true
}

// IsLearner tells whether a member has no vote.
func (m *Machine) IsLearner(id uint64) bool {
	c := m.published.Load().cluster
	i, found := c.find(id)
	return found && c.members[i].Learner
}

// Removed tells whether a member with this ID was removed for ever.
func (m *Machine) Removed(id uint64) bool { return m.published.Load().cluster.isRemoved(id) }

// ConfState is the membership as raft needs it.
func (m *Machine) ConfState() ConfState { return m.published.Load().cluster.confState() }

// CheckChange says whether a change would be valid now; apply checks it again.
func (m *Machine) CheckChange(c MemberChange) error { return m.published.Load().cluster.check(c) }

// Alarms lists all alarms that are on.
func (m *Machine) Alarms() []*pb.AlarmMember {
	return m.published.Load().cluster.alarmMembers(pb.AlarmType_NONE)
}

// HasAlarm tells whether any member raised an alarm of this type.
func (m *Machine) HasAlarm(t pb.AlarmType) bool { return m.published.Load().cluster.hasAlarm(t) }

// Step does a little background work: it removes at most about maxRows rows
// that compaction gave up. more tells that there is work left. It runs on
// Apply's goroutine.
func (m *Machine) Step(maxRows int) (more bool, err error) {
	if m.failed != nil {
		return false, m.failed
	}
	done, err := m.kv.CompactStep(maxRows)
	if err != nil {
		return false, fmt.Errorf("compact: %w", err)
	}
	return !done, nil
}

// Swept tells what compaction has removed since Open. Call it on Apply's goroutine.
func (m *Machine) Swept() Swept { return Swept(m.kv.Swept()) }

// Size tells what the engine holds.
func (m *Machine) Size() engine.Size { return m.engine.Size() }

// Defragment gives freed space back.
func (m *Machine) Defragment() error { return m.engine.Defragment() }

// FlushCostBytes estimates what Flush writes beyond the batches since the last.
func (m *Machine) FlushCostBytes() int64 { return m.engine.FlushCostBytes() }

// Flush makes the applied state durable up to the index that it returns. Apply
// may go on meanwhile. Invariant 4: the log must keep everything after it.
func (m *Machine) Flush() (durableIndex uint64, err error) {
	index, _ := m.Applied()
	if err := m.engine.Flush(); err != nil {
		return 0, fmt.Errorf("flush up to index %d: %w", index, err)
	}
	return index, nil
}

// Close closes the engine. Nothing else may run.
func (m *Machine) Close() error {
	if err := m.engine.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
		return fmt.Errorf("close engine: %w", err)
	}
	return nil
}
