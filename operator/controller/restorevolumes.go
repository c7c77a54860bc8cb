package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/storage/volume"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/restore"
)

// apart finds out, before members stop, that no node reaches both the volume that
// is read and the first member's, as with local disks of two machines. Where
// volumes or nodes may not be read (an operator of one namespace), nothing is known.
func (r *RestoreReconciler) apart(ctx context.Context, o *restoreObservation, source *corev1.PersistentVolumeClaim) error {
	if o.claim == nil || o.world.Mark != nil || o.world.Finished {
		return nil
	}
	from, err := volumeOf(ctx, r.Live, source)
	if err != nil {
		return err
	}
	to, err := volumeOf(ctx, r.Live, o.claim)
	if err != nil || !local(from) || !local(to) {
		return err
	}
	nodes, known, err := nodesOf(ctx, r.Live, nodesFor(o.cluster))
	both := func(n metav1.PartialObjectMetadata) bool {
		return volume.CheckNodeAffinity(from, n.Labels) == nil && volume.CheckNodeAffinity(to, n.Labels) == nil
	}
	if err != nil || !known || slices.ContainsFunc(nodes, both) {
		return err
	}
	o.world.Missing = &restore.Failure{Reason: "VolumesApart", Message: fmt.Sprintf(
		"no node reaches both the volume of claim %s, which is read, and that of claim %s, which is filled; "+
			"copy what is to be restored to a volume that the first member's node reaches, or into a bucket", source.Name, o.claim.Name)}
	return nil
}

// local says that a volume is not reached from every node.
func local(pv *corev1.PersistentVolume) bool { return pv != nil && pv.Spec.NodeAffinity != nil }

// nodesFor selects the nodes on which pods of a cluster may run.
func nodesFor(c *v1alpha1.MetaStoreCluster) labels.Selector {
	if c == nil || c.Spec.PodTemplate == nil || c.Spec.PodTemplate.Spec == nil {
		return labels.Everything()
	}
	return labels.SelectorFromSet(c.Spec.PodTemplate.Spec.NodeSelector)
}
