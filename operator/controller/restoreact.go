package controller

import (
	"context"
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
	"metastore.io/metastore/operator/resources"
	"metastore.io/metastore/operator/restore"
)

// act takes the decision's step, which is one call that changes something, and
// tells of it.
func (r *RestoreReconciler) act(ctx context.Context, o *restoreObservation, d restore.Decision) error {
	if d.Action == restore.Nothing {
		return nil
	}
	if err := r.take(ctx, o, d); err != nil {
		if !passing(err) && !apierrors.IsAlreadyExists(err) {
			r.Events.Eventf(o.restore, nil, corev1.EventTypeWarning, "ActionFailed", string(d.Action), "%s: %v", d.Message, err)
		}
		return fmt.Errorf("%s: %w", d.Action, err)
	}
	ctrl.LoggerFrom(ctx).Info("step taken", "action", d.Action, "task", d.Task, "reason", d.Reason, "message", d.Message)
	r.Events.Eventf(o.restore, nil, corev1.EventTypeNormal, d.Reason, string(d.Action), "%s", d.Message)
	return nil
}

func (r *RestoreReconciler) take(ctx context.Context, o *restoreObservation, d restore.Decision) error {
	switch d.Action {
	case restore.Hold, restore.Release:
		return r.hold(ctx, o, d.Action == restore.Hold)
	case restore.StartJob:
		return r.startJob(ctx, o, d.Task)
	case restore.StopJob:
		return deleteExactly(ctx, r.Client, o.jobs[d.Task], client.PropagationPolicy(metav1.DeletePropagationForeground))
	case restore.StartBackup:
		return r.Client.Create(ctx, preRestoreBackup(o.restore), client.FieldOwner(resources.FieldManager))
	case restore.MakeClaim:
		return r.makeClaim(ctx, o, d)
	case restore.MarkClaim:
		return r.markClaim(ctx, o, d)
	case restore.EndMark:
		return r.endMark(ctx, o)
	case restore.DropClaim:
		return deleteExactly(ctx, r.Client, o.claim)
	case restore.Allow:
		return r.patch(ctx, o.cluster, annotate(v1alpha1.AnnotationRecoverQuorum, o.cluster.Name))
	case restore.Disallow:
		return r.patch(ctx, o.cluster, annotate(v1alpha1.AnnotationRecoverQuorum, nil))
	}
	return fmt.Errorf("no such action: %q", d.Action)
}

// hold puts the finalizer on, or takes it off.
func (r *RestoreReconciler) hold(ctx context.Context, o *restoreObservation, on bool) error {
	changed := o.restore.DeepCopy()
	if on {
		controllerutil.AddFinalizer(changed, v1alpha1.FinalizerRestore)
	} else {
		controllerutil.RemoveFinalizer(changed, v1alpha1.FinalizerRestore)
	}
	// The list is replaced as a whole, so it must not have changed since.
	patch := map[string]any{"metadata": map[string]any{"finalizers": changed.Finalizers, "resourceVersion": o.restore.ResourceVersion}}
	return client.IgnoreNotFound(r.patch(ctx, o.restore, patch))
}

// jobs builds the Jobs of a restore.
func (r *RestoreReconciler) jobs(o *restoreObservation) resources.RestoreJobs {
	return resources.RestoreJobs{Builder: r.builder(o), Restore: o.restore, DeadlineSeconds: int64(r.Limits.JobTimeout.Seconds())}
}

func (r *RestoreReconciler) builder(o *restoreObservation) resources.Builder {
	return resources.For(o.cluster, r.image(o.cluster), v1alpha1.EffectiveTuning{})
}

// image is what members run, and Jobs with them.
func (r *RestoreReconciler) image(c *v1alpha1.MetaStoreCluster) string {
	return resources.Image(&c.Spec, imageBase(c, c.Status.Image, r.ServerImage))
}

func (r *RestoreReconciler) startJob(ctx context.Context, o *restoreObservation, task restore.Task) error {
	jobs, name := r.jobs(o), resources.RestoreJobName(o.restore.Name, string(task))
	var job *batchv1.Job
	switch task {
	case restore.Verify:
		job = jobs.Verify(name, o.source)
	case restore.Fill:
		job = jobs.Fill(name, o.source, resources.Filling{Token: o.world.Mark.Token, PeerTLS: peersWantTLS(o.cluster), Bump: o.world.Bump})
	case restore.Undo:
		job = jobs.Undo(name)
	case restore.Finish:
		job = jobs.Finish(name)
	default:
		return fmt.Errorf("no such task: %q", task)
	}
	if task == restore.Fill || task == restore.Undo {
		if err := r.nobodyRuns(ctx, o); err != nil {
			return err
		}
	}
	// What is in the Job's template may be a webhook's.
	job.Annotations = map[string]string{annotationImage: r.image(o.cluster)}
	return r.Client.Create(ctx, job, client.FieldOwner(resources.FieldManager))
}

