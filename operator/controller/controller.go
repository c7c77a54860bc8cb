// Package controller reconciles MetaStoreClusters. It owns the four phases of a
// pass: observe gathers the world, plan decides one step, act takes it, report
// writes the status from the same observation.
//
// It promises that a pass changes at most one thing, never sleeps, and reports
// also when the step failed; that a pass over an unchanged world writes nothing;
// and that an operator that is stopped between any two calls goes on from what
// it finds. The only callers are the operator's main and tests.
package controller

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/pki"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// +kubebuilder:rbac:groups=metastore.io,resources=metastoreclusters,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=metastore.io,resources=metastoreclusters/status,verbs=get;patch
// +kubebuilder:rbac:groups=metastore.io,resources=metastoreclusters/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=configmaps;services,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates,verbs=get;create;patch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;patch;delete
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=get
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Pace says how soon a cluster is looked at again when nothing changes that the
// API server would tell of.
type Pace struct {
	// Step is the time after a step, so that the caches see it.
	Step time.Duration
	// Busy is the time between two looks while something is waited for.
	Busy time.Duration
	// Steady is the time between two looks while nothing is.
	Steady time.Duration
	// Retry and MaxRetry bound the growing pauses after failures.
	Retry, MaxRetry time.Duration
}

// DefaultPace is the pace used in production.
func DefaultPace() Pace {
	return Pace{
		Step: 50 * time.Millisecond, Busy: 2 * time.Second, Steady: 15 * time.Second,
		Retry: 100 * time.Millisecond, MaxRetry: 15 * time.Second,
	}
}

// Reconciler reconciles MetaStoreClusters. All fields are set before
// SetupWithManager and never change.
type Reconciler struct {
	// Client reads from caches and writes to the API server.
	Client client.Client
	// Live reads from the API server: what is rarely asked for, and what is about
	// to be destroyed.
	Live client.Reader
	// Members gives the access to the members of a cluster.
	Members func(*v1alpha1.MetaStoreCluster, member.Credentials) member.Access
	// Certificates say how long those that the operator makes hold.
	Certificates pki.Lifetimes
	// Events receives one event an action.
	Events events.EventRecorder
	// ServerImage is what members run when the spec names no image.
	ServerImage string
	Limits      plan.Limits
	Pace        Pace
	// Now is the clock.
	Now func() time.Time
	// Concurrency is how many clusters are reconciled at a time; a cluster whose
	// members are silent costs one look's timeout.
	Concurrency int
}

// SetupWithManager registers the reconciler and what wakes it.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("metastorecluster").
		// Not the status: the operator's own reports would wake it for ever.
		For(&v1alpha1.MetaStoreCluster{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&appsv1.StatefulSet{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&corev1.Service{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(clusterOf)).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(clusterOf)).
		// Their names and versions only: no cache holds what is in them.
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.clustersNaming)).
		WithOptions(options(r.Concurrency, r.Pace)).
		Complete(r)
}

// clusterOf maps a pod or a claim to its cluster, by the label that both carry.
func clusterOf(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetLabels()[labelInstance]
	if name == "" || o.GetLabels()[labelComponent] != resources.ComponentMember {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
}

// Reconcile makes one pass.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	cluster := &v1alpha1.MetaStoreCluster{}
	if err := r.Client.Get(ctx, req.NamespacedName, cluster); err != nil {
		forgetMetrics(req.Namespace, req.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	o, err := r.observe(ctx, cluster)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	d := plan.Next(o.world)
	actErr := r.act(ctx, o, d)
	if err := r.report(ctx, o, d, actErr); err != nil {
		return ctrl.Result{}, fmt.Errorf("report: %w", err)
	}
	return r.again(o, d, actErr)
}

// again says when to look next: the shortest of what is waited for.
func (r *Reconciler) again(o *observation, d plan.Decision, actErr error) (ctrl.Result, error) {
	switch {
	case passing(actErr):
		return ctrl.Result{RequeueAfter: r.Pace.Busy}, nil
	case actErr != nil:
		return ctrl.Result{}, actErr
	case d.Step.Action != plan.Nothing:
		return ctrl.Result{RequeueAfter: r.Pace.Step}, nil
	case d.Reason == plan.ReasonDeleting:
		return ctrl.Result{}, nil
	case d.Waiting() && !d.Overdue(o.now):
		return ctrl.Result{RequeueAfter: min(r.Pace.Busy, max(r.Pace.Step, d.Deadline.Sub(o.now)))}, nil
	case d.Waiting():
		return ctrl.Result{RequeueAfter: r.Pace.Busy}, nil
	}
	return ctrl.Result{RequeueAfter: r.Pace.Steady}, nil
}

// passing says that an action met a world that has moved on, or a learner that
// needs more time: the next pass sees it, and nobody has to hear of it.
func passing(err error) bool {
	return err != nil && (apierrors.IsConflict(err) || isNotReady(err) || isMoved(err))
}
