// Package replica is one raft group on one member: it proposes commands, turns
// raft's Ready into work for the log, the applier and the peers, applies
// committed entries to the state machine, answers linearizable reads and
// streams snapshots. It owns no goroutine and no clock: host drives it in
// production and the simulator in tests, so both run the same code.
//
// A replica has two owners. The raft owner calls the methods of Replica; the
// apply owner calls those of Applier. What both touch is behind Proposals and
// Reads, which lock for themselves.
//
// How a put flows: Proposals.Add → Replica.Flush makes one raft entry of all
// waiting commands → Ready hands the entry to the log and the peers → once a
// quorum holds it, Ready hands it to the Applier → the Applier's outcome
// resolves the waiter that Add returned.
package replica
