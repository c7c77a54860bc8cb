package mvcc

import (
	"bytes"
	"math/bits"
)

const (
	// fanout is how many keys a leaf and how many children a branch holds at
	// most: the bits of a leaf's word.
	fanout = 64
	// mergeBelow: neighbours that together hold at most so many are merged.
	mergeBelow = fanout / 2
)

// leaf is the lowest level: records in the order of their keys.
type leaf struct {
	fence
	// live has bit i set when the newest revision of ids[i] is no tombstone.
	live uint64
}

// branch is a level above. Its fence has the record with the smallest key
// under each child, and live the number of live keys there.
type branch struct {
	fence
	kids [fanout]uint32
	live [fanout]uint32
}

// tree orders records by key, as a B+ tree that counts the live ones under
// each node. Nodes are named by number and hold no pointers. Readers may run
// concurrently with each other.
type tree struct {
	keys     *keyTable
	leaves   slab[leaf]
	branches slab[branch]
	root     uint32
	// height is the number of branch levels: 0 when the root is a leaf.
	height int
}

func newTree(keys *keyTable) tree {
	t := tree{keys: keys}
	t.root = t.leaves.add()
	return t
}

// pos is the first slot of a leaf whose key is >= key.
func (t *tree) pos(l *leaf, key []byte) int {
	i, _ := t.search(&l.fence, key)
	return i
}

// slot is the child of a branch under which key is or belongs.
func (t *tree) slot(b *branch, key []byte) int {
	i, found := t.search(&b.fence, key)
	if !found && i > 0 {
		i--
	}
	return i
}

// rank is how many live keys are < key.
func (t *tree) rank(key []byte) int64 {
	var n int64
	node := t.root
	for h := t.height; h > 0; h-- {
		b := t.branches.at(node)
		i := t.slot(b, key)
		for _, c := range b.live[:i] {
			n += int64(c)
		}
		node = b.kids[i]
	}
	l := t.leaves.at(node)
	return n + int64(bits.OnesCount64(l.live&(1<<t.pos(l, key)-1)))
}

// count is how many live keys are in from <= key < to; a nil to is unbounded.
func (t *tree) count(from, to []byte) int64 {
	if to == nil {
		return int64(t.liveUnder(t.root, t.height)) - t.rank(from)
	}
	if bytes.Compare(from, to) >= 0 {
		return 0
	}
	return t.rank(to) - t.rank(from)
}

func (t *tree) liveUnder(node uint32, height int) uint32 {
	if height == 0 {
		return uint32(bits.OnesCount64(t.leaves.at(node).live))
	}
	b := t.branches.at(node)
	var n uint32
	for _, c := range b.live[:b.n] {
		n += c
	}
	return n
}

func (t *tree) firstUnder(node uint32, height int) uint32 {
	if height == 0 {
		return t.leaves.at(node).ids[0]
	}
	return t.branches.at(node).ids[0]
}

// ascend calls fn for the records from <= key < to in order until fn returns
// false; a nil to is unbounded. It compares with to at the edge only.
func (t *tree) ascend(from, to []byte, fn func(id uint32, live bool) bool) {
	if to == nil || bytes.Compare(from, to) < 0 {
		t.ascendUnder(t.root, t.height, from, to, fn)
	}
}

func (t *tree) ascendUnder(node uint32, height int, from, to []byte, fn func(uint32, bool) bool) bool {
	if height == 0 {
		return t.ascendLeaf(t.leaves.at(node), from, to, fn)
	}
	b := t.branches.at(node)
	i, last := 0, int(b.n)-1
	if from != nil {
		i = t.slot(b, from)
	}
	if to != nil {
		last = t.slot(b, to)
	}
	for ; i <= last; i++ {
		edge := to
		if i < last {
			edge = nil
		}
		if !t.ascendUnder(b.kids[i], height-1, from, edge, fn) {
			return false
		}
		from = nil
	}
	return true
}

func (t *tree) ascendLeaf(l *leaf, from, to []byte, fn func(uint32, bool) bool) bool {
	i, end := 0, int(l.n)
	if from != nil {
		i = t.pos(l, from)
	}
	if to != nil {
		end = t.pos(l, to)
	}
	for ; i < end; i++ {
		if !fn(l.ids[i], l.live>>i&1 == 1) {
			return false
		}
	}
	return true
}

// setLive marks whether the newest revision of a key that is there is live.
func (t *tree) setLive(key []byte, live bool) {
	node := t.root
	for h := t.height; h > 0; h-- {
		b := t.branches.at(node)
		i := t.slot(b, key)
		if live {
			b.live[i]++
		} else {
			b.live[i]--
		}
		node = b.kids[i]
	}
	l := t.leaves.at(node)
	l.live ^= 1 << t.pos(l, key)
}
