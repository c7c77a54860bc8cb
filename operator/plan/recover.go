package plan

import (
	"cmp"
	"fmt"
	"time"

	"metastore.io/metastore/api/v1alpha1"
)

// Survivor is what a member says of itself while there is no quorum.
type Survivor struct {
	Member MemberID
	// LogTerm and LogIndex are the last entry of its log. What was acknowledged
	// is in the log of every majority, so that of the members that are left the
	// one whose log ends last has the most of it. Its commit index tells less: it
	// lags behind.
	LogTerm, LogIndex uint64
	Committed         uint64
}

// Recovery is the mark of a recovery that has begun, at the survivor's claim.
type Recovery struct {
	Ordinal int
	// Word tells this recovery from all others; the survivor's data remember it.
	Word string
}

// Candidate is one row of the evidence that a recovery begins with.
type Candidate struct {
	Ordinal int
	Answers bool
	Survivor
	// Finding is why the member is lost; empty when nothing says so.
	Finding string
}

// Candidates are all members that have left traces, by ordinal.
func Candidates(w World) []Candidate {
	var out []Candidate
	for ordinal := range w.adopted() {
		s, ok := w.Survivors[ordinal]
		c := Candidate{Ordinal: ordinal, Answers: ok, Survivor: s}
		if !ok {
			c.Finding = dataFailure(w.Pods[ordinal], w.Volumes[ordinal])
		}
		out = append(out, c)
	}
	return out
}

// RecoveryWord is the word of a recovery from this member as it is now. A
// recovery adds entries to the log, so that no word is used twice.
func (s Survivor) RecoveryWord() string {
	return fmt.Sprintf("term-%d-index-%d", s.LogTerm, s.LogIndex)
}

// best is the member to begin anew from; ok is false when none answers.
func best(all []Candidate) (Candidate, bool) {
	var out Candidate
	found := false
	for _, c := range all {
		if !c.Answers {
			continue
		}
		if !found || cmp.Or(cmp.Compare(c.LogTerm, out.LogTerm), cmp.Compare(c.LogIndex, out.LogIndex), cmp.Compare(c.Committed, out.Committed)) > 0 {
			out, found = c, true
		}
	}
	return out, found
}

// beginRecovery decides whether the cluster may be begun anew from what is left
// of it. That gives up what only the lost members had, so it needs the user's
// word: given for this cluster now, or in the spec for the case that too many
// members are lost for certain. Members that are only silent may be alive where
// the operator does not see them, and then two clusters would serve.
func (w *World) beginRecovery() *Decision {
	all := Candidates(*w)
	answer, lost := 0, 0
	for _, c := range all {
		switch {
		case c.Answers:
			answer++
		case c.Finding != "":
			lost++
		}
	}
	members := len(all)
	hopeless := members-lost < majority(members)
	switch {
	case answer >= majority(members), !w.Confirmed && !hopeless:
		return nil
	case members == 1:
		return nil
	}
	survivor, ok := best(all)
	if !ok {
		return w.waitSinceReported(findQuorum, -1, 0, ReasonQuorumLost,
			"%d of %d members are lost and none of the others answers: there is nothing to begin anew from; restore a backup", lost, members)
	}
	what := fmt.Sprintf("member %d is the best of the %d that answer of %d: its log ends with term %d, index %d",
		survivor.Ordinal, answer, members, survivor.LogTerm, survivor.LogIndex)
	if !w.Confirmed && !w.Spec.Repair.RecoverQuorum {
		return w.waitSinceReported(findQuorum, -1, 0, ReasonQuorumLost,
			"the data of %d of %d members are gone, no quorum can come back; %s; to begin anew from it, set the cluster's annotation %s to the cluster's name, or restore a backup",
			lost, members, what, v1alpha1.AnnotationRecoverQuorum)
	}
	grace := w.Limits.LostGrace
	if w.Confirmed {
		grace = w.Limits.RepairGrace
	}
	if until := w.clock(recovering, -1, ReasonQuorumLost).Add(w.grace(grace)); w.Now.Before(until) {
		return wait(recovering, -1, until, ReasonQuorumLost, "%s; the cluster begins anew from it if that does not change", what)
	}
	s := step(MarkSurvivor, survivor.Ordinal)
	s.Member = survivor.Member
	return act(recovering, survivor.Ordinal, s, ReasonQuorumLost, "%s; the cluster begins anew from it", what)
}

