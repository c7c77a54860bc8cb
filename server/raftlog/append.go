package raftlog

import (
	"fmt"
	"math"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// needsDisk says whether there is more than commit indexes that move.
func (l *Log) needsDisk(writes []Write) bool {
	for i := range writes {
		w := &writes[i]
		if len(w.Entries) > 0 || w.Reset != nil {
			return true
		}
		g, hard := l.Group(w.Group), hardStateOf(w.HardState)
		if hard == (hardState{}) {
			continue
		}
		if hard.term != g.newest.term || hard.vote != g.newest.vote || (w.Durable && hard.commit > g.recorded.hard.commit) {
			return true
		}
	}
	return false
}

// write makes one append of the writes and the compactions that wait.
func (l *Log) write(writes []Write) error {
	compactions := l.takeCompactions()
	if err := l.begin(roomFor(writes, len(compactions))); err != nil {
		return err
	}
	if err := l.planCompactions(compactions); err != nil {
		return err
	}
	for i := range writes {
		w := &writes[i]
		if err := l.plan(l.Group(w.Group), w); err != nil {
			return fmt.Errorf("append to group %d: %w", w.Group, err)
		}
	}
	l.marked = false
	if err := l.commit(); err != nil {
		return err
	}
	return l.vouch()
}

// vouch leaves a mark behind the append that was just synced, so that damage to
// that append is not taken for a torn tail after the process was killed. The
// mark is not synced and does not count: the next append overwrites it.
func (l *Log) vouch() error {
	s := l.tail()
	mark := appendRecord(make([]byte, 0, recordHeaderBytes), s.end, s.epochSum, l.next, true, &change{kind: recordMark})
	if _, err := s.file.WriteAt(mark, s.end); err != nil {
		return fmt.Errorf("write %s at offset %d: %w", s.name, s.end, err)
	}
	return nil
}

// seal writes what waits in memory, and a mark.
func (l *Log) seal() error {
	compactions := l.takeCompactions()
	if l.marked && len(compactions) == 0 {
		return nil
	}
	groups := l.sortedGroups()
	if err := l.begin(roomFor(nil, len(compactions)+len(groups))); err != nil {
		return err
	}
	if err := l.planCompactions(compactions); err != nil {
		return err
	}
	for _, g := range groups {
		if g.newest != g.recorded.hard {
			if err := l.add(g, change{kind: recordHardState}, true); err != nil {
				return err
			}
		}
	}
	l.changes = append(l.changes, change{kind: recordMark})
	l.marked = true
	return l.commit()
}

// roomFor is at least what the records of an append take; small counts those
// of a compaction or a hard state.
func roomFor(writes []Write, small int) int64 {
	const perRecord = recordHeaderBytes + hardStateBytes + runHeaderBytes + recordAlignBytes
	n := int64(small+1) * perRecord // and a mark
	for i := range writes {
		w := &writes[i]
		n += 2 * perRecord // a reset, and entries or a hard state
		for _, e := range w.Entries {
			n += entryHeaderBytes + int64(len(e.Data))
		}
	}
	return n
}

// begin chooses the segment for an append of about roomBytes, and starts the
// list of changes, with checkpoints if it is the segment's first.
func (l *Log) begin(roomBytes int64) error {
	l.changes = l.changes[:0]
	if t := l.tail(); t.end > segmentHeaderBytes && t.end+roomBytes > l.o.SegmentSizeBytes {
		s, err := l.newSegment(t.seq+1, l.next)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, s)
	}
	if l.tail().end > segmentHeaderBytes {
		return nil
	}
	for _, g := range l.sortedGroups() {
		if g.recorded != (state{}) {
			l.changes = append(l.changes, g.recorded.checkpoint(g.id))
		}
	}
	return nil
}

func (l *Log) planCompactions(groups []*Group) error {
	for _, g := range groups {
		at, keepFrom := g.takeCompaction()
		if at.Index <= g.recorded.compacted.Index {
			continue // a reset went further
		}
		g.keepFrom = keepFrom
		g.newest = g.newest.atLeast(at.Index)
		l.reclaimable = true
		if err := l.add(g, change{kind: recordCompact, at: at}, false); err != nil {
			return fmt.Errorf("compact group %d: %w", g.id, err)
		}
	}
	return nil
}

