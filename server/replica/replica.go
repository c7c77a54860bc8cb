package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

// Limits handed to raft.
const (
	maxMessageBytes     = 1 << 20
	maxApplyBytes       = 16 << 20
	maxUncommittedBytes = 256 << 20
	maxInflightMessages = 256
	maxInflightBytes    = 64 << 20
	// maxAppends bounds the appends that the log has not answered. While as
	// many are out, proposals gather: that is the group commit, without timers.
	maxAppends = 2
)

// Config is what a replica is made of.
type Config struct {
	ID, ClusterID uint64
	Group         raftlog.GroupID
	Log           *raftlog.Group
	// Machine is read through the pointer, since installing a snapshot
	// replaces it.
	Machine *atomic.Pointer[state.Machine]
	// Incarnation has never been used before by this member.
	Incarnation                   uint64
	ElectionTicks, HeartbeatTicks int
	PreVote                       bool
	// MaxPendingBytes bounds the proposals without a result; 0 is the default.
	MaxPendingBytes int
	Logger          *slog.Logger
}

// Replica is the raft owner's half.
type Replica struct {
	Proposals *Proposals
	Reads     *Reads

	id      uint64
	group   raftlog.GroupID
	node    *raft.RawNode
	storage *storage
	logger  *slog.Logger

	// appends counts Append works handed out and not yet done.
	// Invariant: 0 <= appends.
	appends int
	// committedTerm is the highest term of a committed entry seen.
	committedTerm uint64
	leader        uint64
	leaderChanges uint64
	isLeader      bool
	clusterID     uint64
	// refused holds forwarded proposals that raft would not take just now: they
	// are in no log, so they can be proposed again without doubling.
	refused      []*raftpb.Entry
	refusedBytes int
	// unsent are proposals of which no byte left for the leader. They count as
	// refused from the next tick on: the way to it is hardly open any sooner.
	unsent []*raftpb.Entry
	// standing is when this member stands for election, since its leader hung up.
	standing standing
	status   atomic.Pointer[Status]
}

// New starts raft over a recovered log and an opened state machine. A log that
// ends before the applied index (the crash fell between the installation of a
// snapshot and the reset of the log) must have been reset by the caller, see
// Recover.
func New(c Config) (*Replica, error) {
	m := c.Machine.Load()
	applied, _ := m.Applied()
	hard := c.Log.HardState()
	if hard == nil {
		hard = &raftpb.HardState{}
	}
	term, vote, commit := hard.GetTerm(), hard.GetVote(), max(hard.GetCommit(), applied)
	if commit > c.Log.LastIndex() {
		return nil, fmt.Errorf("%w: index %d was committed and the log ends at %d", ErrLogBroken, commit, c.Log.LastIndex())
	}
	st := &storage{
		log:         c.Log,
		machine:     c.Machine,
		initialHard: &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit},
		initialConf: confStateOf(m.ConfState()),
	}
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        c.ID,
		ElectionTick:              c.ElectionTicks,
		HeartbeatTick:             c.HeartbeatTicks,
		Storage:                   st,
		Applied:                   applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMessageBytes,
		MaxCommittedSizePerReady:  maxApplyBytes,
		MaxUncommittedEntriesSize: maxUncommittedBytes,
		MaxInflightMsgs:           maxInflightMessages,
		MaxInflightBytes:          maxInflightBytes,
		CheckQuorum:               true,
		PreVote:                   c.PreVote,
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{c.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	origin := state.Origin{Member: c.ID, Incarnation: c.Incarnation}
	proposals := NewProposals(origin)
	if c.MaxPendingBytes > 0 {
		proposals.limitBytes = c.MaxPendingBytes
	}
	r := &Replica{
		Proposals: proposals,
		Reads:     NewReads(origin, applied),
		id:        c.ID, group: c.Group, node: node, storage: st, logger: c.Logger,
		clusterID: c.ClusterID,
		standing:  standing{mayHurry: c.PreVote, giveUpAfter: c.ElectionTicks},
	}
	r.publishStatus()
	return r, nil
}

