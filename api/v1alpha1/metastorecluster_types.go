package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KindMetaStoreCluster is the kind of a MetaStoreCluster.
const KindMetaStoreCluster = "MetaStoreCluster"

// MetaStoreCluster is a replicated metadata store that speaks the etcd v3 API.
//
// The name becomes the name of the StatefulSet and of the client Service, and
// `<name>-peers` that of the headless one: hence its limits.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=msc,categories=all
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.readyReplicas`,description="Members that are ready"
// +kubebuilder:printcolumn:name="Leader",type=string,JSONPath=`.status.leader`
// +kubebuilder:printcolumn:name="Operation",type=string,JSONPath=`.status.operation.type`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 50 && !self.metadata.name.endsWith('-peers')",messageExpression="'metadata.name is %s; allowed are at most 50 lower-case letters, digits and dashes, a letter first, not ending in -peers: Services and pods are named after it'.format([self.metadata.name])"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.version) || has(oldSelf.spec.version) && self.spec.version == oldSelf.spec.version || !has(self.status) || !has(self.status.version) || !self.status.version.matches('^[0-9]+[.][0-9]+[.]') || [(self.spec.version.startsWith('v') ? self.spec.version.substring(1) : self.spec.version).split('.')].all(to, [self.status.version.split('.')].all(is, int(to[0]) == int(is[0]) && int(to[1]) >= int(is[1]) && int(to[1]) <= int(is[1]) + 1))",messageExpression="'version is %s, and the members run %s; allowed is the same minor version or the next: go through each minor version, and not back'.format([self.spec.version, self.status.version])",fieldPath=".spec.version"
type MetaStoreCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec MetaStoreClusterSpec `json:"spec"`
	// Until an operator has seen it the observed generation is -1: kstatus takes an
	// object without any for current.
	//
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status MetaStoreClusterStatus `json:"status,omitempty"`
}

// MetaStoreClusterList is a list of MetaStoreClusters.
//
// +kubebuilder:object:root=true
type MetaStoreClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MetaStoreCluster `json:"items"`
}

// Engine is where a member keeps its state.
//
// +kubebuilder:validation:Enum=Memory;RocksDB
type Engine string

const (
	// EngineMemory keeps the state in memory, made durable by the log and by dumps on the volume.
	EngineMemory Engine = "Memory"
	// EngineRocksDB keeps the state in RocksDB on the volume.
	EngineRocksDB Engine = "RocksDB"
)

// MetaStoreClusterSpec is what the user wants. The operator never writes it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.rocksdb) || self.engine == 'RocksDB'",messageExpression="'engine is %s but rocksdb is set; rocksdb is allowed only with engine RocksDB'.format([self.engine])",fieldPath=".rocksdb"
// +kubebuilder:validation:XValidation:rule="!has(self.image) || !has(self.version) || !self.image.matches('(:[^/]+|@[^/]+)$')",messageExpression="'image is %s and version is %s; with a version the image has to come without tag and digest, with a tag or digest there is no version'.format([self.image, self.version])",fieldPath=".version"
// +kubebuilder:validation:XValidation:rule="!has(self.server) || !has(self.server.quotaBackendBytes) || quantity(string(self.server.quotaBackendBytes)).compareTo(quantity(string(self.storage.size))) <= 0",messageExpression="'server.quotaBackendBytes is %s; allowed is at most storage.size, which is %s'.format([self.server.quotaBackendBytes, self.storage.size])",fieldPath=".server"
// +kubebuilder:validation:XValidation:rule="has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)",messageExpression="'bootstrap %s and cannot be changed; how a cluster of %s members began is settled'.format([has(oldSelf.bootstrap) ? 'was set' : 'was not set', self.replicas])",fieldPath=".bootstrap"
// +kubebuilder:validation:XValidation:rule="!has(self.deletionPolicy) || self.deletionPolicy != 'BackupThenDelete' || has(self.deletionBackup)",messageExpression="'deletionPolicy is %s but deletionBackup is not set; it has to say where the last backup goes'.format([self.deletionPolicy])",fieldPath=".deletionPolicy"
type MetaStoreClusterSpec struct {
	// Replicas is the number of voting members: 1, 3, 5 or 7. An even number
	// tolerates no more failures than the odd one below it.
	//
	// +kubebuilder:validation:XValidation:rule="self in [1, 3, 5, 7]",messageExpression="'replicas is %s; allowed are 1, 3, 5 and 7'.format([self])"
	Replicas int32 `json:"replicas"`

	// Version of the server; it is the tag of the image. Left out, the cluster
	// begins with the operator's own default and stays with it, whatever the default
	// of a later operator is. It may go to the next minor version of the one that
	// members run, not beyond and not back. Taken away, members stay with the version
	// that they all run, or return to the one before.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^v?[0-9]+[.][0-9]+[.][0-9]+([-.][0-9A-Za-z.-]+)?$')",messageExpression="'version is %s; allowed is a version such as 1.2.3 or v1.2.3-rc.1'.format([self])"
	Version string `json:"version,omitempty"`

	// Image replaces the operator's default server image. Without tag and
	// digest it takes the tag from version, or else from the image that members run,
	// or begin with. Taken away, members return to status.defaultImage, or to the
	// version of it that they run if that is newer.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^ :@/]+(:[0-9]+/[^ :@]+|/[^ :@]+)?(:[0-9A-Za-z_][0-9A-Za-z_.-]*)?(@sha256:[0-9a-f]{64})?$')",messageExpression="'image is %s; allowed is an image reference such as registry.example/metastore:1.2.3'.format([self])"
	Image string `json:"image,omitempty"`

	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// Engine is where members keep their state. It cannot be changed.
	//
	// +kubebuilder:default=RocksDB
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",messageExpression="'engine is %s and cannot become %s; make a new cluster and copy the data'.format([oldSelf, self])"
	Engine Engine `json:"engine,omitempty"`

	// Storage is the volume of each member; both engines have one.
	Storage StorageSpec `json:"storage"`

	// Resources of each member's container. The memory limit is what RocksDB's
	// automatic tuning and GOMEMLIMIT are derived from.
	//
	// +optional
	Resources *MemberResources `json:"resources,omitempty"`

	// RocksDB holds the settings of the engine RocksDB.
	//
	// +optional
	RocksDB *RocksDBSpec `json:"rocksdb,omitempty"`

	// Server holds the settings of the server that no engine changes.
	//
	// +optional
	Server *ServerSpec `json:"server,omitempty"`

	// Repair says what the operator does by itself when something is lost.
	//
	// +optional
	Repair *RepairSpec `json:"repair,omitempty"`

	// TLS says how clients and members speak to members; left out, in the clear.
	//
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`

	// Auth has members check users; left out, anybody who reaches a member may do
	// everything. What the operator turned on it turns off again, with users and
	// roles kept; what somebody else turned on stays. Without spec.tls.client
	// passwords cross the network in the clear.
	//
	// +optional
	Auth *AuthSpec `json:"auth,omitempty"`

	// Update says how a change reaches the members that run.
	//
	// +optional
	Update *UpdateSpec `json:"update,omitempty"`

	// Paused keeps the operator from changing anything; it goes on reporting.
	//
	// +optional
	Paused bool `json:"paused,omitempty"`

	// Hibernated stops every member and keeps the volumes; false wakes them.
	//
	// +optional
	Hibernated bool `json:"hibernated,omitempty"`

	// DeletionPolicy says what becomes of the volumes when the cluster is
	// deleted; Retain when left out.
	//
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// Bootstrap says how the cluster begins; left out, empty. It cannot be changed,
	// and a cluster that has begun does not look at it.
	//
	// +optional
	Bootstrap *BootstrapSpec `json:"bootstrap,omitempty"`
	// DeletionBackup says where the last backup goes with deletionPolicy
	// BackupThenDelete.
	//
	// +optional
	DeletionBackup *BackupSettings `json:"deletionBackup,omitempty"`

	// PodTemplate is laid over the pods that the operator makes.
	//
	// +optional
	PodTemplate *PodTemplateOverlay `json:"podTemplate,omitempty"`
}

