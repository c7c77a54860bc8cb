package sim

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"metastore.io/metastore/server/raftlog"
)

// planted is a defect that the simulator builds into its own part of a member,
// or around the production code, to prove that it would be found.
type planted string

const (
	plantNone planted = ""
	// plantNoSync: the log's File.Sync does nothing.
	plantNoSync planted = "sync skipped"
	// plantAckBeforeSync: raft hears that an append is durable before it is
	// written.
	plantAckBeforeSync planted = "acknowledged before written"
	// plantStaleRead: a read is served from what is applied, without ReadIndex.
	plantStaleRead planted = "read without ReadIndex"
	// plantFollowerExpires: a member whose leadership ended goes on to expire
	// leases, in whatever term it is.
	plantFollowerExpires planted = "lease expired by a follower"
	// plantNoLogReset: a snapshot is installed and the log stays.
	plantNoLogReset planted = "snapshot without resetting the log"
	// plantForgetVote: votes are not written.
	plantForgetVote planted = "vote not persisted"
	// plantSameIdentity: every run of a member proposes under the same identity.
	plantSameIdentity planted = "proposal identity reused after restart"
	// plantDoubleProposal: the network may double a forwarded proposal.
	plantDoubleProposal planted = "forwarded proposal delivered twice"
	// plantLostEvents: now and then the events of a revision are not published.
	plantLostEvents planted = "events not published"
	// plantWatchOldStore: watchers are not told of an installed snapshot.
	plantWatchOldStore planted = "watchers stay on the replaced store"
	// plantNoFlush: the log is shortened without flushing the engine.
	plantNoFlush planted = "log shortened before the engine is durable"
)

// faulty builds the planted defects of the log into a write.
func (r *process) faulty(write raftlog.Write) raftlog.Write {
	switch {
	case r.w.planted == plantNoLogReset:
		write.Reset = nil
	case r.w.planted == plantForgetVote && write.HardState != nil:
		write.HardState = &raftpb.HardState{Term: write.HardState.Term, Vote: new(uint64), Commit: write.HardState.Commit}
	}
	return write
}

// TestPlanted proves that each defect is found, and tells after how many seeds.
func TestPlanted(t *testing.T) {
	const limit = 200
	for _, fault := range []planted{
		plantNoSync, plantAckBeforeSync, plantStaleRead, plantFollowerExpires, plantNoLogReset,
		plantForgetVote, plantSameIdentity, plantDoubleProposal, plantLostEvents, plantWatchOldStore, plantNoFlush,
	} {
		t.Run(string(fault), func(t *testing.T) {
			for seed := uint64(1); seed <= limit; seed++ {
				if out := simulate(t, seed, fault, false); out.failure != "" {
					t.Logf("found by seed %d: %.200s", seed, out.failure)
					return
				}
			}
			t.Errorf("%d seeds do not find it", limit)
		})
	}
}
