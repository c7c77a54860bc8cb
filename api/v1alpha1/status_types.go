package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The types of a MetaStoreCluster's conditions.
const (
	// ConditionReady is True when the cluster serves and is as the spec says.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator changes something, absent otherwise, and while it is stalled.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True while nothing goes on without a human, absent otherwise.
	ConditionStalled = "Stalled"
	// ConditionAvailable is True when a quorum serves, Unknown when the operator cannot see.
	ConditionAvailable = "Available"
	// ConditionAllMembersReady is True when every member that the spec asks for is a ready voter.
	ConditionAllMembersReady = "AllMembersReady"
	// ConditionUpToDate is True when every pod runs the newest revision of its template.
	ConditionUpToDate = "UpToDate"
	// ConditionTLSReady is True when members accept what spec.tls asks for with
	// certificates that hold; absent without TLS.
	ConditionTLSReady = "TLSReady"
	// ConditionStorageHealthy is False while an alarm stands or a volume is full.
	ConditionStorageHealthy = "StorageHealthy"
	// ConditionAuthReady is True when members check users as spec.auth asks for and
	// root has the Secret's password; absent where nobody asks for users.
	ConditionAuthReady = "AuthReady"
	// ConditionBackupCurrent is True when the newest complete backup is as new as
	// every MetaStoreBackupSchedule promises; absent where none does.
	ConditionBackupCurrent = "BackupCurrent"
	// ConditionConfigValid is False when the spec asks for what cannot be, such as more cache than memory.
	ConditionConfigValid = "ConfigValid"
)

// OperationType names what the operator is about.
type OperationType string

const (
	OperationBootstrap   OperationType = "Bootstrap"
	OperationScaleOut    OperationType = "ScaleOut"
	OperationScaleIn     OperationType = "ScaleIn"
	OperationReplace     OperationType = "Replace"
	OperationRoll        OperationType = "Roll"
	OperationUpgrade     OperationType = "Upgrade"
	OperationGrowStorage OperationType = "GrowStorage"
	OperationDelete      OperationType = "Delete"
	OperationRecover     OperationType = "RecoverQuorum"
	OperationHibernate   OperationType = "Hibernate"
	OperationFreeSpace   OperationType = "FreeSpace"
	OperationRestore     OperationType = "Restore"
)

// Health is what the operator knows of a member.
//
// +kubebuilder:validation:Enum=True;False;Unknown
type Health string

const (
	HealthTrue    Health = "True"
	HealthFalse   Health = "False"
	HealthUnknown Health = "Unknown"
)

// MemberRole is a member's role in the Raft group.
//
// +kubebuilder:validation:Enum=Leader;Follower;Learner;Unknown
type MemberRole string

const (
	RoleLeader   MemberRole = "Leader"
	RoleFollower MemberRole = "Follower"
	RoleLearner  MemberRole = "Learner"
	RoleUnknown  MemberRole = "Unknown"
)

