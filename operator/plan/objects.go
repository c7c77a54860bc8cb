package plan

import "metastore.io/metastore/api/v1alpha1"

// objects brings the owned objects besides the StatefulSet into shape, settings
// last: they are read at start, so they come before any pod that needs them.
func objects(w *World) *Decision {
	if len(w.Objects) > 0 {
		s := step(ApplyObject, -1)
		s.Object = w.Objects[0]
		return act(setup, -1, s, "ObjectDiffers", "%s is missing or differs from the spec", s.Object)
	}
	if w.SettingsDiffer {
		op, ordinal := w.underWay()
		return act(op, ordinal, step(WriteSettings, -1), "SettingsDiffer",
			"the start-up settings do not name the present members or the spec's values")
	}
	return nil
}

// set makes the StatefulSet, keeps its template, and never lets it be smaller
// than the members that exist. Growing and shrinking it is the business of the
// stages that change the membership.
func set(w *World) *Decision {
	switch {
	case w.Set == nil:
		return w.createSet()
	case w.Set.Terminating:
		return w.waitSinceReported(setup, -1, w.Limits.ObjectTimeout, "SetTerminating",
			"the StatefulSet is being deleted; it is made anew when it is gone")
	}
	if need := w.membersBeyond(); need > w.Set.Replicas && !w.Spec.Hibernated && !w.stopped(need-1) {
		return act(setup, need-1, applySet(need), "SetTooSmall",
			"the StatefulSet has %d replicas, but member %d exists", w.Set.Replicas, need-1)
	}
	if w.Set.Differs {
		return act(setup, -1, applySet(w.Set.Replicas), "SpecChanged", "the pod template differs from the spec")
	}
	if !w.Set.Observed {
		return w.waitSinceReported(setup, -1, w.Limits.ObjectTimeout, "SetNotObserved",
			"the StatefulSet controller has not seen the newest spec yet")
	}
	return nil
}

// underWay is the change of membership that the last report told of; settings
// are written in the midst of one.
func (w *World) underWay() (op v1alpha1.OperationType, ordinal int) {
	switch w.Operation.Type {
	case bootstrap, scaleOut, scaleIn, replace:
		return w.Operation.Type, w.Operation.Ordinal
	}
	return setup, -1
}

// createSet begins with one replica, or with as many as there are traces of:
// volumes that outlived a deleted cluster bring their members back.
func (w *World) createSet() *Decision {
	if d := invalid(w); d != nil {
		return d
	}
	if d := w.awaitCertificates(); d != nil {
		return d
	}
	if d := w.awaitCredentials(); d != nil {
		return d
	}
	if d := w.heirsNeedTLS(); d != nil {
		return d
	}
	n := 1
	if w.Spec.Hibernated {
		return act(setup, -1, applySet(0), "SetMissing", "the StatefulSet is missing; the cluster sleeps")
	}
	if w.Bootstrapped {
		n = w.adopted()
		return act(setup, -1, applySet(n), "SetMissing", "the StatefulSet is missing; %d members have left traces", n)
	}
	return act(bootstrap, 0, applySet(n), "SeedMissing", "the first member begins the cluster")
}

// membersBeyond is the number of replicas that the known members need: someone
// else may have shrunk the StatefulSet. A learner that has never started does
// not count, its pod is raised when its turn comes. A cluster that is yet to begin
// needs its seed.
func (w *World) membersBeyond() int {
	n := 0
	for _, m := range w.Members {
		if m.Started {
			n = max(n, m.Ordinal+1)
		}
	}
	switch {
	case !w.Bootstrapped:
		return 1
	case w.ListKnown:
		return n
	}
	return w.adopted()
}

func applySet(replicas int) Step {
	s := step(ApplySet, -1)
	s.Replicas = replicas
	return s
}

// storage grows the claims, and then the template for claims to come. It stands
// before every health gate, so that a full disk can grow. Where the class cannot
// do it the wish is reported and everything else goes on.
func storage(w *World, blocked *[]Blocked) *verdict {
	stuck := false
	for _, ordinal := range sorted(w.Volumes) {
		v := w.Volumes[ordinal]
		if ordinal >= w.Set.Replicas || v.Terminating || v.Lost || v.RequestBytes >= w.Spec.VolumeBytes {
			continue
		}
		if v.Expandable {
			s := step(GrowVolume, ordinal)
			s.Bytes = w.Spec.VolumeBytes
			return &verdict{Decision: *act(growing, ordinal, s, "VolumeTooSmall",
				"the volume of member %d asks for %d bytes, %d are wanted", ordinal, v.RequestBytes, w.Spec.VolumeBytes)}
		}
		stuck = stuck || !v.OtherClass // which gives it a new volume
	}
	if stuck {
		*blocked = append(*blocked, Blocked{Reason: ReasonVolumeCannot, Message: "spec.storage.size was raised, but the " +
			"storage class of the existing volumes does not allow expansion; set allowVolumeExpansion on the class if its driver can, or move to another class (spec.storage.storageClassName)"})
		return nil
	}
	if w.Set.ClaimsDiffer {
		return &verdict{Decision: *act(growing, -1, step(DropSet, -1), "ClaimTemplateDiffers",
			"the StatefulSet is made anew with the wanted size and class of claims, its pods stay")}
	}
	if d := w.growFull(); d != nil {
		return &verdict{Decision: *d}
	}
	return nil
}

// growFull is for members that a full volume has stopped.
func (w *World) growFull() *Decision {
	next := w.nextSize()
	for _, ordinal := range sorted(w.Pods) {
		if next > 0 && w.Pods[ordinal].ExitCode == ExitVolumeFull && !w.Pods[ordinal].Ready {
			return w.growTo(ordinal, next, ReasonVolumeFull)
		}
	}
	return nil
}
