package replica

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"

	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/state"
)

// ErrLogBroken means that the log and the engine of a member do not belong
// together: entries or votes are missing. The member must not start.
var ErrLogBroken = errors.New("replica: the log does not match the state")

// Recover brings a recovered log and the recovered state together. They differ
// by right in one case only: a crash fell between the adoption of a received
// snapshot and the reset of the log; the reset is made good then.
func Recover(log *raftlog.Log, g raftlog.GroupID, m *state.Machine) error {
	group := log.Group(g)
	applied, appliedTerm := m.Applied()
	if applied == 0 {
		// Only a member that waits for its first snapshot has no state, and that
		// one has no entries.
		if group.LastIndex() > 0 {
			return fmt.Errorf("%w: the log begins at index %d and the state is empty", ErrLogBroken, group.FirstIndex())
		}
		return nil
	}
	if raft.IsEmptyHardState(group.HardState()) {
		return fmt.Errorf("%w: the state holds index %d and the log is empty", ErrLogBroken, applied)
	}
	if group.FirstIndex() > applied+1 {
		return fmt.Errorf("%w: the state holds index %d and the log begins at %d", ErrLogBroken, applied, group.FirstIndex())
	}
	if applied <= group.LastIndex() {
		term, err := group.Term(applied)
		if err != nil {
			return fmt.Errorf("term of the applied index %d: %w", applied, err)
		}
		if term == appliedTerm {
			return nil
		}
	}
	hard := group.HardState()
	commit := max(hard.GetCommit(), applied)
	hard.Commit = &commit
	return log.Append([]raftlog.Write{{
		Group: g, Reset: &raftlog.Position{Index: applied, Term: appliedTerm}, HardState: hard,
	}})
}

// replayBytes bounds the entries that Replay holds at a time.
const replayBytes = 4 << 20

// Replay applies everything that the log holds, committed or not. It is for a
// member that is to go on alone: what it has is all that there is.
func Replay(log *raftlog.Log, g raftlog.GroupID, m *state.Machine) error {
	group := log.Group(g)
	for {
		next, _ := m.Applied()
		next++
		if next > group.LastIndex() {
			return nil
		}
		stored, err := group.Entries(next, group.LastIndex()+1, replayBytes)
		if err != nil {
			return fmt.Errorf("read the log from %d: %w", next, err)
		}
		entries := make([]state.Entry, len(stored))
		for i, e := range stored {
			if entries[i], _, err = decodeEntry(e); err != nil {
				return fmt.Errorf("decode entry %d: %w", e.GetIndex(), err)
			}
		}
		if _, err := m.Apply(entries); err != nil {
			return fmt.Errorf("apply entries from %d: %w", next, err)
		}
	}
}
