package controller

import (
	"context"
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
	if c.Spec.VolumeName == "" {
		return false, nil
	}
	pv := &corev1.PersistentVolume{}
	err := r.Live.Get(ctx, client.ObjectKey{Name: c.Spec.VolumeName}, pv)
	if unreadable(err) {
		return false, nil
	}
	if err != nil {
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
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	err = r.Live.List(ctx, nodes, client.MatchingLabelsSelector{Selector: labels.NewSelector().Add(*within)})
	if unreadable(err) {
		return false, nil
	}
	return err == nil && len(nodes.Items) == 0, err
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
