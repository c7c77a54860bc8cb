// Package state owns the deterministic state machine of one raft group: what
// a committed entry does to keys, leases, users, members and alarms.
//
// It promises that every member that applies the same entries holds the same
// bytes, whatever the size of the batches in which they arrive: apply reads no
// clock, no randomness and no map order. All effects of one Apply call, and
// the applied index with them, are one engine batch, so that replaying an entry
// twice is impossible. A command that fails changes nothing and is a result; an
// error of Apply itself means that the engine failed and that the member has to
// stop.
//
// replica applies entries through it on one goroutine; rpc and host read its
// published state from any goroutine. The semantics of the commands are those
// of etcd v3.7.3.
package state
