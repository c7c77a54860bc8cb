package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/restore"
)

// +kubebuilder:rbac:groups=metastore.io,resources=metastorerestores,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=metastore.io,resources=metastorerestores/status,verbs=get;patch
// +kubebuilder:rbac:groups=metastore.io,resources=metastorerestores/finalizers,verbs=update
// +kubebuilder:rbac:groups=metastore.io,resources=metastorebackups,verbs=get;create
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;create;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=get
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list

// RestoreReconciler reconciles MetaStoreRestores. What members do meanwhile is the
// Reconciler's to say; the two speak through the mark at the seed's claim. All
// fields are set before SetupWithManager and never change.
type RestoreReconciler struct {
	Client client.Client
	// Live reads from the API server. A restore decides about data and runs rarely:
	// it never looks at a cache, except for whether there is something to do.
	Live client.Reader
	// Events receives one event an action.
	Events events.EventRecorder
	// ServerImage is what Jobs run where the cluster's spec names no image.
	ServerImage string
	Limits      restore.Limits
	Pace        Pace
	// Now is the clock.
	Now func() time.Time
	// Concurrency is how many restores are reconciled at a time.
	Concurrency int
}

// SetupWithManager registers the reconciler. Jobs and clusters do not wake it: it
// looks at them again and again while a restore goes on.
func (r *RestoreReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("metastorerestore").
		For(&v1alpha1.MetaStoreRestore{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(options(r.Concurrency, r.Pace)).
		Complete(r)
}

// Reconcile makes one pass.
func (r *RestoreReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.MetaStoreRestore{}
	if err := r.Client.Get(ctx, req.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if restoreFinished(object) && !held(object) {
		return ctrl.Result{}, nil
	}
	if err := r.Live.Get(ctx, req.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	o, err := r.observe(ctx, object)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	d := restore.Next(o.world)
	actErr := r.act(ctx, o, d)
	if err := r.report(ctx, o, d, actErr); err != nil {
		return ctrl.Result{}, fmt.Errorf("report: %w", err)
	}
	switch {
	case passing(actErr) || apierrors.IsAlreadyExists(actErr):
		return ctrl.Result{RequeueAfter: r.Pace.Busy}, nil
	case actErr != nil:
		return ctrl.Result{}, actErr
	case d.Action == restore.Release:
		return ctrl.Result{}, nil
	case d.Action != restore.Nothing || d.Outcome != restore.Open:
		return ctrl.Result{RequeueAfter: r.Pace.Step}, nil
	}
	return ctrl.Result{RequeueAfter: r.Pace.Busy}, nil
}
