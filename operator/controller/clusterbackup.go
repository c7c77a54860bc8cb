package controller

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
)

// annotationImage, on the StatefulSet, is the cluster's generation that brought
// the image in, and the image: what is on a pod may be a webhook's.
const annotationImage = "metastore.io/image"

// The values of LabelPurpose.
const (
	purposeUpdate   = "pre-update"
	purposeDeletion = "deletion"
)

// observeBackups lists the backups and the schedules of the cluster.
func (r *Reconciler) observeBackups(ctx context.Context, o *observation) error {
	backups, schedules := &v1alpha1.MetaStoreBackupList{}, &v1alpha1.MetaStoreBackupScheduleList{}
	if err := r.Client.List(ctx, backups, client.InNamespace(o.cluster.Namespace)); err != nil {
		return fmt.Errorf("list backups: %w", err)
	}
	if err := r.Client.List(ctx, schedules, client.InNamespace(o.cluster.Namespace)); err != nil {
		return fmt.Errorf("list schedules: %w", err)
	}
	for _, b := range backups.Items {
		if b.Spec.ClusterRef.Name == o.cluster.Name {
			o.backups = append(o.backups, b)
		}
	}
	for _, s := range schedules.Items {
		if s.Spec.Template.Spec.ClusterRef.Name == o.cluster.Name {
			o.schedules = append(o.schedules, s)
		}
	}
	return nil
}

// backupFacts are what the planner hears of backups.
func (o *observation) backupFacts() {
	c, w := o.cluster, &o.world
	w.Held = controllerutil.ContainsFinalizer(c, v1alpha1.FinalizerBackup)
	w.Spec.BackupThenDelete = c.Spec.DeletionPolicy == v1alpha1.DeletionBackup && c.Spec.DeletionBackup != nil
	if w.Deleting && w.Spec.BackupThenDelete {
		w.LastBackup = o.backupCalled(fmt.Sprintf("%s-final-%d", c.Name, c.DeletionTimestamp.Unix()), purposeDeletion)
	}
	if u := c.Spec.Update; u != nil && u.PreUpdateBackup != nil && o.imageTurns() {
		w.UpdateBackup = o.backupCalled(fmt.Sprintf("%s-pre-update-%.8s-%s", c.Name, c.UID, imageGeneration(o.set.Annotations)), purposeUpdate)
	}
}

// imageTurns says that a pod is to get another image than it has.
func (o *observation) imageTurns() bool {
	if o.set == nil || imageGeneration(o.set.Annotations) == "" {
		return false
	}
	wanted := containerImage(&o.set.Spec.Template.Spec)
	for ordinal, p := range o.pods {
		if o.world.Pods[ordinal].Revision != o.set.Status.UpdateRevision && containerImage(&p.Spec) != wanted {
			return true
		}
	}
	return false
}

func containerImage(s *corev1.PodSpec) string {
	for _, c := range s.Containers {
		if c.Name == resources.Container {
			return c.Image
		}
	}
	return ""
}

// markImage notes in the StatefulSet to be when its image came in. A set of before
// there was such a note keeps going without one until its image changes.
func (o *observation) markImage(annotations map[string]string, image string) map[string]string {
	note := fmt.Sprintf("%d %s", o.cluster.Generation, image)
	if o.set == nil {
		return withNote(annotations, note)
	}
	live, noted := o.set.Annotations[annotationImage]
	_, was, _ := strings.Cut(live, " ")
	switch {
	case noted && was == image:
		return withNote(annotations, live)
	case !noted && o.image() == image:
		return annotations
	}
	return withNote(annotations, note)
}

func withNote(annotations map[string]string, note string) map[string]string {
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationImage] = note
	return annotations
}

func imageGeneration(annotations map[string]string) string {
	generation, _, _ := strings.Cut(annotations[annotationImage], " ")
	if _, err := strconv.ParseInt(generation, 10, 64); err != nil {
		return ""
	}
	return generation
}

