package rpc

import (
	"context"
	"time"

	"metastore.io/metastore/server/lease"
	"metastore.io/metastore/server/replica"
	"metastore.io/metastore/server/state"
	"metastore.io/metastore/server/watch"
)

// Backend is one member of one group. All methods may run concurrently and
// limit their own time. Errors are those of state, lease, mvcc and replica, or
// the context's.
type Backend interface {
	// Propose has a command committed and applied, and returns its result. An
	// error means that the outcome is unknown.
	Propose(ctx context.Context, c state.Command) (r state.Result, term uint64, err error)
	// ReadBarrier returns when Machine holds every write that was acknowledged
	// anywhere before the call.
	ReadBarrier(ctx context.Context) error
	// Machine is the state of the moment; a snapshot may replace it. Fetch it
	// once a request, after the barrier.
	Machine() *state.Machine
	Hub() *watch.Hub
	Status() replica.Status
	// LogEnd is the last entry of this member's own log, committed or not.
	LogEnd() (index, term uint64)
	// ChangeMembers returns the members when the change is applied here.
	ChangeMembers(ctx context.Context, c state.MemberChange) ([]state.Member, error)
	MoveLeader(ctx context.Context, target uint64) error
	// RenewLease and LeaseRemaining ask the leader, whose clocks count.
	RenewLease(ctx context.Context, id lease.ID) (ttlSeconds int64, err error)
	LeaseRemaining(ctx context.Context, id lease.ID) (time.Duration, error)
	// LeaderChanged is closed at the next change of the leader.
	LeaderChanged() <-chan struct{}
}
