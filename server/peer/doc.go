// Package peer carries raft messages, snapshots and forwarded requests between
// the members of a cluster. It owns one sending goroutine a peer and the
// connections; it promises that messages of one sender arrive in order and at
// most once, or not at all; it never blocks its caller. host drives it.
//
// Everything goes through the peer URL. Messages travel on a connection that
// starts as an HTTP/1.1 request and is then a stream of frames:
//
//	POST /metastore/v1/raft   Upgrade: metastore-raft   X-Metastore-{Cluster,From,To}: hex
//
//	frame   length 4 B BE | CRC32C of the rest 4 B BE | group 4 B BE | raftpb.Message
//	beat    length 0: the sender is there
//	answer  one byte every half second: the receiver is there
//
// Snapshots and requests are plain HTTP requests beside it.
package peer
