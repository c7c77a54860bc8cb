package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KindMetaStoreBackup is the kind of a MetaStoreBackup.
const KindMetaStoreBackup = "MetaStoreBackup"

// LabelPurpose, on a MetaStoreBackup that the operator made for a MetaStoreCluster
// by itself, says what for.
const LabelPurpose = "metastore.io/purpose"

// FinalizerArtifact keeps a MetaStoreBackup with deletionPolicy Delete until its
// artifact is gone, or could not be deleted for 15 minutes.
const FinalizerArtifact = "metastore.io/backup-artifact"

// The conditions of a MetaStoreBackup besides Ready, Reconciling and Stalled:
// one of them is True in the end, and stays so.
const (
	// ConditionComplete is True once the artifact is there and verified.
	ConditionComplete = "Complete"
	// ConditionFailed is True once there will be no artifact; its reason says why.
	ConditionFailed = "Failed"
)

// MetaStoreBackup is one backup of a MetaStoreCluster. It always ends Complete or
// Failed.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=msb,categories=all
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterRef.name`
// +kubebuilder:printcolumn:name="Complete",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Revision",type=integer,JSONPath=`.status.manifest.revision`
// +kubebuilder:printcolumn:name="Bytes",type=integer,JSONPath=`.status.manifest.storedBytes`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 100",messageExpression="'metadata.name is %s; allowed are at most 100 characters'.format([self.metadata.name])"
type MetaStoreBackup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",messageExpression="'the spec of the backup of %s cannot be changed; make another backup'.format([oldSelf.clusterRef.name])"
	Spec MetaStoreBackupSpec `json:"spec"`
	// Until an operator has seen it the observed generation is -1: kstatus takes an
	// object without any for current.
	//
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status MetaStoreBackupStatus `json:"status,omitempty"`
}

// MetaStoreBackupList is a list of MetaStoreBackups.
//
// +kubebuilder:object:root=true
type MetaStoreBackupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MetaStoreBackup `json:"items"`
}

// BackupCompression says how a snapshot is compressed.
//
// +kubebuilder:validation:Enum=Zstd;None
type BackupCompression string

const (
	BackupCompressionZstd BackupCompression = "Zstd"
	BackupCompressionNone BackupCompression = "None"
)

// BackupVerification says how a backup is tried before it counts.
//
// +kubebuilder:validation:Enum=Checksum;RestoreTest
type BackupVerification string

const (
	// VerifyChecksum reads what was stored once more and compares checksums.
	VerifyChecksum BackupVerification = "Checksum"
	// VerifyRestoreTest starts a throw-away server on it, too, and compares hashes.
	VerifyRestoreTest BackupVerification = "RestoreTest"
)

// ArtifactPolicy says what becomes of what was stored when the MetaStoreBackup is
// deleted.
//
// +kubebuilder:validation:Enum=Retain;Delete
type ArtifactPolicy string

const (
	// ArtifactRetain leaves it; a restore finds it by its destination and name.
	ArtifactRetain ArtifactPolicy = "Retain"
	// ArtifactDelete deletes it first. Where the destination cannot be reached, the
	// MetaStoreBackup goes after 15 minutes all the same, and an event says what was
	// left where.
	ArtifactDelete ArtifactPolicy = "Delete"
)

// ClusterRef names a MetaStoreCluster of the same namespace.
type ClusterRef struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=50
	Name string `json:"name"`
}

// BackupSettings say where and how a backup is made.
type BackupSettings struct {
	Destination BackupDestination `json:"destination"`

	// Compression is Zstd when left out.
	//
	// +optional
	Compression BackupCompression `json:"compression,omitempty"`

	// Encryption; left out, what is stored is not encrypted.
	//
	// +optional
	Encryption *BackupEncryption `json:"encryption,omitempty"`

	// Verify is Checksum when left out.
	//
	// +optional
	Verify BackupVerification `json:"verify,omitempty"`

	// ActiveDeadlineSeconds is how long the backup may take from its creation; 3600
	// when left out. It has failed after that.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 10 && self <= 604800",messageExpression="'activeDeadlineSeconds is %s; allowed is 10 to 604800'.format([self])"
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`

	// BackoffLimit is how often it is tried again after a failure that may pass; 3
	// when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 20",messageExpression="'backoffLimit is %s; allowed is 0 to 20'.format([self])"
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`

	// Resources of the container that makes it.
	//
	// +optional
	Resources *MemberResources `json:"resources,omitempty"`
}

// MetaStoreBackupSpec says what is backed up, and how.
type MetaStoreBackupSpec struct {
	// ClusterRef is the cluster. A follower is preferred to its leader.
	ClusterRef ClusterRef `json:"clusterRef"`

	BackupSettings `json:",inline"`

	// TTLSecondsAfterFinished is after what time a finished MetaStoreBackup is
	// deleted; left out, it stays. DeletionPolicy says what becomes of the artifact.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0",messageExpression="'ttlSecondsAfterFinished is %s; allowed is 0 or more'.format([self])"
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`

	// DeletionPolicy says what becomes of the artifact when the MetaStoreBackup is
	// deleted; Retain when left out.
	//
	// +optional
	DeletionPolicy ArtifactPolicy `json:"deletionPolicy,omitempty"`
}

