package v1alpha1

// UpdateStrategy says who restarts members for a change.
//
// +kubebuilder:validation:Enum=RollingUpdate;OnDelete
type UpdateStrategy string

const (
	// UpdateRolling restarts one member after the other, the leader last.
	UpdateRolling UpdateStrategy = "RollingUpdate"
	// UpdateOnDelete leaves pods of an older revision until somebody deletes them.
	UpdateOnDelete UpdateStrategy = "OnDelete"
)

// UpdateSpec says how a change reaches the members that run.
type UpdateSpec struct {
	// Strategy is RollingUpdate when left out. With either, a pod of an older
	// revision that takes no part is replaced at once.
	//
	// +optional
	Strategy UpdateStrategy `json:"strategy,omitempty"`

	// MinReadySeconds is how long a restarted member must have been ready before
	// the next is restarted; 0 when left out.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 3600",messageExpression="'update.minReadySeconds is %s; allowed is 0 to 3600'.format([self])"
	MinReadySeconds *int32 `json:"minReadySeconds,omitempty"`

	// PreUpdateBackup has a backup completed before the first member is restarted
	// with another image; it stays. While it fails, members keep their image. Members
	// that take no part do not wait for it.
	//
	// +optional
	PreUpdateBackup *BackupSettings `json:"preUpdateBackup,omitempty"`
}

// FinalizerBackup keeps a MetaStoreCluster with deletionPolicy BackupThenDelete
// until its last backup is complete.
const FinalizerBackup = "metastore.io/backup-then-delete"

// DeletionPolicy says what becomes of the volumes when a cluster is deleted.
//
// +kubebuilder:validation:Enum=Retain;Delete;BackupThenDelete
type DeletionPolicy string

const (
	// DeletionRetain keeps the volumes; a cluster of the same name takes them up.
	DeletionRetain DeletionPolicy = "Retain"
	// DeletionDelete deletes the volumes with the cluster.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionBackup deletes them after a last backup is complete; until then the
	// cluster serves. One that cannot be backed up stays, and says why: another
	// policy lets it go.
	DeletionBackup DeletionPolicy = "BackupThenDelete"
)

// BootstrapSpec says how a cluster begins.
type BootstrapSpec struct {
	// Restore is a MetaStoreRestore of mode NewCluster in the same namespace that
	// names this cluster. The first member starts once it has filled its volume.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=50
	Restore string `json:"restore"`
}
