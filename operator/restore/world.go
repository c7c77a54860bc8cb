// Package restore decides what a MetaStoreRestore does next. It owns the order of
// its steps, when it gives up, and the way back.
//
// Next is pure: the same World gives the same Decision, which is one step, or a
// wait with its reason and its deadline, or the end. What has been done is read
// from the world: from Jobs, from the mark at the seed's claim, from the finalizer.
// The mark is a conversation with the cluster's own planner, which starts and stops
// members: see plan.RestorePhase. The controller makes the World, takes the step,
// and reports.
package restore

import (
	"time"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/plan"
)

// World is everything that a decision may depend on, observed at one time.
type World struct {
	Now    time.Time
	Limits Limits
	// Name is the MetaStoreRestore's, and Mode its mode.
	Name string
	Mode v1alpha1.RestoreMode
	// Deleting is set once it is being deleted, Held while its finalizer keeps it.
	Deleting, Held bool
	// Finished says that it is Complete or Failed for good.
	Finished bool
	// Bump is by how much the restored revision is ahead.
	Bump int64
	// BackupFirst asks for a backup of the cluster as it is; Backup is that backup,
	// nil while there is none.
	BackupFirst bool
	Backup      *Backup
	// Missing is what the restore needs and a person has to bring; nil for nothing.
	Missing *Failure
	// Cluster is nil while there is none.
	Cluster *Cluster
	Jobs    map[Task]Job
	// Claim says that the seed's claim exists, ClaimEnding that it is being deleted.
	Claim, ClaimEnding bool
	// Mark is this restore's mark there, OtherMark the name of another one that goes
	// on; empty for none.
	Mark      *Mark
	OtherMark string
	// StepStartedAt is when the step that is going on was first reported.
	Step          v1alpha1.RestoreStepName
	StepStartedAt time.Time
}

// Limits are the clocks.
type Limits struct {
	// MissingTimeout is how long what is missing may be on its way.
	MissingTimeout time.Duration
	// StopTimeout is how long members may take to stop before that is reported.
	StopTimeout time.Duration
	// ServeTimeout is how long the restored member may take to serve before the data
	// of before are put back.
	ServeTimeout time.Duration
	// StartTimeout is how long a Job's pod may take to start. One that fills the
	// volume is given up after that: the members have stopped.
	StartTimeout time.Duration
	// JobTimeout is how long one Job may take.
	JobTimeout time.Duration
}

// DefaultLimits are the limits used in production.
func DefaultLimits() Limits {
	return Limits{
		MissingTimeout: time.Minute, StopTimeout: 2 * time.Minute,
		ServeTimeout: 10 * time.Minute, StartTimeout: 5 * time.Minute, JobTimeout: 6 * time.Hour,
	}
}

// Cluster is what is seen of the cluster.
type Cluster struct {
	// BootstrapRestore is what it waits for to begin with.
	BootstrapRestore string
	// Begun says that it has served at some time.
	Begun                        bool
	Paused, Hibernated, Deleting bool
	// Available says that a quorum serves; Message is what it says of itself.
	Available bool
	Message   string
	// Locked says that its members accept no password of root that the operator has.
	Locked bool
	// Revision is the newest that its members have told.
	Revision int64
	// Confirmed says that it may begin anew from a survivor, Recovering that it does,
	// and Recovered that it has since this restore was made.
	Confirmed, Recovering, Recovered bool
}

// Backup is the backup that is made first.
type Backup struct {
	Complete bool
	// Failure is nil unless it has failed.
	Failure *Failure
}

// Failure is a reason for programs and a sentence for people.
type Failure struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Task is what a Job does.
type Task string

// The tasks, which are also what ends their Jobs' names.
const (
	Verify Task = "verify"
	Fill   Task = "fill"
	Undo   Task = "undo"
	Finish Task = "finish"
)

// Job is one observed Job.
type Job struct {
	Done bool
	// Failure is nil unless it is done in vain.
	Failure *Failure
	// Revision is what Verify found and what Fill made of it.
	Revision int64
	// Waiting says that no pod of it has started, Trouble why; empty where nobody says.
	Waiting bool
	Trouble string
	// Outdated says that it would be made with another image now.
	Outdated bool
	// Terminating says that it is being deleted.
	Terminating bool
}

// Mark is what stands at the seed's claim.
type Mark struct {
	// Restore and UID are the MetaStoreRestore that made it.
	Restore string `json:"restore"`
	UID     string `json:"uid"`
	// Phase is how far it has come, and PhaseAt since when.
	Phase   plan.RestorePhase `json:"phase"`
	PhaseAt time.Time         `json:"phaseAt"`
	// Above is the highest revision seen of the cluster before.
	Above int64 `json:"above,omitempty"`
	// Token is the new cluster's.
	Token string `json:"token"`
	// Undo is why the data of before are put back; nil while they are not.
	Undo *Failure `json:"undo,omitempty"`
}

// Action is the kind of a step. Each is one call that changes something, and is
// safe to repeat.
type Action string

const (
	// Nothing: the decision is a wait, or the restore has ended.
	Nothing Action = ""
	// Hold puts the finalizer on, Release takes it off.
	Hold    Action = "Hold"
	Release Action = "Release"
	// StartJob makes the Job of Decision.Task, StopJob deletes it with its pod.
	StartJob Action = "StartJob"
	StopJob  Action = "StopJob"
	// StartBackup makes the MetaStoreBackup of the cluster as it is.
	StartBackup Action = "StartBackup"
	// MakeClaim makes the seed's claim, with the mark in Decision.Phase.
	MakeClaim Action = "MakeClaim"
	// MarkClaim writes the mark with Decision.Phase and Decision.Undo.
	MarkClaim Action = "MarkClaim"
	// EndMark takes it away; DropClaim deletes the claim that this restore made.
	EndMark   Action = "EndMark"
	DropClaim Action = "DropClaim"
	// Allow gives the word for a recovery from a lost quorum, Disallow takes it back.
	Allow    Action = "Allow"
	Disallow Action = "Disallow"
)

// Outcome is how a restore has ended.
type Outcome string

const (
	Open     Outcome = ""
	Complete Outcome = "Complete"
	Failed   Outcome = "Failed"
)

// Decision is the outcome of Next.
type Decision struct {
	Action Action
	Task   Task
	Phase  plan.RestorePhase
	Undo   *Failure
	// Step is the part of the restore that this belongs to; empty for none.
	Step    v1alpha1.RestoreStepName
	Outcome Outcome
	// Reason is one word for programs, Message one sentence for people.
	Reason, Message string
	// Deadline is when a wait has taken too long; zero for a wait that may take any
	// time.
	Deadline time.Time
}

// Overdue says that what is waited for should have come by now.
func (d Decision) Overdue(now time.Time) bool {
	return d.Action == Nothing && !d.Deadline.IsZero() && !now.Before(d.Deadline)
}
