package controller

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
	"metastore.io/metastore/operator/tuning"
)

const (
	labelInstance  = "app.kubernetes.io/instance"
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelComponent = "app.kubernetes.io/component"
)

// observation is one look at a cluster: the objects, the members, and what
// follows from them. It is made by observe and then only read.
type observation struct {
	now     time.Time
	cluster *v1alpha1.MetaStoreCluster
	// set and settings are nil when they do not exist.
	set      *appsv1.StatefulSet
	settings *corev1.ConfigMap
	pods     map[int]*corev1.Pod
	claims   map[int]*corev1.PersistentVolumeClaim
	access   member.Access
	view     member.View
	// size is the cluster with the size that its volumes should have now.
	size   *v1alpha1.MetaStoreCluster
	tuning v1alpha1.EffectiveTuning
	// invalid is why the spec cannot be carried out; nil when it can.
	invalid error
	// backups and schedules are those of this cluster.
	backups   []v1alpha1.MetaStoreBackup
	schedules []v1alpha1.MetaStoreBackupSchedule
	tls       tlsFacts
	auth      authFacts
	// modes are the TLS modes that the pod template is to have now.
	modes v1alpha1.TLSModes
	// wanted are the objects that are missing or differ, as they should be, by
	// "Kind/name"; order is theirs.
	wanted map[string]client.Object
	order  []string
	world  plan.World
}

func (r *Reconciler) observe(ctx context.Context, cluster *v1alpha1.MetaStoreCluster) (*observation, error) {
	o := &observation{now: r.Now(), cluster: cluster, wanted: map[string]client.Object{}}
	var err error
	if o.set, err = fetch(ctx, r.Client, cluster, resources.SetName(cluster.Name), &appsv1.StatefulSet{}); err != nil {
		return nil, err
	}
	if o.settings, err = fetch(ctx, r.Client, cluster, resources.MembersName(cluster.Name), &corev1.ConfigMap{}); err != nil {
		return nil, err
	}
	if err := r.observePods(ctx, o); err != nil {
		return nil, err
	}
	if err := r.observeClaims(ctx, o); err != nil {
		return nil, err
	}
	if err := r.observeBackups(ctx, o); err != nil {
		return nil, err
	}
	o.size = o.sized()
	o.tuning, o.invalid = tuning.Derive(&o.size.Spec)
	if err := r.observeTLS(ctx, o); err != nil {
		return nil, err
	}
	if err := r.observeAuth(ctx, o); err != nil {
		return nil, err
	}
	credentials, err := o.credentials()
	if err != nil {
		return nil, err
	}
	o.access = r.Members(cluster, credentials)
	o.view = o.access.Look(ctx, o.endpoints())
	r.keepPassword(o)
	if err := r.makeWorld(ctx, o); err != nil {
		return nil, err
	}
	return o, nil
}

// fetch gets one object of the namespace that another is in; nil when there is none.
func fetch[T client.Object](ctx context.Context, c client.Reader, beside client.Object, name string, into T) (T, error) {
	var nothing T
	err := c.Get(ctx, client.ObjectKey{Namespace: beside.GetNamespace(), Name: name}, into)
	switch {
	case err == nil:
		return into, nil
	case client.IgnoreNotFound(err) == nil:
		return nothing, nil
	}
	return nothing, fmt.Errorf("get %T %s: %w", into, name, err)
}

func (r *Reconciler) observePods(ctx context.Context, o *observation) error {
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list, o.mine()...); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	o.pods = map[int]*corev1.Pod{}
	for i := range list.Items {
		if ordinal, ok := resources.Ordinal(o.cluster.Name, list.Items[i].Name); ok {
			o.pods[ordinal] = &list.Items[i]
		}
	}
	return nil
}

func (r *Reconciler) observeClaims(ctx context.Context, o *observation) error {
	list := &corev1.PersistentVolumeClaimList{}
	if err := r.Client.List(ctx, list, o.mine()...); err != nil {
		return fmt.Errorf("list claims: %w", err)
	}
	o.claims = map[int]*corev1.PersistentVolumeClaim{}
	for i := range list.Items {
		if ordinal, ok := resources.Ordinal(resources.DataVolume+"-"+o.cluster.Name, list.Items[i].Name); ok {
			o.claims[ordinal] = &list.Items[i]
		}
	}
	return nil
}

// mine selects what belongs to this cluster.
func (o *observation) mine() []client.ListOption {
	return []client.ListOption{
		client.InNamespace(o.cluster.Namespace),
		client.MatchingLabels(resources.SelectorLabels(o.cluster.Name)),
	}
}

// endpoints are the members worth asking: a pod whose server does not run would
// only cost the look's timeout.
func (o *observation) endpoints() []string {
	var out []string
	for _, ordinal := range ordinals(o.pods) {
		if p := o.pods[ordinal]; p.Status.PodIP != "" && running(p) {
			out = append(out, o.clientURL(ordinal))
		}
	}
	return out
}

// status returns what the member of an ordinal says of itself.
func (o *observation) status(ordinal int) (member.Status, bool) {
	s, ok := o.view.Status[o.clientURL(ordinal)]
	return s, ok
}
