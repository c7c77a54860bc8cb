package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// boundToLostNode says that a claim's volume can be reached from nodes only of
// which none exists any more, as a local disk of a machine that is gone. Where
// volumes or nodes may not be read (an operator of one namespace), nothing is
// known. It is asked for members alone that do not serve.
func (r *Reconciler) boundToLostNode(ctx context.Context, c *corev1.PersistentVolumeClaim) (bool, error) {
	pv, err := volumeOf(ctx, r.Live, c)
	if pv == nil || err != nil {
		return false, err
	}
	hosts := hostsOf(pv)
	if len(hosts) == 0 {
		return false, nil
	}
	within, err := labels.NewRequirement(corev1.LabelHostname, selection.In, hosts)
	if err != nil {
		return false, nil // no node can have such a label; somebody else's business
	}
	nodes, known, err := nodesOf(ctx, r.Live, labels.NewSelector().Add(*within))
	return known && len(nodes) == 0, err
}

// volumeOf is what a claim is bound to; nil where that is nothing, or may not be read.
func volumeOf(ctx context.Context, live client.Reader, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	if claim.Spec.VolumeName == "" {
		return nil, nil
	}
	pv := &corev1.PersistentVolume{}
	switch err := live.Get(ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, pv); {
	case unreadable(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get the volume of %s: %w", claim.Name, err)
	}
	return pv, nil
}

// nodesOf are the names and labels of the nodes that a selector takes; known is
// false where nodes may not be read.
func nodesOf(ctx context.Context, live client.Reader, which labels.Selector) (nodes []metav1.PartialObjectMetadata, known bool, err error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	switch err := live.List(ctx, list, client.MatchingLabelsSelector{Selector: which}); {
	case unreadable(err):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("list nodes: %w", err)
	}
	return list.Items, true, nil
}

func unreadable(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsForbidden(err) }

// hostsOf are the hosts that a volume is bound to; none where it is not bound to
// hosts, or not in all of the ways in which it can be reached.
func hostsOf(pv *corev1.PersistentVolume) []string {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return nil
	}
	var hosts []string
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		i := slices.IndexFunc(term.MatchExpressions, func(e corev1.NodeSelectorRequirement) bool {
			return e.Key == corev1.LabelHostname && e.Operator == corev1.NodeSelectorOpIn
		})
		if i < 0 {
			return nil
		}
		hosts = append(hosts, term.MatchExpressions[i].Values...)
	}
	return hosts
}