// plan adds the records of one write.
func (l *Log) plan(g *Group, w *Write) error {
	if hard := hardStateOf(w.HardState); hard != (hardState{}) {
		g.setNewest(hard)
	}
	if w.Reset != nil {
		l.reclaimable = true
		g.newest = g.newest.atLeast(w.Reset.Index)
		if err := l.add(g, change{kind: recordReset, at: *w.Reset}, len(w.Entries) == 0); err != nil {
			return err
		}
	}
	if err := checkEntries(w.Entries); err != nil {
		return err
	}
	for rest := w.Entries; len(rest) > 0; {
		n := runLength(rest)
		c := change{kind: recordEntries, entries: rest[:n:n]}
		rest = rest[n:]
		if err := l.add(g, c, len(rest) == 0); err != nil {
			return err
		}
	}
	if len(w.Entries) == 0 && w.Reset == nil && g.newest != g.recorded.hard {
		return l.add(g, change{kind: recordHardState}, true)
	}
	return nil
}

// add moves the group's recorded state over c, which carries the newest hard
// state along if withHard says so and it is not recorded yet.
func (l *Log) add(g *Group, c change, withHard bool) error {
	c.group = g.id
	if withHard && (g.newest != g.recorded.hard || c.kind == recordHardState) {
		hard := g.newest
		c.hard = &hard
	}
	if err := g.recorded.apply(&c); err != nil {
		return err
	}
	l.changes = append(l.changes, c)
	return nil
}

func checkEntries(entries []*raftpb.Entry) error {
	for i, e := range entries {
		want := entries[0].GetIndex() + uint64(i)
		switch {
		case e.GetIndex() != want || want == 0:
			return fmt.Errorf("entry %d where %d belongs", e.GetIndex(), want)
		case len(e.Data) > maxDataBytes:
			return fmt.Errorf("entry %d has %d bytes, %d are allowed", want, len(e.Data), maxDataBytes)
		case e.GetType() < 0 || e.GetType() > math.MaxUint8:
			return fmt.Errorf("entry %d has the unknown type %d", want, e.GetType())
		}
	}
	return nil
}

// runLength is how many of entries go into one record.
func runLength(entries []*raftpb.Entry) int {
	size := 0
	for i, e := range entries {
		size += entryHeaderBytes + len(e.Data)
		if size > maxRunBytes && i > 0 {
			return i
		}
	}
	return len(entries)
}

// commit writes and syncs the changes as one append and shows them to readers.
func (l *Log) commit() error {
	s := l.tail()
	l.buf = l.buf[:0]
	for i := range l.changes {
		last := i == len(l.changes)-1
		l.buf = appendRecord(l.buf, s.end, s.epochSum, l.next, last, &l.changes[i])
	}
	if err := l.writeSynced(s, l.buf); err != nil {
		return err
	}
	s.end += int64(len(l.buf))
	l.next++
	if cap(l.buf) > maxIdleBufferBytes {
		l.buf = nil
	}
	for i := range l.changes {
		c := &l.changes[i]
		if c.kind == recordMark || c.kind == recordCheckpoint {
			continue
		}
		if err := l.Group(c.group).publish(c, s, l.o.CacheBytes); err != nil {
			return fmt.Errorf("append to group %d: %w", c.group, err)
		}
	}
	clear(l.changes)
	if l.reclaimable && len(l.segments) > 1 {
		return l.reclaim()
	}
	return nil
}

func (l *Log) writeSynced(s *segment, b []byte) error {
	before := s.sizeBytes
	if err := l.grow(s, s.end+int64(len(b))+recordHeaderBytes); err != nil { // and what vouches for it
		return err
	}
	l.sizeBytes.Add(s.sizeBytes - before)
	begin := time.Now()
	if _, err := s.file.WriteAt(b, s.end); err != nil {
		return fmt.Errorf("write %s at offset %d: %w", s.name, s.end, err)
	}
	written := time.Now()
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.name, err)
	}
	l.o.Observer.Appended(len(b), written.Sub(begin), time.Since(written))
	return nil
}
