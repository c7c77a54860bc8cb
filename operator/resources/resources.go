// Package resources builds the objects that a MetaStoreCluster owns: a
// StatefulSet, the members' start-up settings, two Services and a
// PodDisruptionBudget; and the Jobs of backups. It owns their names, labels and
// shape.
//
// It promises that building is pure: the same cluster, image and tuning give
// the same bytes, and every field of the spec shows in an object. Objects are
// complete and typed, for server-side apply, with the cluster as their
// controller; claims have no owner, so that data outlives the cluster object.
//
// The controller builds and applies; how many replicas there are and what a
// member is told of its peers is decided by the planner and handed in.
package resources

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	// FieldManager is the operator's name in server-side apply.
	FieldManager = "metastore-operator"

	// Container is the name of the server's container in a member's pod.
	Container = "metastore"
	// ClientPort serves gRPC, the JSON gateway, health and metrics.
	ClientPort = 2379
	// PeerPort serves the other members.
	PeerPort = 2380
	// HealthPort serves health and metrics, without TLS, where ClientPort has TLS.
	HealthPort = 2381

	// AnnotationConfigHash, on a pod template, is the hash of the settings that
	// a server reads at its start and that do not depend on the membership: a
	// change of them is a new revision of the template, and so a roll.
	AnnotationConfigHash = "metastore.io/config-hash"
	// AnnotationModes, on a pod template, are its TLS modes; absent without TLS.
	AnnotationModes = "metastore.io/tls-modes"

	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelPartOf    = "app.kubernetes.io/part-of"
)

// Builder builds the objects of one cluster.
type Builder struct {
	// cluster is the builder's own copy: objects share its memory, never the caller's.
	cluster *v1alpha1.MetaStoreCluster
	image   string
	tuning  v1alpha1.EffectiveTuning
	// modes are those of the pod template. Invariant: none is empty.
	modes v1alpha1.TLSModes
	// token is the one that the members' data dirs are marked with; empty when it is
	// not known, and then members do not compare it.
	token string
}

// For gives the builder of a cluster. The server image runs where the spec
// names none; the tuning is what tuning.Derive made of the same spec.
func For(cluster *v1alpha1.MetaStoreCluster, serverImage string, tuning v1alpha1.EffectiveTuning) Builder {
	return Builder{cluster: cluster.DeepCopy(), image: Image(&cluster.Spec, serverImage), tuning: tuning, modes: spelled(v1alpha1.TLSModes{}), token: string(cluster.UID)}
}

// WithModes gives the builder of pods with these TLS modes; the spec's own are
// where a cluster is to get, not where it is.
func (b Builder) WithModes(modes v1alpha1.TLSModes) Builder {
	b.modes = spelled(modes)
	return b
}

// WithToken gives the builder of members with another token than the cluster's
// own, which its UID is.
func (b Builder) WithToken(token string) Builder {
	b.token = token
	return b
}

// SelectorLabels select the member pods of the named cluster. Invariant: they
// never change, since a StatefulSet's selector cannot.
func SelectorLabels(cluster string) map[string]string {
	return map[string]string{labelName: "metastore", labelInstance: cluster, labelComponent: ComponentMember}
}

// Labels are on every object of the named cluster.
func Labels(cluster string) map[string]string {
	labels := SelectorLabels(cluster)
	labels[labelManagedBy] = FieldManager
	labels[labelPartOf] = "metastore"
	return labels
}

func (b Builder) meta(name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name: name, Namespace: b.cluster.Namespace, Labels: Labels(b.cluster.Name),
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindMetaStoreCluster,
			Name: b.cluster.Name, UID: b.cluster.UID, Controller: &yes, BlockOwnerDeletion: &yes,
		}},
	}
}

// merged lays the operator's entries over the user's: where both set one, the operator's stays.
func merged(user, own map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, user)
	maps.Copy(out, own)
	return out
}
