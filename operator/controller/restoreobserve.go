package controller

import (
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
	"metastore.io/metastore/operator/restore"
)

// restoreObservation is one look at a restore and at what it is about.
type restoreObservation struct {
	restore *v1alpha1.MetaStoreRestore
	// cluster and claim, the seed's, are nil while they do not exist.
	cluster *v1alpha1.MetaStoreCluster
	claim   *corev1.PersistentVolumeClaim
	// settings of the members; nil while there are none.
	settings *corev1.ConfigMap
	source   resources.Source
	jobs     map[restore.Task]*batchv1.Job
	manifest *v1alpha1.BackupManifest
	world    restore.World
}

var restoreTasks = []restore.Task{restore.Verify, restore.Fill, restore.Undo, restore.Finish}

func restoreFinished(r *v1alpha1.MetaStoreRestore) bool {
	return meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionComplete) ||
		meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionFailed)
}

func held(r *v1alpha1.MetaStoreRestore) bool {
	return slices.Contains(r.Finalizers, v1alpha1.FinalizerRestore)
}

func (r *RestoreReconciler) observe(ctx context.Context, object *v1alpha1.MetaStoreRestore) (*restoreObservation, error) {
	o := &restoreObservation{restore: object, jobs: map[restore.Task]*batchv1.Job{}}
	s := &object.Spec
	o.world = restore.World{
		Now: r.Now(), Limits: r.Limits, Name: object.Name, Mode: s.Mode,
		Deleting: object.DeletionTimestamp != nil, Held: held(object), Finished: restoreFinished(object),
		Bump: ptr.Deref(s.RevisionBump, v1alpha1.DefaultRevisionBump), BackupFirst: s.PreRestoreBackup != nil,
		Jobs: map[restore.Task]restore.Job{},
	}
	if n := len(object.Status.Steps); n > 0 {
		last := object.Status.Steps[n-1]
		o.world.Step, o.world.StepStartedAt = last.Name, last.StartedAt.Time
	}
	for _, look := range []func(context.Context, *restoreObservation) error{r.observeCluster, r.observeClaim, r.observeSource, r.observeJobs, r.observeBackup} {
		if err := look(ctx, o); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (r *RestoreReconciler) observeCluster(ctx context.Context, o *restoreObservation) (err error) {
	if o.cluster, err = fetch(ctx, r.Live, o.restore, o.restore.Spec.ClusterName, &v1alpha1.MetaStoreCluster{}); err != nil || o.cluster == nil {
		return err
	}
	c := o.cluster
	f := &restore.Cluster{
		Begun: c.Status.ClusterID != "", Paused: c.Spec.Paused, Hibernated: c.Spec.Hibernated, Deleting: c.DeletionTimestamp != nil,
		Available: meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionAvailable), Revision: c.Status.Revision,
		Confirmed: c.Annotations[v1alpha1.AnnotationRecoverQuorum] == c.Name, Message: "it has not reported yet",
	}
	if b := c.Spec.Bootstrap; b != nil {
		f.BootstrapRestore = b.Restore
	}
	if ready := condition(c.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		f.Message = ready.Message
	}
	if users := condition(c.Status.Conditions, v1alpha1.ConditionAuthReady); users != nil {
		f.Locked = users.Reason == plan.ReasonRefused
	}
	o.world.Cluster = f
	if o.restore.Spec.Mode != v1alpha1.RestoreForceNewCluster {
		o.settings, err = fetch(ctx, r.Live, o.restore, resources.MembersName(c.Name), &corev1.ConfigMap{})
		return err
	}
	if at := c.Status.Recovery; at != nil {
		f.Recovered = !at.StartedAt.Before(&o.restore.CreationTimestamp)
	}
	list := &corev1.PersistentVolumeClaimList{}
	if err := r.Live.List(ctx, list, client.InNamespace(c.Namespace), client.MatchingLabels(resources.SelectorLabels(c.Name))); err != nil {
		return fmt.Errorf("list claims: %w", err)
	}
	for _, claim := range list.Items {
		f.Recovering = f.Recovering || claim.Annotations[annotationRecovery] != ""
	}
	return nil
}

func (r *RestoreReconciler) observeClaim(ctx context.Context, o *restoreObservation) (err error) {
	if o.restore.Spec.Mode == v1alpha1.RestoreForceNewCluster {
		return nil
	}
	if o.claim, err = fetch(ctx, r.Live, o.restore, resources.ClaimName(o.restore.Spec.ClusterName, seed), &corev1.PersistentVolumeClaim{}); err != nil {
		return err
	}
	o.world.Claim, o.world.ClaimEnding = o.claim != nil, o.claim != nil && o.claim.DeletionTimestamp != nil
	switch m := markAt(o.claim); {
	case m == nil:
	case m.UID == string(o.restore.UID):
		o.world.Mark = m
	default: // one whose restore is gone is nobody's
		other, err := fetch(ctx, r.Live, o.restore, m.Restore, &v1alpha1.MetaStoreRestore{})
		if err != nil {
			return err
		}
		if other != nil && string(other.UID) == m.UID {
			o.world.OtherMark = m.Restore
		}
	}
	return nil
}

func (r *RestoreReconciler) observeBackup(ctx context.Context, o *restoreObservation) error {
	if !o.world.BackupFirst {
		return nil
	}
	b, err := fetch(ctx, r.Live, o.restore, preRestoreBackupName(o.restore), &v1alpha1.MetaStoreBackup{})
	if err != nil || b == nil {
		return err
	}
	o.world.Backup = &restore.Backup{Complete: meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionComplete)}
	if c := condition(b.Status.Conditions, v1alpha1.ConditionFailed); c != nil && c.Status == "True" {
		o.world.Backup.Failure = &restore.Failure{Reason: c.Reason, Message: c.Message}
	}
	return nil
}

