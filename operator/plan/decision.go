package plan

import (
	"fmt"
	"time"

	"metastore.io/metastore/api/v1alpha1"
)

// Action is the kind of a step. Each is one call that changes something.
type Action string

// The actions. Every one is safe to repeat, and a crash after any of them is
// followed by an observation that leads to the next.
const (
	// Nothing: the decision is a wait, or the cluster is as it should be.
	Nothing Action = ""
	// ApplyObject applies the owned object named Step.Object.
	ApplyObject Action = "ApplyObject"
	// WriteSettings applies the start-up settings that Entries gives.
	WriteSettings Action = "WriteSettings"
	// ApplySet applies the StatefulSet with Step.Replicas.
	ApplySet Action = "ApplySet"
	// DropSet deletes the StatefulSet and leaves its pods, so that it can be made
	// anew with another claim template.
	DropSet Action = "DropSet"
	// GrowVolume raises the request of a claim to the spec's size.
	GrowVolume Action = "GrowVolume"
	// OwnVolume makes a claim go with the cluster, DisownVolume makes it stay.
	OwnVolume    Action = "OwnVolume"
	DisownVolume Action = "DisownVolume"
	// RecordMember writes a member's identity to its claim.
	RecordMember Action = "RecordMember"
	// AddLearner adds the member of an ordinal to the cluster.
	AddLearner Action = "AddLearner"
	// Promote makes a learner a voter.
	Promote Action = "Promote"
	// UpdatePeerURL changes the scheme of a member's peer URL to Step.PeerTLS.
	UpdatePeerURL Action = "UpdatePeerURL"
	// EnableAuth has members check users, DisableAuth ends that, and ChangePassword
	// gives root the wanted password.
	EnableAuth     Action = "EnableAuth"
	DisableAuth    Action = "DisableAuth"
	ChangePassword Action = "ChangePassword"
	// Remove takes a member out of the cluster.
	Remove Action = "Remove"
	// MoveLeader hands the leadership to Step.Member.
	MoveLeader Action = "MoveLeader"
	// DeletePod restarts a member with the newest template.
	DeletePod Action = "DeletePod"
	// ForceDeletePod forgets a pod whose node does not exist any more.
	ForceDeletePod Action = "ForceDeletePod"
	// DeleteVolume gives up the data of an ordinal that has no member.
	DeleteVolume Action = "DeleteVolume"
	// Compact gives up the history of all keys.
	Compact Action = "Compact"
	// Defragment has a member give back what came free.
	Defragment Action = "Defragment"
	// Disarm takes Step.Alarm back.
	Disarm Action = "Disarm"
	// MarkSurvivor writes to a claim that the cluster begins anew from it, with the
	// evidence.
	MarkSurvivor Action = "MarkSurvivor"
	// EndRecovery takes that mark away.
	EndRecovery Action = "EndRecovery"
	// MarkStopped and MarkServing answer a restore, in its mark at the seed's claim.
	MarkStopped Action = "MarkStopped"
	MarkServing Action = "MarkServing"
	// HoldDeletion has the cluster object wait for a last backup before it goes,
	// ReleaseDeletion lets it go.
	HoldDeletion    Action = "HoldDeletion"
	ReleaseDeletion Action = "ReleaseDeletion"
	// MakeBackup makes the MetaStoreBackup named Step.Object.
	MakeBackup Action = "MakeBackup"
	// DropConfirmation takes away the cluster's permission to begin anew.
	DropConfirmation Action = "DropConfirmation"
)

// Operations group the steps that serve one purpose. Three are the planner's
// own: bringing objects into shape, waiting for a member to get well, and
// waiting for a quorum to come back.
const (
	none        v1alpha1.OperationType = ""
	setup       v1alpha1.OperationType = "Setup"
	heal        v1alpha1.OperationType = "Heal"
	findQuorum  v1alpha1.OperationType = "AwaitQuorum"
	bootstrap                          = v1alpha1.OperationBootstrap
	replace                            = v1alpha1.OperationReplace
	rolling                            = v1alpha1.OperationRoll
	scaleOut                           = v1alpha1.OperationScaleOut
	scaleIn                            = v1alpha1.OperationScaleIn
	growing                            = v1alpha1.OperationGrowStorage
	hibernating                        = v1alpha1.OperationHibernate
	recovering                         = v1alpha1.OperationRecover
	freeing                            = v1alpha1.OperationFreeSpace
	deleting                           = v1alpha1.OperationDelete
)

// Step is one change. Fields that its action does not need are zero; Ordinal is
// -1 where no pod is meant.
type Step struct {
	Action   Action
	Object   string
	Ordinal  int
	Member   MemberID
	Replicas int
	// Bytes is what GrowVolume asks for.
	Bytes int64
	// Alarm is what Disarm takes back.
	Alarm Alarm
	// DataGone marks a removal that gives up a member because of what its pod
	// shows; whoever acts looks at the pod once more before it does.
	DataGone bool
	// PeerTLS says whether the peer URL that is written has TLS.
	PeerTLS bool
}