// backupCalled is the backup of a name that the operator made for a purpose.
func (o *observation) backupCalled(name, purpose string) *plan.Backup {
	out := &plan.Backup{Name: name}
	for i := range o.backups {
		b := &o.backups[i]
		if b.Name != name || b.Labels[v1alpha1.LabelPurpose] != purpose {
			continue
		}
		if ready := condition(b.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
			out.Why = ready.Message
		}
		switch outcome := outcomeOf(b); {
		case b.DeletionTimestamp != nil:
			out.State, out.Why = plan.BackupRunning, "it is being deleted, and made anew"
		case outcome == backup.Complete:
			out.State = plan.BackupComplete
		case outcome == backup.Failed:
			out.State = plan.BackupFailed
		default:
			out.State = plan.BackupRunning
		}
	}
	return out
}

// makeBackup makes the backup that the planner names. It has no owner: it is there
// for what comes after the cluster.
func (r *Reconciler) makeBackup(ctx context.Context, o *observation, name string) error {
	purpose, settings := purposeDeletion, o.cluster.Spec.DeletionBackup
	if o.cluster.DeletionTimestamp == nil {
		purpose, settings = purposeUpdate, o.cluster.Spec.Update.PreUpdateBackup
	}
	err := r.Client.Create(ctx, &v1alpha1.MetaStoreBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.cluster.Namespace, Name: name, Labels: map[string]string{v1alpha1.LabelPurpose: purpose}},
		Spec:       v1alpha1.MetaStoreBackupSpec{ClusterRef: v1alpha1.ClusterRef{Name: o.cluster.Name}, BackupSettings: *settings.DeepCopy()},
	}, client.FieldOwner(resources.FieldManager))
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%w: %w", errMoved, err) // and is not in the cache yet, or somebody else's
	}
	return err
}

// holdDeletion has the cluster object wait for its last backup, or not.
func (r *Reconciler) holdDeletion(ctx context.Context, o *observation, hold bool) error {
	updated := o.cluster.DeepCopy()
	if hold {
		controllerutil.AddFinalizer(updated, v1alpha1.FinalizerBackup)
	} else {
		controllerutil.RemoveFinalizer(updated, v1alpha1.FinalizerBackup)
	}
	// The list is replaced as a whole, so it must not have changed since.
	patch := client.MergeFromWithOptions(o.cluster, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Patch(ctx, updated, patch, client.FieldOwner(resources.FieldManager)))
}

// lastBackup is the newest complete backup; the last known one when that is gone.
func (o *observation) lastBackup() *v1alpha1.LastBackupStatus {
	last := o.cluster.Status.LastBackup.DeepCopy()
	for i := range o.backups {
		b := &o.backups[i]
		at, m := b.Status.CompletedAt, b.Status.Manifest
		if outcomeOf(b) != backup.Complete || at == nil || m == nil || last != nil && !last.CompletedAt.Before(at) {
			continue
		}
		last = &v1alpha1.LastBackupStatus{
			Name: b.Name, CompletedAt: *at.DeepCopy(), Location: b.Status.Location, Revision: m.Revision, StoredBytes: m.StoredBytes,
		}
	}
	return last
}

// backupCurrent judges what the schedules promise; ok is false where none
// promises anything.
func (o *observation) backupCurrent() (v verdict, ok bool) {
	for i := range o.schedules {
		s := &o.schedules[i]
		w, err := scheduleWorld(s, o.now)
		if err != nil {
			return no("ScheduleInvalid", fmt.Sprintf("MetaStoreBackupSchedule %s makes no backups: %v", s.Name, err)), true
		}
		w.Backups = madeBy(s, o.backups)
		switch c := backup.CurrencyOf(w); {
		case c.Judged && !c.Current:
			return currency(c), true
		case c.Judged:
			v, ok = currency(c), true
		}
	}
	return v, ok
}

// tellBackups sets the gauges of the newest backup.
func (o *observation) tellBackups(s *v1alpha1.MetaStoreClusterStatus) {
	if last := s.LastBackup; last != nil {
		lastBackupTime.WithLabelValues(o.cluster.Namespace, o.cluster.Name).Set(float64(last.CompletedAt.Unix()))
		lastBackupBytes.WithLabelValues(o.cluster.Namespace, o.cluster.Name).Set(float64(last.StoredBytes))
	}
}
