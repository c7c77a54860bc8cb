package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// owned says whether a claim goes with the cluster object.
func owned(claim *corev1.PersistentVolumeClaim, c *v1alpha1.MetaStoreCluster) bool {
	return slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == c.UID })
}

// owners is the patch that makes a claim go with the cluster, or stay. The
// cluster is an owner among others: it does not control the claim.
func owners(o *observation, claim *corev1.PersistentVolumeClaim, own bool) map[string]any {
	refs := slices.DeleteFunc(slices.Clone(claim.OwnerReferences), func(r metav1.OwnerReference) bool { return r.UID == o.cluster.UID })
	if own {
		refs = append(refs, metav1.OwnerReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindMetaStoreCluster, Name: o.cluster.Name, UID: o.cluster.UID,
		})
	}
	// The list is replaced as a whole, so it must not have changed since.
	return map[string]any{"metadata": map[string]any{"ownerReferences": refs, "resourceVersion": claim.ResourceVersion}}
}

func (r *Reconciler) changeClaim(ctx context.Context, o *observation, s plan.Step) error {
	claim, ok := o.claims[s.Ordinal]
	switch {
	case !ok:
		return errMoved
	case s.Action == plan.GrowVolume:
		return r.patchClaim(ctx, claim, growth(s.Bytes))
	case s.Action == plan.OwnVolume || s.Action == plan.DisownVolume:
		return r.patchClaim(ctx, claim, owners(o, claim, s.Action == plan.OwnVolume))
	case s.Action == plan.RecordMember:
		return r.patchClaim(ctx, claim, identity(o, s))
	case s.Action == plan.EndRecovery:
		return r.patchClaim(ctx, claim, annotate(annotationRecovery, nil))
	case s.Action == plan.MarkSurvivor:
		mark, err := o.survivorMark(s)
		if err != nil {
			return err
		}
		return r.patchClaim(ctx, claim, mark)
	}
	return deleteExactly(ctx, r.Client, claim)
}

// growth is the patch that raises a claim's request.
func growth(bytes int64) map[string]any {
	return map[string]any{"spec": map[string]any{"resources": map[string]any{"requests": map[string]any{
		string(corev1.ResourceStorage): resource.NewQuantity(bytes, resource.BinarySI).String(),
	}}}}
}

// identity is the patch that writes whose data a claim holds.
func identity(o *observation, s plan.Step) map[string]any {
	status, _ := o.status(s.Ordinal)
	var secure, token any // absent where it says nothing
	if t := o.token(); t != "" {
		token = t
	}
	if s.PeerTLS {
		secure = "true"
	}
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{
		annotationCluster: formatID(status.ClusterID),
		annotationMember:  formatID(uint64(s.Member)),
		annotationPeerTLS: secure,
		annotationToken:   token,
	}}}
}

// patchClaim changes the claim that was observed, not one of the same name.
func (r *Reconciler) patchClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, patch map[string]any) error {
	metadata, _ := patch["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	metadata["uid"] = string(claim.UID)
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("patch claim %s: %w", claim.Name, err)
	}
	err = r.Client.Patch(ctx, claim.DeepCopy(), client.RawPatch(types.MergePatchType, body), client.FieldOwner(resources.FieldManager))
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("patch claim %s: %w", claim.Name, errMoved)
	case err != nil:
		return fmt.Errorf("patch claim %s: %w", claim.Name, err)
	}
	return nil
}
