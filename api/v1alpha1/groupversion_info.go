// Package v1alpha1 is the API of MetaStore's operator: the Go types behind the
// custom resources of the group metastore.io, and nothing else.
//
// It promises that everything that contradicts itself is refused by the API
// server, with a sentence that names the value and what is allowed: the rules
// stand beside the fields that they guard. What depends on arithmetic that CEL
// cannot do (a RocksDB budget against the container's memory) is judged by
// operator/tuning and shows in the condition ConfigValid.
//
// Everybody in operator may import it; it imports nothing of ours. The file
// zz_generated.deepcopy.go and the CRDs in config/crd come from these types by
// `make generate`.
//
// +kubebuilder:object:generate=true
// +groupName=metastore.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "metastore.io", Version: "v1alpha1"}

var schemeBuilder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &MetaStoreCluster{}, &MetaStoreClusterList{})
	s.AddKnownTypes(GroupVersion, &MetaStoreRestore{}, &MetaStoreRestoreList{})
	s.AddKnownTypes(GroupVersion, &MetaStoreBackup{}, &MetaStoreBackupList{}, &MetaStoreBackupSchedule{}, &MetaStoreBackupScheduleList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})

// AddToScheme registers this package's kinds.
var AddToScheme = schemeBuilder.AddToScheme