// StorageSpec describes the volume of each member.
//
// +kubebuilder:validation:XValidation:rule="quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",messageExpression="'storage.size is %s and cannot shrink to %s; allowed is the same size or more'.format([oldSelf.size, self.size])",fieldPath=".size"
// +kubebuilder:validation:XValidation:rule="has(self.storageClassName) || !has(oldSelf.storageClassName)",messageExpression="'storage.storageClassName is %s and cannot become unset; name the class to move to'.format([has(oldSelf.storageClassName) ? oldSelf.storageClassName : 'unset'])",fieldPath=".storageClassName"
// +kubebuilder:validation:XValidation:rule="!has(self.autoGrow) || quantity(string(self.autoGrow.maxSize)).compareTo(quantity(string(self.size))) >= 0",messageExpression="'storage.autoGrow.maxSize is %s; allowed is storage.size, which is %s, or more'.format([self.autoGrow.maxSize, self.size])",fieldPath=".autoGrow"
type StorageSpec struct {
	// Size of the volume. It only grows.
	//
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('256Mi')) >= 0",messageExpression="'storage.size is %s; allowed is 256Mi or more'.format([self])"
	Size resource.Quantity `json:"size"`

	// StorageClassName of the volume; left out, the cluster's default class. Another
	// one is moved to by replacing the members one at a time.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`

	// AutoGrow lets the volume grow beyond size; left out, it does not.
	//
	// +optional
	AutoGrow *AutoGrowSpec `json:"autoGrow,omitempty"`
}

// MemberResources are the requests and limits of a member's container.
//
// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !has(self.requests) || !('memory' in self.limits) || !('memory' in self.requests) || quantity(string(self.requests['memory'])).compareTo(quantity(string(self.limits['memory']))) <= 0",messageExpression="'resources.requests.memory is %s; allowed is at most resources.limits.memory, which is %s'.format([self.requests['memory'], self.limits['memory']])",fieldPath=".requests"
// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !has(self.requests) || !('cpu' in self.limits) || !('cpu' in self.requests) || quantity(string(self.requests['cpu'])).compareTo(quantity(string(self.limits['cpu']))) <= 0",messageExpression="'resources.requests.cpu is %s; allowed is at most resources.limits.cpu, which is %s'.format([self.requests['cpu'], self.limits['cpu']])",fieldPath=".requests"
// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !('memory' in self.limits) || quantity(string(self.limits['memory'])).compareTo(quantity('128Mi')) >= 0",messageExpression="'resources.limits.memory is %s; allowed is 128Mi or more'.format([self.limits['memory']])",fieldPath=".limits"
type MemberResources struct {
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Limits corev1.ResourceList `json:"limits,omitempty"`
}
