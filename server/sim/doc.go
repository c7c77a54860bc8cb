// Package sim is the deterministic simulator of a cluster, for tests only: its
// code is in the test files. A seed gives a whole world: virtual time, a
// network, a disk and a clock for each member, clients, watchers and the faults
// that meet them. The members run the production code of replica, raftlog,
// state, mvcc, lease, watch and the memory engine; the simulator stands where
// host, peer and node stand in production and takes their steps one at a time,
// in an order that the seed decides. What waits for the disk is a coroutine that
// can be interrupted at each operation, so that a crash, or anything that
// another member or another of host's goroutines does, can fall between any two.
//
// # Faults
//
// The network delays, drops, doubles and reorders messages, and loses them in
// one direction or both. Disks lose or tear what was not synced, flip bits, fill
// up, fail a sync, are slow and stall. Processes are killed, lose power, are
// stopped and paused at any moment, also while they start. Clocks run at
// different rates, stand still and jump. Members are added, as learners or
// voters, promoted, removed, and lost with their disk and replaced; leadership
// is handed over. Each seed leaves some of that out.
//
// # Promises
//
// A run finds, and replays from its seed:
//   - histories of single keys and of transactions that are not linearizable:
//     by porcupine, and by the revisions of all keys together;
//   - acknowledged writes that are gone, members that applied different entries
//     or published different events, or hold another state at an equal index;
//   - watchers that miss, repeat, reorder or split the events of a revision, or
//     get a wrong previous value, across reconnects and after any response;
//   - leases that end before their time by the clock of the leader that ended
//     them, outlive their revocation, or part from their keys;
//   - an applied index that is not in the batch of its effects, an acknowledged
//     append or vote that is not durable, an identity of a proposal that is used
//     twice, a log shortened beyond what the engine holds, two leaders in a term;
//   - a flipped bit that is neither harmless nor stops the member with a message
//     that names file and offset; a member that stops without a fault that
//     explains it; a cluster that does not get going again once all faults are
//     over.
//
// A failure prints its seed, is made smaller by leaving out operations and
// faults as long as the same promise breaks, and prints what is left. TestPlanted
// builds defects in and prints after how many seeds each was found.
//
// # Limits
//
// The goroutines of host, the connections of peer, the data dir of node and the
// rpc layer are not in it. A forwarded proposal (MsgProp) is never doubled: a
// connection of package peer delivers each message at most once, and raft relies
// on that for proposals. A bit of the last append before a crash is not flipped:
// package raftlog cannot tell that from a torn write. RocksDB's files are not
// simulated.
//
// # Track record
//
// Defects that simulation found in the server, and what keeps each away:
//
//	what happened                                                    kept away by
//	a process killed in Engines.Adopt left CURRENT renamed and not   replica.TestEnginesCutOffAdoptStays
//	  durable; a power cut brought the old engine back over a log
//	  that had been reset
//	a leader whose removal took effect while it wrote stopped with   replica.TestAppendDoneAfterRemoval
//	  an error
//	superseded proposals were proposed again in the order of a map   replica.TestProposalsSupersededInOrder
//	a new segment's name was lost with the power after a process     raftlog.recover syncs the folder
//	  that was killed behind its renaming; synced appends with it
//	of two voters, the one that stayed forgot in a crash that the    replica.gate; host.RemovedByPeers
//	  other's removal was committed, or the removed one had left
//	  before it knew: it could never lead again
//	CURRENT had no checksum: one flipped bit named another engine,   replica.TestEnginesRefuseADamagedCurrent
//	  the right one was removed and an empty one opened
//	a lease whose end was proposed was renewed when the clock went   lease.TestReportedLeaseStaysExpired
//	  back, and the end took effect in spite of that
//	a candidate's own disk stood still, the others' votes made it    replica.holdVotes
//	  leader; without power it forgot its term, won it once more,
//	  and committed other entries in the places of the first ones
//	of two voters, one was removed, led, and committed that with     replica.ofOnlyVoter
//	  entries of its own behind it; the other did not hear of the
//	  commit, and was refused for its shorter log for ever
//	of two voters, the removed one left on the word of a learner;    replica.TellsRemoved
//	  the other lost power before it knew that this was committed
package sim
