package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KindMetaStoreRestore is the kind of a MetaStoreRestore.
const KindMetaStoreRestore = "MetaStoreRestore"

// FinalizerRestore keeps a MetaStoreRestore until it has finished or what it did
// is undone.
const FinalizerRestore = "metastore.io/restore"

// DefaultRevisionBump is by how much a restored cluster is ahead of its backup:
// 11 days of 1000 writes a second.
const DefaultRevisionBump = int64(1_000_000_000)

// MetaStoreRestore fills a cluster from a backup, once. It always ends Complete or
// Failed, unless it waits for something that a person has to bring.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=msr,categories=all
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterName`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Complete",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 50",messageExpression="'metadata.name is %s; allowed are at most 50 characters: Jobs are named after it'.format([self.metadata.name])"
type MetaStoreRestore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",messageExpression="'the spec of the restore of %s cannot be changed; make another restore'.format([oldSelf.clusterName])"
	Spec MetaStoreRestoreSpec `json:"spec"`
	// Until an operator has seen it the observed generation is -1: kstatus takes an
	// object without any for current.
	//
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status MetaStoreRestoreStatus `json:"status,omitempty"`
}

// MetaStoreRestoreList is a list of MetaStoreRestores.
//
// +kubebuilder:object:root=true
type MetaStoreRestoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MetaStoreRestore `json:"items"`
}

// RestoreMode says what becomes of the cluster that there is.
//
// +kubebuilder:validation:Enum=NewCluster;InPlace;ForceNewCluster
type RestoreMode string

const (
	// RestoreNewCluster fills a cluster that waits for it (spec.bootstrap.restore).
	RestoreNewCluster RestoreMode = "NewCluster"
	// RestoreInPlace stops the cluster and gives it the backup's keys. What it had
	// stays on the volumes until the restored cluster serves.
	RestoreInPlace RestoreMode = "InPlace"
	// RestoreForceNewCluster begins a cluster that has lost its quorum anew from the
	// best member that is left, as the annotation metastore.io/recover-quorum does.
	RestoreForceNewCluster RestoreMode = "ForceNewCluster"
)

// MetaStoreRestoreSpec says what is restored where.
//
// +kubebuilder:validation:XValidation:rule="self.mode == 'NewCluster' || has(self.confirmClusterName) && self.confirmClusterName == self.clusterName",messageExpression="'confirmClusterName is %s; with mode %s it has to be %s: what the cluster has now is given up'.format([has(self.confirmClusterName) ? self.confirmClusterName : 'not set', self.mode, self.clusterName])",fieldPath=".confirmClusterName"
// +kubebuilder:validation:XValidation:rule="has(self.source) == (self.mode != 'ForceNewCluster')",messageExpression="'source is %s; it is needed with the modes NewCluster and InPlace, and not allowed with ForceNewCluster, and mode is %s'.format([has(self.source) ? 'set' : 'not set', self.mode])",fieldPath=".source"
// +kubebuilder:validation:XValidation:rule="self.mode == 'InPlace' || !has(self.preRestoreBackup)",messageExpression="'mode is %s; preRestoreBackup is allowed with mode InPlace only'.format([self.mode])",fieldPath=".preRestoreBackup"
// +kubebuilder:validation:XValidation:rule="self.mode != 'ForceNewCluster' || !has(self.revisionBump) && !has(self.encryption)",messageExpression="'mode is %s; revisionBump and encryption are not allowed with it: nothing is read'.format([self.mode])"
// +kubebuilder:validation:XValidation:rule="self.mode != 'InPlace' || !has(self.revisionBump) || self.revisionBump > 0",messageExpression="'revisionBump is %s; allowed with mode InPlace is 1 or more: watchers must not see revisions go back'.format([self.revisionBump])",fieldPath=".revisionBump"
// +kubebuilder:validation:XValidation:rule="self.mode == 'InPlace' || !has(self.allowForeignCluster)",messageExpression="'mode is %s; allowForeignCluster is allowed with mode InPlace only'.format([self.mode])",fieldPath=".allowForeignCluster"
type MetaStoreRestoreSpec struct {
	Mode RestoreMode `json:"mode"`

	// ClusterName is the MetaStoreCluster, in the same namespace. With mode
	// NewCluster it names this restore in spec.bootstrap.restore; either may come
	// first.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=50
	ClusterName string `json:"clusterName"`

	// Source is what is restored.
	//
	// +optional
	Source *RestoreSource `json:"source,omitempty"`

	// Encryption is needed for a source that is encrypted: its Secret has the key
	// identity. With backupRef that of the MetaStoreBackup is taken when left out.
	//
	// +optional
	Encryption *BackupEncryption `json:"encryption,omitempty"`

	// ConfirmClusterName is clusterName once more, with the modes InPlace and
	// ForceNewCluster.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=50
	ConfirmClusterName string `json:"confirmClusterName,omitempty"`

	// AllowForeignCluster takes an artifact of another cluster ID than the
	// cluster's: of another cluster, or of this one before an earlier restore.
	//
	// +optional
	AllowForeignCluster *bool `json:"allowForeignCluster,omitempty"`

	// RevisionBump is by how much the restored cluster's revision is ahead of the
	// source's, with the history marked compacted, so that nobody who watched the
	// old cluster sees revisions go back; 1000000000 when left out. 0, which is not
	// for InPlace, keeps revision and history.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 1000000000000",messageExpression="'revisionBump is %s; allowed is 0 to 1000000000000'.format([self])"
	RevisionBump *int64 `json:"revisionBump,omitempty"`

	// PreRestoreBackup is where a MetaStoreBackup of the cluster as it is now goes
	// first. The restore does not begin when that fails.
	//
	// +optional
	PreRestoreBackup *BackupDestination `json:"preRestoreBackup,omitempty"`
}

// RestoreSource is what is restored.
//
// +kubebuilder:validation:XValidation:rule="[has(self.backupRef), has(self.artifact), has(self.etcdSnapshot)].filter(x, x).size() == 1",messageExpression="'source has %s of them; allowed is exactly one of backupRef, artifact and etcdSnapshot'.format([[has(self.backupRef), has(self.artifact), has(self.etcdSnapshot)].filter(x, x).size()])"
type RestoreSource struct {
	// BackupRef is a MetaStoreBackup of the same namespace.
	//
	// +optional
	BackupRef *BackupRef `json:"backupRef,omitempty"`

	// Artifact is one without a MetaStoreBackup.
	//
	// +optional
	Artifact *ArtifactSource `json:"artifact,omitempty"`

	// EtcdSnapshot is a file that `etcdctl snapshot save` wrote, of etcd v3.5 to v3.7
	// or MetaStore.
	//
	// +optional
	EtcdSnapshot *SnapshotFileSource `json:"etcdSnapshot,omitempty"`
}

// BackupRef names a MetaStoreBackup of the same namespace.
type BackupRef struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	Name string `json:"name"`
}

// ArtifactSource is an artifact in a destination.
type ArtifactSource struct {
	Destination BackupDestination `json:"destination"`
	// Name is the artifact's folder below the destination's subPath or prefix:
	// NAMESPACE/CLUSTER/BACKUP.
	//
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')",messageExpression="'artifact.name is %s; allowed is a relative path such as apps/store/nightly-1'.format([self])"
	Name string `json:"name"`
}

// SnapshotFileSource is a snapshot file in a destination.
type SnapshotFileSource struct {
	Destination BackupDestination `json:"destination"`
	// File is the file below the destination's subPath or prefix.
	//
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')",messageExpression="'etcdSnapshot.file is %s; allowed is a relative path such as etcd/snapshot.db'.format([self])"
	File string `json:"file"`
}

// RestoreStepName names one part of a restore.
type RestoreStepName string

const (
	// RestoreStepPrepare waits for what the restore needs: cluster, source, Secrets.
	RestoreStepPrepare RestoreStepName = "Prepare"
	// RestoreStepVerify reads the whole artifact. Until it has, nothing is touched.
	RestoreStepVerify RestoreStepName = "Verify"
	// RestoreStepBackup makes the backup of the cluster as it is.
	RestoreStepBackup RestoreStepName = "Backup"
	// RestoreStepStop stops every member.
	RestoreStepStop RestoreStepName = "Stop"
	// RestoreStepFill fills the first member's volume.
	RestoreStepFill RestoreStepName = "Fill"
	// RestoreStepStart starts the first member, alone.
	RestoreStepStart RestoreStepName = "Start"
	// RestoreStepFinish deletes the data of before from the first member's volume.
	RestoreStepFinish RestoreStepName = "Finish"
	// RestoreStepUndo puts the data of before back.
	RestoreStepUndo RestoreStepName = "Undo"
	// RestoreStepRecover begins anew from a survivor (mode ForceNewCluster).
	RestoreStepRecover RestoreStepName = "Recover"
)

// RestoreStep is one part of a restore, in the order in which they began.
type RestoreStep struct {
	Name      RestoreStepName `json:"name"`
	StartedAt metav1.Time     `json:"startedAt"`
	// CompletedAt is absent while it goes on.
	//
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`
}

// MetaStoreRestoreStatus is what became of a restore.
type MetaStoreRestoreStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// CompletedAt is when the restore became Complete or Failed.
	//
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`

	// +optional
	// +listType=map
	// +listMapKey=name
	Steps []RestoreStep `json:"steps,omitempty"`

	// Manifest is what the artifact says of itself; absent until it was verified.
	//
	// +optional
	Manifest *BackupManifest `json:"manifest,omitempty"`

	// Revision is what the restored cluster begins with.
	//
	// +optional
	Revision int64 `json:"revision,omitempty"`

	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
