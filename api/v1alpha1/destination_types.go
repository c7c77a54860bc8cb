package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// BackupDestination is where backups are kept: a folder of a volume, or a bucket
// of an S3-compatible store. Each backup has a folder of its own there,
// NAMESPACE/CLUSTER/BACKUP.
//
// +kubebuilder:validation:XValidation:rule="has(self.pvc) != has(self.objectStore)",messageExpression="'a destination has %s; allowed is exactly one of pvc and objectStore'.format([has(self.pvc) ? 'pvc and objectStore' : 'neither'])"
type BackupDestination struct {
	// PVC is a volume of the cluster's namespace.
	//
	// +optional
	PVC *PVCDestination `json:"pvc,omitempty"`

	// ObjectStore is a bucket.
	//
	// +optional
	ObjectStore *ObjectStoreDestination `json:"objectStore,omitempty"`
}

// PVCDestination is a folder of a volume.
type PVCDestination struct {
	// ClaimName is the PersistentVolumeClaim.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClaimName string `json:"claimName"`

	// SubPath is the folder in the volume that backups go into; its root when left out.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')",messageExpression="'subPath is %s; allowed is a relative path of letters, digits, dots, dashes and underscores, such as backups/store'.format([self])"
	SubPath string `json:"subPath,omitempty"`

	// Create has the claim made when it does not exist. It is never deleted by the
	// operator.
	//
	// +optional
	Create *CreatedClaim `json:"create,omitempty"`
}

// CreatedClaim is the claim that the operator makes.
type CreatedClaim struct {
	// Size of the volume.
	//
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Mi')) >= 0",messageExpression="'create.size is %s; allowed is 1Mi or more'.format([self])"
	Size resource.Quantity `json:"size"`

	// StorageClassName of the volume; left out, Kubernetes' default class.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`
}

// ObjectStoreDestination is a bucket of an S3-compatible store.
type ObjectStoreDestination struct {
	// Endpoint is the URL of the store.
	//
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^https?://[A-Za-z0-9.-]+(:[0-9]+)?/?$')",messageExpression="'endpoint is %s; allowed is a URL such as https://s3.example.org or http://minio.storage.svc:9000'.format([self])"
	Endpoint string `json:"endpoint"`

	// Bucket has to exist.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9][a-z0-9.-]+[a-z0-9]$')",messageExpression="'bucket is %s; allowed are 3 to 63 lower-case letters, digits, dots and dashes'.format([self])"
	Bucket string `json:"bucket"`

	// Prefix is the folder in the bucket that backups go into; its root when left out.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')",messageExpression="'prefix is %s; allowed is a relative path of letters, digits, dots, dashes and underscores, such as backups/store'.format([self])"
	Prefix string `json:"prefix,omitempty"`

	// Region of the bucket; left out, the store is asked for it.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9-]*$')",messageExpression="'region is %s; allowed are letters, digits and dashes, such as eu-central-1'.format([self])"
	Region string `json:"region,omitempty"`

	// CredentialsSecretRef is a Secret with the keys access-key-id and
	// secret-access-key, and session-token for credentials that end.
	CredentialsSecretRef SecretRef `json:"credentialsSecretRef"`

	// CASecretRef is a Secret whose ca.crt vouches for the store's certificate;
	// left out, the authorities that everybody trusts do.
	//
	// +optional
	CASecretRef *SecretRef `json:"caSecretRef,omitempty"`
}

// The keys of a Secret with a store's credentials.
const (
	StoreKeyAccessKeyID     = "access-key-id"
	StoreKeySecretAccessKey = "secret-access-key"
	StoreKeySessionToken    = "session-token"
	StoreKeyCA              = "ca.crt"
)

// BackupEncryption has backups encrypted with age.
type BackupEncryption struct {
	// SecretRef is a Secret with the keys recipients (age recipients, one a line),
	// which writing needs, and identity (age identities), which reading needs:
	// restores, and backups with verify RestoreTest.
	SecretRef SecretRef `json:"secretRef"`
}

// The keys of a Secret of BackupEncryption.
const (
	EncryptionKeyRecipients = "recipients"
	EncryptionKeyIdentity   = "identity"
)
