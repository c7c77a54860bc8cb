package mvcc

import "fmt"

// CompareIndex tells how the index differs from that of another store of the same
// rows, nil when it does not. Nothing may be applied to either meanwhile.
func (s *Store) CompareIndex(o *Store) error {
	x, y := s.index, o.index
	if a, b := s.Rev(), o.Rev(); a != b {
		return fmt.Errorf("revision %d and revision %d", a, b)
	}
	if a, b := x.keys.records.count(), y.keys.records.count(); a != b {
		return fmt.Errorf("%d keys and %d keys", a, b)
	}
	// Both trees in step: what one holds at a place, the other does.
	var ids []uint32
	y.tree.ascend(nil, nil, func(id uint32, _ bool) bool {
		ids = append(ids, id)
		return true
	})
	n, err := 0, error(nil)
	x.tree.ascend(nil, nil, func(id uint32, live bool) bool {
		key := x.keys.key(id)
		if n == len(ids) || y.find(key) != ids[n] || !x.sameKey(id, y, ids[n]) || live != x.record(id).live() {
			err = fmt.Errorf("key %q", key)
		}
		n++
		return err == nil
	})
	if err == nil && n != len(ids) {
		err = fmt.Errorf("%d ordered keys and %d", n, len(ids))
	}
	if a, b := x.tree.count(nil, nil), y.tree.count(nil, nil); err == nil && a != b {
		err = fmt.Errorf("%d live keys and %d", a, b)
	}
	return err
}

// sameKey tells whether a record equals one of another index.
func (x *index) sameKey(id uint32, y *index, other uint32) bool {
	a, b := x.record(id), y.record(other)
	if string(x.keys.key(id)) != string(y.keys.key(other)) || a.olderN != b.olderN || x.lease(id) != y.lease(other) {
		return false
	}
	if a.live() && (a.created != b.created || a.version != b.version) {
		return false
	}
	for i := range a.revisions() {
		if x.keys.revision(a, i) != y.keys.revision(b, i) {
			return false
		}
	}
	return true
}
