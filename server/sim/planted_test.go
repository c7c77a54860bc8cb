package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
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
	// plantSplitBatch: the applied index is written one batch late.
	plantSplitBatch planted = "applied index outside the batch"
	// plantDropLagging: now and then a watcher that lags misses a revision.
	plantDropLagging planted = "watch dropping on a full outbox"
	// plantRecycled: records from a recycled segment's earlier life verify.
	plantRecycled planted = "recycled segment replayed"
	// plantNoConf: a snapshot does not tell the members.
	plantNoConf planted = "snapshot without conf state"
	// plantTornTail: a torn record at the log's end verifies.
	plantTornTail planted = "torn tail accepted"
	// plantStaleCompare: compares are evaluated where the client asked.
	plantStaleCompare planted = "txn compare against stale state"
	// plantReorder: a member applies two entries in the wrong order.
	plantReorder planted = "apply order changed"
	// plantOldClocks: a new leader counts on where it does not know the renewals.
	plantOldClocks planted = "lease not prolonged by a new leader"
	// plantOldImage: the image of an index is used for whatever the engine holds.
	plantOldImage planted = "index image of another moment"
	// plantNoDumpSync: File.Sync of the engine's files does nothing.
	plantNoDumpSync planted = "engine dump not synced"
)

// allPlanted is all of them.
var allPlanted = []planted{
	plantNoSync, plantAckBeforeSync, plantSplitBatch, plantStaleRead, plantFollowerExpires, plantDropLagging,
	plantRecycled, plantNoConf, plantForgetVote, plantSameIdentity, plantTornTail, plantStaleCompare, plantReorder,
	plantNoLogReset, plantDoubleProposal, plantLostEvents, plantWatchOldStore, plantNoFlush, plantOldClocks, plantNoDumpSync, plantOldImage,
}

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

// reordered builds the planted defect of the applier in.
func (r *process) reordered(a *replica.Apply) *replica.Apply {
	if r.w.planted != plantReorder || len(a.Entries) < 2 || !r.w.chance(0.3) {
		return a
	}
	swapped := *a
	swapped.Entries = slices.Clone(a.Entries)
	first, second := proto.CloneOf(a.Entries[0]), proto.CloneOf(a.Entries[1])
	if first.GetType() != raftpb.EntryNormal || second.GetType() != raftpb.EntryNormal {
		return a
	}
	first.Data, second.Data = second.Data, first.Data
	swapped.Entries[0], swapped.Entries[1] = first, second
	return &swapped
}

// announced builds the planted defect of a snapshot's announcement in.
func (r *process) announced(c state.ConfState) state.ConfState {
	if r.w.planted == plantNoConf {
		return state.ConfState{}
	}
	return c
}

// TestPlanted proves that each defect is found, and prints after how many seeds.
func TestPlanted(t *testing.T) {
	const limit = 300
	table := fmt.Sprintf("%-45s %5s  %s\n", "planted defect", "seeds", "what found it")
	for _, fault := range allPlanted {
		seed := uint64(1)
		for ; seed <= limit; seed++ {
			if out := simulate(t, seed, fault, nil, nil); out.failure != "" {
				line, _, _ := strings.Cut(out.failure, "\n")
				table += fmt.Sprintf("%-45s %5d  %.110s\n", fault, seed, line)
				break
			}
		}
		if seed > limit {
			t.Errorf("%s: %d seeds do not find it", fault, limit)
		}
	}
	t.Logf("%d defects:\n%s", len(allPlanted), table)
}
