package controller

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
)

// +kubebuilder:rbac:groups=metastore.io,resources=metastorebackups,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=metastore.io,resources=metastorebackups/status,verbs=get;patch
// +kubebuilder:rbac:groups=metastore.io,resources=metastorebackups/finalizers,verbs=update
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=create

// BackupReconciler reconciles MetaStoreBackups: each is a Job, whose pod says
// what came of it. All fields are set before SetupWithManager and never change.
type BackupReconciler struct {
	// Client reads from caches and writes to the API server; Live reads from there.
	Client client.Client
	Live   client.Reader
	Events events.EventRecorder
	// ServerImage is what Jobs run when nothing says what the cluster runs.
	ServerImage string
	Limits      backup.Limits
	Pace        Pace
	// Now is the clock.
	Now func() time.Time
	// Concurrency is how many backups are reconciled at a time.
	Concurrency int
}

// SetupWithManager registers the reconciler and what wakes it.
func (r *BackupReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("metastorebackup").
		For(&v1alpha1.MetaStoreBackup{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&batchv1.Job{}).
		WithOptions(options(r.Concurrency, r.Pace)).
		Complete(r)
}

// options are what all controllers have in common.
func options(concurrency int, pace Pace) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: max(1, concurrency),
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](pace.Retry, pace.MaxRetry),
	}
}

// Reconcile makes one pass.
func (r *BackupReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	b := &v1alpha1.MetaStoreBackup{}
	if err := r.Client.Get(ctx, req.NamespacedName, b); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	v, err := r.observe(ctx, b)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	d := backup.Next(v.world)
	actErr := r.act(ctx, v, d)
	if gone := actErr == nil && d.Action == backup.DropFinalizer; !gone {
		if err := r.report(ctx, v, d, actErr); err != nil {
			if passing(err) {
				return ctrl.Result{RequeueAfter: r.Pace.Step}, nil
			}
			return ctrl.Result{}, fmt.Errorf("report: %w", err)
		}
	}
	return r.again(v, d, actErr)
}

// again says when to look next. What becomes of a pod is not watched.
func (r *BackupReconciler) again(v *backupView, d backup.Decision, actErr error) (ctrl.Result, error) {
	var next time.Duration
	switch {
	case passing(actErr):
		return ctrl.Result{RequeueAfter: r.Pace.Busy}, nil
	case actErr != nil:
		return ctrl.Result{}, actErr
	case d.Action != backup.Nothing || d.Outcome != "":
		return ctrl.Result{RequeueAfter: r.Pace.Step}, nil
	case v.world.Outcome != "" && !v.world.Deleting:
	case v.world.Take != nil || v.world.Delete != nil:
		next = r.Pace.Busy
	default:
		next = r.Pace.Steady
	}
	if !d.Wake.IsZero() {
		until := max(r.Pace.Step, d.Wake.Sub(v.world.Now))
		if next == 0 || until < next {
			next = until
		}
	}
	return ctrl.Result{RequeueAfter: next}, nil
}