func (s Step) String() string {
	out := string(s.Action)
	if s.Object != "" {
		out += " " + s.Object
	}
	if s.Ordinal >= 0 {
		out += fmt.Sprintf(" ordinal=%d", s.Ordinal)
	}
	if s.Member != 0 {
		out += fmt.Sprintf(" member=%x", uint64(s.Member))
	}
	if s.Replicas != 0 {
		out += fmt.Sprintf(" replicas=%d", s.Replicas)
	}
	if s.PeerTLS {
		out += " https"
	}
	if s.Bytes != 0 {
		out += fmt.Sprintf(" bytes=%d", s.Bytes)
	}
	if s.Alarm.Type != "" {
		out += fmt.Sprintf(" alarm=%s of=%x", s.Alarm.Type, uint64(s.Alarm.Member))
	}
	return out
}

// Decision is the outcome of Next.
type Decision struct {
	// Step is what to do now; its action is Nothing for a wait.
	Step      Step
	Operation v1alpha1.OperationType
	// Ordinal is the member that the operation is about, or -1.
	Ordinal int
	// Reason is one word for programs, Message one sentence for people.
	Reason, Message string
	// Deadline is when a wait has taken too long; zero when nothing is waited for.
	Deadline time.Time
	// Blocked are wishes that cannot be fulfilled and stop nothing else.
	Blocked []Blocked
}

// Blocked is a wish that cannot be fulfilled, with what the user can do.
type Blocked struct {
	Reason, Message string
	// Hinders says that it may be why others wait.
	Hinders bool
}

// Waiting says that the decision is to wait for something.
func (d Decision) Waiting() bool { return d.Step.Action == Nothing && !d.Deadline.IsZero() }

// Overdue says that the thing waited for should have come by now.
func (d Decision) Overdue(now time.Time) bool { return d.Waiting() && !now.Before(d.Deadline) }

// Reasons that others branch on or users see often.
const (
	ReasonSteady          = "Steady"
	ReasonAwaitingRestore = "AwaitingRestore"
	ReasonDeleting        = "Deleting"
	ReasonPaused          = "Paused"
	ReasonHibernated      = "Hibernated"
	ReasonConfigInvalid   = "ConfigInvalid"
	ReasonQuorumLost      = "QuorumLost"
	ReasonUnreachable     = "MembersUnreachable"
	ReasonVolumeCannot    = "VolumeCannotGrow"
	ReasonForeignMember   = "ForeignMember"
	ReasonDataGone        = "DataGone"
	ReasonDataForeign     = "DataForeign"
	ReasonDataCorrupt     = "DataCorrupt"
	ReasonVolumeLost      = "VolumeLost"
	ReasonFormatTooNew    = "DataFormatTooNew"
	ReasonDataLocked      = "DataLocked"
	ReasonNodeLost        = "NodeLost"
	ReasonVolumeFull      = "VolumeFull"
	ReasonNoSpace         = "NoSpace"
	ReasonOtherClass      = "StorageClassDiffers"
	ReasonClassMissing    = "StorageClassMissing"
	ReasonPodRefused      = "PodRefused"
	ReasonMemberStarting  = "MemberStarting"
	ReasonMemberUnhealthy = "MemberUnhealthy"
	ReasonCertificates    = "CertificatesMissing"
	ReasonPeerTLSNeeded   = "PeerTLSNeeded"
	ReasonCredentials     = "CredentialsMissing"
	ReasonRefused         = "CredentialsRefused"

	ReasonLastBackupFailed   = "LastBackupFailed"
	ReasonUpdateBackupFailed = "PreUpdateBackupFailed"
)

// The server's exit codes that say what is wrong with its data.
const (
	exitDataGone    = 3
	exitDataForeign = 4
	exitFormatNewer = 5
	exitDataLocked  = 6
	exitDataCorrupt = 7
	// ExitVolumeFull: there was no room left.
	ExitVolumeFull = 9
)

func act(op v1alpha1.OperationType, ordinal int, s Step, reason, format string, args ...any) *Decision {
	return &Decision{Step: s, Operation: op, Ordinal: ordinal, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// step is the common shape of one: an action on an ordinal.
func step(a Action, ordinal int) Step { return Step{Action: a, Ordinal: ordinal} }

// wait is a decision to do nothing until deadline.
func wait(op v1alpha1.OperationType, ordinal int, deadline time.Time, reason, format string, args ...any) *Decision {
	d := act(op, ordinal, step(Nothing, -1), reason, format, args...)
	d.Deadline = deadline
	return d
}

// clock is when a wait that has no trace in the world began: when it was first
// reported, or now.
func (w *World) clock(op v1alpha1.OperationType, ordinal int, reason string) time.Time {
	o := w.Operation
	if o.Type == op && o.Ordinal == ordinal && o.Reason == reason && !o.StartedAt.IsZero() {
		return o.StartedAt
	}
	return w.Now
}

// waitSinceReported waits limit from when the same wait was first reported.
func (w *World) waitSinceReported(op v1alpha1.OperationType, ordinal int, limit time.Duration, reason, format string, args ...any) *Decision {
	return wait(op, ordinal, w.clock(op, ordinal, reason).Add(limit), reason, format, args...)
}
