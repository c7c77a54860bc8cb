package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

func sorted[V any](m map[int]V) []int { return slices.Sorted(maps.Keys(m)) }

// member returns the member of an ordinal.
func (w *World) member(ordinal int) (Member, bool) {
	for _, m := range w.Members {
		if m.Ordinal == ordinal {
			return m, true
		}
	}
	return Member{}, false
}

// unhealthy says in a few words why a member does not take its full part; empty
// when it does. "Healthy" is: its pod is Ready, it answers, it is caught up.
func (w *World) unhealthy(m Member) string {
	p, ok := w.Pods[m.Ordinal]
	switch {
	case m.Ordinal < 0:
		return "was not made by the operator"
	case !ok:
		return "has no pod"
	case p.Terminating:
		return "has a pod that is being deleted"
	case !p.Ready && p.Waiting != "":
		return fmt.Sprintf("is not running: %s", p.Waiting)
	case !p.Ready && !p.Running:
		return "is not running"
	case !p.Ready:
		return "is not ready"
	case !m.Answers:
		return "does not answer"
	case m.Lag > w.Limits.MaxLag:
		return fmt.Sprintf("is %d entries behind", m.Lag)
	}
	return ""
}

// voters counts the voters and the healthy ones, leaving the member of one
// ordinal out of the healthy (-1: nobody).
func (w *World) voters(except int) (all, healthy int) {
	for _, m := range w.Members {
		if m.Learner {
			continue
		}
		all++
		if m.Ordinal != except && w.unhealthy(m) == "" {
			healthy++
		}
	}
	return all, healthy
}

// firstUnhealthy returns the lowest unhealthy member other than that of one
// ordinal.
func (w *World) firstUnhealthy(except int) (Member, bool) {
	members := slices.SortedFunc(slices.Values(w.Members), func(a, b Member) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	for _, m := range members {
		if m.Ordinal != except && w.unhealthy(m) != "" {
			return m, true
		}
	}
	return Member{}, false
}

// rank orders false before true.
func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// majority of n voters.
func majority(n int) int { return n/2 + 1 }

// stale says that a pod was not made from the newest template.
func (w *World) stale(p Pod) bool {
	return p.Restart || w.Set.Revision != "" && p.Revision != w.Set.Revision
}

// lostPods forgets pods on nodes that do not exist any more: no kubelet is left
// to confirm their end, and none to run them. A node that is only silent may
// come back with its member alive, so its pods are never forced.
func lostPods(w *World) *Decision {
	for _, ordinal := range sorted(w.Pods) {
		if p := w.Pods[ordinal]; p.NodeGone && !p.Ready {
			return act(heal, ordinal, step(ForceDeletePod, ordinal), ReasonNodeLost,
				"the node of pod %d does not exist any more", ordinal)
		}
	}
	return nil
}

// fixForward replaces pods of an older revision that take no part: the dead,
// then those that run but are not ready, silent, and not only for a moment. It needs no quorum and waits for nobody: a broken revision must
// never lock out the one that repairs it.
func fixForward(w *World) *Decision {
	ordinals := sorted(w.Pods)
	slices.SortStableFunc(ordinals, func(a, b int) int {
		return cmp.Compare(rank(w.Pods[a].Running), rank(w.Pods[b].Running))
	})
	for _, ordinal := range ordinals {
		p := w.Pods[ordinal]
		if p.Ready || p.Terminating || !w.stale(p) || ordinal >= w.Set.Replicas {
			continue
		}
		if m, ok := w.member(ordinal); ok && m.Answers {
			continue
		}
		if p.Running && w.Now.Before(p.ReadyChangedAt.Add(w.Limits.SilentGrace)) {
			continue
		}
		return act(rolling, ordinal, step(DeletePod, ordinal), "BrokenRevision",
			"pod %d is of an older revision and takes no part", ordinal)
	}
	return nil
}
