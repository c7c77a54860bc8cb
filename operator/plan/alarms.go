package plan

import "metastore.io/metastore/api/v1alpha1"

// Alarm is an alarm that the cluster has raised.
type Alarm struct {
	Type v1alpha1.AlarmType
	// Member is whom it names; 0 for the cluster as a whole.
	Member MemberID
}

// corrupt takes out the members whose data are not those of the majority: the
// members have compared them, and nobody reads or writes while the alarm stands.
// It stands for a removed member, too, until it is taken back.
func corrupt(w *World) *Decision {
	odd := map[MemberID]bool{}
	for _, a := range w.Alarms {
		if a.Type == v1alpha1.AlarmCorrupt {
			odd[a.Member] = true
		}
	}
	if len(odd) == 0 {
		return nil
	}
	var named []Member
	voters, good := 0, 0
	for _, m := range w.Members {
		if odd[m.ID] {
			named = append(named, m)
		} else if !m.Learner && m.Answers {
			good++
		}
		if !m.Learner {
			voters++
		}
	}
	switch {
	case odd[0] || good < majority(voters):
		return w.waitSinceReported(replace, -1, 0, ReasonDataCorrupt,
			"the members' data differ and no majority of them agrees; nobody reads or writes until a backup is restored, or a person finds out which data are right, removes the other members and disarms the alarm")
	case len(named) > 0:
		return w.replaceOdd(named[0], odd)
	}
	for _, a := range w.Alarms {
		if a.Type == v1alpha1.AlarmCorrupt {
			s := step(Disarm, -1)
			s.Alarm = a
			return act(replace, -1, s, ReasonDataCorrupt, "member %x had other data and was removed; the others agree", uint64(a.Member))
		}
	}
	return nil
}

// replaceOdd removes a member that has other data than the majority. It may
// lead, and no member is ready as long as the alarm stands.
func (w *World) replaceOdd(m Member, odd map[MemberID]bool) *Decision {
	switch {
	case m.Ordinal < 0:
		return w.waitSinceReported(replace, -1, 0, ReasonDataCorrupt, "member %x, which the operator did not make, has other data than the others; remove it", uint64(m.ID))
	case w.Spec.Repair.Manual:
		return w.waitSinceReported(replace, m.Ordinal, 0, ReasonDataCorrupt, "member %d has other data than the others; %s", m.Ordinal, byHand)
	}
	if m.Leader {
		for _, heir := range w.Members {
			if heir.Learner || !heir.Answers || odd[heir.ID] || heir.Lag > w.Limits.MaxLag {
				continue
			}
			s := step(MoveLeader, heir.Ordinal)
			s.Member = heir.ID
			return act(replace, m.Ordinal, s, ReasonDataCorrupt, "member %d leads and has other data than the others; member %d takes over", m.Ordinal, heir.Ordinal)
		}
	}
	s := step(Remove, m.Ordinal)
	s.Member = m.ID
	return act(replace, m.Ordinal, s, ReasonDataCorrupt, "member %d has other data than the majority; it is replaced at the same ordinal", m.Ordinal)
}

// noSpace gets a cluster to write again that has reached its quota: history is
// given up, never a key; then each member gives back what came free; and when
// there is room in all of them, the alarm is taken back. Where that was not
// enough, the volume grows if the spec allows it, and the quota with it, which
// members take up at their next start.
func noSpace(w *World) *Decision {
	var alarm *Alarm
	for i, a := range w.Alarms {
		if a.Type == v1alpha1.AlarmNoSpace {
			alarm = &w.Alarms[i]
		}
	}
	if alarm == nil {
		return nil
	}
	var full []Member
	for _, m := range w.Members {
		if m.Answers && m.full() {
			full = append(full, m)
		}
	}
	if len(full) == 0 {
		s := step(Disarm, -1)
		s.Alarm = *alarm
		return act(freeing, -1, s, ReasonNoSpace, "every member has room again")
	}
	for _, m := range full {
		if !m.Compacted {
			return act(freeing, m.Ordinal, step(Compact, m.Ordinal), "HistoryKept", "member %d holds %d bytes of %d; the history of the keys goes, the keys stay", m.Ordinal, m.DBBytes, m.QuotaBytes)
		}
	}
	for _, m := range full {
		if m.DBBytes-m.UsedBytes >= m.DBBytes/10 {
			return w.defragment(m)
		}
	}
	return w.moreRoom(full[0])
}

