package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AnnotationRecoverQuorum, on a MetaStoreCluster, allows the operator to begin
// the cluster anew from the best member that is left after its quorum was lost.
// Its value is the cluster's name. The operator takes it away once a quorum
// serves, so that it is never left for another day.
const AnnotationRecoverQuorum = "metastore.io/recover-quorum"

// RepairMode says who gives up the data of a member that cannot serve any more.
//
// +kubebuilder:validation:Enum=Automatic;Manual
type RepairMode string

const (
	// RepairAutomatic replaces members by itself, while the others have a quorum.
	RepairAutomatic RepairMode = "Automatic"
	// RepairManual only reports them; once somebody has removed such a member from
	// the cluster, its ordinal gets a new one.
	RepairManual RepairMode = "Manual"
)

// LostNodePolicy says what becomes of a member on a node that is silent.
//
// +kubebuilder:validation:Enum=Wait;Replace
type LostNodePolicy string

const (
	// LostNodeWait waits for the node, or for its Node object to be deleted.
	LostNodeWait LostNodePolicy = "Wait"
	// LostNodeReplace gives the member up, with its volume.
	LostNodeReplace LostNodePolicy = "Replace"
)

// QuorumLossPolicy says what is done when most members' data are gone for good.
//
// +kubebuilder:validation:Enum=Wait;Recover
type QuorumLossPolicy string

const (
	// QuorumLossWait waits for somebody to allow the recovery.
	QuorumLossWait QuorumLossPolicy = "Wait"
	// QuorumLossRecover begins anew from the best member that is left.
	QuorumLossRecover QuorumLossPolicy = "Recover"
)

// RepairSpec says what the operator does by itself when something is lost.
type RepairSpec struct {
	// Mode is Automatic when left out.
	//
	// +optional
	Mode RepairMode `json:"mode,omitempty"`

	// GracePeriod is how long a loss must have lasted before data are given up.
	// Left out, 30 seconds for a member that finds its data gone or damaged, and
	// 5 minutes for a node and for the quorum.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",messageExpression="'repair.gracePeriod is %s; allowed is a duration such as 30s or 5m, of 1s to 24h'.format([self])"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`

	// LostNode is Wait when left out. The members on a node whose Node object was
	// deleted are lost with it under either policy, where their volumes are bound
	// to that node.
	//
	// +optional
	LostNode LostNodePolicy `json:"lostNode,omitempty"`

	// QuorumLoss is Wait when left out. With Recover the operator needs no
	// permission once it is certain that too few members are left for a quorum to
	// come back: writes that only lost members had are lost.
	//
	// +optional
	QuorumLoss QuorumLossPolicy `json:"quorumLoss,omitempty"`
}

// RecoveryStatus tells of the last recovery from a lost quorum.
type RecoveryStatus struct {
	// Survivor is the member that the cluster was begun anew from.
	Survivor string `json:"survivor"`
	// Word marks this recovery in the survivor's settings and data.
	Word string `json:"word"`
	// AllowedBy is Annotation or Spec.
	AllowedBy string `json:"allowedBy"`
	// StartedAt is when the survivor was chosen.
	StartedAt metav1.Time `json:"startedAt"`
	// Candidates is what was known of each member when the survivor was chosen:
	// the one whose log ends with the highest term, then index, is the best.
	//
	// +optional
	// +listType=map
	// +listMapKey=member
	Candidates []RecoveryCandidate `json:"candidates,omitempty"`
}

// RecoveryCandidate is one member of a cluster that has lost its quorum.
type RecoveryCandidate struct {
	Member string `json:"member"`
	// Answers is false for a member of which nothing could be learned.
	Answers bool `json:"answers"`
	// LogTerm and LogIndex are the last entry of the member's log.
	//
	// +optional
	LogTerm int64 `json:"logTerm,omitempty"`
	// +optional
	LogIndex int64 `json:"logIndex,omitempty"`
	// CommittedIndex is the highest entry that the member knew to be committed.
	//
	// +optional
	CommittedIndex int64 `json:"committedIndex,omitempty"`
	// Finding is why a member is lost; empty when nothing says so.
	//
	// +optional
	Finding string `json:"finding,omitempty"`
}
