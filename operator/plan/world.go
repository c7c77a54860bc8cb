// Package plan decides what the operator does next. It owns the order of
// priorities, the gates that keep a quorum, and the clocks of each wait.
//
// Next is pure: the same World gives the same Decision, which is exactly one
// step with its reason, or a wait with its reason and its deadline. All memory
// is in the World, so that an operator that stops between any two steps goes on
// where it was. The controller makes the World, takes the step, and reports.
package plan

import (
	"time"

	"metastore.io/metastore/api/v1alpha1"
)

// MemberID is the cluster's identity of a member; never 0 for a real one.
type MemberID uint64

// World is everything that a decision may depend on, observed at one time.
type World struct {
	// Now is when the world was observed; the only clock there is.
	Now    time.Time
	Spec   Spec
	TLS    TLS
	Auth   Auth
	Limits Limits
	// Invalid is why the spec cannot be carried out, in one sentence; empty when
	// it can. Settings and templates are then left as they are.
	Invalid string
	// Deleting is set once the cluster object is being deleted.
	Deleting bool
	// Objects names the owned objects, except the two below, that are missing or
	// differ from what they should be, in the order in which to apply them.
	Objects []string
	// SettingsDiffer says that the members' start-up settings are not those that
	// Entries asks for.
	SettingsDiffer bool
	// Set is the StatefulSet; nil when there is none.
	Set *Set
	// Pods and Volumes are keyed by ordinal, also beyond Set.Replicas.
	Pods    map[int]Pod
	Volumes map[int]Volume
	// Bootstrapped says that the cluster has served at some time, from any trace
	// of it. Invariant: once true it never turns false while a volume is left.
	Bootstrapped bool
	// ListKnown says that Members is a linearizable list; without it nothing is
	// known of the membership, and Members is empty.
	ListKnown bool
	Members   []Member
	// Alarms are known when the list is.
	Alarms []Alarm
	// Survivors are the members that answer under the identity recorded at their
	// claim; they are looked at while there is no quorum.
	Survivors map[int]Survivor
	// Confirmed says that the user allows this cluster to be begun anew from a
	// survivor.
	Confirmed bool
	// Recovery is the recovery from a lost quorum that has begun; nil when none has.
	Recovery *Recovery
	// Restore is the restore that has begun; nil when none has.
	Restore *Restore
	// RestoreFailed is why the restore that the cluster is to begin with has failed;
	// empty when it has not.
	RestoreFailed string
	// Revision is the newest of the keys that an answering member has told.
	Revision int64
	// Forcing is the word of the recovery that the written settings tell a member
	// of; empty when they tell none.
	Forcing string
	// Held says that the cluster object waits for ReleaseDeletion before it goes.
	Held bool
	// LastBackup is the backup that is to be complete before the cluster goes,
	// UpdateBackup the one before its members get another image; nil when none is.
	LastBackup, UpdateBackup *Backup
	// Operation is what the last report said was going on. Losing it costs only
	// the start of a clock.
	Operation Operation
}

// Spec is what the user asks for.
type Spec struct {
	// Replicas is the wanted number of voters; at least 1.
	Replicas int
	// VolumeBytes is the wanted size of each data volume; 0 when there are none.
	VolumeBytes int64
	// AutoGrowBytes is up to where volumes grow by themselves; 0 for not at all.
	AutoGrowBytes int64
	// QuotaFollows says that the quota grows with the volume.
	QuotaFollows bool
	Repair       Repair
	// Paused: nothing is changed. Hibernated: no pod is wanted, the volumes are.
	Paused, Hibernated bool
	// OnDelete leaves the restart of members that take part to somebody else.
	OnDelete bool
	// MinReady is how long a restarted member must have been ready before the
	// next one goes.
	MinReady time.Duration
	// OwnVolumes says that the volumes go with the cluster.
	OwnVolumes bool
	// BootstrapRestore is the restore that the cluster begins with; empty for none.
	BootstrapRestore string
	// BackupThenDelete says that they do so once a last backup is complete. Until
	// then they do not: a deletion in the foreground takes what the cluster owns
	// before the cluster itself.
	BackupThenDelete bool
}

// Repair is what the planner may give up by itself.
type Repair struct {
	// Manual: no member's data are given up.
	Manual bool
	// Grace replaces the limits RepairGrace and LostGrace; 0 keeps them.
	Grace time.Duration
	// ReplaceLost: a member on a silent node is given up.
	ReplaceLost bool
	// RecoverQuorum: no permission is needed when a quorum is lost for certain.
	RecoverQuorum bool
}

