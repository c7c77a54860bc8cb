package mvcc

// treeBuilder fills an empty tree with ascending keys, without a search: one
// full node after the other, level by level.
type treeBuilder struct {
	tree *tree
	// level are the nodes of the lowest level, in order; open is the last one.
	level []uint32
	open  *leaf
}

// add adds a record whose key is greater than all before.
func (b *treeBuilder) add(id uint32, live bool) {
	if b.open == nil || b.open.n == fanout {
		b.close()
		node := b.tree.root // the leaf of the empty tree
		if b.open != nil {
			node = b.tree.leaves.add()
		}
		b.level, b.open = append(b.level, node), b.tree.leaves.at(node)
	}
	l := b.open
	l.ids[l.n] = id
	if live {
		l.live |= 1 << l.n
	}
	l.n++
}

func (b *treeBuilder) close() {
	if b.open != nil {
		b.tree.fillFence(&b.open.fence)
	}
}

// fillFence computes what a fence keeps of the keys of its records.
func (t *tree) fillFence(f *fence) {
	first, last := t.keys.key(f.ids[0]), t.keys.key(f.ids[f.n-1])
	t.rehead(f, commonPrefix(first, last))
}

// finish builds the levels above.
func (b *treeBuilder) finish() {
	b.close()
	t := b.tree
	for len(b.level) > 1 {
		above := b.level[:0]
		for rest := b.level; len(rest) > 0; {
			n := min(len(rest), fanout)
			node := t.branches.add()
			t.fillBranch(t.branches.at(node), rest[:n])
			rest = rest[n:]
			above = append(above, node) // it has been read: nodes shrink to fewer
		}
		b.level = above
		t.height++
		t.root = above[0]
	}
}

// fillBranch gives an empty branch its children, of the height of the tree so far.
func (t *tree) fillBranch(b *branch, kids []uint32) {
	for i, kid := range kids {
		b.kids[i], b.live[i], b.ids[i] = kid, t.liveUnder(kid, t.height), t.firstUnder(kid, t.height)
	}
	b.n = int32(len(kids))
	t.fillFence(&b.fence)
}
