package mvcc

const (
	slabBits = 6
	slabLen  = 1 << slabBits
)

// slab holds fixed-size records without pointers in chunks that never move, so
// that the garbage collector has nothing to follow and a *T stays valid while
// others are added. Records are named by number; 0 names none.
type slab[T any] struct {
	chunks []*[slabLen]T
	// free holds the numbers that were given back, the last one first out.
	free []uint32
	// used is the number given out last. Invariant: used < len(chunks)*slabLen.
	used uint32
}

func (s *slab[T]) at(id uint32) *T { return &s.chunks[id>>slabBits][id&(slabLen-1)] }

// add makes a zero record.
func (s *slab[T]) add() uint32 {
	if n := len(s.free); n > 0 {
		id := s.free[n-1]
		s.free = s.free[:n-1]
		return id
	}
	s.used++
	if int(s.used>>slabBits) >= len(s.chunks) {
		s.chunks = append(s.chunks, new([slabLen]T))
	}
	return s.used
}

// drop gives a record back.
func (s *slab[T]) drop(id uint32) {
	var zero T
	*s.at(id) = zero
	s.free = append(s.free, id)
}

// count is how many records there are.
func (s *slab[T]) count() int { return int(s.used) - len(s.free) }
