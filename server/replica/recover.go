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

// replayBytes bounds the entries that Replay and CheckLog hold at a time.
const replayBytes = 4 << 20

// Replay applies what the log holds up to an index, committed or not; what is
// not applied yet and committed has to be in that range. It is for a member that
// goes on alone, or that only looks at what it has.
func Replay(log *raftlog.Log, g raftlog.GroupID, m *state.Machine, last uint64) error {
	applied, _ := m.Applied()
	return eachRun(log.Group(g), applied+1, last, func(entries []state.Entry) error {
		if _, err := m.Apply(entries); err != nil {
			return fmt.Errorf("apply entries from %d: %w", entries[0].Index, err)
		}
		return nil
	})
}

// CheckLog reads all entries of a log again that Recover has accepted, and
// decodes them; and it looks whether the hard state can be theirs.
func CheckLog(log *raftlog.Log, g raftlog.GroupID) error {
	group := log.Group(g)
	first, last := group.FirstIndex(), group.LastIndex()
	var term uint64
	err := eachRun(group, first, last, func(entries []state.Entry) error {
		for _, e := range entries {
			if e.Term < term {
				return fmt.Errorf("%w: entry %d is of term %d, the one before of term %d", ErrLogBroken, e.Index, e.Term, term)
			}
			term = e.Term
		}
		return nil
	})
	if err != nil {
		return err
	}
	hard := group.HardState()
	if hard.GetCommit() > last || hard.GetTerm() < term {
		return fmt.Errorf("%w: commit index %d and term %d with a log up to index %d of term %d", ErrLogBroken, hard.GetCommit(), hard.GetTerm(), last, term)
	}
	return nil
}

// eachRun decodes entries from first to last, a bounded number at a time.
func eachRun(group *raftlog.Group, first, last uint64, fn func([]state.Entry) error) error {
	for first <= last {
		stored, err := group.Entries(first, last+1, replayBytes)
		if err != nil {
			return fmt.Errorf("read the log from %d: %w", first, err)
		}
		entries := make([]state.Entry, len(stored))
		for i, e := range stored {
			if entries[i], _, err = decodeEntry(e); err != nil {
				return fmt.Errorf("%w: entry %d does not decode: %w", ErrLogBroken, e.GetIndex(), err)
			}
		}
		if err := fn(entries); err != nil {
			return err
		}
		first += uint64(len(stored))
	}
	return nil
}
