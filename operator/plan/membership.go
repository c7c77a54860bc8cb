package plan

import "metastore.io/metastore/api/v1alpha1"

// orphans are ordinals of the StatefulSet without a member. At the top, beyond
// the wanted size, the scale-in goes on: the set shrinks. Elsewhere the member
// was removed to be replaced: whatever its volume holds belongs to an identity
// that must never come back, so the claim is deleted, then the pod that still
// keeps it, and only then the ordinal gets a new member: the old pod must not
// join in its name, from a volume that is about to go.
func orphans(w *World) *Decision {
	top := w.Set.Replicas - 1
	if _, ok := w.member(top); !ok && top >= w.Spec.Replicas && top > 0 {
		return act(scaleIn, top, applySet(top), "MemberRemoved", "member %d has left the cluster; its pod goes", top)
	}
	for ordinal := range min(w.Set.Replicas, w.Spec.Replicas) {
		if _, ok := w.member(ordinal); ok {
			continue
		}
		if other, ok := w.inProgress(); ok && other.Ordinal >= 0 {
			continue // one change at a time: that learner first
		}
		if d := w.clear(ordinal); d != nil {
			return d
		}
		return act(replace, ordinal, w.addLearner(ordinal), "MemberRemoved",
			"ordinal %d gets a new member in place of the removed one", ordinal)
	}
	return nil
}

func (w *World) addLearner(ordinal int) Step {
	s := step(AddLearner, ordinal)
	s.PeerTLS = PeerTLS(w)
	return s
}

// clear gives up the volume of an ordinal that has no member, and its pod.
func (w *World) clear(ordinal int) *Decision {
	v, hasVolume := w.Volumes[ordinal]
	p, hasPod := w.Pods[ordinal]
	switch {
	case hasVolume && !v.Terminating:
		return act(replace, ordinal, step(DeleteVolume, ordinal), "MemberRemoved",
			"the volume of ordinal %d holds a removed member's data", ordinal)
	case hasPod && p.Terminating && (p.NodeDown || p.NodeGone):
		return act(replace, ordinal, step(ForceDeletePod, ordinal), ReasonNodeLost,
			"pod %d ends on a node that is silent, and its member was removed", ordinal)
	case hasVolume && hasPod && !p.Terminating:
		return act(replace, ordinal, step(DeletePod, ordinal), "VolumeGivenUp",
			"pod %d holds the volume that is being replaced", ordinal)
	}
	return nil
}

// leftovers deletes the volumes of members that a scale-in has removed: such
// data must never be started from again, and a later member at the ordinal
// needs an empty volume. Only a claim that a member's identity was recorded at
// is touched.
func leftovers(w *World) *Decision {
	for _, ordinal := range sorted(w.Volumes) {
		v := w.Volumes[ordinal]
		if _, ok := w.member(ordinal); ok || ordinal < w.Set.Replicas || v.Terminating || v.Member == 0 {
			continue
		}
		return act(scaleIn, ordinal, step(DeleteVolume, ordinal), "MemberRemoved",
			"the volume of ordinal %d holds a removed member's data", ordinal)
	}
	return nil
}

// record writes each member's identity to its claim, where it outlives the
// status and the cluster object.
func record(w *World) *Decision {
	for _, m := range w.Members {
		v, ok := w.Volumes[m.Ordinal]
		if !ok || !m.Answers || v.Terminating || v.Member == m.ID && v.PeerTLS == m.PeerTLS && !v.OtherToken {
			continue
		}
		s := step(RecordMember, m.Ordinal)
		s.Member, s.PeerTLS = m.ID, m.PeerTLS
		if v.Member == m.ID && v.PeerTLS != m.PeerTLS {
			return act(rolling, m.Ordinal, s, urlChanged, "member %d has another peer URL; that is recorded at its volume", m.Ordinal)
		}
		return act(w.joining(m.Ordinal), m.Ordinal, s, "MemberStarted", "member %d serves; its identity is recorded at its volume", m.Ordinal)
	}
	return nil
}

// joining names the operation that a learner at an ordinal belongs to.
func (w *World) joining(ordinal int) v1alpha1.OperationType {
	switch {
	case w.Operation.Type == replace && w.Operation.Ordinal == ordinal:
		return replace
	case ordinal == 0 && w.Set.Replicas == 1:
		return bootstrap
	case ordinal == w.Set.Replicas-1 || ordinal >= w.Set.Replicas:
		return scaleOut
	}
	return replace
}

