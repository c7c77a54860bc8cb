package replica

import "errors"

// What a request to a replica may fail with, beside the errors of its context.
// After any of them but ErrTooManyRequests a write may still take effect.
var (
	// ErrTooManyRequests: this member holds as many unanswered proposals as it
	// may; nothing was proposed.
	ErrTooManyRequests = errors.New("replica: too many requests")
	// ErrStopped: the replica will not answer any more.
	ErrStopped = errors.New("replica: stopped")
	// ErrTimeout: no answer within the server's own time limit.
	ErrTimeout = errors.New("replica: request timed out")
	// ErrNoLeader: there is no leader to ask, or it is not to be reached.
	ErrNoLeader = errors.New("replica: no leader")

	// ErrLearnerNotReady: a learner that lags the leader cannot be promoted.
	ErrLearnerNotReady = errors.New("replica: learner is not in sync with the leader")
	// ErrUnhealthy: a voter cannot be reached, so the membership must not
	// change.
	ErrUnhealthy = errors.New("replica: unhealthy cluster")
	// ErrNotEnoughStarted: the change would leave fewer started members than a
	// quorum.
	ErrNotEnoughStarted = errors.New("replica: not enough started members")
	// ErrBadTransferee: leadership cannot go to this member.
	ErrBadTransferee = errors.New("replica: leadership cannot be transferred to this member")
	// ErrTransferTimeout: leadership did not move in time.
	ErrTransferTimeout = errors.New("replica: leadership transfer timed out")
)
