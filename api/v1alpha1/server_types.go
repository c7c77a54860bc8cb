package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// The server's raft timings where the spec sets none. The rule on ServerSpec
// repeats them.
const (
	DefaultHeartbeatIntervalMillis = 100
	DefaultElectionTimeoutMillis   = 1000
)

// ServerSpec holds the settings of the server that no engine changes.
//
// +kubebuilder:validation:XValidation:rule="(has(self.electionTimeoutMillis) ? self.electionTimeoutMillis : 1000) >= 5 * (has(self.heartbeatIntervalMillis) ? self.heartbeatIntervalMillis : 100)",messageExpression="'server.electionTimeoutMillis is %s; allowed is at least 5 x heartbeatIntervalMillis, which is %s'.format([has(self.electionTimeoutMillis) ? self.electionTimeoutMillis : 1000, has(self.heartbeatIntervalMillis) ? self.heartbeatIntervalMillis : 100])"
type ServerSpec struct {
	// QuotaBackendBytes is the size of the data at which the cluster raises
	// NOSPACE and takes no more writes. Left out, it is 2Gi, and less where
	// the volume, or with engine Memory the memory limit, is small; with
	// storage.autoGrow it is half of the volume. One that was left out follows the
	// volume without a restart: a member takes it up at its next start, and is
	// restarted for it only when the old one has raised NOSPACE.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('16Mi')) >= 0",messageExpression="'server.quotaBackendBytes is %s; allowed is 16Mi or more'.format([self])"
	QuotaBackendBytes *resource.Quantity `json:"quotaBackendBytes,omitempty"`

	// AutoCompaction forgets old revisions by itself. Left out, nothing is
	// forgotten until a client compacts.
	//
	// +optional
	AutoCompaction *AutoCompaction `json:"autoCompaction,omitempty"`

	// SnapshotCount is how many applied entries lie between two snapshots of the raft state.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 100",messageExpression="'server.snapshotCount is %s; allowed is 100 or more'.format([self])"
	SnapshotCount *int64 `json:"snapshotCount,omitempty"`

	// HeartbeatIntervalMillis is the time between two heartbeats of the leader; 100 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 10 && self <= 10000",messageExpression="'server.heartbeatIntervalMillis is %s; allowed is 10 to 10000'.format([self])"
	HeartbeatIntervalMillis *int32 `json:"heartbeatIntervalMillis,omitempty"`

	// ElectionTimeoutMillis is how long a follower waits without a heartbeat
	// before it stands for election; 1000 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 50 && self <= 50000",messageExpression="'server.electionTimeoutMillis is %s; allowed is 50 to 50000'.format([self])"
	ElectionTimeoutMillis *int32 `json:"electionTimeoutMillis,omitempty"`
}

// AutoCompactionMode is what retention counts.
//
// +kubebuilder:validation:Enum=Periodic;Revision
type AutoCompactionMode string

const (
	// AutoCompactionPeriodic keeps the revisions of the last retention time.
	AutoCompactionPeriodic AutoCompactionMode = "Periodic"
	// AutoCompactionRevision keeps the last retention revisions.
	AutoCompactionRevision AutoCompactionMode = "Revision"
)

// AutoCompaction says how much history is kept.
//
// +kubebuilder:validation:XValidation:rule="self.mode != 'Periodic' || self.retention.matches('^([0-9]+(h|m|s))+$')",messageExpression="'server.autoCompaction.retention is %s; allowed with mode Periodic is a duration such as 1h or 30m'.format([self.retention])",fieldPath=".retention"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Revision' || self.retention.matches('^[1-9][0-9]{0,17}$')",messageExpression="'server.autoCompaction.retention is %s; allowed with mode Revision is a number of revisions such as 10000'.format([self.retention])",fieldPath=".retention"
type AutoCompaction struct {
	Mode AutoCompactionMode `json:"mode"`

	// Retention is a duration (1h) with mode Periodic, a number of revisions (10000) with mode Revision.
	//
	// +kubebuilder:validation:MaxLength=32
	Retention string `json:"retention"`
}
