package backup

import (
	"fmt"
	"time"
)

// Next decides what to do about a MetaStoreBackup.
func Next(w World) Decision {
	switch {
	case w.Deleting:
		return deleting(&w)
	case w.Outcome != "":
		return finished(&w)
	case w.DeleteArtifact && !w.Finalizer:
		return Decision{Action: AddFinalizer, Reason: "ArtifactOwned", Message: "the artifact is to go with the backup"}
	case w.Take != nil:
		return taking(&w)
	}
	return starting(&w)
}

func (w *World) due() time.Time { return w.CreatedAt.Add(w.Deadline) }

// starting makes what an attempt needs, and then the attempt.
func starting(w *World) Decision {
	if h := w.Hindrance; h != nil {
		patience := w.Deadline
		if h.Input {
			patience = min(patience, w.Limits.Inputs)
		}
		until := w.CreatedAt.Add(patience)
		if !w.Now.Before(until) {
			return failed(h.Reason, "%s; waited %s for it", h.Message, patience)
		}
		return Decision{Reason: h.Reason, Message: h.Message, Warning: h.Input, Wake: until}
	}
	switch {
	case !w.Now.Before(w.due()):
		return failed("DeadlineExceeded", "there was no end within activeDeadlineSeconds, which are %s", w.Deadline)
	case w.ClaimMissing:
		return Decision{Action: CreateClaim, Reason: "ClaimMissing", Message: "the destination's claim is made"}
	}
	return Decision{Action: CreateTake, Reason: "Started", Message: "the backup begins"}
}

// taking looks at the attempt that goes on.
//
// A Job may be repeated after an attempt whose end nobody saw. The artifact is
// there already then: one that was made since the backup was asked for is this
// backup's, since nobody else is to write under its name; an older one is of
// another of the same name.
func taking(w *World) Decision {
	j, r := w.Take, w.Take.Result
	switch {
	case r != nil && r.Reason == ReasonAlreadyExists && r.Manifest != nil && !r.CreatedAt.Before(w.CreatedAt),
		r != nil && r.OK && r.Manifest != nil:
		return Decision{
			Outcome: Complete, Reason: string(Complete), Manifest: r.Manifest,
			Message: fmt.Sprintf("%d keys at revision %d, %d bytes", r.Manifest.Keys, r.Manifest.Revision, r.Manifest.StoredBytes),
		}
	case r != nil && r.Reason == ReasonAlreadyExists:
		return failed(r.Reason, "%s; give the backup another name, or delete what is there", r.Message)
	case r.permanent():
		return failed(r.Reason, "%s", r.Message)
	case j.Terminating:
		return Decision{Reason: "JobDeleted", Message: "the Job is being deleted; it is made anew"}
	case j.Complete:
		return Decision{Action: DropTake, Reason: "ResultLost", Message: "the Job is complete, but its pod and its result are gone; it is made anew to find out"}
	case j.Failed:
		return w.jobFailed()
	case !w.Now.Before(w.due().Add(w.Limits.Overtime)):
		return failed("DeadlineExceeded", "%s", w.because("there was no end within activeDeadlineSeconds, which are "+w.Deadline.String()))
	}
	return w.attempt()
}

// attempt tells how the running one fares.
func (w *World) attempt() Decision {
	d := Decision{Reason: "Running", Message: "the Job runs", Wake: w.due().Add(w.Limits.Overtime)}
	switch j := w.Take; {
	case j.Trouble != "":
		d.Reason, d.Message, d.Warning = j.TroubleReason, j.Trouble, true
	case j.Result != nil:
		d.Reason, d.Message, d.Warning = "Retrying", fmt.Sprintf("%s: %s; it is tried again", j.Result.Reason, j.Result.Message), true
	}
	return d
}

// jobFailed is the end of a Job that has tried often enough, or for long enough.
func (w *World) jobFailed() Decision {
	j := w.Take
	switch {
	case j.FailedReason == "DeadlineExceeded":
		return failed("DeadlineExceeded", "%s", w.because("there was no end within activeDeadlineSeconds, which are "+w.Deadline.String()))
	case j.Result != nil:
		return failed(j.Result.Reason, "%s", j.Result.Message)
	case j.Trouble != "":
		return failed(j.TroubleReason, "%s", j.Trouble)
	}
	return failed("JobFailed", "the Job failed (%s), and none of its pods left a result", j.FailedReason)
}

