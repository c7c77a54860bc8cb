package controller

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/resources"
)

// act takes the decision's step, which is one call that changes something, and
// tells of it.
func (r *BackupReconciler) act(ctx context.Context, v *backupView, d backup.Decision) error {
	if d.Action == backup.Nothing {
		return nil
	}
	err := r.take(ctx, v, d.Action)
	if d.Action == backup.CreateDelete && apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		d.Warning, d.Reason = true, "ArtifactLeft"
		d.Message = "the artifact stays where it is: the namespace is being deleted, and no Job can be made in it"
		err = r.take(ctx, v, backup.DropFinalizer)
	}
	if err != nil {
		if !passing(err) {
			r.Events.Eventf(v.backup, nil, corev1.EventTypeWarning, "ActionFailed", string(d.Action), "%s: %v", d.Message, err)
		}
		return fmt.Errorf("%s: %w", d.Action, err)
	}
	message := d.Message
	if d.Reason == "ArtifactLeft" {
		message = fmt.Sprintf("%s (%s)", d.Message, v.backup.Status.Location)
	}
	ctrl.LoggerFrom(ctx).Info("step taken", "step", string(d.Action), "reason", d.Reason, "message", message)
	r.Events.Eventf(v.backup, nil, eventType(d.Warning), d.Reason, string(d.Action), "%s", message)
	return nil
}

func eventType(warning bool) string {
	if warning {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}

func (r *BackupReconciler) take(ctx context.Context, v *backupView, a backup.Action) error {
	b := v.backup
	switch a {
	case backup.AddFinalizer, backup.DropFinalizer:
		return r.changeFinalizer(ctx, b, a == backup.AddFinalizer)
	case backup.CreateClaim:
		return r.create(ctx, resources.DestinationClaim(b.Namespace, b.Spec.Destination.PVC))
	case backup.CreateTake:
		left := int64(v.world.CreatedAt.Add(v.world.Deadline).Sub(v.world.Now) / time.Second)
		return r.create(ctx, resources.TakeJob(b, v.cluster, v.image, v.members, max(1, left)))
	case backup.CreateDelete:
		return r.create(ctx, resources.DeleteJob(b, v.cluster, v.image))
	case backup.DropTake:
		return deleteExactly(ctx, r.Client, v.take, client.PropagationPolicy(metav1.DeletePropagationForeground))
	case backup.DeleteBackup:
		return deleteExactly(ctx, r.Client, b)
	}
	return fmt.Errorf("no such action: %s", a)
}

// create takes what exists already for a step that was taken before and is not in
// the cache yet.
func (r *BackupReconciler) create(ctx context.Context, o client.Object) error {
	if err := r.Client.Create(ctx, o, client.FieldOwner(resources.FieldManager)); err != nil {
		if apierrors.IsAlreadyExists(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return errMoved
		}
		return fmt.Errorf("create %s: %w", o.GetName(), err)
	}
	return nil
}

func (r *BackupReconciler) changeFinalizer(ctx context.Context, b *v1alpha1.MetaStoreBackup, add bool) error {
	updated := b.DeepCopy()
	if add {
		controllerutil.AddFinalizer(updated, v1alpha1.FinalizerArtifact)
	} else {
		controllerutil.RemoveFinalizer(updated, v1alpha1.FinalizerArtifact)
	}
	// The list is replaced as a whole, so it must not have changed since.
	patch := client.MergeFromWithOptions(b, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Patch(ctx, updated, patch, client.FieldOwner(resources.FieldManager)))
}

// startedAt is when the first attempt began, as far as it is known.
func (v *backupView) startedAt(d backup.Decision, actErr error) *metav1.Time {
	switch {
	case v.backup.Status.StartedAt != nil:
		return v.backup.Status.StartedAt.DeepCopy()
	case v.take != nil:
		return v.take.CreationTimestamp.DeepCopy()
	case d.Action == backup.CreateTake && actErr == nil:
		now := metav1.NewTime(v.world.Now.Truncate(time.Second))
		return &now
	}
	return nil
}

// jobImage is what a Job runs.
func jobImage(j *batchv1.Job) string {
	if j == nil || len(j.Spec.Template.Spec.Containers) == 0 {
		return ""
	}
	return j.Spec.Template.Spec.Containers[0].Image
}