// Work is one step's output. The host hands Append to the log's owner and
// Apply to the applier's owner, each in order, and sends Messages at once: they
// depend on nothing that is not durable yet.
type Work struct {
	Messages []*raftpb.Message
	Append   *Append
	Apply    *Apply
}

// Append is what the log has to make durable, and the messages that may leave
// only after that (invariant 3).
type Append struct {
	Write     raftlog.Write
	Snapshot  *raftpb.Snapshot
	responses []*raftpb.Message
	// durable is closed by Durable; nil when nobody waits for it.
	durable chan struct{}
}

// Durable tells, once, that everything in Write is durable. The log's owner
// calls it before AppendDone is reached, and before it begins what comes
// behind.
func (a *Append) Durable() {
	if a.durable != nil {
		close(a.durable)
	}
}

// Empty reports that there is nothing to write.
func (a *Append) Empty() bool {
	return a.Write.HardState == nil && len(a.Write.Entries) == 0 && a.Snapshot == nil
}

// Apply is a run of committed entries for the Applier.
type Apply struct {
	Entries  []*raftpb.Entry
	response *raftpb.Message
	gate     *Append
}

// Gate is closed when the Apply may begin; nil when it may at once. What comes
// behind it waits too.
func (a *Apply) Gate() <-chan struct{} {
	if a.gate == nil {
		return nil
	}
	return a.gate.durable
}

// Tick advances raft's clock by one tick.
func (r *Replica) Tick() {
	r.node.Tick()
	r.standing.tick(r)
	r.refused, r.unsent = append(r.refused, r.unsent...), nil
	if r.Reads.tick() {
		r.readIndex(true)
	}
}

// Step takes a message of a peer.
func (r *Replica) Step(m *raftpb.Message) error {
	if m.GetType() == raftpb.MsgReadIndex && r.leadsUnproven() {
		// A leader that is the only voter answers from its commit index at
		// once, which before its first commit of this term may be older than
		// what was acknowledged before it restarted. The asker asks again.
		return nil
	}
	err := r.node.Step(r.ofOnlyVoter(m))
	if errors.Is(err, raft.ErrProposalDropped) && m.GetType() == raftpb.MsgProp {
		r.refuse(m.GetEntries())
		return nil
	}
	if errors.Is(err, raft.ErrStepPeerNotFound) {
		return nil // an answer of a member that was removed meanwhile
	}
	return err
}

// refuse keeps forwarded proposals for a later try.
func (r *Replica) refuse(entries []*raftpb.Entry) { r.refused = r.hold(r.refused, entries) }

// Unsent keeps forwarded proposals of which no byte was sent.
func (r *Replica) Unsent(entries []*raftpb.Entry) { r.unsent = r.hold(r.unsent, entries) }

func (r *Replica) hold(held, entries []*raftpb.Entry) []*raftpb.Entry {
	for _, e := range entries {
		if r.refusedBytes+len(e.GetData()) > r.Proposals.limitBytes {
			break // its proposer times out
		}
		held = append(held, e)
		r.refusedBytes += len(e.GetData())
	}
	return held
}

// ReportUnreachable and ReportSnapshot tell raft how sending went.
func (r *Replica) ReportUnreachable(id uint64) { r.node.ReportUnreachable(id) }

// ReportSnapshot tells raft whether a snapshot reached its member.
func (r *Replica) ReportSnapshot(id uint64, ok bool) {
	s := raft.SnapshotFinish
	if !ok {
		s = raft.SnapshotFailure
	}
	r.node.ReportSnapshot(id, s)
}

// TransferLeader asks the leader, through raft, to hand over to a member.
func (r *Replica) TransferLeader(to uint64) { r.node.TransferLeader(to) }

// Campaign starts an election at once: a group of one needs no time-out.
func (r *Replica) Campaign() error { return r.node.Campaign() }

