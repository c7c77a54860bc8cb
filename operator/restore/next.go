package restore

import (
	"fmt"
	"time"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

// Next decides what to do.
func Next(w World) Decision {
	switch {
	case w.Finished:
		return w.cleanUp()
	case w.Deleting && !w.Held:
		return Decision{}
	case w.Deleting:
		return w.abandon()
	case !w.Held:
		return act(Hold, v1alpha1.RestoreStepPrepare, "Begun", "the restore begins")
	case w.Mode == v1alpha1.RestoreForceNewCluster:
		return w.force()
	}
	return w.goOn()
}

// goOn follows the mark.
func (w *World) goOn() Decision {
	_, filling := w.Jobs[Fill]
	switch {
	case w.Mark == nil && filling:
		return failed(v1alpha1.RestoreStepFill, Failure{"MarkLost", "the claim of the first member was deleted in the midst of the restore, or the mark at it"})
	case w.Mark == nil:
		return w.prepare()
	case w.Cluster == nil:
		return w.wait(v1alpha1.RestoreStepPrepare, w.Limits.MissingTimeout, "ClusterMissing", "the cluster was deleted; the restore goes on when it is back")
	case w.Cluster.Paused:
		return w.wait(w.Step, 0, "Paused", "the cluster is paused")
	case w.Mark.Undo != nil:
		return w.undo()
	}
	switch w.Mark.Phase {
	case plan.RestoreStopped:
		return w.fill()
	case plan.RestoreStarting:
		return w.awaitServing()
	case plan.RestoreServing:
		return w.finish()
	}
	return w.wait(v1alpha1.RestoreStepStop, w.Limits.StopTimeout, "MembersStopping", "every member of the cluster stops: %s", w.Cluster.Message)
}

// prepare is all that comes before anything is touched.
func (w *World) prepare() Decision {
	if d := w.ready(); d != nil {
		return *d
	}
	verified, d := w.job(Verify, v1alpha1.RestoreStepVerify, "the artifact is verified")
	switch {
	case d != nil:
		return *d
	case verified.Failure != nil:
		return failed(v1alpha1.RestoreStepVerify, *verified.Failure)
	case w.Mode == v1alpha1.RestoreInPlace && verified.Revision+w.Bump <= w.Cluster.Revision:
		return failed(v1alpha1.RestoreStepVerify, Failure{"RevisionBehind", fmt.Sprintf(
			"the artifact has revision %d and revisionBump is %d, but the cluster is at revision %d; allowed is a revisionBump above %d",
			verified.Revision, w.Bump, w.Cluster.Revision, w.Cluster.Revision-verified.Revision)})
	case w.BackupFirst:
		if d := w.backup(); d != nil {
			return *d
		}
	}
	out := act(MakeClaim, v1alpha1.RestoreStepStop, "Verified", "the artifact is whole; the members stop")
	out.Phase = plan.RestoreStopping
	switch {
	case w.Mode == v1alpha1.RestoreNewCluster:
		out = act(MakeClaim, v1alpha1.RestoreStepFill, "Verified", "the artifact is whole; the first member gets a volume")
		out.Phase = plan.RestoreStopped
	case w.Claim:
		out.Action = MarkClaim
	}
	return out
}

// ready says what keeps the restore from beginning; nil when nothing does.
func (w *World) ready() *Decision {
	const step = v1alpha1.RestoreStepPrepare
	c := w.Cluster
	wait := func(limit time.Duration, reason, message string) *Decision {
		d := w.wait(step, limit, reason, "%s", message)
		return &d
	}
	fail := func(reason, message string) *Decision {
		d := failed(step, Failure{reason, message})
		return &d
	}
	switch {
	case c == nil:
		return wait(w.Limits.MissingTimeout, "ClusterMissing", "the cluster does not exist yet")
	case c.Deleting:
		return wait(w.Limits.MissingTimeout, "ClusterDeleting", "the cluster is being deleted")
	case w.Mode == v1alpha1.RestoreNewCluster && c.BootstrapRestore != w.Name:
		return fail("ClusterNotWaiting", "the cluster does not name this restore in spec.bootstrap.restore; make a new one that does, or use mode InPlace")
	case w.Mode == v1alpha1.RestoreNewCluster && c.Begun:
		return fail("ClusterHasData", "the cluster has begun already; use mode InPlace")
	case w.OtherMark != "":
		return wait(0, "OtherRestore", "restore "+w.OtherMark+" of the same cluster goes on")
	case w.Mode == v1alpha1.RestoreNewCluster && w.Claim:
		return fail("ClusterHasData", "the volume of the first member exists already; delete its claim if nobody needs what it holds, or use mode InPlace")
	case c.Paused:
		return wait(0, "Paused", "the cluster is paused")
	case c.Hibernated && w.Mode == v1alpha1.RestoreInPlace:
		return wait(0, "Hibernated", "the cluster sleeps; set its spec.hibernated to false")
	case w.Missing != nil:
		return wait(w.Limits.MissingTimeout, w.Missing.Reason, w.Missing.Message)
	}
	return nil
}

// backup keeps the cluster as it is; nil when it has.
func (w *World) backup() *Decision {
	const step = v1alpha1.RestoreStepBackup
	var d Decision
	switch {
	case w.Backup == nil:
		d = act(StartBackup, step, "Verified", "the artifact is whole; the cluster is backed up before it is given up")
	case w.Backup.Failure != nil:
		d = failed(step, Failure{"PreRestoreBackupFailed", "the backup of the cluster as it is has failed, nothing was touched: " + w.Backup.Failure.Message})
	case !w.Backup.Complete:
		d = w.wait(step, w.Limits.JobTimeout, "BackupRuns", "the cluster is backed up before it is given up")
	default:
		return nil
	}
	return &d
}

// fill writes the seed's volume, which no member has any more.
func (w *World) fill() Decision {
	const step = v1alpha1.RestoreStepFill
	filled, d := w.job(Fill, step, "the volume of the first member is to be filled")
	switch {
	case d != nil && d.Reason == jobHindered && d.Overdue(w.Now):
		return w.turnBack(step, Failure{jobHindered, fmt.Sprintf("%s, for %s; a volume with backups has to be one that the first member's node reaches", d.Message, w.Limits.StartTimeout)})
	case d != nil:
		return *d
	case filled.Failure != nil:
		return w.turnBack(step, *filled.Failure)
	case filled.Revision <= w.Mark.Above:
		return w.turnBack(step, Failure{"RevisionBehind", fmt.Sprintf("the restored revision is %d, and the cluster was at %d; give a larger revisionBump", filled.Revision, w.Mark.Above)})
	}
	out := act(MarkClaim, v1alpha1.RestoreStepStart, "Filled", "the volume is filled; the first member starts from it")
	out.Phase = plan.RestoreStarting
	return out
}

// awaitServing gives the restored member its time.
func (w *World) awaitServing() Decision {
	deadline := w.Mark.PhaseAt.Add(w.Limits.ServeTimeout)
	switch late := !w.Now.Before(deadline); {
	case late && w.Cluster.Locked:
		return w.turnBack(v1alpha1.RestoreStepStart, Failure{"PasswordUnknown", fmt.Sprintf(
			"the restored member has let nobody in within %s: its users and passwords are those of the backup, and the operator has no password that root had then; "+
				"write that one into the Secret of spec.auth.rootCredentialsSecretRef, make the restore again, and change the password afterwards", w.Limits.ServeTimeout)})
	case late:
		return w.turnBack(v1alpha1.RestoreStepStart, Failure{"NotServing", fmt.Sprintf("the restored member has not served within %s: %s", w.Limits.ServeTimeout, w.Cluster.Message)})
	}
	d := act(Nothing, v1alpha1.RestoreStepStart, "MemberStarting", "the first member starts: %s", w.Cluster.Message)
	d.Deadline = deadline
	return d
}

// finish drops the data of before; that this fails changes nothing of what serves.
func (w *World) finish() Decision {
	const step = v1alpha1.RestoreStepFinish
	message := "the cluster serves what was restored"
	if w.Mode == v1alpha1.RestoreInPlace {
		finished, d := w.job(Finish, step, "the data of before are deleted from the volume of the first member")
		if d != nil {
			return *d
		}
		if finished.Failure != nil {
			message += "; the data of before could not be deleted from the first member's volume: " + finished.Failure.Message
		}
	}
	return Decision{Step: step, Outcome: Complete, Reason: "Restored", Message: message}
}

// turnBack begins the way back.
func (w *World) turnBack(step v1alpha1.RestoreStepName, why Failure) Decision {
	next := "what was there before comes back"
	if w.Mode == v1alpha1.RestoreNewCluster {
		next = "the volume is given up"
	}
	d := act(MarkClaim, step, why.Reason, "%s; %s", why.Message, next)
	d.Phase, d.Undo = plan.RestoreStopping, &why
	return d
}

// undo puts the data of before back once nobody uses the volume. Where none were
// replaced yet the Job finds nothing to do.
func (w *World) undo() Decision {
	const step = v1alpha1.RestoreStepUndo
	fill, begun := w.Jobs[Fill]
	switch {
	case w.Mark.Phase != plan.RestoreStopped:
		return w.wait(step, w.Limits.StopTimeout, "MembersStopping", "every member stops, so that the data of before can come back")
	case begun && !fill.Done && !fill.Terminating:
		d := act(StopJob, step, w.Mark.Undo.Reason, "the volume is not filled any further")
		d.Task = Fill
		return d
	case fill.Terminating:
		return w.wait(step, w.Limits.StopTimeout, "JobStopping", "the Job that fills the volume stops")
	case w.Mode == v1alpha1.RestoreNewCluster:
		return failed(step, *w.Mark.Undo)
	}
	undone, d := w.job(Undo, step, "the data of before come back")
	switch {
	case d != nil:
		return *d
	case undone.Failure != nil:
		return failed(step, Failure{w.Mark.Undo.Reason, fmt.Sprintf("%s; and the data of before could not be put back at the first member, they lie beside: %s", w.Mark.Undo.Message, undone.Failure.Message)})
	}
	return failed(step, Failure{w.Mark.Undo.Reason, w.Mark.Undo.Message + "; the cluster starts again from what it had"})
}

// cleanUp leaves nothing behind once the end is reported: the cluster goes on when
// the mark is gone. A Job's pod keeps the claims that it has had from being deleted
// ever, also after its end, so that the Jobs go.
func (w *World) cleanUp() Decision {
	given := w.Mark != nil && w.Mark.Undo != nil && w.Mode == v1alpha1.RestoreNewCluster
	if w.Mark != nil && !given {
		return act(EndMark, "", "Finished", "the cluster goes on")
	}
	ending := false
	for _, t := range []Task{Verify, Fill, Undo, Finish} {
		switch j, ok := w.Jobs[t]; {
		case ok && !j.Terminating:
			d := act(StopJob, "", "Finished", "the Job has done its part")
			d.Task = t
			return d
		case ok:
			ending = true
		}
	}
	switch {
	case ending, given && w.ClaimEnding:
		return act(Nothing, "", "Ending", "Jobs and claim are being deleted")
	case given:
		return act(DropClaim, "", "Failed", "the volume that was to be filled goes")
	case w.Held:
		return act(Release, "", "Finished", "the restore has finished")
	}
	return Decision{}
}

// abandon is for a restore that is deleted in the midst of it: it turns back,
// unless the cluster serves already what was restored.
func (w *World) abandon() Decision {
	switch {
	case w.Mode == v1alpha1.RestoreForceNewCluster && w.Cluster != nil && w.Cluster.Confirmed && !w.Cluster.Recovering:
		return act(Disallow, "", "Deleted", "the restore is deleted; the permission to begin anew is taken back")
	case w.Mark == nil, w.Cluster == nil:
		return act(Release, "", "Deleted", "the restore is deleted")
	case w.Mark.Phase != plan.RestoreServing && w.Mark.Undo == nil:
		return w.turnBack(w.Step, Failure{"Deleted", "the restore was deleted in the midst of it"})
	}
	return w.goOn()
}

// jobHindered: the pod of a Job does not start.
const jobHindered = "JobHindered"

// job makes the Job of a task and waits for it; the decision is nil when it is done.
func (w *World) job(t Task, step v1alpha1.RestoreStepName, what string) (Job, *Decision) {
	j, ok := w.Jobs[t]
	switch {
	case !ok:
		d := act(StartJob, step, "JobStarts", "%s", what)
		d.Task = t
		return j, &d
	case !j.Done && j.Trouble != "" && j.Outdated && !j.Terminating:
		d := act(StopJob, step, "ImageChanged", "%s, with another image than its Job has, whose pod does not start", what)
		d.Task = t
		return j, &d
	case !j.Done && j.Trouble != "":
		d := w.wait(step, w.Limits.StartTimeout, jobHindered, "%s, but %s", what, j.Trouble)
		return j, &d
	case !j.Done && j.Waiting:
		d := w.wait(step, w.Limits.StartTimeout, jobHindered, "%s, once its Job's pod starts", what)
		return j, &d
	case !j.Done:
		d := w.wait(step, w.Limits.JobTimeout, "JobRuns", "%s", what)
		return j, &d
	}
	return j, nil
}

// wait waits until limit after the step was first reported; 0 for any time.
func (w *World) wait(step v1alpha1.RestoreStepName, limit time.Duration, reason, format string, args ...any) Decision {
	d := act(Nothing, step, reason, format, args...)
	since := w.Now
	if w.Step == step && !w.StepStartedAt.IsZero() {
		since = w.StepStartedAt
	}
	if limit > 0 {
		d.Deadline = since.Add(limit)
	}
	return d
}

func act(a Action, step v1alpha1.RestoreStepName, reason, format string, args ...any) Decision {
	return Decision{Action: a, Step: step, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func failed(step v1alpha1.RestoreStepName, f Failure) Decision {
	return Decision{Step: step, Outcome: Failed, Reason: f.Reason, Message: f.Message}
}
