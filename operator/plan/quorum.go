package plan

import "time"

// quorum stops what needs the membership while that is unknown. Nothing is
// concluded from silence: no member is removed, none added.
func quorum(w *World) *Decision {
	if w.ListKnown {
		return nil
	}
	if w.restored() {
		return w.awaitRestored()
	}
	if !w.Bootstrapped {
		return w.awaitSeed()
	}
	ready, ordinals := 0, sorted(w.Pods)
	for _, ordinal := range ordinals {
		p := w.Pods[ordinal]
		if d := dataFailure(p, w.Volumes[ordinal]); d != "" && w.Set.Replicas == 1 {
			return w.waitSinceReported(findQuorum, ordinal, 0, d,
				"%s, and there is no other member to copy from; restore a backup, or bring the volume back", explain(ordinal, d))
		}
		if p.Ready {
			ready++
		}
	}
	if d := w.beginRecovery(); d != nil {
		return d
	}
	if ready >= majority(max(1, len(ordinals))) {
		return w.waitSinceReported(findQuorum, -1, time.Minute, ReasonUnreachable,
			"%d pods are ready, but none of their members answers the operator; nothing is changed", ready)
	}
	return w.waitSinceReported(findQuorum, -1, w.Limits.StartTimeout, ReasonQuorumLost,
		"no majority of the members answers; %d of %d pods are ready", ready, w.Set.Replicas)
}

// awaitSeed waits for the first member to serve.
func (w *World) awaitSeed() *Decision {
	p, ok := w.Pods[0]
	if !ok {
		return w.waitSinceReported(bootstrap, 0, w.Limits.ObjectTimeout, "PodMissing",
			"the StatefulSet controller has not made pod 0 yet")
	}
	return wait(bootstrap, 0, p.CreatedAt.Add(w.Limits.StartTimeout), ReasonMemberStarting,
		"the first member is starting%s", p.because())
}

// because tells what the kubelet says, for the end of a sentence.
func (p Pod) because() string {
	switch {
	case p.Waiting != "":
		return ": " + p.Waiting
	case p.Running:
		return ", its container runs"
	}
	return ""
}

// foreign reports members that the operator did not make. They keep their vote
// and are never removed, but nothing can be known of their health, so the
// cluster's size stays as it is.
func foreign(w *World, blocked *[]Blocked) *verdict {
	for _, m := range w.Members {
		if m.Ordinal < 0 {
			*blocked = append(*blocked, Blocked{Reason: ReasonForeignMember, Message: "the cluster has a member that " +
				"belongs to none of its pods; remove it with etcdctl member remove if nobody needs it"})
			break
		}
	}
	return nil
}
