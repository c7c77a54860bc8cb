package controller

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/operator/resources"
)

// CacheOptions bound what the operator keeps in memory: of the kinds that it
// reads, only the objects that carry its labels, however many others there are
// in the cluster. namespace is the one to watch; empty for all.
func CacheOptions(namespace string) cache.Options {
	all := resources.SelectorLabels("")
	delete(all, labelInstance)
	ours := cache.ByObject{Label: labels.SelectorFromSet(all)}
	o := cache.Options{ByObject: map[client.Object]cache.ByObject{
		&appsv1.StatefulSet{}:           ours,
		&corev1.Pod{}:                   ours,
		&corev1.PersistentVolumeClaim{}: ours,
		&corev1.ConfigMap{}:             ours,
		&corev1.Service{}:               ours,
		&policyv1.PodDisruptionBudget{}: ours,
	}}
	if namespace != "" {
		o.DefaultNamespaces = map[string]cache.Config{namespace: {}}
	}
	return o
}