// Limits are the planner's clocks and thresholds.
type Limits struct {
	// StartTimeout is how long a pod may take until its member serves.
	StartTimeout time.Duration
	// SilentGrace is how long a running pod must have been unready and silent
	// before it counts as taking no part.
	SilentGrace time.Duration
	// JoinTimeout is how long a learner may take until it can be promoted.
	JoinTimeout time.Duration
	// RepairGrace is how long a member must have been failing before its data is
	// given up.
	RepairGrace time.Duration
	// LostGrace is the same for a silent node and for a lost quorum.
	LostGrace time.Duration
	// StaleSettings is how long a pod may take to see what was written just before
	// it was made.
	StaleSettings time.Duration
	// ClaimGrace is how long after its creation a pod may be seen without its claim,
	// which another cache may show later.
	ClaimGrace time.Duration
	// RepairInterval is the least age of a volume that is given up, so that a
	// member that fails again and again is not replaced in a hot loop.
	RepairInterval time.Duration
	// ObjectTimeout is how long other controllers may take with an object.
	ObjectTimeout time.Duration
	// PeerURLPause is the time between two changes of a peer URL: enough for a
	// member to notice that it has lost its leader.
	PeerURLPause time.Duration
	// DefragmentInterval is the least time between two defragmentations of a member.
	DefragmentInterval time.Duration
	// RestoreTimeout is how long a restore may have the seed's volume before that is
	// reported.
	RestoreTimeout time.Duration
	// BackupTimeout is how long a backup may take before the wait for it is reported
	// as stalled; its own deadline ends it.
	BackupTimeout time.Duration
	// MaxLag is the number of entries up to which a member is caught up.
	MaxLag uint64
}

// DefaultLimits are the limits used in production.
func DefaultLimits() Limits {
	return Limits{
		StartTimeout:       5 * time.Minute,
		SilentGrace:        10 * time.Second,
		JoinTimeout:        30 * time.Minute,
		RepairGrace:        30 * time.Second,
		LostGrace:          5 * time.Minute,
		StaleSettings:      30 * time.Second,
		ClaimGrace:         30 * time.Second,
		RepairInterval:     2 * time.Minute,
		ObjectTimeout:      2 * time.Minute,
		PeerURLPause:       3 * time.Second,
		RestoreTimeout:     time.Hour,
		MaxLag:             1000,
		DefragmentInterval: 10 * time.Second,
		BackupTimeout:      time.Hour,
	}
}

// Set is the observed StatefulSet.
type Set struct {
	Replicas int
	// Differs says that it is not what the spec asks for, apart from Replicas and
	// the claim template.
	Differs bool
	// ClaimsDiffer says that the claim template has another size or storage class
	// than it should.
	ClaimsDiffer bool
	// Observed says that its controller has seen its newest generation, so that
	// Revision can be trusted.
	Observed bool
	// Revision is what the newest pod template makes.
	Revision    string
	Terminating bool
	// Modes are those of its pod template.
	Modes v1alpha1.TLSModes
}

// Pod is one observed pod.
type Pod struct {
	Revision  string
	CreatedAt time.Time
	Ready     bool
	// ReadyChangedAt is when Ready took its present value.
	ReadyChangedAt time.Time
	// Running says that the server's container runs at the moment.
	Running bool
	// ExitCode is how the server ended last while it is not running; 0 otherwise.
	ExitCode int
	// Waiting is why the kubelet does not run the server; empty otherwise.
	Waiting       string
	Terminating   bool
	TerminatingAt time.Time
	// NodeGone says that the pod's node does not exist any more, NodeDown that it
	// exists and has not been heard of for a while.
	NodeGone, NodeDown bool
	// Refused is why the kubelet cannot start the server before a person helps, in
	// one sentence that says how; empty when it can, or nobody knows.
	Refused string
	// Modes are what its server was started with.
	Modes v1alpha1.TLSModes
	// Restart says that the pod has to be made anew although its template is the
	// newest: the quota that it started with stops the cluster, and there is a
	// larger one.
	Restart bool
}

// Volume is the claim of one ordinal.
type Volume struct {
	CreatedAt time.Time
	// RequestBytes is what the claim asks for.
	RequestBytes int64
	// CapacityBytes is what the volume has, which follows RequestBytes.
	CapacityBytes int64
	// Unbound says that no volume was ever bound to the claim; ClassMissing is why
	// none will be, in one sentence that says what to do, where that is known.
	Unbound      bool
	ClassMissing string
	// OtherClass says that the claim is of another storage class than the spec's.
	OtherClass bool
	// Expandable says that its class lets a claim grow.
	Expandable  bool
	Terminating bool
	// Lost says that the claim's volume does not exist any more.
	Lost bool
	// NodeGone says that the volume is bound to nodes of which none exists any
	// more.
	NodeGone bool
	// Owned says that the claim goes when the cluster object does.
	Owned bool
	// Member is whose data lies there, as recorded at the claim; 0 when nobody's
	// was recorded yet.
	Member MemberID
	// PeerTLS says that the others reach that member with TLS, as recorded beside it.
	PeerTLS bool
	// OtherToken says that the token recorded beside it is not the cluster's.
	OtherToken bool
}

// Member is one row of the membership list with what its member says.
type Member struct {
	ID MemberID
	// Ordinal is the pod that its peer URL names; -1 for a member that the
	// operator did not make.
	Ordinal int
	Learner bool
	// Started says that it has served at least once.
	Started bool
	// Answers says that it answered this look, under this very identity.
	Answers bool
	Leader  bool
	// Leaderless says that it answered and follows nobody.
	Leaderless bool
	// PeerTLS says that its peer URL has TLS.
	PeerTLS bool
	// Lag is by how many entries it is behind the newest known commit.
	Lag uint64
	// DBBytes is the size of its data, and QuotaBytes how large it may become; 0
	// for no limit.
	DBBytes, QuotaBytes int64
	// Compacted says that no history older than the newest revision is left.
	Compacted bool
}

// Operation is what was waited for, as reported.
type Operation struct {
	Type      v1alpha1.OperationType
	Ordinal   int
	Reason    string
	StartedAt time.Time
}
