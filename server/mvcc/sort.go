package mvcc

import (
	"bytes"
	"cmp"
	"slices"
)

// headed is a record and eight bytes of its key.
type headed struct {
	head uint64
	id   uint32
}

// sort sorts records, whose keys have their first skip bytes in common, by their
// keys. It is a quicksort that looks at eight bytes at a time: those behind what
// the keys have in common, read once and kept beside the record, since the keys
// themselves are cold.
func (t *keyTable) sort(part []headed, skip int) {
	if len(part) < 2 {
		return
	}
	skip = t.shared(part, skip)
	for i := range part {
		part[i].head = head(t.key(part[i].id), int32(skip))
	}
	slices.SortFunc(part, func(a, b headed) int { return cmp.Compare(a.head, b.head) })
	if part[0].head == part[len(part)-1].head {
		// They differ in the zeros at their ends.
		slices.SortFunc(part, func(a, b headed) int { return bytes.Compare(t.key(a.id), t.key(b.id)) })
		return
	}
	for len(part) > 0 {
		n := 1
		for n < len(part) && part[n].head == part[0].head {
			n++
		}
		t.sort(part[:n], skip)
		part = part[n:]
	}
}

// shared is how many bytes the keys of records have in common, of which skip are
// known to be.
func (t *keyTable) shared(part []headed, skip int) int {
	first := t.key(part[0].id)[skip:]
	for i := 1; i < len(part) && len(first) > 0; i++ {
		first = first[:commonPrefix(first, t.key(part[i].id)[skip:])]
	}
	return skip + len(first)
}
