package memory

import "slices"

// sweep moves the rows that are left in sparse chunks to the open one, and looks
// at no more than limit rows for that. It tells whether there are more.
func (s *space) sweep(limit int) (more bool) {
	h := s.heap
	for ; len(h.sparse) > 0; limit-- {
		if limit == 0 {
			return true
		}
		number := h.sparse[0]
		c := &h.chunks[number]
		if c.live == 0 || s.sweptTo == c.used {
			h.sparse, s.sweptTo = slices.Delete(h.sparse, 0, 1), 0
			h.free(number)
			continue
		}
		p := place{number, uint32(s.sweptTo)}
		key, value := h.row(p)
		s.sweptTo += rowLen(len(key), len(value))
		if r := s.holder(key, p); r != nil {
			r.place = h.put(key, value)
			h.drop(p)
		}
	}
	return false
}

// holder is the version of a key whose bytes are at p, nil when they were
// dropped.
func (s *space) holder(key []byte, p place) *row {
	r := s.tree.get(key)
	if r == nil || r.place == p {
		return r
	}
	if r.older() {
		versions := s.older[string(key)]
		for i := range versions {
			if versions[i].place == p {
				return &versions[i]
			}
		}
	}
	return nil
}
