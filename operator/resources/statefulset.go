package resources

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

// StatefulSet is the set of member pods. How many there are is the planner's to
// say: a pod's settings are written before the pod is made. Pods start side by
// side, since a quorum cannot wait for its first member, and are restarted only
// by deletion, since the order depends on who leads.
func (b Builder) StatefulSet(replicas int) *appsv1.StatefulSet {
	n := int32(replicas)
	return &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: b.meta(SetName(b.cluster.Name)),
		Spec: appsv1.StatefulSetSpec{
			Replicas:            &n,
			ServiceName:         PeerServiceName(b.cluster.Name),
			Selector:            &metav1.LabelSelector{MatchLabels: SelectorLabels(b.cluster.Name)},
			PodManagementPolicy: appsv1.ParallelPodManagement,
			UpdateStrategy:      appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
				WhenScaled:  appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
			},
			Template:             b.podTemplate(),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{b.claim()},
		},
	}
}

// claim is the data volume. The engine in memory has one too: its log and its
// dumps are what makes it durable.
func (b Builder) claim() corev1.PersistentVolumeClaim {
	mode := corev1.PersistentVolumeFilesystem
	return corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: DataVolume, Labels: Labels(b.cluster.Name)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode:       &mode,
			StorageClassName: b.cluster.Spec.Storage.StorageClassName,
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: b.cluster.Spec.Storage.Size},
			},
		},
	}
}

func (b Builder) annotations() map[string]string {
	own := map[string]string{AnnotationConfigHash: b.configHash()}
	if b.secured() {
		own[AnnotationModes] = modesText(b.modes)
	}
	return own
}

func (b Builder) podTemplate() corev1.PodTemplateSpec {
	user := v1alpha1.PodMetadata{}
	if t := b.cluster.Spec.PodTemplate; t != nil && t.Metadata != nil {
		user = *t.Metadata
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      merged(user.Labels, Labels(b.cluster.Name)),
			Annotations: merged(user.Annotations, b.annotations()),
		},
		Spec: b.podSpec(),
	}
}
