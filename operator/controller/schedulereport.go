package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/resources"
)

// scheduleWorld is all of a schedule's world but for the backups that there are.
// What cannot be a timetable is an error that says what is allowed.
func scheduleWorld(s *v1alpha1.MetaStoreBackupSchedule, now time.Time) (backup.ScheduleWorld, error) {
	table, err := backup.ParseTimetable(s.Spec.Schedule, s.Spec.TimeZone)
	w := backup.ScheduleWorld{
		Name: s.Name, Now: now, CreatedAt: s.CreationTimestamp.Time, Table: table,
		Suspended: s.Spec.Suspend, Replace: s.Spec.ConcurrencyPolicy == v1alpha1.BackupReplace,
		StartingDeadline: time.Duration(ptr.Deref(s.Spec.StartingDeadlineSeconds, 0)) * time.Second,
		Deadline:         time.Duration(resources.BackupDeadlineSeconds(&s.Spec.Template.Spec.BackupSettings)) * time.Second,
		NowWord:          s.Annotations[v1alpha1.AnnotationBackupNow], HandledWord: s.Status.BackupNow,
	}
	if last := s.Status.LastScheduleTime; last != nil {
		w.LastScheduled = last.Time
	}
	if k := s.Spec.Retention; k != nil {
		w.Retention = &backup.Retention{
			KeepLast: int(ptr.Deref(k.KeepLast, 0)), Daily: int(ptr.Deref(k.Daily, 0)), Weekly: int(ptr.Deref(k.Weekly, 0)),
			Monthly: int(ptr.Deref(k.Monthly, 0)), MinKeep: int(ptr.Deref(k.MinKeep, 1)),
		}
	}
	return w, err
}

// madeBy are the backups of a schedule among others.
func madeBy(s *v1alpha1.MetaStoreBackupSchedule, all []v1alpha1.MetaStoreBackup) []backup.Made {
	var out []backup.Made
	for i := range all {
		b := &all[i]
		if b.Labels[v1alpha1.LabelSchedule] != s.Name || b.Spec.ClusterRef != s.Spec.Template.Spec.ClusterRef {
			continue
		}
		m := backup.Made{Name: b.Name, CreatedAt: b.CreationTimestamp.Time, Outcome: outcomeOf(b), Deleting: b.DeletionTimestamp != nil}
		if at, err := time.Parse(time.RFC3339, b.Annotations[v1alpha1.AnnotationScheduledAt]); err == nil {
			m.ScheduledAt = at
		}
		if failed := condition(b.Status.Conditions, v1alpha1.ConditionFailed); failed != nil {
			m.Reason = failed.Reason
		}
		out = append(out, m)
	}
	return out
}

// reportInvalid says that the spec is none that the clock can follow.
func (r *ScheduleReconciler) reportInvalid(ctx context.Context, s *v1alpha1.MetaStoreBackupSchedule, invalid error) error {
	updated := s.DeepCopy()
	updated.Status.ObservedGeneration = s.Generation
	updated.Status.NextScheduleTime = nil
	now := r.Now()
	setOn(&updated.Status.Conditions, s.Generation, now, v1alpha1.ConditionReady, no("ScheduleInvalid", invalid.Error()))
	setOn(&updated.Status.Conditions, s.Generation, now, v1alpha1.ConditionStalled, yes("ScheduleInvalid", invalid.Error()))
	return r.write(ctx, s, updated)
}

// report writes the status; nothing is written when it says what is there already.
func (r *ScheduleReconciler) report(ctx context.Context, s *v1alpha1.MetaStoreBackupSchedule, w backup.ScheduleWorld, d backup.ScheduleDecision, actErr error) error {
	updated := s.DeepCopy()
	status := &updated.Status
	if actErr == nil {
		status.ObservedGeneration = s.Generation
		status.BackupNow = d.HandledWord
		status.LastScheduleTime = timeOrNil(d.LastScheduled)
	}
	status.NextScheduleTime = timeOrNil(d.Wake)
	status.Active = nil
	for _, m := range w.Backups {
		if m.Outcome == "" && !m.Deleting {
			status.Active = append(status.Active, m.Name)
		}
	}
	slices.Sort(status.Active)
	if err := r.lastSuccess(ctx, s, status); err != nil {
		return err
	}
	set := func(t string, v verdict) { setOn(&status.Conditions, s.Generation, w.Now, t, v) }
	switch {
	case actErr != nil:
		set(v1alpha1.ConditionReady, no("ActionFailed", fmt.Sprintf("%s, but: %v", d.Message, actErr)))
	case w.Suspended:
		set(v1alpha1.ConditionReady, yes("Suspended", "no backups are made by the clock"))
	default:
		set(v1alpha1.ConditionReady, yes("Scheduled", "backups are made by the clock"))
	}
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	if c := backup.CurrencyOf(w); c.Judged {
		set(v1alpha1.ConditionBackupCurrent, currency(c))
	} else {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionBackupCurrent)
	}
	return r.write(ctx, s, updated)
}

// lastSuccess notes the newest complete backup; it stays when that is gone.
func (r *ScheduleReconciler) lastSuccess(ctx context.Context, s *v1alpha1.MetaStoreBackupSchedule, status *v1alpha1.MetaStoreBackupScheduleStatus) error {
	list := &v1alpha1.MetaStoreBackupList{}
	if err := r.Client.List(ctx, list, client.InNamespace(s.Namespace), client.MatchingLabels{v1alpha1.LabelSchedule: s.Name}); err != nil {
		return fmt.Errorf("list backups: %w", err)
	}
	for i := range list.Items {
		b := &list.Items[i]
		at := b.Status.CompletedAt
		if outcomeOf(b) != backup.Complete || at == nil || status.LastSuccessfulTime != nil && !status.LastSuccessfulTime.Before(at) {
			continue
		}
		status.LastSuccessfulTime, status.LastSuccessfulBackup = at.DeepCopy(), b.Name
	}
	return nil
}

func currency(c backup.Currency) verdict {
	if c.Current {
		return yes(c.Reason, c.Message)
	}
	return no(c.Reason, c.Message)
}

func timeOrNil(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	out := metav1.NewTime(t.Truncate(time.Second))
	return &out
}

func setOn(all *[]metav1.Condition, generation int64, now time.Time, t string, v verdict) {
	meta.SetStatusCondition(all, metav1.Condition{
		Type: t, Status: v.status, Reason: v.reason, Message: v.message,
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	})
}

// write patches the status where it has changed, and warns of what begins to be
// wrong.
func (r *ScheduleReconciler) write(ctx context.Context, s, updated *v1alpha1.MetaStoreBackupSchedule) error {
	if equality.Semantic.DeepEqual(s.Status, updated.Status) {
		return nil
	}
	for _, t := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionBackupCurrent} {
		was, is := condition(s.Status.Conditions, t), condition(updated.Status.Conditions, t)
		bad := is != nil && (is.Status == metav1.ConditionTrue) == (t == v1alpha1.ConditionStalled)
		if bad && (was == nil || was.Status != is.Status || was.Reason != is.Reason) {
			r.Events.Eventf(s, nil, corev1.EventTypeWarning, is.Reason, t, "%s", is.Message)
		}
	}
	err := r.Client.Status().Patch(ctx, updated, client.MergeFrom(s), client.FieldOwner(resources.FieldManager))
	return client.IgnoreNotFound(err)
}
