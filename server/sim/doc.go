// Package sim is the deterministic simulator of a cluster, for tests only: its
// code is in the test files. A seed gives a whole world: virtual time, a
// network, a disk for each member, clients, watchers and the faults that meet
// them. The members run the production code of replica, raftlog, state, mvcc,
// lease, watch and the memory engine; the simulator stands where host and peer
// stand in production and takes their steps one at a time, in an order that the
// seed decides. So a crash can fall between any two of them, and inside a step
// at any operation on the disk.
//
// A run promises to find, and to replay from its seed:
//   - histories that are not linearizable, by porcupine for each key and by the
//     revisions of all keys together;
//   - acknowledged writes that are gone, members that applied different entries
//     or published different events, or hold different bytes at an equal index;
//   - watchers that miss, repeat or reorder events, across reconnects;
//   - leases that end before their time, or do not end at all;
//   - two leaders in a term, votes forgotten, an applied index that falls, a log
//     shortened beyond what the engine holds, a member that stops without a
//     fault that explains it, a cluster that does not get going again once all
//     faults are over.
//
// What it does not do: the goroutines of host, the connections of peer and the
// rpc layer are not in it; a flush of the engine is one step in which only the
// disk interrupts. Messages are dropped, delayed, reordered and doubled, but a
// forwarded proposal (MsgProp) is never doubled: a connection of package peer
// delivers each message at most once, and raft relies on that for proposals.
package sim