// Ready proposes what waits and returns raft's next work, or false when there
// is none.
func (r *Replica) Ready() (Work, bool) {
	r.flush()
	if !r.node.HasReady() {
		return Work{}, false
	}
	rd := r.node.Ready()
	if rd.SoftState != nil {
		r.softState(*rd.SoftState)
	}
	for _, rs := range rd.ReadStates {
		r.Reads.confirm(rs.RequestCtx, rs.Index)
	}
	var w Work
	var votes []*raftpb.Message
	for _, m := range rd.Messages {
		switch {
		case m.GetTo() == raft.LocalAppendThread:
			w.Append = r.appendWork(m)
		case m.GetTo() == raft.LocalApplyThread:
			w.Apply = r.applyWork(m)
		case m.GetType() == raftpb.MsgVote:
			votes = append(votes, m)
		default:
			w.Messages = append(w.Messages, m)
		}
	}
	r.holdVotes(&w, votes)
	r.gate(&w)
	r.publishStatus()
	return w, true
}

// needAppend gives work an append, with the present hard state, that has none.
func (r *Replica) needAppend(w *Work) {
	if w.Append == nil {
		w.Append = &Append{Write: raftlog.Write{Group: r.group, HardState: proto.CloneOf(r.node.BasicStatus().HardState)}}
		r.appends++
	}
}

// gate keeps a committed membership change from being applied before its commit
// index is durable here. Else this member could restart with the old members,
// while the one that was removed has left for good: of two voters, the one that
// stays could then never lead again.
func (r *Replica) gate(w *Work) {
	if w.Apply == nil || !slices.ContainsFunc(w.Apply.Entries, func(e *raftpb.Entry) bool { return e.GetType() == raftpb.EntryConfChange }) {
		return
	}
	r.needAppend(w)
	w.Append.Write.HardState = proto.CloneOf(r.node.BasicStatus().HardState)
	w.Append.Write.Durable = true
	w.Append.durable = make(chan struct{})
	w.Apply.gate = w.Append
}

// flush proposes waiting commands and changes and starts a round of reads.
func (r *Replica) flush() {
	if r.leader == 0 {
		return // they wait for a leader or for their deadline
	}
	for len(r.refused) > 0 {
		e := r.refused[0]
		if r.propose(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &r.id, Entries: []*raftpb.Entry{e}}) != nil {
			break
		}
		r.refused = shift(r.refused, 1)
		r.refusedBytes -= len(e.GetData())
	}
	for r.appends < maxAppends || !r.isLeader {
		data, seq := r.Proposals.takeEntry()
		if data == nil {
			break
		}
		if r.node.Propose(data) != nil {
			r.Proposals.returned(seq)
			break
		}
		if r.isLeader {
			break // one entry a Ready: the next gathers while this one syncs
		}
	}
	r.flushChanges()
	r.readIndex(false)
}

func (r *Replica) propose(m *raftpb.Message) error { return r.node.Step(m) }

func (r *Replica) flushChanges() {
	for {
		context, change, seq := r.Proposals.takeChange()
		if context == nil {
			return
		}
		if r.node.ProposeConfChange(confChange(*change, context)) != nil {
			r.Proposals.returnedChange(seq)
			return
		}
	}
}

func (r *Replica) readIndex(again bool) {
	if r.leader == 0 || r.leadsUnproven() {
		return
	}
	if context := r.Reads.start(again); context != nil {
		r.node.ReadIndex(context)
	}
}

// leadsUnproven: this member leads and has not committed an entry of its own
// term yet, so its commit index may not cover all that was ever acknowledged.
func (r *Replica) leadsUnproven() bool {
	s := r.node.BasicStatus()
	return s.RaftState == raft.StateLeader && r.committedTerm != s.GetTerm()
}

func (r *Replica) softState(s raft.SoftState) {
	r.isLeader = s.RaftState == raft.StateLeader
	if s.Lead == r.leader {
		return
	}
	r.logger.Info("leader changed", "member", idString(r.id), "from", idString(r.leader), "to", idString(s.Lead))
	r.leader = s.Lead
	r.leaderChanges++
	r.readIndex(true)
}

