package raftlog

import "fmt"

// state is what replaying a group's records gives, without the entries.
type state struct {
	hard      hardState
	compacted Position // the entry before the first one
	last      uint64   // Invariant: last >= compacted.Index
}

// apply moves the state over one record; an error means that the record
// contradicts the state and changes nothing.
func (s *state) apply(c *change) error {
	next := *s
	if c.hard != nil {
		next.hard = *c.hard
	}
	switch c.kind {
	case recordEntries:
		first := c.entries[0].GetIndex()
		if first <= s.compacted.Index || first > s.last+1 {
			return fmt.Errorf("entries from index %d on do not continue a log of entries %d to %d", first, s.compacted.Index+1, s.last)
		}
		next.last = first + uint64(len(c.entries)) - 1
	case recordReset:
		next.compacted, next.last = c.at, c.at.Index
	case recordCompact:
		if c.at.Index < s.compacted.Index || c.at.Index > s.last {
			return fmt.Errorf("compaction to index %d in a log of entries %d to %d", c.at.Index, s.compacted.Index+1, s.last)
		}
		next.compacted = c.at
	case recordCheckpoint:
		next.compacted, next.last = c.at, c.last
		if *s != (state{}) && next != *s {
			return fmt.Errorf("checkpoint %+v of state %+v", next, *s)
		}
	}
	next.hard = next.hard.atLeast(next.compacted.Index)
	*s = next
	return nil
}

// checkpoint is the record that gives the state again.
func (s *state) checkpoint(g GroupID) change {
	c := change{kind: recordCheckpoint, group: g, at: s.compacted, last: s.last}
	if s.hard != (hardState{}) {
		hard := s.hard
		c.hard = &hard
	}
	return c
}

// atLeast raises the commit index to a compacted index: what was compacted was
// committed, and raft refuses a hard state that says less.
func (h hardState) atLeast(compacted uint64) hardState {
	if h != (hardState{}) {
		h.commit = max(h.commit, compacted)
	}
	return h
}
