package plan

// owners makes the volumes go with the cluster, or stay, as the spec says: by the
// claims' owner, so that nobody has to live to see the end of the cluster.
func owners(w *World) *Decision {
	for _, ordinal := range sorted(w.Volumes) {
		v := w.Volumes[ordinal]
		switch {
		case v.Terminating || v.Owned == w.Spec.OwnVolumes:
			continue
		case w.Spec.OwnVolumes:
			return act(setup, ordinal, step(OwnVolume, ordinal), "DeletionPolicy", "the volume of ordinal %d goes with the cluster", ordinal)
		}
		return act(setup, ordinal, step(DisownVolume, ordinal), "DeletionPolicy", "the volume of ordinal %d stays when the cluster goes", ordinal)
	}
	return nil
}

// hibernate takes all pods away and keeps everything else. Waking is the set's
// stage: the volumes tell how many members there are. Whatever else is wished for
// meanwhile comes after that.
func hibernate(w *World) *Decision {
	switch {
	case !w.Spec.Hibernated:
		return nil
	case w.Set.Replicas > 0:
		return act(hibernating, -1, applySet(0), "SpecChanged", "every member stops; the volumes stay")
	}
	for _, ordinal := range sorted(w.Pods) {
		return w.waitSinceReported(hibernating, ordinal, w.Limits.ObjectTimeout, "PodTerminating", "pod %d is being deleted", ordinal)
	}
	return act(none, -1, step(Nothing, -1), ReasonHibernated, "the cluster sleeps; its volumes are kept")
}
