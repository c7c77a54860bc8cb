// Package backup decides what becomes of MetaStoreBackups and of their
// schedules. It owns their clocks: deadlines, time to live, cron, retention.
//
// Next and NextOfSchedule are pure: the same world gives the same decision,
// which is one step with its reason, an end, or a wait. All memory is in the
// world, so that an operator that stops between any two steps goes on where it
// was. The controller makes the world, takes the step, and reports.
package backup

import (
	"time"

	"metastore.io/metastore/api/v1alpha1"
)

// World is what a decision on a MetaStoreBackup depends on, observed at one time.
type World struct {
	// Now is when the world was observed; the only clock there is.
	Now    time.Time
	Limits Limits

	CreatedAt time.Time
	// Deadline is how long the backup may take from its creation.
	Deadline time.Duration
	// Outcome is the end that was reported; FinishedAt is when.
	Outcome    Outcome
	FinishedAt time.Time
	// TTL is how long a finished backup stays; nil for ever.
	TTL *time.Duration

	Deleting   bool
	DeletingAt time.Time
	// DeleteArtifact says that the artifact goes with the object, and Finalizer that
	// the object waits for that.
	DeleteArtifact, Finalizer bool

	// Hindrance is why no attempt can be made; nil when one can.
	Hindrance *Hindrance
	// ClaimMissing says that the destination's claim is to be made first.
	ClaimMissing bool
	// ClaimGone says that the destination's claim does not exist, and the artifact
	// with it.
	ClaimGone bool

	// Take and Delete are the Jobs; nil when there is none.
	Take, Delete *Job
}

// Limits are the clocks that no spec names.
type Limits struct {
	// Inputs is how long something that the spec names may be missing.
	Inputs time.Duration
	// Deletion is how long an artifact's deletion may take.
	Deletion time.Duration
	// Overtime is how long after its deadline a Job may take to say so.
	Overtime time.Duration
}

// DefaultLimits are the limits used in production.
func DefaultLimits() Limits {
	return Limits{Inputs: 5 * time.Minute, Deletion: 15 * time.Minute, Overtime: time.Minute}
}

// Outcome is how a backup ended; empty while it has not.
type Outcome string

const (
	Complete Outcome = "Complete"
	Failed   Outcome = "Failed"
)

// Hindrance is why an attempt cannot be made.
type Hindrance struct {
	Reason, Message string
	// Input says that something that the spec names is missing, which nobody but a
	// person mends; other hindrances may pass until the deadline.
	Input bool
}

// Job is what was observed of a Job and of its pods.
type Job struct {
	// Complete and Failed are its own word; FailedReason is why.
	Complete, Failed bool
	FailedReason     string
	Terminating      bool
	// Result is what its newest pod that has ended left; nil when there is none.
	Result *Result
	// Trouble is why its newest pod does not run; empty when it does. TroubleReason
	// is one word for it.
	Trouble, TroubleReason string
}

func (j *Job) ended() bool { return j != nil && (j.Complete || j.Failed) }

// Action is the kind of a step. Each is one call that changes something, and
// safe to repeat.
type Action string

const (
	// Nothing: the decision is a wait, an end, or there is nothing left to do.
	Nothing Action = ""
	// AddFinalizer has the object wait for its artifact's deletion.
	AddFinalizer Action = "AddFinalizer"
	// DropFinalizer lets it go.
	DropFinalizer Action = "DropFinalizer"
	// CreateClaim makes the destination's claim.
	CreateClaim Action = "CreateClaim"
	// CreateTake makes the Job that makes the artifact, DropTake deletes it.
	CreateTake Action = "CreateTake"
	DropTake   Action = "DropTake"
	// CreateDelete makes the Job that deletes the artifact.
	CreateDelete Action = "CreateDelete"
	// DeleteBackup deletes the MetaStoreBackup.
	DeleteBackup Action = "DeleteBackup"
)

// Decision is the outcome of Next.
type Decision struct {
	Action Action
	// Reason is one word for programs, Message one sentence for people.
	Reason, Message string
	// Outcome is the end that is to be reported; empty while there is none.
	Outcome Outcome
	// Manifest is the artifact's when it is complete.
	Manifest *v1alpha1.BackupManifest
	// Warning says that a person had better hear of it.
	Warning bool
	// Wake is when to look again at the latest; zero for when something changes.
	Wake time.Time
}