// nobodyRuns looks for members at the API server: whoever said that none is left
// may have looked at a cache.
func (r *RestoreReconciler) nobodyRuns(ctx context.Context, o *restoreObservation) error {
	list := &corev1.PodList{}
	err := r.Live.List(ctx, list, client.InNamespace(o.restore.Namespace), client.MatchingLabels(resources.SelectorLabels(o.restore.Spec.ClusterName)))
	switch {
	case err != nil:
		return fmt.Errorf("list the members' pods: %w", err)
	case len(list.Items) > 0:
		return errMoved
	}
	return nil
}

func peersWantTLS(c *v1alpha1.MetaStoreCluster) bool {
	t := c.Spec.TLS
	return t != nil && t.Peer != nil && t.Peer.Mode != "" && t.Peer.Mode != v1alpha1.TLSDisabled
}

func preRestoreBackupName(r *v1alpha1.MetaStoreRestore) string {
	return fmt.Sprintf("%s-before-%.8s", r.Name, r.UID)
}

// preRestoreBackup is the backup of the cluster as it is. It outlives the restore.
func preRestoreBackup(r *v1alpha1.MetaStoreRestore) *v1alpha1.MetaStoreBackup {
	return &v1alpha1.MetaStoreBackup{
		ObjectMeta: metav1.ObjectMeta{Name: preRestoreBackupName(r), Namespace: r.Namespace},
		Spec: v1alpha1.MetaStoreBackupSpec{
			ClusterRef:     v1alpha1.ClusterRef{Name: r.Spec.ClusterName},
			BackupSettings: v1alpha1.BackupSettings{Destination: *r.Spec.PreRestoreBackup},
		},
	}
}

// firstMark is the mark that the restore begins with.
func (o *restoreObservation) firstMark() restore.Mark {
	m := restore.Mark{
		Restore: o.restore.Name, UID: string(o.restore.UID),
		// No data of before, or of another restore, are of the cluster that comes.
		Token: fmt.Sprintf("%s-%s", o.cluster.UID, o.restore.UID),
	}
	if o.restore.Spec.Mode == v1alpha1.RestoreInPlace {
		m.Above = o.cluster.Status.Revision
	}
	return m
}

func (r *RestoreReconciler) makeClaim(ctx context.Context, o *restoreObservation, d restore.Decision) error {
	m := o.firstMark()
	m.Phase, m.PhaseAt = d.Phase, o.world.Now
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("mark the claim: %w", err)
	}
	return r.Client.Create(ctx, r.builder(o).SeedClaim(map[string]string{plan.AnnotationRestore: string(text)}), client.FieldOwner(resources.FieldManager))
}

func (r *RestoreReconciler) markClaim(ctx context.Context, o *restoreObservation, d restore.Decision) error {
	m := o.firstMark()
	if o.world.Mark != nil {
		m = *o.world.Mark
	}
	m.Phase, m.PhaseAt, m.Undo = d.Phase, o.world.Now, d.Undo
	patch, err := marked(o.claim, m)
	if err != nil {
		return err
	}
	if o.world.Mark == nil && o.claim.Annotations[annotationToken] == "" {
		// The settings will tell another one, and the way back needs this.
		token := string(o.cluster.UID)
		if o.settings != nil {
			token = writtenToken(o.settings)
		}
		patch["metadata"].(map[string]any)["annotations"].(map[string]any)[annotationToken] = token
	}
	return r.patch(ctx, o.claim, patch)
}

// endMark lets the cluster go on: as the one that was restored, or as it was.
func (r *RestoreReconciler) endMark(ctx context.Context, o *restoreObservation) error {
	annotations := map[string]any{plan.AnnotationRestore: nil}
	if o.world.Mark.Undo == nil {
		annotations[annotationToken] = o.world.Mark.Token
	}
	return r.patch(ctx, o.claim, map[string]any{"metadata": map[string]any{
		"annotations": annotations, "resourceVersion": o.claim.ResourceVersion,
	}})
}

// patch changes the very object that was observed.
func (r *RestoreReconciler) patch(ctx context.Context, object client.Object, patch map[string]any) error {
	patch["metadata"].(map[string]any)["uid"] = string(object.GetUID())
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("patch %s: %w", object.GetName(), err)
	}
	target := object.DeepCopyObject().(client.Object)
	if err := r.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, body), client.FieldOwner(resources.FieldManager)); err != nil {
		return fmt.Errorf("patch %s: %w", object.GetName(), err)
	}
	return nil
}
