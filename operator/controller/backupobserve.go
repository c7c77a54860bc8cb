package controller

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
	"metastore.io/metastore/operator/resources"
)

// backupView is one look at a backup. It is made by observe and then only read.
type backupView struct {
	backup *v1alpha1.MetaStoreBackup
	// cluster is nil when it does not exist.
	cluster *v1alpha1.MetaStoreCluster
	image   string
	// members is how the Job reaches them, as far as it is looked for.
	members      resources.Members
	take, delete *batchv1.Job
	world        backup.World
}

func (r *BackupReconciler) observe(ctx context.Context, b *v1alpha1.MetaStoreBackup) (*backupView, error) {
	v := &backupView{backup: b, world: backup.World{
		Now: r.Now(), Limits: r.Limits, CreatedAt: b.CreationTimestamp.Time,
		Deadline:       time.Duration(resources.BackupDeadlineSeconds(&b.Spec.BackupSettings)) * time.Second,
		Outcome:        outcomeOf(b),
		Deleting:       b.DeletionTimestamp != nil,
		DeleteArtifact: b.Spec.DeletionPolicy == v1alpha1.ArtifactDelete,
		Finalizer:      controllerutil.ContainsFinalizer(b, v1alpha1.FinalizerArtifact),
	}}
	w := &v.world
	if w.Deleting {
		w.DeletingAt = b.DeletionTimestamp.Time
	}
	if b.Status.CompletedAt != nil {
		w.FinishedAt = b.Status.CompletedAt.Time
	}
	if ttl := b.Spec.TTLSecondsAfterFinished; ttl != nil {
		w.TTL = ptr.To(time.Duration(*ttl) * time.Second)
	}
	if err := r.observeJobs(ctx, v); err != nil {
		return nil, err
	}
	starting := w.Take == nil && w.Outcome == "" && !w.Deleting
	if !starting && !(w.Deleting && w.Finalizer) {
		return v, nil
	}
	cluster := &v1alpha1.MetaStoreCluster{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: b.Spec.ClusterRef.Name}, cluster)
	switch {
	case err == nil:
		v.cluster = cluster
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("get cluster: %w", err)
	}
	v.image = r.imageOf(v)
	if starting {
		return v, r.observeInputs(ctx, v)
	}
	return v, r.observeClaim(ctx, v)
}

// outcomeOf is the end that was reported.
func outcomeOf(b *v1alpha1.MetaStoreBackup) backup.Outcome {
	switch {
	case meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionComplete):
		return backup.Complete
	case meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionFailed):
		return backup.Failed
	}
	return ""
}

// imageOf is what the Job runs: what the cluster runs, or what made the backup.
func (r *BackupReconciler) imageOf(v *backupView) string {
	switch {
	case v.world.Deleting && v.backup.Status.Image != "":
		return v.backup.Status.Image
	case v.cluster == nil:
		return r.ServerImage
	case v.cluster.Status.Image != "":
		return v.cluster.Status.Image
	}
	return resources.Image(&v.cluster.Spec, r.ServerImage)
}

func (r *BackupReconciler) observeJobs(ctx context.Context, v *backupView) error {
	var err error
	if v.take, err = r.job(ctx, v, resources.TakeJobName(v.backup.Name)); err != nil {
		return err
	}
	if v.delete, err = r.job(ctx, v, resources.DeleteJobName(v.backup.Name)); err != nil {
		return err
	}
	if v.world.Take, err = r.facts(ctx, v.take); err != nil {
		return err
	}
	v.world.Delete, err = r.facts(ctx, v.delete)
	return err
}

// facts are a Job's. The cache may have its end before it has that of its pods,
// which is what says why.
func (r *BackupReconciler) facts(ctx context.Context, j *batchv1.Job) (*backup.Job, error) {
	f, err := jobFacts(ctx, r.Client, j)
	if err != nil || f == nil || f.Result != nil || !f.Complete && !f.Failed {
		return f, err
	}
	return jobFacts(ctx, r.Live, j)
}

// job is a Job of this very backup; nil when there is none. One that a backup of
// the same name left behind is on its way out.
func (r *BackupReconciler) job(ctx context.Context, v *backupView, name string) (*batchv1.Job, error) {
	j := &batchv1.Job{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: v.backup.Namespace, Name: name}, j)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("get Job %s: %w", name, err)
	case err != nil || !metav1.IsControlledBy(j, v.backup):
		return nil, nil
	}
	return j, nil
}

// jobFacts are what a Job and its newest pods tell.
func jobFacts(ctx context.Context, c client.Reader, j *batchv1.Job) (*backup.Job, error) {
	if j == nil {
		return nil, nil
	}
	f := &backup.Job{Terminating: j.DeletionTimestamp != nil}
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			f.Complete = true
		case batchv1.JobFailed, batchv1.JobFailureTarget:
			f.Failed, f.FailedReason = true, c.Reason
		}
	}
	pods := &corev1.PodList{}
	if err := c.List(ctx, pods, client.InNamespace(j.Namespace), client.MatchingLabels{batchv1.JobNameLabel: j.Name}); err != nil {
		return nil, fmt.Errorf("list the pods of Job %s: %w", j.Name, err)
	}
	ended, newest := newestPods(j, pods.Items)
	if ended != nil {
		f.Result = resultOf(ended)
	}
	if newest != nil && newest != ended {
		f.TroubleReason, f.Trouble = troubleOf(newest)
	}
	return f, nil
}

// newestPods are the newest of a Job's pods that has left a result, and the newest
// of all; nil when there is none.
func newestPods(j *batchv1.Job, pods []corev1.Pod) (ended, newest *corev1.Pod) {
	for i := range pods {
		p := &pods[i]
		if !metav1.IsControlledBy(p, j) {
			continue
		}
		if newest == nil || newest.CreationTimestamp.Before(&p.CreationTimestamp) {
			newest = p
		}
		if resultOf(p) != nil && (ended == nil || ended.CreationTimestamp.Before(&p.CreationTimestamp)) {
			ended = p
		}
	}
	return ended, newest
}

// resultOf is what a pod's container left; nil when it left nothing.
func resultOf(p *corev1.Pod) *backup.Result {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name != resources.Container || s.State.Terminated == nil {
			continue
		}
		if r, err := backup.ParseResult(s.State.Terminated.Message); err == nil {
			return r
		}
	}
	return nil
}

// troubleOf is why a pod does not run, with a word for it; empty when it does.
func troubleOf(p *corev1.Pod) (reason, message string) {
	if c := podCondition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return "Unschedulable", fmt.Sprintf("pod %s cannot be scheduled: %s", p.Name, c.Message)
	}
	for _, s := range p.Status.ContainerStatuses {
		switch {
		case s.State.Waiting != nil && s.State.Waiting.Reason != "" && s.State.Waiting.Reason != "ContainerCreating" && s.State.Waiting.Reason != "PodInitializing":
			return s.State.Waiting.Reason, fmt.Sprintf("pod %s does not start: %s", p.Name, s.State.Waiting.Message)
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
			return "PodFailed", fmt.Sprintf("pod %s ended with %s, exit code %d, and left no result", p.Name, s.State.Terminated.Reason, s.State.Terminated.ExitCode)
		}
	}
	return "", ""
}
