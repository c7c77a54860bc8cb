package memory

import (
	"slices"
	"sort"
	"sync"
)

// snapshots are the sequence numbers at which snapshots are open.
type snapshots struct {
	mu sync.Mutex
	// open ascends; several snapshots of one number are one element.
	open []openSeq
}

type openSeq struct {
	seq  uint64
	refs int
}

// add opens a snapshot at the newest sequence number. The caller holds the
// engine's lock for reading, so that no batch is under way.
func (s *snapshots) add(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.open); n > 0 && s.open[n-1].seq == seq {
		s.open[n-1].refs++
		return
	}
	s.open = append(s.open, openSeq{seq, 1})
}

func (s *snapshots) remove(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.from(seq)
	if s.open[i].refs--; s.open[i].refs == 0 {
		s.open = slices.Delete(s.open, i, i+1)
	}
}

// from is the index of the first open number that is not below seq.
func (s *snapshots) from(seq uint64) int {
	return sort.Search(len(s.open), func(i int) bool { return s.open[i].seq >= seq })
}

// list appends the open numbers to dst: what Apply works against. Snapshots that
// close meanwhile are kept for too long, which is harmless; none can open.
func (s *snapshots) list(dst []uint64) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		dst = append(dst, o.seq)
	}
	return dst
}
