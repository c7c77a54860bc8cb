// Package proxy owns the two programs that stand between clients and members:
// GRPC speaks etcd's API on both sides and lets many clients share streams and
// answers, Gateway carries bytes without looking at them. Both hold no state of
// their own that a restart would lose, and run until their context ends. The
// gRPC proxy itself is etcd's.
package proxy