func (r *Replica) appendWork(m *raftpb.Message) *Append {
	a := &Append{responses: m.GetResponses(), Snapshot: m.GetSnapshot()}
	a.Write = raftlog.Write{Group: r.group, Entries: m.GetEntries()}
	if m.Term != nil {
		a.Write.HardState = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	if raft.IsEmptySnap(a.Snapshot) {
		a.Snapshot = nil
	} else {
		md := a.Snapshot.GetMetadata()
		a.Write.Reset = &raftlog.Position{Index: md.GetIndex(), Term: md.GetTerm()}
	}
	if r.isLeader {
		for _, e := range a.Write.Entries {
			r.Proposals.placed(e.GetData(), e.GetIndex())
		}
	}
	r.appends++
	return a
}

func (r *Replica) applyWork(m *raftpb.Message) *Apply {
	entries := m.GetEntries()
	r.committedTerm = max(r.committedTerm, entries[len(entries)-1].GetTerm())
	return &Apply{Entries: entries, response: m.GetResponses()[0]}
}

// AppendDone takes back an Append that is durable, and returns the messages to
// peers that waited for it.
func (r *Replica) AppendDone(a *Append) ([]*raftpb.Message, error) {
	r.appends--
	var out []*raftpb.Message
	for _, m := range a.responses {
		if m.GetTo() != r.id {
			out = append(out, m)
			continue
		}
		// A leader that applied its own removal meanwhile is no peer any more.
		if err := r.node.Step(m); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) {
			return nil, fmt.Errorf("step the log's answer: %w", err)
		}
	}
	return out, nil
}

// ApplyDone takes back an Apply that is published, with what it changed in the
// membership.
func (r *Replica) ApplyDone(a *Apply, done Applied) error {
	for _, c := range done.Changes {
		cs := r.node.ApplyConfChange(confChange(c, nil))
		r.logger.Info("membership changed", "change", c.Kind.String(), "member", idString(c.Member.ID), "voters", len(cs.GetVoters()))
	}
	if err := r.node.Step(a.response); err != nil {
		return fmt.Errorf("step the applier's answer: %w", err)
	}
	r.publishStatus()
	return nil
}

// Err is not nil once the log gave other bytes than were written, or none: the
// member has to stop. The raft owner asks after each turn, and when a call
// panicked, since raft panics where it cannot go on without an entry.
func (r *Replica) Err() error { return r.storage.failed }

// Status is the newest published status. Any goroutine may call it.
func (r *Replica) Status() Status { return *r.status.Load() }

// publishStatus refreshes what Status returns.
func (r *Replica) publishStatus() {
	bs := r.node.BasicStatus()
	m := r.storage.machine.Load()
	applied, _ := m.Applied()
	s := Status{
		ClusterID: r.clusterID, ID: r.id, Leader: r.leader, Term: bs.GetTerm(),
		Committed: max(bs.GetCommit(), applied), Applied: applied, LeaderChanges: r.leaderChanges,
	}
	conf := m.ConfState()
	for _, l := range conf.Learners {
		s.Learner = s.Learner || l == r.id
	}
	voters := 0
	if r.isLeader {
		progress := make(map[uint64]uint64, len(conf.Voters)+len(conf.Learners))
		r.node.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
			progress[id] = pr.Match
			if kind == raft.ProgressTypePeer {
				voters++
			}
		})
		if old := r.status.Load(); old != nil && maps.Equal(old.Progress, progress) {
			progress = old.Progress
		}
		s.Progress = progress
	}
	r.status.Store(&s)
	// Voters as raft counts them: these decide what is committed.
	r.Reads.lead(voters == 1 && s.IsLeader() && !r.leadsUnproven() && bs.RaftState == raft.StateLeader, bs.GetCommit())
}

// confChange is the raft form of a membership change.
func confChange(c state.MemberChange, context []byte) *raftpb.ConfChange {
	t := raftpb.ConfChangeAddNode
	switch c.Kind {
	case state.AddLearner:
		t = raftpb.ConfChangeAddLearnerNode
	case state.Remove:
		t = raftpb.ConfChangeRemoveNode
	}
	id := c.Member.ID
	return &raftpb.ConfChange{Type: t.Enum(), NodeId: &id, Context: context}
}

func idString(id uint64) string { return fmt.Sprintf("%x", id) }
