package mvcc

import "go.etcd.io/etcd/api/v3/mvccpb"

// These hand out memory for answers and events, many pieces an allocation.
// What they gave out is never used again: it lives as long as anyone keeps it,
// and keeps its neighbours alive, so the pieces are not too many.

const (
	// copyChunkLen is how much memory for copies is allocated at once; a copy
	// of a quarter of it or more gets its own.
	copyChunkLen = 64 << 10
	ownCopyLen   = copyChunkLen / 4
	// maxSlab is how many pairs or events are allocated at once, at most.
	maxSlab = 64
)

// slabs hands out zero values from arrays of growing length: one allocation
// for many, and none too many for a small answer.
type slabs[T any] struct {
	free []T
	size int
}

func (s *slabs[T]) next() *T {
	if len(s.free) == 0 {
		s.size = min(max(1, 2*s.size), maxSlab)
		s.free = make([]T, s.size)
	}
	v := &s.free[0]
	s.free = s.free[1:]
	return v
}

// copies copies bytes into large chunks.
type copies struct{ chunk []byte }

func (c *copies) copy(b []byte) []byte {
	n := len(b)
	if n >= ownCopyLen {
		return append(make([]byte, 0, n), b...)
	}
	if len(c.chunk) < n {
		c.chunk = make([]byte, copyChunkLen)
	}
	to := c.chunk[:n:n]
	c.chunk = c.chunk[n:]
	copy(to, b)
	return to
}

// eventSlot is one event with its pair.
type eventSlot struct {
	event mvccpb.Event
	kv    mvccpb.KeyValue
}