// MetaStoreClusterStatus is what the operator saw.
type MetaStoreClusterStatus struct {
	// ObservedGeneration is the generation of the spec that the last full pass acted on.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Replicas is the number of member pods that exist.
	//
	// +optional
	Replicas int32 `json:"replicas"`

	// ReadyReplicas is the number of member pods that are ready.
	//
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`

	// Selector finds the member pods; the scale subresource hands it to autoscalers.
	//
	// +optional
	Selector string `json:"selector,omitempty"`

	// ClusterID is the ID of the Raft cluster, in hexadecimal; only a restore in
	// place changes it.
	//
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// Revision is the newest revision of the keys that a member has told.
	//
	// +optional
	Revision int64 `json:"revision,omitempty"`

	// Leader is the pod of the leading member.
	//
	// +optional
	Leader string `json:"leader,omitempty"`

	// Version is the oldest version of the server that a member runs.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Version string `json:"version,omitempty"`

	// Image is what new pods run.
	//
	// +optional
	Image string `json:"image,omitempty"`

	// DefaultImage is what members run while the spec names neither version nor
	// image. It is the operator's default at the time that the cluster began, and
	// follows a version once every member runs it.
	//
	// +optional
	DefaultImage string `json:"defaultImage,omitempty"`

	// +optional
	// +listType=map
	// +listMapKey=name
	Members []MemberStatus `json:"members,omitempty"`

	// Operation is what the operator is about; absent when nothing goes on.
	//
	// +optional
	Operation *OperationStatus `json:"operation,omitempty"`

	// EffectiveTuning are the settings that follow from the spec and the container's limits.
	//
	// +optional
	EffectiveTuning *EffectiveTuning `json:"effectiveTuning,omitempty"`

	// Alarms that the cluster has raised.
	//
	// +optional
	// +listType=atomic
	Alarms []AlarmStatus `json:"alarms,omitempty"`

	// Recovery tells of the last recovery from a lost quorum.
	//
	// +optional
	Recovery *RecoveryStatus `json:"recovery,omitempty"`

	// TLS is absent without TLS.
	//
	// +optional
	TLS *TLSStatus `json:"tls,omitempty"`

	// LastBackup is the newest complete backup; it stays when that is deleted.
	//
	// +optional
	LastBackup *LastBackupStatus `json:"lastBackup,omitempty"`

	// Auth is absent where nobody asks for users.
	//
	// +optional
	Auth *AuthStatus `json:"auth,omitempty"`

	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// LastBackupStatus is a backup that is complete.
type LastBackupStatus struct {
	// Name of the MetaStoreBackup.
	Name string `json:"name"`
	// CompletedAt is when it became complete.
	CompletedAt metav1.Time `json:"completedAt"`
	// Location of its artifact.
	//
	// +optional
	Location string `json:"location,omitempty"`
	// Revision of the key space that it holds.
	Revision int64 `json:"revision"`
	// StoredBytes is the size of what is stored.
	//
	// +optional
	StoredBytes int64 `json:"storedBytes,omitempty"`
}

// MemberStatus is one member as the operator saw it.
type MemberStatus struct {
	// Name of the member, which is the name of its pod.
	Name string `json:"name"`
	// ID of the member in the Raft cluster, in hexadecimal.
	//
	// +optional
	ID string `json:"id,omitempty"`
	// +optional
	Role MemberRole `json:"role,omitempty"`
	// Pod is the pod that runs the member now; empty while there is none.
	//
	// +optional
	Pod string `json:"pod,omitempty"`
	// +optional
	Node string `json:"node,omitempty"`
	// +optional
	Ready bool `json:"ready"`
	// Version of the server that the member runs.
	//
	// +optional
	Version string `json:"version,omitempty"`
	// Revision of the pod's template, as in the pod's label controller-revision-hash.
	//
	// +optional
	Revision string `json:"revision,omitempty"`
	// AppliedIndex is the last Raft entry that the member has applied.
	//
	// +optional
	AppliedIndex int64 `json:"appliedIndex,omitempty"`
	// Lag is how many entries the member is behind the highest index seen on any member.
	//
	// +optional
	Lag int64 `json:"lag,omitempty"`
	// +optional
	DBSizeBytes int64 `json:"dbSizeBytes,omitempty"`
	// Health is Unknown when the operator could not ask the member.
	//
	// +optional
	Health Health `json:"health,omitempty"`
}

// OperationStatus is one thing that the operator is about.
type OperationStatus struct {
	Type OperationType `json:"type"`
	// Member is the pod that the step concerns.
	//
	// +optional
	Member string `json:"member,omitempty"`
	// Step within the operation.
	//
	// +optional
	Step string `json:"step,omitempty"`
	// Reason for the step or the wait, in one sentence.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
	// StartedAt is when the step began; it stands still while the operator waits.
	//
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// Deadline of a wait; after it the operator reports Stalled.
	//
	// +optional
	Deadline *metav1.Time `json:"deadline,omitempty"`
}

// EffectiveTuning are the settings in use. Sizes are in bytes; 0 and "" mean
// that the server's own default holds.
type EffectiveTuning struct {
	// GoMemLimitBytes is the soft limit of the Go heap, as in GOMEMLIMIT.
	//
	// +optional
	GoMemLimitBytes int64 `json:"goMemLimitBytes,omitempty"`
	// +optional
	QuotaBackendBytes int64 `json:"quotaBackendBytes,omitempty"`
	// RocksDB is absent with engine Memory.
	//
	// +optional
	RocksDB *EffectiveRocksDB `json:"rocksdb,omitempty"`
	// ConfirmedBy is how many members say that they run with these settings.
	//
	// +optional
	ConfirmedBy int32 `json:"confirmedBy,omitempty"`
}

// EffectiveRocksDB are RocksDB's settings in use. Every field is set.
type EffectiveRocksDB struct {
	BlockCacheBytes                int64              `json:"blockCacheBytes"`
	WriteBufferBytes               int64              `json:"writeBufferBytes"`
	MaxWriteBufferNumber           int32              `json:"maxWriteBufferNumber"`
	MaxBackgroundJobs              int32              `json:"maxBackgroundJobs"`
	BloomBitsPerKey                int32              `json:"bloomBitsPerKey"`
	Compression                    RocksDBCompression `json:"compression"`
	MaxOpenFiles                   int32              `json:"maxOpenFiles"`
	Level0FileNumCompactionTrigger int32              `json:"level0FileNumCompactionTrigger"`
	Level0SlowdownWritesTrigger    int32              `json:"level0SlowdownWritesTrigger"`
	Level0StopWritesTrigger        int32              `json:"level0StopWritesTrigger"`
	BytesPerSync                   int64              `json:"bytesPerSync"`
}
