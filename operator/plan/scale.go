package plan

// scale changes the number of members by one. It grows only when everybody is
// well. It shrinks from the highest ordinal, and the one that leaves need not be
// well: taking a dead voter out never costs the others anything.
func scale(w *World) *Decision {
	n := len(w.Members)
	if n == w.Spec.Replicas {
		return nil
	}
	top := Member{Ordinal: -1}
	for _, m := range w.Members {
		if m.Ordinal < 0 {
			return nil // reported as blocked by foreign
		}
		if m.Ordinal > top.Ordinal {
			top = m
		}
	}
	if n < w.Spec.Replicas {
		return w.scaleOut(n)
	}
	return w.scaleIn(top)
}

func (w *World) scaleOut(ordinal int) *Decision {
	if m, ok := w.firstUnhealthy(-1); ok {
		return w.waitSinceReported(scaleOut, m.Ordinal, w.Limits.StartTimeout, ReasonMemberUnhealthy,
			"the cluster does not grow while member %d %s", m.Ordinal, w.unhealthy(m))
	}
	return act(scaleOut, ordinal, w.addLearner(ordinal), "ReplicasDiffer",
		"%d members of %d; the next joins as a learner", len(w.Members), w.Spec.Replicas)
}

func (w *World) scaleIn(top Member) *Decision {
	if m, ok := w.firstUnhealthy(top.Ordinal); ok {
		return w.waitSinceReported(scaleIn, m.Ordinal, w.Limits.StartTimeout, ReasonMemberUnhealthy,
			"the cluster does not shrink while member %d %s", m.Ordinal, w.unhealthy(m))
	}
	if top.Leader {
		if d := w.handOver(scaleIn, top); d != nil {
			return d
		}
	}
	if d := w.stop(top); d != nil {
		return d
	}
	s := step(Remove, top.Ordinal)
	s.Member = top.ID
	return act(scaleIn, top.Ordinal, s, "ReplicasDiffer", "%d members, %d are wanted; the highest leaves", len(w.Members), w.Spec.Replicas)
}

// stop ends the pod of the highest member before that is removed: as long as it is
// a member it answers all that it was asked, and one that was removed hears no more
// of what became of that. Of two members none can be spared, and one that takes no
// part, or does not end, is removed all the same.
func (w *World) stop(top Member) *Decision {
	p, ok := w.Pods[top.Ordinal]
	switch {
	case len(w.Members) < 3:
		return nil
	case top.Ordinal < w.Set.Replicas && w.unhealthy(top) == "":
		return act(scaleIn, top.Ordinal, applySet(top.Ordinal), "ReplicasDiffer",
			"%d members, %d are wanted; the highest stops, and leaves then", len(w.Members), w.Spec.Replicas)
	case top.Ordinal < w.Set.Replicas || !ok || p.NodeDown:
		return nil
	}
	d := w.waitSinceReported(scaleIn, top.Ordinal, w.Limits.ObjectTimeout, "PodTerminating", "pod %d is being deleted", top.Ordinal)
	if d.Overdue(w.Now) {
		return nil
	}
	return d
}

// stopped says that the highest member has no pod any more because it is to leave.
// It gets one again when it is not, or when another one is unwell meanwhile.
func (w *World) stopped(ordinal int) bool {
	_, unwell := w.firstUnhealthy(ordinal)
	return w.ListKnown && !unwell && ordinal == w.Set.Replicas && len(w.Members) > max(2, w.Spec.Replicas)
}
