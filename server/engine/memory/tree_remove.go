package memory

import "slices"

// sparseLeaf and sparseNode are the fills below which a neighbour is merged
// in, so that a tree that loses most rows also loses most leaves. They are
// well below half, so that a delete and an insert in turn never split and
// merge in turn.
const (
	sparseLeaf = leafRows / 4
	sparseNode = nodeKids / 4
)

// remove takes a key's row out and tells whether there was one.
func (t *tree) remove(key []byte) bool {
	if !t.removeUnder(t.root, key) {
		return false
	}
	t.rows--
	for len(t.root.kids) == 1 {
		t.root = t.root.kids[0]
	}
	return true
}

func (t *tree) removeUnder(n *node, key []byte) bool {
	i := n.childOf(key)
	if n.kids != nil {
		if !t.removeUnder(n.kids[i], key) {
			return false
		}
		n.mergeKids(i)
		return true
	}
	l := n.leaves[i]
	at, found := t.search(l, key)
	if !found {
		return false
	}
	l.removeAt(at)
	t.mergeLeaves(n, i)
	return true
}

func (l *leaf) removeAt(i int) {
	copy(l.rows[i:], l.rows[i+1:l.n])
	l.n--
	l.rows[l.n] = row{}
}

// mergeLeaves joins leaf i with a neighbour when it is sparse and both fit in
// three quarters of a leaf. An empty leaf is always joined: it has a neighbour,
// because every node but the root has several children (see mergeKids).
func (t *tree) mergeLeaves(n *node, i int) {
	if n.leaves[i].n >= sparseLeaf {
		return
	}
	for _, left := range [2]int{i - 1, i} {
		if left < 0 || left+1 >= len(n.leaves) {
			continue
		}
		l, r := n.leaves[left], n.leaves[left+1]
		if l.n != 0 && r.n != 0 && l.n+r.n > 3*leafRows/4 {
			continue
		}
		t.joinLeaves(l, r)
		n.leaves = slices.Delete(n.leaves, left+1, left+2)
		n.seps = slices.Delete(n.seps, left, left+1)
		return
	}
}

// joinLeaves moves the rows of r, which follows l, to l and unlinks r.
func (t *tree) joinLeaves(l, r *leaf) {
	l.n += copy(l.rows[l.n:], r.rows[:r.n])
	l.next = r.next
	if t.last == r {
		t.last = l
	}
	t.leaves--
}

// children is the number of children.
func (n *node) children() int { return len(n.seps) + 1 }

// mergeKids joins kid i with a neighbour when it is sparse. Where the two do
// not fit in one node it takes over some of the neighbour's children instead,
// so that no node but the root stays with fewer than sparseNode children.
func (n *node) mergeKids(i int) {
	if n.kids[i].children() >= sparseNode || len(n.kids) == 1 {
		return
	}
	left := max(i-1, 0)
	l, r := n.kids[left], n.kids[left+1]
	l.seps = append(append(l.seps, n.seps[left]), r.seps...)
	l.kids = append(l.kids, r.kids...)
	l.leaves = append(l.leaves, r.leaves...)
	if l.children() <= nodeKids*3/4 {
		n.kids = slices.Delete(n.kids, left+1, left+2)
		n.seps = slices.Delete(n.seps, left, left+1)
		return
	}
	n.seps[left], n.kids[left+1] = l.split()
}
