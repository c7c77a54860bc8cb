package controller

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/operator/resources"
)

// CacheOptions bound what the operator keeps in memory: of the kinds that it
// reads, only the objects that carry its labels, however many others there are
// in the cluster. namespace is the one to watch; empty for all.
func CacheOptions(namespace string) cache.Options {
	ours := cache.ByObject{Label: component(resources.ComponentMember)}
	jobs := cache.ByObject{Label: component(resources.ComponentBackup)}
	o := cache.Options{ByObject: map[client.Object]cache.ByObject{
		&appsv1.StatefulSet{}:           ours,
		&corev1.Pod{}:                   {Label: component(resources.ComponentMember, resources.ComponentBackup)},
		&batchv1.Job{}:                  jobs,
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

// component selects objects of the operator's making that are for one of some
// purposes.
func component(purposes ...string) labels.Selector {
	ours := resources.SelectorLabels("")
	delete(ours, labelInstance)
	delete(ours, labelComponent)
	purpose, err := labels.NewRequirement(labelComponent, selection.In, purposes)
	if err != nil {
		panic("select objects: " + err.Error()) // only ever a mistake in the code
	}
	return labels.SelectorFromSet(ours).Add(*purpose)
}
