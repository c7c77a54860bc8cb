package mvcc

// insert adds a record whose key is not there. Its counts follow live.
func (t *tree) insert(id uint32, key []byte, live bool) {
	right, split := t.insertUnder(t.root, t.height, id, key, live)
	if !split {
		return
	}
	root := t.branches.add()
	b := t.branches.at(root)
	b.n = 2
	b.kids[0], b.kids[1] = t.root, right
	t.refresh(b, 0, t.height)
	t.refresh(b, 1, t.height)
	t.root = root
	t.height++
}

// refresh takes what a branch keeps about its i-th child from the child, which
// has the given height.
func (t *tree) refresh(b *branch, i, height int) {
	b.first[i] = t.firstUnder(b.kids[i], height)
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
		b.first[i] = t.firstUnder(b.kids[i], height-1)
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
		l.insert(i, id, live)
		return 0, false
	}
	right := t.leaves.add()
	r := t.leaves.at(right)
	// A key behind all others begins a leaf of its own: ascending keys leave
	// full leaves behind them.
	keep := fanout / 2
	if i == fanout {
		keep = fanout
	}
	l.moveTail(keep, r)
	if i < keep {
		l.insert(i, id, live)
	} else {
		r.insert(i-keep, id, live)
	}
	return right, true
}

func (l *leaf) insert(i int, id uint32, live bool) {
	copy(l.ids[i+1:l.n+1], l.ids[i:l.n])
	l.ids[i] = id
	l.n++
	below := uint64(1)<<i - 1
	l.live = l.live&below | l.live&^below<<1
	if live {
		l.live |= 1 << i
	}
}

func (l *leaf) remove(i int) {
	copy(l.ids[i:l.n-1], l.ids[i+1:l.n])
	l.n--
	below := uint64(1)<<i - 1
	l.live = l.live&below | l.live>>1&^below
}

// moveTail moves the records from slot i on to the front of an empty leaf.
func (l *leaf) moveTail(i int, r *leaf) {
	r.n = int32(copy(r.ids[:], l.ids[i:l.n]))
	r.live = l.live >> i
	l.n = int32(i)
	l.live &= 1<<i - 1
}

// insertKid adds a child of the given height at slot i of a branch.
func (t *tree) insertKid(node uint32, i int, kid uint32, height int) (uint32, bool) {
	b := t.branches.at(node)
	if int(b.n) < fanout {
		b.open(i)
		b.kids[i] = kid
		t.refresh(b, i, height)
		return 0, false
	}
	right := t.branches.add()
	r := t.branches.at(right)
	keep := fanout / 2
	if i == fanout {
		keep = fanout
	}
	b.moveTail(keep, r)
	if i >= keep {
		b, i = r, i-keep
	}
	b.open(i)
	b.kids[i] = kid
	t.refresh(b, i, height)
	return right, true
}

// open makes room at slot i.
func (b *branch) open(i int) {
	copy(b.first[i+1:b.n+1], b.first[i:b.n])
	copy(b.kids[i+1:b.n+1], b.kids[i:b.n])
	copy(b.live[i+1:b.n+1], b.live[i:b.n])
	b.n++
}

// shut removes slot i.
func (b *branch) shut(i int) {
	copy(b.first[i:b.n-1], b.first[i+1:b.n])
	copy(b.kids[i:b.n-1], b.kids[i+1:b.n])
	copy(b.live[i:b.n-1], b.live[i+1:b.n])
	b.n--
}

func (b *branch) moveTail(i int, r *branch) {
	r.n = int32(copy(r.first[:], b.first[i:b.n]))
	copy(r.kids[:], b.kids[i:b.n])
	copy(r.live[:], b.live[i:b.n])
	b.n = int32(i)
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
		b.shut(i)
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
	if height == 0 {
		if !t.leaves.at(l).take(t.leaves.at(r)) {
			return false
		}
	} else if !t.branches.at(l).take(t.branches.at(r)) {
		return false
	}
	t.dropNode(r, height)
	b.shut(i + 1)
	t.refresh(b, i, height)
	return true
}

func (l *leaf) take(r *leaf) bool {
	if l.n+r.n > mergeBelow {
		return false
	}
	copy(l.ids[l.n:], r.ids[:r.n])
	l.live |= r.live << l.n
	l.n += r.n
	return true
}

func (b *branch) take(r *branch) bool {
	if b.n+r.n > mergeBelow {
		return false
	}
	copy(b.first[b.n:], r.first[:r.n])
	copy(b.kids[b.n:], r.kids[:r.n])
	copy(b.live[b.n:], r.live[:r.n])
	b.n += r.n
	return true
}
