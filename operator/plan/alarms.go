package plan

import (
	"cmp"
	"slices"

	"metastore.io/metastore/api/v1alpha1"
)

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
		if !m.Compacted && !w.inRound(reasonHistory, reasonFragments, reasonGivingBack) {
			return act(freeing, m.Ordinal, step(Compact, m.Ordinal), reasonHistory, "member %d holds %d bytes of %d; the history of the keys goes, the keys stay", m.Ordinal, m.DBBytes, m.QuotaBytes)
		}
	}
	if d, coming := w.roomComes(); coming {
		return d
	}
	if d := w.defragment(full); d != nil {
		return d
	}
	return w.moreRoom(full[0])
}

// The reasons of one round: history goes, then each member gives back what came
// free. Keys that are deleted meanwhile leave history anew; the next round is for
// that.
const (
	reasonHistory    = "HistoryKept"
	reasonFragments  = "Fragmented"
	reasonGivingBack = "GivingBack"
)

func (w *World) inRound(reasons ...string) bool {
	return w.Operation.Type == freeing && slices.Contains(reasons, w.Operation.Reason)
}

// full says that less than a tenth of the quota is left.
func (m Member) full() bool { return m.QuotaBytes > 0 && m.DBBytes >= m.QuotaBytes-m.QuotaBytes/10 }

// defragment has every full member give back what came free, one after the
// other and once: how much that is only shows afterwards, since an engine may
// count rows as in use that it has yet to drop. Whose turn it is is announced
// before it is taken, so that an operator that dies in it gets to the next.
func (w *World) defragment(full []Member) *Decision {
	o, until := w.Operation, w.Operation.StartedAt.Add(w.Limits.DefragmentInterval)
	if (o.Type == freeing || o.Type == growing) && o.Reason == ReasonNoSpace {
		return nil // the round is over
	}
	announced, taken := w.inRound(reasonFragments), w.inRound(reasonGivingBack)
	slices.SortFunc(full, func(a, b Member) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	for _, m := range full {
		const sentence = "member %d gives back what came free of its %d bytes"
		switch turn := m.Ordinal == o.Ordinal && w.Now.Before(until); {
		case announced && turn:
			return act(freeing, m.Ordinal, step(Defragment, m.Ordinal), reasonGivingBack, sentence, m.Ordinal, m.DBBytes)
		case taken && turn:
			return wait(freeing, m.Ordinal, until, reasonGivingBack, sentence, m.Ordinal, m.DBBytes)
		case !announced && !taken || m.Ordinal > o.Ordinal:
			return w.waitSinceReported(freeing, m.Ordinal, w.Limits.DefragmentInterval, reasonFragments, sentence, m.Ordinal, m.DBBytes)
		}
	}
	return nil
}

// roomComes says that a larger quota is on its way: a volume is about to grow, or
// pods have yet to take up what follows from that, which is the roll's turn.
func (w *World) roomComes() (d *Decision, coming bool) {
	for _, m := range w.Members {
		if p, ok := w.Pods[m.Ordinal]; !ok || !p.Restart {
			continue
		}
		if w.Spec.OnDelete {
			return w.waitSinceReported(freeing, m.Ordinal, 0, ReasonNoSpace,
				"member %d has yet to take up a larger quota, and spec.update.strategy is OnDelete; delete its pod", m.Ordinal), true
		}
		return nil, true
	}
	if ordinal, ok := w.growingVolume(); ok {
		return w.waitSinceReported(growing, ordinal, w.Limits.StartTimeout, "VolumeGrows", "the volume of member %d grows", ordinal), true
	}
	return nil, false
}

// moreRoom is for data that need more than the quota.
func (w *World) moreRoom(m Member) *Decision {
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
