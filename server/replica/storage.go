package replica

import (
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

// storage is the log and the applied state as raft reads them. Only the raft
// owner calls it, while the log's and the applier's owners write.
type storage struct {
	log *raftlog.Group
	// initial is read once, when raft starts.
	initialHard *raftpb.HardState
	initialConf *raftpb.ConfState
	// machine is what a snapshot would be taken from.
	machine *atomic.Pointer[state.Machine]
	// failed is the first error that says that the log cannot be read. Raft has
	// no use for it: it sends a snapshot then, or panics.
	failed error
}

func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.initialHard, s.initialConf, nil
}

func (s *storage) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	entries, err := s.log.Entries(lo, hi, maxBytes)
	if err != nil && s.failed == nil && !errors.Is(err, raft.ErrCompacted) && !errors.Is(err, raft.ErrUnavailable) {
		s.failed = fmt.Errorf("read the log: %w", err)
	}
	return entries, err
}

func (s *storage) Term(i uint64) (uint64, error) { return s.log.Term(i) }

func (s *storage) LastIndex() (uint64, error) { return s.log.LastIndex(), nil }

func (s *storage) FirstIndex() (uint64, error) { return s.log.FirstIndex(), nil }

// Snapshot describes the applied state without freezing it. The sender of the
// snapshot freezes a state at least as new, later, and corrects the metadata
// then; raft accepts a follower that comes back further than expected.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	m := s.machine.Load()
	snap, err := m.Snapshot()
	if err != nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	defer func() { _ = snap.Close() }() // nothing was read through it
	if snap.Index == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return snapshotOf(snap.Index, snap.Term, snap.ConfState), nil
}

// SnapshotMessage is raft's message m, announcing the state that is really
// sent: it may be newer than the one that raft saw.
func SnapshotMessage(m *raftpb.Message, index, term uint64, c state.ConfState) *raftpb.Message {
	return &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, Snapshot: snapshotOf(index, term, c),
	}
}

func snapshotOf(index, term uint64, c state.ConfState) *raftpb.Snapshot {
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: &index, Term: &term, ConfState: confStateOf(c),
	}}
}

func confStateOf(c state.ConfState) *raftpb.ConfState {
	return raftpb.EnsureConfState(&raftpb.ConfState{Voters: c.Voters, Learners: c.Learners})
}
