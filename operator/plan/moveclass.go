package plan

// moveClass replaces members whose volumes are of another storage class than the
// spec asks for, one at a time, the leader last. The claim template is of the new
// class by then.
func moveClass(w *World, blocked *[]Blocked) *verdict {
	var next *Member
	for i := range w.Members {
		m := &w.Members[i]
		if v, ok := w.Volumes[m.Ordinal]; !ok || !v.OtherClass || v.Terminating || m.Learner {
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
	if m, ok := w.firstUnhealthy(-1); ok {
		return &verdict{Decision: *w.waitSinceReported(replace, m.Ordinal, w.Limits.StartTimeout, ReasonMemberUnhealthy,
			"no volume is changed for one of another class while member %d %s", m.Ordinal, w.unhealthy(m))}
	}
	if next.Leader {
		if d := w.handOver(replace, *next); d != nil {
			return &verdict{Decision: *d}
		}
	}
	s := step(Remove, next.Ordinal)
	s.Member = next.ID
	return &verdict{Decision: *act(replace, next.Ordinal, s, ReasonOtherClass,
		"the volume of member %d is of another storage class than the spec's; it is replaced at the same ordinal", next.Ordinal)}
}
