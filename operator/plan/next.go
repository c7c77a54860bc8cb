package plan

import "time"

// Next decides what to do. The order of the stages is the order of priority;
// the first that wants something has it. A stage that only waits for one member
// may be passed over once its deadline is gone, so that one broken member does
// not stop what can still be done for the others.
func Next(w World) Decision {
	var blocked []Blocked
	var fallback *Decision
	for _, stage := range stages {
		d := stage(&w, &blocked)
		switch {
		case d == nil:
		case d.soft(w.Now):
			if fallback == nil {
				fallback = &d.Decision
			}
		default:
			d.Blocked = blocked
			return d.Decision
		}
	}
	if fallback == nil {
		fallback = act(none, -1, step(Nothing, -1), ReasonSteady,
			"nothing is left to do")
	}
	fallback.Blocked = blocked
	return *fallback
}

// verdict is a stage's decision; yields says that later stages may still act
// once (after the deadline) or while (always) it only waits.
type verdict struct {
	Decision
	yields yield
}

type yield int

const (
	never yield = iota
	afterDeadline
	always
)

func (v *verdict) soft(now time.Time) bool {
	return v.Waiting() && (v.yields == always || v.yields == afterDeadline && v.Overdue(now))
}

type stage func(w *World, blocked *[]Blocked) *verdict

// stages in the order of their priority. Everything before quorum needs no
// member to answer, so that a full disk can grow, a broken revision be replaced
// and a lost pod be forgotten while the cluster is down.
var stages = []stage{
	firmly(standstill),
	firmly(held),
	firmly(restoring),
	firmly(recovery),
	firmly(objects),
	certificates,
	credentials,
	hindrances,
	firmly(set),
	storage,
	firmly(unbound),
	firmly(owners),
	firmly(hibernate),
	firmly(lostPods),
	firmly(fixForward),
	firmly(lockedOut),
	firmly(quorum),
	firmly(invalid),
	foreign,
	firmly(corrupt),
	yielding(afterDeadline, noSpace),
	firmly(orphans),
	firmly(leftovers),
	firmly(record),
	firmly(users),
	yielding(afterDeadline, learners),
	yielding(always, repair),
	firmly(peerURLs),
	firmly(roll),
	firmly(scale),
	moveClass,
	yielding(always, health),
}

func firmly(f func(*World) *Decision) stage { return yielding(never, f) }

func yielding(y yield, f func(*World) *Decision) stage {
	return func(w *World, _ *[]Blocked) *verdict {
		if d := f(w); d != nil {
			return &verdict{Decision: *d, yields: y}
		}
		return nil
	}
}

// standstill is for clusters that are not to be touched.
func standstill(w *World) *Decision {
	switch {
	case w.Deleting && w.Held:
		return lastBackup(w)
	case w.Deleting && w.Spec.OwnVolumes:
		return act(none, -1, step(Nothing, -1), ReasonDeleting, "the cluster is being deleted, and its volumes with it")
	case w.Deleting:
		return act(none, -1, step(Nothing, -1), ReasonDeleting, "the cluster is being deleted; its volumes stay")
	case w.Spec.Paused:
		return act(none, -1, step(Nothing, -1), ReasonPaused, "the cluster is paused; nothing is changed")
	}
	return nil
}

// invalid stops before any change of the membership, which would need new
// settings; pods and volumes have been cared for by then, and the members there
// are go on with the settings that they have.
func invalid(w *World) *Decision {
	if w.Invalid == "" {
		return nil
	}
	return w.waitSinceReported(setup, -1, 0, ReasonConfigInvalid, "%s", w.Invalid)
}

// health names the member that keeps the cluster from being as it should.
func health(w *World) *Decision {
	m, ok := w.firstUnhealthy(-1)
	if !ok {
		return nil
	}
	return w.waitSinceReported(heal, m.Ordinal, w.Limits.StartTimeout, ReasonMemberUnhealthy,
		"member %d %s", m.Ordinal, w.unhealthy(m))
}
