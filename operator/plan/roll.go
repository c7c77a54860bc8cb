package plan

import (
	"cmp"
	"slices"

	"metastore.io/metastore/api/v1alpha1"
)

// roll brings the pods that take part to the newest template, one at a time: the
// alive but unready first, then followers, the leader last and only after it has
// handed over. (The dead and the silent need no turn, see fixForward.)
//
// Where somebody else restarts the pods, the others are left alone.
func roll(w *World) *Decision {
	stale := w.rollOrder()
	if len(stale) == 0 || w.Spec.OnDelete {
		return nil
	}
	m := stale[0]
	if d := w.awaitUpdateBackup(m); d != nil {
		return d
	}
	if d := w.awaitRejoin(); d != nil {
		return d
	}
	if d := w.awaitMargin(m); d != nil {
		return d
	}
	if m.Leader {
		if d := w.handOver(rolling, m); d != nil {
			return d
		}
	}
	return act(rolling, m.Ordinal, step(DeletePod, m.Ordinal), "SpecChanged", "pod %d is of an older revision; %d to go", m.Ordinal, len(stale))
}

// rollOrder lists the members whose pods are to be restarted, in the order of
// their turns.
func (w *World) rollOrder() []Member {
	var out []Member
	for _, m := range w.Members {
		if p, ok := w.Pods[m.Ordinal]; ok && w.stale(p) && !p.Terminating {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b Member) int {
		return cmp.Or(cmp.Compare(w.turn(a), w.turn(b)), cmp.Compare(b.Ordinal, a.Ordinal))
	})
	return out
}

// turn is 0 for what is alive but unready, 1 for followers, 2 for the leader.
func (w *World) turn(m Member) int {
	switch {
	case m.Leader:
		return 2
	case w.unhealthy(m) != "":
		return 0
	}
	return 1
}

// awaitRejoin waits for members that run the newest template already, or are on
// their way to it: the next one stops only when the last is back, ready and
// caught up. A pod that ends on a silent node is no one's turn; the margin alone
// decides whether the others may go on without it.
func (w *World) awaitRejoin() *Decision {
	for _, m := range w.Members {
		if m.Learner || m.Ordinal < 0 || m.Ordinal >= w.Set.Replicas {
			continue
		}
		p, ok := w.Pods[m.Ordinal]
		switch {
		case !ok:
			return w.waitSinceReported(rolling, m.Ordinal, w.Limits.ObjectTimeout, "PodMissing",
				"the StatefulSet controller has not made pod %d anew yet", m.Ordinal)
		case p.Terminating && !p.NodeDown:
			return wait(rolling, m.Ordinal, p.TerminatingAt.Add(w.Limits.ObjectTimeout), "PodTerminating",
				"pod %d is being deleted", m.Ordinal)
		case !p.Terminating && !w.stale(p) && w.unhealthy(m) != "":
			return wait(rolling, m.Ordinal, p.CreatedAt.Add(w.Limits.StartTimeout), ReasonMemberStarting,
				"member %d has the new revision and %s; the next waits for it", m.Ordinal, w.unhealthy(m))
		case !p.Terminating && !w.stale(p) && w.Now.Before(p.ReadyChangedAt.Add(w.Spec.MinReady)):
			return wait(rolling, m.Ordinal, p.ReadyChangedAt.Add(w.Spec.MinReady), "MinReadySeconds",
				"member %d has the new revision and has to be ready for %s before the next", m.Ordinal, w.Spec.MinReady)
		}
	}
	return nil
}

// awaitMargin waits until the others hold a quorum without m. Clusters of one or
// two cannot: they are restarted once everybody is well.
func (w *World) awaitMargin(m Member) *Decision {
	if m.Learner {
		return nil
	}
	all, healthy := w.voters(m.Ordinal)
	if healthy >= majority(all) || all <= 2 && healthy == all-1 {
		return nil
	}
	return w.waitSinceReported(rolling, m.Ordinal, w.Limits.StartTimeout, "NoMargin",
		"pod %d is of an older revision, but only %d other voters of %d are healthy", m.Ordinal, healthy, all)
}

// handOver moves the leadership off a member: to a healthy voter, rather one
// that runs the newest template, rather the one least behind. Nil when there is
// nobody to take it.
func (w *World) handOver(op v1alpha1.OperationType, leader Member) *Decision {
	var best *Member
	for _, m := range w.Members {
		if m.ID == leader.ID || m.Learner || w.unhealthy(m) != "" {
			continue
		}
		if best == nil || w.heir(m, *best) < 0 {
			best = &m
		}
	}
	if best == nil {
		return nil
	}
	s := step(MoveLeader, best.Ordinal)
	s.Member = best.ID
	return act(op, leader.Ordinal, s, "LeaderLast", "member %d leads; member %d takes over", leader.Ordinal, best.Ordinal)
}

// heir orders candidates for the leadership, the better first.
func (w *World) heir(a, b Member) int {
	return cmp.Or(
		cmp.Compare(rank(w.stale(w.Pods[a.Ordinal])), rank(w.stale(w.Pods[b.Ordinal]))),
		cmp.Compare(a.Lag, b.Lag),
		cmp.Compare(a.Ordinal, b.Ordinal),
	)
}
