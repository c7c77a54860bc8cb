// Package member holds the few calls that the operator makes to the members of
// a cluster: who belongs to it, how each of them is, and the four changes of
// membership and leadership.
//
// It promises that no call outlives the time that its Options give it, that one
// Look costs one timeout however many members are dead, and that a membership
// list is either linearizable or absent: a list that a cut-off member remembers
// never reaches the planner. It keeps no state between calls but the tokens that
// members gave it for a password.
//
// The controller calls it; the planner sees only values made from its answers.
package member

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"slices"
)

// ErrNotFound is returned by Promote, Remove and MoveLeader when the cluster
// has no member with that ID; for Remove the caller may take it as done.
var ErrNotFound = errors.New("member not found")

// ErrNotReady is returned by Promote when the cluster judges that the learner
// has not caught up; asking again later is right.
var ErrNotReady = errors.New("learner is not in sync with the leader")

// ID identifies a member; the cluster assigns it at AddLearner. Never 0.
type ID uint64

// Member is one row of the membership list.
type Member struct {
	ID ID
	// Name is empty until the member has started for the first time.
	Name       string
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

// Status is what one member says of itself.
type Status struct {
	ID        ID
	ClusterID uint64
	// Leader is the member that this one follows; 0 when it knows of none.
	Leader  ID
	Learner bool
	// Version is MetaStore's own; empty when the server does not tell.
	Version string
	// RaftIndex is the highest committed index that the member knows.
	RaftIndex uint64
	// AppliedIndex never exceeds RaftIndex.
	AppliedIndex uint64
	RaftTerm     uint64
	// LogTerm and LogIndex are the last entry of the member's log; 0 where the
	// server does not tell.
	LogTerm, LogIndex uint64
	// Settings are those that the member runs with, as JSON: goMemLimitBytes and
	// rocksdb, with fields named as in EffectiveTuning. Empty when the server does
	// not tell.
	Settings    string
	DBSizeBytes int64
	// QuotaBytes is what the data may come to.
	QuotaBytes int64
	// Revision is the newest of the keys.
	Revision int64
	// Alarms are those of the whole cluster, as this member knows them.
	Alarms []Alarm
	// Compacted says that no older revision than the newest is left. It is asked
	// for only while there is a NOSPACE alarm.
	Compacted bool
	// Errors are the alarms and faults that the member reports.
	Errors []string
}

// The types of alarms, as etcd names them.
const (
	NoSpace = "NOSPACE"
	Corrupt = "CORRUPT"
)

// Alarm is one that the cluster has raised; Member is 0 for the whole of it.
type Alarm struct {
	Type   string
	Member ID
}

// View is one look at a cluster.
type View struct {
	// Members is the linearizable membership list, sorted by ID; empty exactly
	// when ListErr is set.
	Members []Member
	// ListErr says why there is no list: no member could confirm it with a
	// quorum in time.
	ListErr error
	// Status has an entry for each endpoint that answered.
	Status map[string]Status
	// Errs has an entry for each endpoint that did not.
	Errs map[string]error
	Auth Auth
}

// Credentials are what members ask of the operator. The zero value is for those
// that ask nothing.
type Credentials struct {
	// TLS is used for https endpoints; nil for the system's authorities.
	TLS *tls.Config
	// Cluster tells the cluster from all others, ever.
	Cluster string
	// Root are the passwords that the user root may have, the likeliest first.
	Root []string
}

// Alarms are those that any answering member knows, sorted.
func (v View) Alarms() []Alarm {
	var out []Alarm
	for _, s := range v.Status {
		for _, a := range s.Alarms {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, func(a, b Alarm) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Member, b.Member)) })
	return out
}

// Revision is the newest that any answering member has.
func (v View) Revision() int64 {
	var newest int64
	for _, s := range v.Status {
		newest = max(newest, s.Revision)
	}
	return newest
}

// Access is how the operator reaches the members of one cluster. All methods
// may run concurrently. Endpoints are client URLs; a call that changes the
// cluster goes to one of them, and the first that accepts it is enough.
type Access interface {
	Users
	// Look asks every endpoint at once.
	Look(ctx context.Context, endpoints []string) View
	// AddLearner returns when the change is committed.
	AddLearner(ctx context.Context, endpoints []string, peerURL string) (ID, error)
	// UpdatePeerURL changes where the others reach a member.
	UpdatePeerURL(ctx context.Context, endpoints []string, id ID, peerURL string) error
	// Promote makes a learner a voter; ErrNotReady while it lags.
	Promote(ctx context.Context, endpoints []string, id ID) error
	// Remove takes a member out of the cluster for ever.
	Remove(ctx context.Context, endpoints []string, id ID) error
	// MoveLeader asks the leader, at its own endpoint, to hand over.
	MoveLeader(ctx context.Context, leaderEndpoint string, to ID) error
	// Compact gives up all history before a revision; done already is done.
	Compact(ctx context.Context, endpoints []string, revision int64) error
	// Defragment has the member at its own endpoint give back what came free. One
	// that takes longer than a call may goes on by itself.
	Defragment(ctx context.Context, endpoint string) error
	// Disarm takes an alarm back.
	Disarm(ctx context.Context, endpoints []string, a Alarm) error
}
