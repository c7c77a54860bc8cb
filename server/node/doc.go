// Package node is one member of a cluster as a process: it is the one place
// where concrete types meet. It owns the data dir, the listeners and the order
// in which everything starts and stops. cmd/metastore makes it from flags.
//
// Start: lock the data dir, check its marker, recover log and engine, bootstrap
// or join where the dir is new, then raft, peers, clients. Stop runs backwards,
// after leadership was handed over.
package node