// MetaStoreBackupStatus is what became of a backup.
type MetaStoreBackupStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// StartedAt is when the first attempt began.
	//
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// CompletedAt is when the backup became Complete or Failed.
	//
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`

	// Artifact is the name in the destination: its SubPath, if it has one, and
	// NAMESPACE/CLUSTER/BACKUP.
	//
	// +optional
	Artifact string `json:"artifact,omitempty"`

	// Location is where the artifact is, for people: pvc://CLAIM/ARTIFACT or
	// s3://BUCKET/PREFIX/ARTIFACT.
	//
	// +optional
	Location string `json:"location,omitempty"`

	// Image is what made it; what deletes it is the same.
	//
	// +optional
	Image string `json:"image,omitempty"`

	// Manifest is what the artifact says of itself; absent until Complete.
	//
	// +optional
	Manifest *BackupManifest `json:"manifest,omitempty"`

	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BackupManifest is what an artifact says of itself.
type BackupManifest struct {
	// Format of the artifact.
	Format int32 `json:"format"`
	// CreatedAt is when the snapshot was begun.
	CreatedAt metav1.Time `json:"createdAt"`
	// ClusterID and MemberID are the cluster and the member that it is of, in hexadecimal.
	//
	// +optional
	ClusterID string `json:"clusterID,omitempty"`
	// +optional
	MemberID string `json:"memberID,omitempty"`
	// Version of the server.
	//
	// +optional
	Version string `json:"version,omitempty"`
	// Revision of the key space, and the one that its history begins after.
	Revision int64 `json:"revision"`
	// +optional
	CompactRevision int64 `json:"compactRevision,omitempty"`
	// RaftIndex and RaftTerm are the last entry that is in it.
	//
	// +optional
	RaftIndex int64 `json:"raftIndex,omitempty"`
	// +optional
	RaftTerm int64 `json:"raftTerm,omitempty"`
	// Keys is the number of keys.
	//
	// +optional
	Keys int64 `json:"keys,omitempty"`
	// Hash is HashKV at the revision.
	//
	// +optional
	Hash int64 `json:"hash,omitempty"`
	// SnapshotBytes is the size of the snapshot, StoredBytes that of what is stored.
	//
	// +optional
	SnapshotBytes int64 `json:"snapshotBytes,omitempty"`
	// +optional
	StoredBytes int64 `json:"storedBytes,omitempty"`
	// SnapshotSHA256 and StoredSHA256 are their checksums, in hexadecimal.
	//
	// +optional
	SnapshotSHA256 string `json:"snapshotSHA256,omitempty"`
	// +optional
	StoredSHA256 string `json:"storedSHA256,omitempty"`
	// Compression and Encryption are as the artifact names them; empty for none.
	//
	// +optional
	Compression string `json:"compression,omitempty"`
	// +optional
	Encryption string `json:"encryption,omitempty"`
	// Verified is how it was tried: checksum or restore-test.
	//
	// +optional
	Verified string `json:"verified,omitempty"`
}