// learners brings the learner that there is to its vote, or takes it out again
// when it is not wanted any more.
func learners(w *World) *Decision {
	for _, m := range w.Members {
		if m.Learner && m.Ordinal >= 0 {
			return w.learner(m)
		}
	}
	return nil
}

func (w *World) learner(m Member) *Decision {
	op := w.joining(m.Ordinal)
	p, hasPod := w.Pods[m.Ordinal]
	v, hasVolume := w.Volumes[m.Ordinal]
	if m.Ordinal >= w.Spec.Replicas {
		s := step(Remove, m.Ordinal)
		s.Member = m.ID
		return act(scaleIn, m.Ordinal, s, "NotWanted", "learner %d is not wanted any more", m.Ordinal)
	}
	if m.Ordinal >= w.Set.Replicas {
		return act(op, m.Ordinal, applySet(m.Ordinal+1), "LearnerAdded", "learner %d is a member; its pod can start", m.Ordinal)
	}
	if hasPod && v.Terminating && !p.Terminating && !m.Started {
		return act(op, m.Ordinal, step(DeletePod, m.Ordinal), "VolumeGivenUp",
			"pod %d holds the volume that is being replaced", m.Ordinal)
	}
	// The StatefulSet controller makes a claim before its pod and never afterwards.
	if hasPod && !hasVolume && !p.Terminating && !m.Started && w.Now.After(p.CreatedAt.Add(w.Limits.ClaimGrace)) {
		return act(op, m.Ordinal, step(DeletePod, m.Ordinal), "VolumeMissing",
			"pod %d waits for a claim that nobody makes", m.Ordinal)
	}
	if m.Answers && m.Started && m.Lag <= w.Limits.MaxLag {
		s := step(Promote, m.Ordinal)
		s.Member = m.ID
		return act(op, m.Ordinal, s, "CaughtUp", "learner %d has caught up", m.Ordinal)
	}
	if reason := dataFailure(p, v); reason != "" && !m.Answers && !v.Terminating {
		return w.replaceLearner(op, m, reason)
	}
	return w.awaitLearner(op, m)
}

// replaceLearner starts a learner afresh; it has no vote, so only time is asked.
// One that has never started keeps its place in the membership: what its volume
// holds cannot be its own, and only that has to go. (The pod of the member whose
// place it has taken may still tell of that one's end.)
func (w *World) replaceLearner(op v1alpha1.OperationType, m Member, reason string) *Decision {
	p, v := w.Pods[m.Ordinal], w.Volumes[m.Ordinal]
	if w.Spec.Repair.Manual {
		return w.waitSinceReported(op, m.Ordinal, 0, reason, "%s; %s", explain(m.Ordinal, reason), byHand)
	}
	until := p.ReadyChangedAt.Add(w.repairGrace(reason))
	if again := v.CreatedAt.Add(w.Limits.RepairInterval); again.After(until) {
		until = again
	}
	if w.Now.Before(until) {
		return wait(op, m.Ordinal, until, reason, "%s; it is replaced if that does not change", explain(m.Ordinal, reason))
	}
	if _, ok := w.Volumes[m.Ordinal]; !m.Started && ok {
		return act(op, m.Ordinal, step(DeleteVolume, m.Ordinal), reason, "%s; it needs an empty volume", explain(m.Ordinal, reason))
	}
	return w.giveUp(op, m, reason, "%s; it joins afresh", explain(m.Ordinal, reason))
}

func (w *World) awaitLearner(op v1alpha1.OperationType, m Member) *Decision {
	p, ok := w.Pods[m.Ordinal]
	switch {
	case !ok:
		return w.waitSinceReported(op, m.Ordinal, w.Limits.ObjectTimeout, "PodMissing",
			"the StatefulSet controller has not made pod %d yet", m.Ordinal)
	case p.Terminating:
		return wait(op, m.Ordinal, p.TerminatingAt.Add(w.Limits.ObjectTimeout), "PodTerminating", "pod %d is being deleted", m.Ordinal)
	case !m.Answers:
		return wait(op, m.Ordinal, p.CreatedAt.Add(w.Limits.StartTimeout), ReasonMemberStarting, "learner %d is starting%s", m.Ordinal, p.because())
	}
	return wait(op, m.Ordinal, p.CreatedAt.Add(w.Limits.JoinTimeout), "CatchingUp", "learner %d is %d entries behind", m.Ordinal, m.Lag)
}