func (r *RestoreReconciler) observeJobs(ctx context.Context, o *restoreObservation) error {
	for _, task := range restoreTasks {
		job, err := fetch(ctx, r.Live, o.restore, resources.RestoreJobName(o.restore.Name, string(task)), &batchv1.Job{})
		if err != nil {
			return err
		}
		if job == nil || !metav1.IsControlledBy(job, o.restore) {
			continue // one of an earlier restore of that name is about to go
		}
		o.jobs[task] = job
		if o.world.Jobs[task], err = r.taskFacts(ctx, o, task, job); err != nil {
			return err
		}
	}
	return nil
}

// taskFacts are what the Job of a task came to. A Job that has failed may have a
// pod that still writes, so it counts as done only when its pods have ended.
func (r *RestoreReconciler) taskFacts(ctx context.Context, o *restoreObservation, task restore.Task, job *batchv1.Job) (restore.Job, error) {
	f := restore.Job{Terminating: job.DeletionTimestamp != nil}
	told, err := jobFacts(ctx, r.Live, job)
	if err != nil {
		return f, err
	}
	s := job.Status
	f.Waiting, f.Trouble = ptr.Deref(s.Ready, 0) == 0 && s.Succeeded == 0 && s.Failed == 0, told.Trouble
	f.Outdated = o.cluster != nil && job.Annotations[annotationImage] != r.image(o.cluster)
	ended := jobEnd(job)
	if ended == nil {
		return f, nil
	}
	f.Done = true
	result := told.Result
	switch {
	case result == nil:
		f.Failure = &restore.Failure{Reason: ended.Reason, Message: fmt.Sprintf("Job %s ended without a result: %s %s", job.Name, ended.Message, told.Trouble)}
		return f, nil
	case !result.OK:
		f.Failure = &restore.Failure{Reason: result.Reason, Message: result.Message}
	case ended.Type != batchv1.JobComplete:
		f.Failure = &restore.Failure{Reason: ended.Reason, Message: ended.Message}
	}
	f.Revision = result.Revision
	if task == restore.Verify && result.Manifest != nil {
		f.Revision = result.Manifest.Revision
		if !o.source.EtcdSnapshot { // a bare file has none
			o.manifest = result.Manifest
		}
		if result.Manifest.Encryption != "" && o.source.Encryption == nil && f.Failure == nil {
			f.Failure = &restore.Failure{Reason: "WrongKey", Message: "the artifact is encrypted; name the Secret with its identity in spec.encryption"}
		}
	}
	return f, nil
}

func jobEnd(job *batchv1.Job) *batchv1.JobCondition {
	for i, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return &job.Status.Conditions[i]
		}
	}
	return nil
}
