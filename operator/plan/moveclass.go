package plan

// moveClass gives members whose volumes are of another storage class than the
// spec asks for new ones, one at a time, the leader last. The claim template is of
// the new class by then.
//
// The claim goes first, then the pod that keeps it, and only then is the member
// removed: as long as it is one it answers all that it was asked, and a member
// that was removed hears no more of what became of that.
func moveClass(w *World, blocked *[]Blocked) *verdict {
	var next *Member
	for i := range w.Members {
		m := &w.Members[i]
		if w.givenUp(*m) {
			return &verdict{Decision: *w.leave(*m)}
		}
		if v, ok := w.Volumes[m.Ordinal]; !ok || !v.OtherClass || m.Learner {
			continue
		}
		if next == nil || next.Leader && !m.Leader || next.Leader == m.Leader && m.Ordinal > next.Ordinal {
			next = m
		}
	}
	switch {
	case next == nil:
		return nil
	case len(w.Members) < 3:
		*blocked = append(*blocked, Blocked{Reason: ReasonOtherClass, Message: "spec.storage.storageClassName was changed, and the only " +
			"copy of the data is on a volume of the old class; set replicas to 3, and back when the class has changed"})
		return nil
	}
	if d := w.awaitWell(*next, -1); d != nil {
		return &verdict{Decision: *d}
	}
	return &verdict{Decision: *act(replace, next.Ordinal, step(DeleteVolume, next.Ordinal), ReasonOtherClass,
		"the volume of member %d is of another storage class than the spec's; the member is replaced at the same ordinal", next.Ordinal)}
}

// givenUp says that the claim of a voter was deleted for one of another class. Once
// it is gone only the last report tells so; without that the member is repaired
// like any that has lost its volume.
func (w *World) givenUp(m Member) bool {
	v, ok := w.Volumes[m.Ordinal]
	op := w.Operation
	switch {
	case m.Learner || m.Ordinal < 0:
		return false
	case ok && v.OtherClass:
		return v.Terminating
	}
	return op.Type == replace && op.Ordinal == m.Ordinal && op.Reason == ReasonOtherClass && !m.Answers && (!ok || v.Member == 0)
}

// leave stops a member whose claim was given up, and removes it when its data are gone.
func (w *World) leave(m Member) *Decision {
	p, ok := w.Pods[m.Ordinal]
	switch {
	case !ok || !w.Volumes[m.Ordinal].OtherClass:
		if all, healthy := w.voters(m.Ordinal); healthy < majority(all) {
			return w.waitSinceReported(replace, m.Ordinal, w.Limits.StartTimeout, ReasonOtherClass,
				"member %d is not removed before %d of the other voters are healthy, now it is %d", m.Ordinal, majority(all), healthy)
		}
		s := step(Remove, m.Ordinal)
		s.Member = m.ID
		return act(replace, m.Ordinal, s, ReasonOtherClass, "member %d has stopped and its volume is given up; it is replaced at the same ordinal", m.Ordinal)
	case p.Terminating:
		return wait(replace, m.Ordinal, p.TerminatingAt.Add(w.Limits.ObjectTimeout), ReasonOtherClass, "pod %d is being deleted", m.Ordinal)
	}
	if d := w.awaitWell(m, m.Ordinal); d != nil {
		return d
	}
	return act(replace, m.Ordinal, step(DeletePod, m.Ordinal), ReasonOtherClass, "pod %d holds the volume that is being replaced", m.Ordinal)
}

// awaitWell has everybody healthy except the member of one ordinal (-1: nobody), and
// another one lead, before a member goes on towards another class.
func (w *World) awaitWell(m Member, except int) *Decision {
	if other, ok := w.firstUnhealthy(except); ok {
		return w.waitSinceReported(replace, other.Ordinal, w.Limits.StartTimeout, ReasonMemberUnhealthy,
			"no volume is changed for one of another class while member %d %s", other.Ordinal, w.unhealthy(other))
	}
	if m.Leader {
		return w.handOver(replace, m)
	}
	return nil
}
