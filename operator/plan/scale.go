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
	s := step(Remove, top.Ordinal)
	s.Member = top.ID
	return act(scaleIn, top.Ordinal, s, "ReplicasDiffer", "%d members, %d are wanted; the highest leaves", len(w.Members), w.Spec.Replicas)
}
