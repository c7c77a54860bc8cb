package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/resources"
)

// +kubebuilder:rbac:groups=metastore.io,resources=metastorebackupschedules,verbs=get;list;watch
// +kubebuilder:rbac:groups=metastore.io,resources=metastorebackupschedules/status,verbs=get;patch

// ScheduleReconciler reconciles MetaStoreBackupSchedules: it makes MetaStoreBackups
// and deletes them. All fields are set before SetupWithManager and never change.
type ScheduleReconciler struct {
	// Client reads from caches and writes to the API server; Live reads from there.
	Client client.Client
	Live   client.Reader
	Events events.EventRecorder
	Pace   Pace
	// Now is the clock.
	Now func() time.Time
	// Concurrency is how many schedules are reconciled at a time.
	Concurrency int
}

// SetupWithManager registers the reconciler and what wakes it.
func (r *ScheduleReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("metastorebackupschedule").
		For(&v1alpha1.MetaStoreBackupSchedule{}, builder.WithPredicates(
			predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&v1alpha1.MetaStoreBackup{}, handler.EnqueueRequestsFromMapFunc(scheduleOf)).
		WithOptions(options(r.Concurrency, r.Pace)).
		Complete(r)
}

// scheduleOf maps a backup to the schedule that made it.
func scheduleOf(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetLabels()[v1alpha1.LabelSchedule]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
}

// Reconcile makes one pass.
func (r *ScheduleReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &v1alpha1.MetaStoreBackupSchedule{}
	if err := r.Client.Get(ctx, req.NamespacedName, s); err != nil || s.DeletionTimestamp != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	w, err := scheduleWorld(s, r.Now())
	if err != nil {
		return ctrl.Result{}, r.reportInvalid(ctx, s, err)
	}
	d, err := r.decide(ctx, s, &w)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	actErr := r.act(ctx, s, d)
	if err := r.report(ctx, s, w, d, actErr); err != nil {
		return ctrl.Result{}, fmt.Errorf("report: %w", err)
	}
	switch {
	case actErr != nil:
		return ctrl.Result{}, actErr
	case d.Action != "":
		return ctrl.Result{RequeueAfter: r.Pace.Step}, nil
	case d.Wake.IsZero():
		return ctrl.Result{}, nil
	}
	// A clock that is set while the operator sleeps is seen within the hour.
	return ctrl.Result{RequeueAfter: min(time.Hour, max(r.Pace.Step, d.Wake.Sub(w.Now)))}, nil
}

// decide looks at the backups that there are. Before anything is changed they are
// read from the API server: a cache may not have the one that was just made.
func (r *ScheduleReconciler) decide(ctx context.Context, s *v1alpha1.MetaStoreBackupSchedule, w *backup.ScheduleWorld) (backup.ScheduleDecision, error) {
	var d backup.ScheduleDecision
	for _, reader := range []client.Reader{r.Client, r.Live} {
		list := &v1alpha1.MetaStoreBackupList{}
		if err := reader.List(ctx, list, client.InNamespace(s.Namespace), client.MatchingLabels{v1alpha1.LabelSchedule: s.Name}); err != nil {
			return d, fmt.Errorf("list backups: %w", err)
		}
		w.Backups = madeBy(s, list.Items)
		if d = backup.NextOfSchedule(*w); d.Action == "" {
			break
		}
	}
	return d, nil
}

func (r *ScheduleReconciler) act(ctx context.Context, s *v1alpha1.MetaStoreBackupSchedule, d backup.ScheduleDecision) error {
	var err error
	switch d.Action {
	case "":
		return nil
	case backup.MakeBackup:
		err = r.Client.Create(ctx, newBackup(s, d), client.FieldOwner(resources.FieldManager))
		if apierrors.IsAlreadyExists(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			err = nil // somebody has made one of this very name
		}
	case backup.RemoveBackup:
		b := &v1alpha1.MetaStoreBackup{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: d.Name}}
		err = client.IgnoreNotFound(r.Client.Delete(ctx, b))
	}
	if err != nil {
		r.Events.Eventf(s, nil, corev1.EventTypeWarning, "ActionFailed", string(d.Action), "%s: %v", d.Message, err)
		return fmt.Errorf("%s %s: %w", d.Action, d.Name, err)
	}
	ctrl.LoggerFrom(ctx).Info("step taken", "step", string(d.Action), "backup", d.Name, "reason", d.Reason, "message", d.Message)
	r.Events.Eventf(s, nil, corev1.EventTypeNormal, d.Reason, string(d.Action), "%s: %s", d.Name, d.Message)
	return nil
}

// newBackup is what the template makes. Nobody owns it: backups outlive their
// schedule.
func newBackup(s *v1alpha1.MetaStoreBackupSchedule, d backup.ScheduleDecision) *v1alpha1.MetaStoreBackup {
	b := &v1alpha1.MetaStoreBackup{
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name, Namespace: s.Namespace, Labels: map[string]string{v1alpha1.LabelSchedule: s.Name},
		},
		Spec: *s.Spec.Template.Spec.DeepCopy(),
	}
	if !d.Due.IsZero() {
		b.Annotations = map[string]string{v1alpha1.AnnotationScheduledAt: d.Due.UTC().Format(time.RFC3339)}
	}
	return b
}
