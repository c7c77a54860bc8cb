package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/resources"
	"metastore.io/metastore/operator/restore"
)

// report writes the status that follows from the observation, the decision and
// how the step went. How a restore has ended is never written over.
func (r *RestoreReconciler) report(ctx context.Context, o *restoreObservation, d restore.Decision, actErr error) error {
	if o.world.Finished || d.Step == "" {
		return nil
	}
	if passing(actErr) || apierrors.IsAlreadyExists(actErr) {
		actErr = nil // the next pass sees how it is
	}
	updated := o.restore.DeepCopy()
	s := &updated.Status
	now := metav1.NewTime(o.world.Now.Truncate(1e9))
	s.ObservedGeneration = o.restore.Generation
	if s.StartedAt == nil {
		s.StartedAt = &now
	}
	s.Steps = stepsWith(s.Steps, d.Step, now)
	if o.manifest != nil {
		s.Manifest = o.manifest
	}
	if fill := o.world.Jobs[restore.Fill]; fill.Revision > 0 {
		s.Revision = fill.Revision
	}
	if d.Outcome != restore.Open {
		s.CompletedAt = &now
		s.Steps[len(s.Steps)-1].CompletedAt = &now
	}
	o.setConditions(s, d, actErr)
	if equality.Semantic.DeepEqual(o.restore.Status, *s) {
		return nil
	}
	if err := r.Client.Status().Patch(ctx, updated, client.MergeFrom(o.restore), client.FieldOwner(resources.FieldManager)); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.tell(o, updated)
	return nil
}

// stepsWith notes that a step goes on; what went on before it has ended.
func stepsWith(steps []v1alpha1.RestoreStep, name v1alpha1.RestoreStepName, now metav1.Time) []v1alpha1.RestoreStep {
	for i := range steps {
		if steps[i].Name == name {
			return steps
		}
	}
	if n := len(steps); n > 0 && steps[n-1].CompletedAt == nil {
		steps[n-1].CompletedAt = &now
	}
	return append(steps, v1alpha1.RestoreStep{Name: name, StartedAt: now})
}

// setConditions follows kstatus: Reconciling and Stalled are absent when they do
// not hold.
func (o *restoreObservation) setConditions(s *v1alpha1.MetaStoreRestoreStatus, d restore.Decision, actErr error) {
	set := func(t string, v verdict) {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: t, Status: v.status, Reason: v.reason, Message: v.message,
			ObservedGeneration: o.restore.Generation, LastTransitionTime: metav1.NewTime(o.world.Now.Truncate(1e9)),
		})
	}
	reason, message := d.Reason, d.Message
	if actErr != nil {
		reason, message = "ActionFailed", fmt.Sprintf("%s, but: %v", d.Message, actErr)
	}
	stalled := d.Outcome == restore.Failed || d.Overdue(o.world.Now) || apierrors.IsInvalid(actErr) || apierrors.IsForbidden(actErr)
	ready := no(reason, message)
	if d.Outcome == restore.Complete {
		ready = yes(reason, message)
	}
	set(v1alpha1.ConditionReady, ready)
	if d.Outcome != restore.Open {
		set(string(d.Outcome), yes(reason, message))
	}
	if d.Outcome == restore.Open && !stalled {
		set(v1alpha1.ConditionReconciling, yes(reason, message))
	} else { // kstatus takes an object that is stalled as well for in progress
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
	}
	if stalled {
		set(v1alpha1.ConditionStalled, yes(reason, message))
	} else {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionStalled)
	}
}

// tell sends an event when a restore ends, and a warning when it begins to be stalled.
func (r *RestoreReconciler) tell(o *restoreObservation, updated *v1alpha1.MetaStoreRestore) {
	ready := condition(updated.Status.Conditions, v1alpha1.ConditionReady)
	was, is := condition(o.restore.Status.Conditions, v1alpha1.ConditionStalled), condition(updated.Status.Conditions, v1alpha1.ConditionStalled)
	switch {
	case is != nil && (was == nil || was.Reason != is.Reason):
		r.Events.Eventf(o.restore, nil, corev1.EventTypeWarning, is.Reason, "Stalled", "%s", is.Message)
	case ready.Status == metav1.ConditionTrue:
		r.Events.Eventf(o.restore, nil, corev1.EventTypeNormal, ready.Reason, "Complete", "%s", ready.Message)
	}
}
