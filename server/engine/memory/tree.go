package memory

import (
	"bytes"
	"slices"
	"unsafe"
)

// tree is a B+ tree of rows by key. Rows are in the leaves only, which are
// linked in order. Keys that arrive in ascending order fill every leaf to the
// brim and cost one comparison each, because the right edge is at hand. The
// tree does no locking.
type tree struct {
	// heap holds the rows' keys.
	heap *heap
	root *node
	// last is the rightmost leaf.
	last *leaf
	// rows and leaves count what is in the tree.
	rows, leaves int
}

const (
	// leafRows makes a leaf just fit a 4 KiB allocation.
	leafRows = (4096 - 16) / int(unsafe.Sizeof(row{}))
	// nodeKids is the fan-out of an inner node.
	nodeKids = 64

	leafBytes = int64(unsafe.Sizeof(leaf{}))
)

type leaf struct {
	next *leaf
	// Invariant: rows[:n] ascend strictly by key; n > 0 unless the tree is empty.
	n    int
	rows [leafRows]row
}

// node is an inner node: it has kids or, at the lowest level, leaves.
type node struct {
	// Invariant: seps[i] is greater than every key under child i and not
	// greater than any under child i+1; len(seps) is the number of children - 1.
	seps   [][]byte
	kids   []*node
	leaves []*leaf
}

func newTree(h *heap) tree {
	l := &leaf{}
	return tree{heap: h, root: &node{leaves: []*leaf{l}}, last: l, leaves: 1}
}

// childOf is the index of the child that holds key, if any does.
func (n *node) childOf(key []byte) int {
	lo, hi := 0, len(n.seps)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(n.seps[mid], key) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func (t *tree) compare(r *row, key []byte) int { return bytes.Compare(t.heap.key(r.place), key) }

// search is the position of the first row of a leaf that is not below key.
func (t *tree) search(l *leaf, key []byte) (i int, found bool) {
	lo, hi := 0, l.n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := t.compare(&l.rows[mid], key); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

func (t *tree) leafOf(key []byte) *leaf {
	n := t.root
	for n.kids != nil {
		n = n.kids[n.childOf(key)]
	}
	return n.leaves[n.childOf(key)]
}

// get finds the row of a key, nil when there is none. The pointer is valid
// until the tree changes.
func (t *tree) get(key []byte) *row {
	l := t.leafOf(key)
	if i, ok := t.search(l, key); ok {
		return &l.rows[i]
	}
	return nil
}

// finger is where the last lookup of some ascending ones ended.
type finger struct {
	leaf *leaf
	next int
}

// getNear is get for one of several keys: one that follows the last in the tree
// costs a comparison.
func (t *tree) getNear(f *finger, key []byte) *row {
	if f.leaf != nil && f.next == f.leaf.n {
		f.leaf, f.next = f.leaf.next, 0
	}
	if f.leaf == nil || f.next == f.leaf.n || t.compare(&f.leaf.rows[f.next], key) != 0 {
		l := t.leafOf(key)
		i, ok := t.search(l, key)
		if f.leaf, f.next = l, i; !ok {
			return nil
		}
	}
	f.next++
	return &f.leaf.rows[f.next-1]
}

// seek is the position of the first row that is not below key; it may be
// behind the last row of the leaf.
func (t *tree) seek(key []byte) (*leaf, int) {
	l := t.leafOf(key)
	i, _ := t.search(l, key)
	return l, i
}

// append adds a row whose key is above all others, if it is and there is room
// at the right edge.
func (t *tree) append(key []byte, r row) bool {
	l := t.last
	if l.n == leafRows || (l.n > 0 && t.compare(&l.rows[l.n-1], key) >= 0) {
		return false
	}
	l.rows[l.n] = r
	l.n++
	t.rows++
	return true
}

// insert adds a row whose key is not in the tree.
func (t *tree) insert(key []byte, r row) {
	t.rows++
	if sep, right := t.insertUnder(t.root, key, r); right != nil {
		t.root = &node{seps: [][]byte{sep}, kids: []*node{t.root, right}}
	}
}

// insertUnder adds a row below n. When n had to split it returns the new right
// half and the separator before it.
func (t *tree) insertUnder(n *node, key []byte, r row) ([]byte, *node) {
	i := n.childOf(key)
	if n.kids == nil {
		sep, right := t.insertLeaf(n.leaves[i], key, r)
		if right != nil {
			n.seps = slices.Insert(n.seps, i, sep)
			n.leaves = slices.Insert(n.leaves, i+1, right)
		}
	} else {
		sep, right := t.insertUnder(n.kids[i], key, r)
		if right != nil {
			n.seps = slices.Insert(n.seps, i, sep)
			n.kids = slices.Insert(n.kids, i+1, right)
		}
	}
	if len(n.seps) < nodeKids {
		return nil, nil
	}
	return n.split()
}

// insertLeaf adds a row to a leaf or splits it: in half or, at the right edge,
// into the full leaf and one with the new row alone.
func (t *tree) insertLeaf(l *leaf, key []byte, r row) ([]byte, *leaf) {
	i, _ := t.search(l, key)
	if l.n < leafRows {
		l.insertAt(i, r)
		return nil, nil
	}
	right := &leaf{next: l.next}
	l.next = right
	t.leaves++
	half := leafRows / 2
	if t.last == l {
		t.last = right
		if i == l.n {
			half = l.n
		}
	}
	right.n = copy(right.rows[:], l.rows[half:l.n])
	clear(l.rows[half:l.n])
	l.n = half
	if i < half || (i == half && right.n > 0) {
		l.insertAt(i, r)
	} else {
		right.insertAt(i-half, r)
	}
	return t.separator(&right.rows[0]), right
}

// separator copies a key: a reference would keep the row's chunk alive.
func (t *tree) separator(r *row) []byte { return bytes.Clone(t.heap.key(r.place)) }

func (l *leaf) insertAt(i int, r row) {
	copy(l.rows[i+1:l.n+1], l.rows[i:l.n])
	l.rows[i] = r
	l.n++
}

// split moves the upper half of a node to a new one. At the right edge of an
// ascending load the left half stays half full, which costs inner nodes only.
func (n *node) split() ([]byte, *node) {
	mid := len(n.seps) / 2
	sep := n.seps[mid]
	right := &node{seps: slices.Clone(n.seps[mid+1:])}
	if n.kids != nil {
		right.kids = slices.Clone(n.kids[mid+1:])
		n.kids = slices.Delete(n.kids, mid+1, len(n.kids))
	} else {
		right.leaves = slices.Clone(n.leaves[mid+1:])
		n.leaves = slices.Delete(n.leaves, mid+1, len(n.leaves))
	}
	n.seps = slices.Delete(n.seps, mid, len(n.seps))
	return sep, right
}
