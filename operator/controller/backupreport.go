package controller

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/resources"
)

// report writes the status that follows from the view, the decision and how the
// step went; nothing is written when it says what is there already. An end is
// told of once: its patch meets a status that has changed with a conflict.
func (r *BackupReconciler) report(ctx context.Context, v *backupView, d backup.Decision, actErr error) error {
	updated := v.backup.DeepCopy()
	s := &updated.Status
	s.StartedAt = v.startedAt(d, actErr)
	s.Image = cmp.Or(s.Image, jobImage(v.take))
	s.Artifact = resources.BackupArtifact(v.backup)
	s.Location = resources.Location(v.backup.Spec.Destination, s.Artifact)
	if d.Outcome != "" {
		now := metav1.NewTime(v.world.Now.Truncate(time.Second))
		s.CompletedAt, s.Manifest = &now, d.Manifest
	}
	if actErr == nil {
		s.ObservedGeneration = v.backup.Generation
	}
	if passing(actErr) {
		actErr = nil
	}
	v.judge(s, d, actErr)
	if equality.Semantic.DeepEqual(v.backup.Status, *s) {
		return nil
	}
	patch := client.MergeFromWithOptions(v.backup, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, updated, patch, client.FieldOwner(resources.FieldManager)); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.tell(v, updated, d)
	return nil
}

// judge sets the conditions. Reconciling and Stalled follow kstatus: they are
// absent when they do not hold, and of the two there is one at most.
func (v *backupView) judge(s *v1alpha1.MetaStoreBackupStatus, d backup.Decision, actErr error) {
	set := func(t string, status metav1.ConditionStatus, reason, message string) {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: t, Status: status, Reason: reason, Message: message,
			ObservedGeneration: v.backup.Generation, LastTransitionTime: metav1.NewTime(v.world.Now.Truncate(time.Second)),
		})
	}
	reason, message := d.Reason, d.Message
	if actErr != nil {
		reason, message = "ActionFailed", fmt.Sprintf("%s, but: %v", d.Message, actErr)
	}
	switch {
	case v.world.Outcome != "":
		return // what has ended stays as it is
	case d.Outcome == backup.Complete:
		set(v1alpha1.ConditionComplete, metav1.ConditionTrue, reason, message)
		set(v1alpha1.ConditionReady, metav1.ConditionTrue, reason, message)
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionStalled)
		return
	case d.Outcome == backup.Failed:
		set(v1alpha1.ConditionFailed, metav1.ConditionTrue, reason, message)
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
		set(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message)
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
		return
	}
	set(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
	goes, stands := v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled
	if h := v.world.Hindrance; h != nil && h.Input && d.Reason == h.Reason {
		goes, stands = stands, goes
	}
	set(goes, metav1.ConditionTrue, reason, message)
	meta.RemoveStatusCondition(&s.Conditions, stands)
}

// tell sends an event of what nobody heard of yet, and counts an end. Steps tell
// of themselves.
func (r *BackupReconciler) tell(v *backupView, updated *v1alpha1.MetaStoreBackup, d backup.Decision) {
	was := condition(v.backup.Status.Conditions, v1alpha1.ConditionReady)
	is := condition(updated.Status.Conditions, v1alpha1.ConditionReady)
	if d.Action == backup.Nothing && is != nil && (was == nil || was.Reason != is.Reason) && is.Reason != "Running" {
		r.Events.Eventf(updated, nil, eventType(d.Warning), is.Reason, "Backup", "%s", is.Message)
	}
	if d.Outcome != "" {
		countBackup(updated, d.Outcome)
	}
}
