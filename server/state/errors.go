package state

import "errors"

// Errors of commands and of membership changes, for callers that branch. Those
// of revisions are in mvcc, those of leases in lease.
var (
	// ErrKeyNotFound: a put that keeps the value or the lease of a key found
	// no such key.
	ErrKeyNotFound = errors.New("etcdserver: key not found")
	// ErrNoSpace: the NOSPACE alarm is on and the command would add data.
	ErrNoSpace = errors.New("etcdserver: mvcc: database space exceeded")
	// ErrCorrupt: the CORRUPT alarm is on; nothing is applied any more.
	ErrCorrupt = errors.New("etcdserver: corrupt cluster")
	// ErrMalformed: the body of a command does not decode. It is a result, the
	// same on every member, since all members run the same decoder.
	ErrMalformed = errors.New("state: malformed command")

	// ErrIDExists: a member with this ID is there already.
	ErrIDExists = errors.New("membership: ID exists")
	// ErrIDRemoved: a member with this ID was removed for ever.
	ErrIDRemoved = errors.New("membership: ID removed")
	// ErrMemberNotFound: there is no member with this ID.
	ErrMemberNotFound = errors.New("membership: ID not found")
	// ErrPeerURLExists: another member has one of the peer URLs.
	ErrPeerURLExists = errors.New("membership: peerURL exists")
	// ErrNotLearner: only a learner can be promoted.
	ErrNotLearner = errors.New("membership: can only promote a learner member")
	// ErrTooManyLearners: the cluster has MaxLearners already.
	ErrTooManyLearners = errors.New("membership: too many learner members in cluster")
	// ErrLastVoter: removing the only voter would leave a group that can never
	// commit again.
	ErrLastVoter = errors.New("membership: cannot remove the last voter")

	// ErrReplay is returned by Apply for an entry whose index was applied
	// before, or that skips indexes. Nothing is changed.
	ErrReplay = errors.New("state: entry is not the next to apply")
	// ErrUnknownCommand is returned by Apply for a command of a newer version:
	// a member that does not know what the others do has to stop.
	ErrUnknownCommand = errors.New("state: unknown command kind")
	// ErrNotEmpty is returned by Bootstrap on an engine that holds a state.
	ErrNotEmpty = errors.New("state: engine is not empty")
	// ErrFormat is wrapped by decoding errors.
	ErrFormat = errors.New("state: invalid encoding")
)
