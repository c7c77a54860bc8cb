package plan

import "metastore.io/metastore/api/v1alpha1"

// RestorePhase is how far a restore of the seed's volume has come. Its own
// controller says Stopping and Starting, the cluster answers Stopped and Serving.
type RestorePhase string

const (
	// RestoreStopping: every member has to stop.
	RestoreStopping RestorePhase = "Stopping"
	// RestoreStopped: no pod is left, so that the volume can be written.
	RestoreStopped RestorePhase = "Stopped"
	// RestoreStarting: the volume is filled, the seed starts from it alone.
	RestoreStarting RestorePhase = "Starting"
	// RestoreServing: it serves. What is left to do is to drop the data of before.
	RestoreServing RestorePhase = "Serving"
)

// Restore is the mark of a restore, at the seed's claim.
type Restore struct {
	// Name is the MetaStoreRestore's.
	Name  string
	Phase RestorePhase
	// Above is the highest revision that was seen of the cluster before: the
	// restored one has to be ahead of it.
	Above int64
	// Orphaned says that there is no such MetaStoreRestore any more.
	Orphaned bool
}

// seedOrdinal is the member that a restore fills and that starts alone.
const seedOrdinal = 0

// restored says that the seed starts from restored data, or serves them: the
// cluster is that member alone.
func (w *World) restored() bool {
	return w.Restore != nil && (w.Restore.Phase == RestoreStarting || w.Restore.Phase == RestoreServing)
}

// restoring does the cluster's part of a restore: all stop, the seed starts alone,
// and until the data of before are dropped nothing else is touched. The other
// members' volumes are kept for the way back; once the mark is gone they are
// volumes without a member, as after a recovery from a lost quorum.
func restoring(w *World) *Decision {
	r := w.Restore
	if r == nil {
		return w.awaitFirstRestore()
	}
	if r.Orphaned {
		return w.waitSinceReported(restore, seedOrdinal, 0, "RestoreAbandoned", "the volume of member %d is in the midst of restore %s, "+
			"which was deleted while there was no cluster; make a MetaStoreRestore of mode InPlace, or take the annotation %s from the claim and look at its folders",
			seedOrdinal, r.Name, AnnotationRestore)
	}
	switch r.Phase {
	case RestoreStopping:
		if d := w.clearPods(restore, "Restore"+string(r.Phase), "before the volume is written"); d != nil {
			return d
		}
		return act(restore, seedOrdinal, step(MarkStopped, seedOrdinal), "PodsGone", "no pod is left; restore %s has the volume of member %d", r.Name, seedOrdinal)
	case RestoreStopped:
		return w.waitSinceReported(restore, seedOrdinal, w.Limits.RestoreTimeout, ReasonAwaitingRestore, "restore %s has the volume of member %d", r.Name, seedOrdinal)
	case RestoreServing:
		return w.waitSinceReported(restore, seedOrdinal, w.Limits.RestoreTimeout, ReasonAwaitingRestore, "the restored member %d serves; restore %s drops the data of before", seedOrdinal, r.Name)
	}
	if !w.ListKnown {
		return nil // it starts as any seed does; awaitRestored tells of it
	}
	if w.Revision <= r.Above {
		return w.waitSinceReported(restore, seedOrdinal, w.Limits.StartTimeout, "RevisionBehind", "the restored member %d serves revision %d; that has to be above %d", seedOrdinal, w.Revision, r.Above)
	}
	return act(restore, seedOrdinal, step(MarkServing, seedOrdinal), "RestoredServes", "the restored member %d serves revision %d", seedOrdinal, w.Revision)
}

// awaitFirstRestore waits until a restore has taken up the volume of a cluster
// that is to begin with it.
func (w *World) awaitFirstRestore() *Decision {
	if w.Spec.BootstrapRestore == "" || w.Bootstrapped {
		return nil
	}
	if w.RestoreFailed != "" {
		return w.waitSinceReported(bootstrap, seedOrdinal, 0, "RestoreFailed", "restore %s has failed: %s; delete it and make another one of that name, or this cluster", w.Spec.BootstrapRestore, w.RestoreFailed)
	}
	return w.waitSinceReported(bootstrap, seedOrdinal, w.Limits.RestoreTimeout, ReasonAwaitingRestore,
		"MetaStoreRestore %s has to fill the volume of member %d first", w.Spec.BootstrapRestore, seedOrdinal)
}

// awaitRestored waits for the seed of a restored cluster; how long is the restore's
// to say, which puts the data of before back when it takes too long.
func (w *World) awaitRestored() *Decision {
	p, ok := w.Pods[seedOrdinal]
	if !ok {
		return w.waitSinceReported(restore, seedOrdinal, w.Limits.ObjectTimeout, "PodMissing", "the StatefulSet controller has not made pod %d yet", seedOrdinal)
	}
	if why := dataFailure(p, w.Volumes[seedOrdinal]); why != "" {
		return wait(restore, seedOrdinal, p.CreatedAt.Add(w.Limits.StartTimeout), why, "%s", explain(seedOrdinal, why))
	}
	return wait(restore, seedOrdinal, p.CreatedAt.Add(w.Limits.StartTimeout), ReasonMemberStarting, "the restored member %d is starting%s", seedOrdinal, p.because())
}

const restore = v1alpha1.OperationRestore

// AnnotationRestore, on the claim of the seed, is the mark of a restore.
const AnnotationRestore = "metastore.io/restore"
