package mvcc

// insert adds a record whose key is not there. Its counts follow live.
func (t *tree) insert(id uint32, key []byte, live bool) {
	right, split := t.insertUnder(t.root, t.height, id, key, live)
	if !split {
		return
	}
	root := t.branches.add()
	b := t.branches.at(root)
	t.addKid(b, 0, t.root, t.height)
	t.addKid(b, 1, right, t.height)
	t.root = root
	t.height++
}

// refresh takes what a branch keeps about its i-th child from the child, which
// has the given height.
func (t *tree) refresh(b *branch, i, height int) {
	t.set(&b.fence, i, t.firstUnder(b.kids[i], height))
	b.live[i] = t.liveUnder(b.kids[i], height)
}

// insertUnder inserts below node and returns the new right neighbour of node
// when it had to be split.
func (t *tree) insertUnder(node uint32, height int, id uint32, key []byte, live bool) (uint32, bool) {
	if height == 0 {
		return t.insertLeaf(node, id, key, live)
	}
	b := t.branches.at(node)
	i := t.slot(b, key)
	right, split := t.insertUnder(b.kids[i], height-1, id, key, live)
	if !split {
		t.set(&b.fence, i, t.firstUnder(b.kids[i], height-1))
		if live {
			b.live[i]++
		}
		return 0, false
	}
	t.refresh(b, i, height-1)
	return t.insertKid(node, i+1, right, height-1)
}

func (t *tree) insertLeaf(node, id uint32, key []byte, live bool) (uint32, bool) {
	l := t.leaves.at(node)
	i := t.pos(l, key)
	if int(l.n) < fanout {
		t.addKey(l, i, id, key, live)
		return 0, false
	}
	right := t.leaves.add()
	r := t.leaves.at(right)
	keep := keepAt(i)
	r.live = l.live >> keep
	l.live &= 1<<keep - 1
	l.moveTail(keep, &r.fence)
	t.tighten(&l.fence)
	t.tighten(&r.fence)
	if i < keep {
		t.addKey(l, i, id, key, live)
	} else {
		t.addKey(r, i-keep, id, key, live)
	}
	return right, true
}

// keepAt is how many slots a full node keeps when it is split for a new slot i.
// One behind all others begins a node of its own: ascending keys leave full
// nodes behind them.
func keepAt(i int) int {
	if i == fanout {
		return fanout
	}
	return fanout / 2
}

func (t *tree) addKey(l *leaf, i int, id uint32, key []byte, live bool) {
	t.insertSlot(&l.fence, i, id, key)
	below := uint64(1)<<i - 1
	l.live = l.live&below | l.live&^below<<1
	if live {
		l.live |= 1 << i
	}
}

func (l *leaf) remove(i int) {
	l.removeSlot(i)
	below := uint64(1)<<i - 1
	l.live = l.live&below | l.live>>1&^below
}

// insertKid adds a child of the given height at slot i of a branch.
func (t *tree) insertKid(node uint32, i int, kid uint32, height int) (uint32, bool) {
	b := t.branches.at(node)
	if int(b.n) < fanout {
		t.addKid(b, i, kid, height)
		return 0, false
	}
	right := t.branches.add()
	r := t.branches.at(right)
	keep := keepAt(i)
	copy(r.kids[:], b.kids[keep:])
	copy(r.live[:], b.live[keep:])
	b.moveTail(keep, &r.fence)
	t.tighten(&b.fence)
	t.tighten(&r.fence)
	if i >= keep {
		b, i = r, i-keep
	}
	t.addKid(b, i, kid, height)
	return right, true
}

// addKid puts a child of the given height at slot i; there is room for it.
func (t *tree) addKid(b *branch, i int, kid uint32, height int) {
	copy(b.kids[i+1:b.n+1], b.kids[i:b.n])
	copy(b.live[i+1:b.n+1], b.live[i:b.n])
	b.kids[i], b.live[i] = kid, t.liveUnder(kid, height)
	first := t.firstUnder(kid, height)
	t.insertSlot(&b.fence, i, first, t.keys.key(first))
}

// dropKid takes out slot i.
func (b *branch) dropKid(i int) {
	copy(b.kids[i:b.n-1], b.kids[i+1:b.n])
	copy(b.live[i:b.n-1], b.live[i+1:b.n])
	b.removeSlot(i)
}

// remove takes out a key that is there.
func (t *tree) remove(key []byte) {
	left := t.removeUnder(t.root, t.height, key)
	if left == 0 && t.height > 0 {
		t.branches.drop(t.root)
		t.root, t.height = t.leaves.add(), 0
	}
	for t.height > 0 && t.branches.at(t.root).n == 1 {
		only := t.branches.at(t.root).kids[0]
		t.branches.drop(t.root)
		t.root = only
		t.height--
	}
}

// removeUnder takes a key out below node and says how many slots node has left.
func (t *tree) removeUnder(node uint32, height int, key []byte) int {
	if height == 0 {
		l := t.leaves.at(node)
		l.remove(t.pos(l, key))
		return int(l.n)
	}
	b := t.branches.at(node)
	i := t.slot(b, key)
	left := t.removeUnder(b.kids[i], height-1, key)
	if left == 0 {
		t.dropNode(b.kids[i], height-1)
		b.dropKid(i)
		return int(b.n)
	}
	t.refresh(b, i, height-1)
	if left <= mergeBelow {
		t.mergeAround(b, i, height-1)
	}
	return int(b.n)
}

func (t *tree) dropNode(node uint32, height int) {
	if height == 0 {
		t.leaves.drop(node)
		return
	}
	t.branches.drop(node)
}

// mergeAround merges the i-th child with a neighbour when both are small.
func (t *tree) mergeAround(b *branch, i, height int) {
	if i+1 < int(b.n) && t.merge(b, i, height) {
		return
	}
	if i > 0 {
		t.merge(b, i-1, height)
	}
}

// merge moves the child right of slot i into the i-th when both are small.
func (t *tree) merge(b *branch, i, height int) bool {
	l, r := b.kids[i], b.kids[i+1]
	var merged bool
	if height == 0 {
		merged = t.takeLeaf(t.leaves.at(l), t.leaves.at(r))
	} else {
		merged = t.takeBranch(t.branches.at(l), t.branches.at(r))
	}
	if !merged {
		return false
	}
	t.dropNode(r, height)
	b.dropKid(i + 1)
	t.refresh(b, i, height)
	return true
}

func (t *tree) takeLeaf(l, r *leaf) bool {
	if l.n+r.n > mergeBelow {
		return false
	}
	l.live |= r.live << l.n
	t.join(&l.fence, &r.fence)
	return true
}

func (t *tree) takeBranch(b, r *branch) bool {
	if b.n+r.n > mergeBelow {
		return false
	}
	copy(b.kids[b.n:], r.kids[:r.n])
	copy(b.live[b.n:], r.live[:r.n])
	t.join(&b.fence, &r.fence)
	return true
}