// recovery goes on with a recovery that has begun. First every pod goes, so that
// no member of the old cluster runs while the new one is made; then the
// survivor's settings tell it to forget the others, and its pod starts. It
// remembers for ever that they were removed. Once it serves, the other ordinals
// are ordinals without a member, and get new ones on new volumes.
//
// A quorum that comes back, at any time, ends the recovery.
func recovery(w *World) *Decision {
	if w.Recovery == nil {
		return w.dropConfirmation()
	}
	ordinal := w.Recovery.Ordinal
	end := step(EndRecovery, ordinal)
	switch {
	case w.ListKnown:
		return act(recovering, ordinal, end, "QuorumServes", "a quorum serves; the recovery is over")
	case w.Volumes[ordinal].Terminating || dataFailure(w.Pods[ordinal], w.Volumes[ordinal]) != "":
		return act(recovering, ordinal, end, "SurvivorLost", "member %d cannot be begun anew from; the others are looked at again", ordinal)
	case w.Invalid != "":
		return invalid(w)
	case w.Forcing == w.Recovery.Word:
		return w.startSurvivor(ordinal)
	}
	if d := w.clearPods(recovering, ReasonQuorumLost, "before the cluster begins anew"); d != nil {
		return d
	}
	return act(recovering, ordinal, step(WriteSettings, -1), "PodsGone", "no pod is left; the settings tell member %d to begin anew", ordinal)
}

// dropConfirmation takes the permission away when nothing needs it any more.
func (w *World) dropConfirmation() *Decision {
	if !w.Confirmed || !w.ListKnown {
		return nil
	}
	return act(recovering, -1, step(DropConfirmation, -1), "QuorumServes", "a quorum serves; the permission to begin anew is taken away")
}

// clearPods ends all pods. One on a silent node cannot be seen to end: it is
// forgotten, since the loss was found certain, or the user has given his word.
func (w *World) clearPods(op v1alpha1.OperationType, reason, before string) *Decision {
	if w.Set != nil && w.Set.Replicas > 0 {
		return act(op, -1, applySet(0), reason, "every pod stops %s", before)
	}
	ordinals := sorted(w.Pods)
	for _, ordinal := range ordinals {
		p := w.Pods[ordinal]
		switch {
		case p.NodeGone || p.Terminating && p.NodeDown:
			return act(op, ordinal, step(ForceDeletePod, ordinal), ReasonNodeLost, "pod %d is on a node that is lost", ordinal)
		case !p.Terminating && w.Set == nil:
			return act(op, ordinal, step(DeletePod, ordinal), reason, "pod %d stops %s", ordinal, before)
		}
	}
	if len(ordinals) == 0 {
		return nil
	}
	return w.waitSinceReported(op, ordinals[0], w.Limits.ObjectTimeout, "PodTerminating", "pod %d is being deleted", ordinals[0])
}

// startSurvivor waits for the survivor alone. A pod that runs for a while and
// does not serve may have started before it could see its settings.
func (w *World) startSurvivor(ordinal int) *Decision {
	if w.Set == nil || w.Set.Replicas != ordinal+1 {
		return act(recovering, ordinal, applySet(ordinal+1), "SettingsWritten", "member %d begins anew", ordinal)
	}
	p, ok := w.Pods[ordinal]
	_, answers := w.Survivors[ordinal]
	switch {
	case !ok:
		return w.waitSinceReported(recovering, ordinal, w.Limits.ObjectTimeout, "PodMissing", "the StatefulSet controller has not made pod %d yet", ordinal)
	case answers && !p.Terminating && w.Now.After(p.ReadyChangedAt.Add(w.Limits.StaleSettings)):
		return act(recovering, ordinal, step(DeletePod, ordinal), "NotForced", "member %d serves nobody: it did not see its settings, and starts again", ordinal)
	}
	return wait(recovering, ordinal, p.CreatedAt.Add(w.Limits.StartTimeout), ReasonMemberStarting, "member %d begins anew%s", ordinal, p.because())
}

// grace is the spec's, or else the given one.
func (w *World) grace(otherwise time.Duration) time.Duration {
	if g := w.Spec.Repair.Grace; g > 0 {
		return g
	}
	return otherwise
}
