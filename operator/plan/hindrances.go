package plan

// hindrances tells what only a person can change. It stops nothing: whatever can
// be done beside it is done, and the fix is seen by the next pass.
func hindrances(w *World, blocked *[]Blocked) *verdict {
	for _, ordinal := range sorted(w.Volumes) {
		if v := w.Volumes[ordinal]; v.Unbound && v.ClassMissing != "" && !v.Terminating {
			*blocked = append(*blocked, Blocked{Reason: ReasonClassMissing, Message: v.ClassMissing, Hinders: true})
			break // the others want the same
		}
	}
	for _, ordinal := range sorted(w.Pods) {
		if p := w.Pods[ordinal]; p.Refused != "" && !p.Terminating {
			*blocked = append(*blocked, Blocked{Reason: ReasonPodRefused, Message: p.Refused, Hinders: true})
			break
		}
	}
	return nil
}

// unbound gives up claims of another class than is wanted now that no volume was
// ever bound to: they hold nothing, and the pods that wait for them would wait
// for ever. The claim template is the wanted one by then.
func unbound(w *World) *Decision {
	for _, ordinal := range sorted(w.Volumes) {
		v := w.Volumes[ordinal]
		p, hasPod := w.Pods[ordinal]
		switch {
		case !v.Unbound || v.Member != 0:
			continue
		case v.OtherClass && !v.Terminating:
			return act(setup, ordinal, step(DeleteVolume, ordinal), ReasonOtherClass,
				"the claim of ordinal %d waits for a volume of another storage class than the spec's; it is made anew", ordinal)
		case v.Terminating && hasPod && !p.Terminating && !p.Running:
			return act(setup, ordinal, step(DeletePod, ordinal), "VolumeGivenUp", "pod %d waits for a volume that is not wanted any more", ordinal)
		}
	}
	return nil
}