// full says that less than a tenth of the quota is left.
func (m Member) full() bool { return m.QuotaBytes > 0 && m.DBBytes >= m.QuotaBytes-m.QuotaBytes/10 }

// defragment asks a member to give back what came free, and gives it time.
func (w *World) defragment(m Member) *Decision {
	o := w.Operation
	const reason = "Fragmented"
	if until := o.StartedAt.Add(w.Limits.DefragmentInterval); o.Type == freeing && o.Ordinal == m.Ordinal && o.Reason == reason && w.Now.Before(until) {
		return wait(freeing, m.Ordinal, until, reason, "member %d gives back %d bytes", m.Ordinal, m.DBBytes-m.UsedBytes)
	}
	return act(freeing, m.Ordinal, step(Defragment, m.Ordinal), reason, "member %d gives back %d bytes", m.Ordinal, m.DBBytes-m.UsedBytes)
}

// moreRoom is for data that need more than the quota. A volume that is about to
// grow, or pods that have yet to take up a larger quota, are waited for.
func (w *World) moreRoom(m Member) *Decision {
	for _, other := range w.Members {
		if p, ok := w.Pods[other.Ordinal]; !ok || !p.Restart {
			continue
		} else if w.Spec.OnDelete {
			return w.waitSinceReported(freeing, other.Ordinal, 0, ReasonNoSpace,
				"member %d has yet to take up a larger quota, and spec.update.strategy is OnDelete; delete its pod", other.Ordinal)
		}
		return nil // the roll's turn
	}
	if ordinal, ok := w.growingVolume(); ok {
		return w.waitSinceReported(growing, ordinal, w.Limits.StartTimeout, "VolumeGrows", "the volume of member %d grows", ordinal)
	}
	if next := w.nextSize(); next > 0 && w.Spec.QuotaFollows {
		return w.growTo(m.Ordinal, next, ReasonNoSpace)
	}
	return w.waitSinceReported(freeing, m.Ordinal, 0, ReasonNoSpace,
		"member %d holds %d bytes of the %d that its quota allows, and nothing can be given back; delete keys, or raise server.quotaBackendBytes or storage.size (storage.autoGrow does so by itself)",
		m.Ordinal, m.DBBytes, m.QuotaBytes)
}

// nextSize is what the volumes may grow to by themselves; 0 when they may not,
// or when the last growth has not arrived yet.
func (w *World) nextSize() int64 {
	if _, ok := w.growingVolume(); ok {
		return 0
	}
	for ordinal, v := range w.Volumes {
		if ordinal < w.Set.Replicas && !v.Expandable {
			return 0
		}
	}
	next := min(w.Spec.AutoGrowBytes, w.Spec.VolumeBytes+w.Spec.VolumeBytes/2)
	if next <= w.Spec.VolumeBytes {
		return 0
	}
	return next
}

// growingVolume is a volume that has yet to get what its claim asks for.
func (w *World) growingVolume() (ordinal int, ok bool) {
	for _, ordinal := range sorted(w.Volumes) {
		if v := w.Volumes[ordinal]; ordinal < w.Set.Replicas && v.CapacityBytes < v.RequestBytes {
			return ordinal, true
		}
	}
	return 0, false
}

func (w *World) growTo(ordinal int, bytes int64, reason string) *Decision {
	s := step(GrowVolume, ordinal)
	s.Bytes = bytes
	return act(growing, ordinal, s, reason, "the volumes of %d bytes are too small; they grow to %d", w.Spec.VolumeBytes, bytes)
}
