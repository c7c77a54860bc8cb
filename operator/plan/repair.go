package plan

import (
	"fmt"
	"time"

	"metastore.io/metastore/api/v1alpha1"
)

// dataFailure returns the reason why a member can never serve again from the
// data that it has; empty when nothing says so.
func dataFailure(p Pod, v Volume) string {
	if v.Lost || v.NodeGone {
		return ReasonVolumeLost
	}
	switch p.ExitCode {
	case exitDataGone:
		return ReasonDataGone
	case exitDataForeign:
		return ReasonDataForeign
	case exitDataCorrupt:
		return ReasonDataCorrupt
	}
	return ""
}

// obstacle returns the reason why a member cannot serve although its data is
// whole: giving the data up would be wrong, a person or time has to help.
func obstacle(p Pod) string {
	switch p.ExitCode {
	case exitFormatNewer:
		return ReasonFormatTooNew
	case exitDataLocked:
		return ReasonDataLocked
	case ExitVolumeFull:
		return ReasonVolumeFull
	}
	return ""
}

func explain(ordinal int, reason string) string {
	what := map[string]string{
		ReasonVolumeLost:     "the volume of member %d is lost",
		ReasonDataGone:       "member %d found its data directory empty although it had started before",
		ReasonDataForeign:    "member %d found data that is not its own",
		ReasonDataCorrupt:    "member %d found its data corrupt",
		ReasonFormatTooNew:   "member %d found data of a newer version than its own; set the version back to the newer one",
		ReasonDataLocked:     "member %d found its data in use by another process",
		ReasonMemberStarting: "member %d is starting",
		ReasonVolumeFull:     "the volume of member %d is full; raise spec.storage.size",
		ReasonNodeLost:       "the node of member %d is silent",
	}[reason]
	return fmt.Sprintf(what, ordinal)
}

// repair begins the replacement of a voter whose data is gone: it is removed
// from the membership here, and the later passes see an ordinal without a
// member (orphans), give its volume up and add it anew as a learner. A pod or a
// node that is merely gone is left to the StatefulSet controller.
func repair(w *World) *Decision {
	for _, m := range w.Members {
		p, v := w.Pods[m.Ordinal], w.Volumes[m.Ordinal]
		if m.Ordinal < 0 || m.Learner || m.Answers || p.Ready {
			continue
		}
		if reason := dataFailure(p, v); reason != "" {
			return w.replaceVoter(m, reason)
		}
		if reason := obstacle(p); reason != "" {
			return wait(heal, m.Ordinal, p.ReadyChangedAt.Add(w.Limits.StartTimeout), reason, "%s", explain(m.Ordinal, reason))
		}
		if p.NodeDown && w.Spec.Repair.ReplaceLost {
			return w.replaceVoter(m, ReasonNodeLost)
		}
		if p.Terminating && p.NodeDown {
			return wait(heal, m.Ordinal, p.TerminatingAt.Add(w.Limits.StartTimeout), ReasonNodeLost,
				"pod %d ends on a node that is silent; its data may be there, so it is not forced", m.Ordinal)
		}
	}
	return nil
}

// replaceVoter removes a voter if the others keep a quorum without it, before
// and after, and if it has been failing for long enough.
func (w *World) replaceVoter(m Member, reason string) *Decision {
	p, v := w.Pods[m.Ordinal], w.Volumes[m.Ordinal]
	why := explain(m.Ordinal, reason)
	all, healthy := w.voters(m.Ordinal)
	if healthy < majority(all) {
		return w.waitSinceReported(replace, m.Ordinal, w.Limits.StartTimeout, reason,
			"%s; it is not replaced before %d of the other voters are healthy, now it is %d", why, majority(all), healthy)
	}
	if other, ok := w.inProgress(); ok {
		return w.waitSinceReported(replace, m.Ordinal, w.Limits.JoinTimeout, reason,
			"%s; it is replaced once learner %d has joined", why, other.Ordinal)
	}
	if w.Spec.Repair.Manual {
		return w.waitSinceReported(replace, m.Ordinal, 0, reason, "%s; %s", why, byHand)
	}
	if until := p.ReadyChangedAt.Add(w.repairGrace(reason)); w.Now.Before(until) {
		return wait(replace, m.Ordinal, until, reason, "%s; it is replaced if that does not change", why)
	}
	// Where the member is not recorded, the StatefulSet controller made the volume in
	// place of one that somebody deleted: nothing was repaired there yet.
	if until := v.CreatedAt.Add(w.Limits.RepairInterval); v.Member == m.ID && w.Now.Before(until) {
		return wait(replace, m.Ordinal, until, reason, "%s; its volume is too new to be replaced again already", why)
	}
	return w.giveUp(replace, m, reason, "%s; it is replaced at the same ordinal", why)
}

// byHand is for those who have chosen spec.repair.mode Manual.
const byHand = "spec.repair.mode is Manual: remove the member from the cluster (etcdctl member remove), and its ordinal gets a new one"

func (w *World) repairGrace(reason string) time.Duration {
	if reason == ReasonNodeLost {
		return w.grace(w.Limits.LostGrace)
	}
	return w.grace(w.Limits.RepairGrace)
}

// giveUp removes a member for what its pod shows.
func (w *World) giveUp(op v1alpha1.OperationType, m Member, reason, format string, args ...any) *Decision {
	s := step(Remove, m.Ordinal)
	s.Member, s.DataGone = m.ID, true
	return act(op, m.Ordinal, s, reason, format, args...)
}

// inProgress returns the learner that is joining, if there is one.
func (w *World) inProgress() (Member, bool) {
	for _, m := range w.Members {
		if m.Learner {
			return m, true
		}
	}
	return Member{}, false
}
