// Package host owns the goroutines and clocks of a member: it drives replicas,
// their shared log, the appliers and the peer transport. It promises that
// messages and replies leave only after what they depend on is durable, that
// nothing it starts outlives Close, and that it stops for good, with the cause,
// when the log or the engine fails. node makes one; rpc asks it.
//
// Four goroutines turn a replica's work around:
//
//	raft    ticks, peer messages, proposals → messages, appends, applies
//	log     appends → one write and one sync for all that wait → back to raft
//	apply   committed entries → state machine, watch hub, waiters → back to raft
//	upkeep  flushes the engine and shortens the log
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// Peers is the transport as the host needs it. All methods may run concurrently
// and none but SendSnapshot and Call blocks.
type Peers interface {
	SetPeers(urls map[uint64][]string)
	Send(messages []*raftpb.Message)
	// SendSnapshot returns when the peer has made the snapshot durable.
	SendSnapshot(ctx context.Context, m *raftpb.Message, write func(io.Writer) error) error
	Call(ctx context.Context, to uint64, kind string, body []byte) ([]byte, error)
	// Connected is the zero time for a member that is not reachable.
	Connected(id uint64) time.Time
}

// Config is what a host is made of. The host owns none of what it is handed:
// the maker closes log and engines after Close.
type Config struct {
	ID, ClusterID uint64
	Group         raftlog.GroupID
	Incarnation   uint64
	Log           *raftlog.Log
	Engines       *replica.Engines
	Machine       *state.Machine
	Hub           *watch.Hub
	Logger        *slog.Logger
	Observer      Observer // nil: nobody

	// TickInterval is one heartbeat.
	TickInterval               time.Duration
	ElectionTicks              int
	PreVote                    bool
	InitialElectionTickAdvance bool
	// SnapshotEntries is after how many entries the engine is flushed and the
	// log shortened; CatchUpEntries stay for slow followers.
	SnapshotEntries, CatchUpEntries uint64
	StrictReconfigCheck             bool
	// MaxLearners is state.MemberChange's.
	MaxLearners int32
	// WarnApplyAfter is how long it may take to apply what is committed before
	// that is logged; 0 is for ever.
	WarnApplyAfter time.Duration
	// MaxPendingBytes bounds the proposals without a result; 0 is the default.
	MaxPendingBytes int
	// RequestTimeout bounds what waits for the group.
	RequestTimeout time.Duration
	// OnRemoved is called once when this member was removed from the cluster.
	OnRemoved func()
}

// Host drives one group on one member.
type Host struct {
	c       Config
	peers   Peers
	replica *replica.Replica
	applier *replica.Applier
	machine atomic.Pointer[state.Machine]
	inbox   inbox
	appends queue[*replica.Append]
	applies queue[applyJob]

	ctx    context.Context
	cancel context.CancelCauseFunc
	// workers are the goroutines that Close waits for.
	workers sync.WaitGroup
	removed sync.Once

	upkeep   upkeep
	counters counters
	leader   leaderWatch
	// receiving lets one snapshot come in at a time.
	receiving sync.Mutex
	// offered is the received snapshot that raft decides about just now. Owned
	// by the raft goroutine.
	offered *imported
	// accepted are the received snapshots that wait to be installed, by index.
	accepted sync.Map
	// sending holds the members that a snapshot is on its way to.
	sending sync.Map
	// hashing lets one hash of the keys be made at a time.
	hashing sync.Mutex
	// changing lets one membership change be checked and proposed at a time.
	changing sync.Mutex
}

// New recovers the replica; nothing runs before Start.
func New(c Config) (*Host, error) {
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	h := &Host{c: c}
	h.machine.Store(c.Machine)
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	r, err := replica.New(replica.Config{
		ID: c.ID, ClusterID: c.ClusterID, Group: c.Group, Log: c.Log.Group(c.Group), Machine: &h.machine,
		Incarnation: c.Incarnation, ElectionTicks: c.ElectionTicks, HeartbeatTicks: 1,
		PreVote: c.PreVote, MaxPendingBytes: c.MaxPendingBytes, Logger: c.Logger,
	})
	if err != nil {
		return nil, err
	}
	h.replica = r
	h.applier = r.Applier(c.Hub.Publish, c.Hub.WantsPrevs)
	h.inbox.wake = make(chan struct{}, 1)
	h.appends.init()
	h.applies.init()
	h.leader.init()
	h.upkeep.init(c.Machine)
	return h, nil
}

// Start begins to work with the given transport. Contacts are the other members'
// peer URLs by ID, for a joiner whose state does not tell them yet.
func (h *Host) Start(p Peers, contacts map[uint64][]string) {
	h.peers = p
	h.setPeers()
	if contacts != nil {
		h.peers.SetPeers(contacts)
	}
	for _, run := range []func(){h.runRaft, h.runLog, h.runApply, h.runUpkeep} {
		h.workers.Add(1)
		go func() {
			defer h.workers.Done()
			run()
		}()
	}
}

// Done is closed when the host has stopped or failed; Err says why.
func (h *Host) Done() <-chan struct{} { return h.ctx.Done() }

// Err is the failure that stopped the host; nil while it runs and after Close.
func (h *Host) Err() error {
	if err := context.Cause(h.ctx); !errors.Is(err, replica.ErrStopped) {
		return err
	}
	return nil
}

// Close stops every goroutine and fails what waits. The machine of the moment
// stays open.
func (h *Host) Close() {
	h.cancel(replica.ErrStopped)
	h.workers.Wait()
	// A snapshot being received ends by itself, since raft does not answer any
	// more; wait for that. One that was accepted and not installed stays on
	// disk and is removed at the next start.
	h.receiving.Lock()
	defer h.receiving.Unlock()
	h.accepted.Range(func(_, v any) bool {
		if err := v.(*imported).Engine.Close(); err != nil {
			h.c.Logger.Warn("received snapshot not closed", "error", err)
		}
		return true
	})
	h.replica.Proposals.Stop()
	h.replica.Reads.Stop()
}

// Fail stops the member because of what another found.
func (h *Host) Fail(err error) { h.fail(err) }

// fail stops the member: the log or the engine failed, or an invariant broke.
func (h *Host) fail(err error) {
	if h.ctx.Err() != nil {
		return // it is stopping already
	}
	h.c.Logger.Error("member stops", "member", fmt.Sprintf("%x", h.c.ID), "error", err)
	h.cancel(err)
	h.replica.Proposals.Stop()
	h.replica.Reads.Stop()
}

func (h *Host) engineGroup() engine.GroupID { return engine.GroupID(h.c.Group) }

// setPeers tells the transport the members of the moment.
func (h *Host) setPeers() {
	urls := map[uint64][]string{}
	for _, m := range h.machine.Load().Members() {
		if m.ID != h.c.ID {
			urls[m.ID] = m.PeerURLs
		}
	}
	h.peers.SetPeers(urls)
}