// because adds what was last known to hold the attempt up.
func (w *World) because(sentence string) string {
	switch j := w.Take; {
	case j.Trouble != "":
		return sentence + "; " + j.Trouble
	case j.Result != nil && j.Result.Message != "":
		return sentence + "; the last attempt: " + j.Result.Message
	}
	return sentence
}

func failed(reason, format string, args ...any) Decision {
	return Decision{Outcome: Failed, Reason: reason, Message: fmt.Sprintf(format, args...), Warning: true}
}

// finished clears up after an end. The Job of a failed backup stays, with what
// its pods have logged, unless it would go on trying.
func finished(w *World) Decision {
	if j := w.Take; j != nil && !j.Terminating && (w.Outcome == Complete || !j.ended()) {
		return Decision{Action: DropTake, Reason: string(w.Outcome), Message: "the Job is not needed any more"}
	}
	if w.TTL == nil {
		return Decision{}
	}
	if end := w.FinishedAt.Add(*w.TTL); w.Now.Before(end) {
		return Decision{Wake: end}
	}
	return Decision{Action: DeleteBackup, Reason: "TTLExpired", Message: fmt.Sprintf("the backup ended more than %s ago", *w.TTL)}
}

// deleting stops what goes on and has the artifact deleted before the object
// goes. An artifact is deleted only when it is this backup's for certain: of
// one that ended otherwise the command itself takes back what it had stored, and
// under its name may lie what another backup left.
func deleting(w *World) Decision {
	switch j := w.Take; {
	case !w.Finalizer:
		return Decision{Reason: "Deleting", Message: "the backup is being deleted"}
	case w.Outcome != Complete && (j == nil || j.Result == nil || !j.Result.OK):
		if j == nil {
			return Decision{Action: DropFinalizer, Reason: "NothingStored", Message: "there is no artifact of this backup"}
		}
		return w.stopping()
	case w.ClaimGone:
		return Decision{Action: DropFinalizer, Reason: "ClaimGone", Message: "the destination's claim does not exist any more"}
	case w.Delete == nil && w.patient():
		return Decision{Action: CreateDelete, Reason: "DeletingArtifact", Message: "the artifact is deleted"}
	case w.Delete == nil:
		return w.left("it could not be tried")
	}
	return w.deletion()
}

// stopping ends the attempt. A pod whose node is silent does not end for long.
func (w *World) stopping() Decision {
	switch {
	case !w.patient():
		return Decision{Action: DropFinalizer, Reason: "JobStopping", Warning: true, Message: "the Job of the backup does not end; what it had stored may be left"}
	case !w.Take.Terminating:
		return Decision{Action: DropTake, Reason: "Deleting", Message: "the backup is being deleted; its Job stops"}
	}
	return w.awaitDeletion("the Job is stopping")
}

func (w *World) deletion() Decision {
	switch j := w.Delete; {
	case j.Result != nil && (j.Result.OK || j.Result.Reason == ReasonNotFound), j.Complete:
		return Decision{Action: DropFinalizer, Reason: "ArtifactDeleted", Message: "the artifact is deleted"}
	case j.Failed || !w.patient():
		why := j.Trouble
		if j.Result != nil {
			why = j.Result.Message
		}
		if why == "" {
			why = "the Job gave up: " + j.FailedReason
		}
		return w.left(why)
	case j.Trouble != "":
		return w.awaitDeletion(j.Trouble)
	case j.Result != nil:
		return w.awaitDeletion(j.Result.Message)
	}
	return w.awaitDeletion("the artifact is being deleted")
}

func (w *World) patient() bool { return w.Now.Before(w.DeletingAt.Add(w.Limits.Deletion)) }

func (w *World) awaitDeletion(why string) Decision {
	return Decision{Reason: "DeletingArtifact", Message: why, Wake: w.DeletingAt.Add(w.Limits.Deletion)}
}

// left lets the object go without its artifact: a destination that is gone for
// good must not keep a namespace from being deleted.
func (w *World) left(why string) Decision {
	return Decision{
		Action: DropFinalizer, Reason: "ArtifactLeft", Warning: true,
		Message: "the artifact could not be deleted and stays where it is: " + why,
	}
}
