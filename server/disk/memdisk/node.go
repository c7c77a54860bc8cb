package memdisk

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// node is a file or a folder, as it is now and as a crash would find it.
type node struct {
	// A folder: names now, names on disk, and the changes between in order.
	names, durableNames map[string]*node
	pending             []nameOp

	// A file: bytes now, bytes on disk, and the sectors that the next sync
	// saves. Invariant: outside dirty sectors both hold the same bytes, unless
	// a sync failed.
	data, durable []byte
	dirty         map[int64]bool
	// rot has the bits that read inverted, by the byte that they are in.
	rot map[int64]byte
}

// nameOp is one change of a folder: a name gone, a name added, or both at once.
type nameOp struct {
	drop, add string
	node      *node
}

func newFolder() *node {
	return &node{names: map[string]*node{}, durableNames: map[string]*node{}}
}

func newFile() *node { return &node{dirty: map[int64]bool{}} }

func (n *node) isFolder() bool { return n.names != nil }

func (n *node) change(op nameOp) {
	op.applyTo(n.names)
	n.pending = append(n.pending, op)
}

func (op nameOp) applyTo(names map[string]*node) {
	if op.drop != "" {
		delete(names, op.drop)
	}
	if op.add != "" {
		names[op.add] = op.node
	}
}

// settle makes the first count pending changes durable.
func (n *node) settle(count int) {
	for _, op := range n.pending[:count] {
		op.applyTo(n.durableNames)
	}
	n.pending = slices.Delete(n.pending, 0, count)
}

func (n *node) write(p []byte, offset int64) {
	end := offset + int64(len(p))
	if end > int64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[offset:], p)
	n.markDirty(offset, end)
	n.heal(offset, end)
}

// heal ends the rot of bytes that were written or cut off.
func (n *node) heal(from, to int64) {
	maps.DeleteFunc(n.rot, func(at int64, _ byte) bool { return at >= from && at < to })
}

// mend ends all rot in the tree below n.
func (n *node) mend() {
	n.rot = nil
	for _, names := range []map[string]*node{n.names, n.durableNames} {
		for _, child := range names {
			child.mend()
		}
	}
}

func (n *node) resize(sizeBytes int64) {
	old := int64(len(n.data))
	if sizeBytes <= old {
		n.data = n.data[:sizeBytes]
		n.markDirty(sizeBytes, old)
		n.heal(sizeBytes, old)
		return
	}
	n.data = slices.Grow(n.data, int(sizeBytes-old))[:sizeBytes]
	clear(n.data[old:])
	n.markDirty(old, sizeBytes)
}

func (n *node) markDirty(from, to int64) {
	for s := from / sectorBytes; s*sectorBytes < to; s++ {
		n.dirty[s] = true
	}
}

func (n *node) sync() {
	if len(n.durable) != len(n.data) {
		resized := make([]byte, len(n.data))
		copy(resized, n.durable)
		n.durable = resized
	}
	for s := range n.dirty {
		copy(sector(n.durable, s), sector(n.data, s))
	}
	clear(n.dirty)
}

// crash leaves what a power cut could leave, in the tree below n.
func (n *node) crash(rng *rand.Rand) {
	if !n.isFolder() {
		n.crashFile(rng)
		return
	}
	n.settle(rng.IntN(len(n.pending) + 1))
	n.pending = nil
	n.names = maps.Clone(n.durableNames)
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		n.names[name].crash(rng)
	}
}

func (n *node) crashFile(rng *rand.Rand) {
	after := make([]byte, crashLength(rng, len(n.durable), len(n.data)))
	copy(after, n.durable)
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		dst := sector(after, s)
		switch src := sector(n.data, s); rng.IntN(5) {
		case 0, 1: // the old bytes stay
		case 2, 3:
			copy(dst, src)
		default:
			copy(dst, src[:rng.IntN(len(src)+1)])
		}
	}
	n.data, n.durable = after, bytes.Clone(after)
	clear(n.dirty)
}

func crashLength(rng *rand.Rand, durable, current int) int {
	lo, hi := min(durable, current), max(durable, current)
	switch rng.IntN(3) {
	case 0:
		return lo
	case 1:
		return hi
	default:
		return lo + rng.IntN(hi-lo+1)
	}
}

// sector is the part of data in sector s; empty beyond its end.
func sector(data []byte, s int64) []byte {
	from := min(s*sectorBytes, int64(len(data)))
	return data[from:min(from+sectorBytes, int64(len(data)))]
}

func (n *node) clone(seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}
	c := &node{data: bytes.Clone(n.data), durable: bytes.Clone(n.durable), dirty: maps.Clone(n.dirty), rot: maps.Clone(n.rot)}
	seen[n] = c
	c.names, c.durableNames = cloneNames(n.names, seen), cloneNames(n.durableNames, seen)
	for _, op := range n.pending {
		if op.node != nil {
			op.node = op.node.clone(seen)
		}
		c.pending = append(c.pending, op)
	}
	return c
}

func cloneNames(names map[string]*node, seen map[*node]*node) map[string]*node {
	if names == nil {
		return nil
	}
	c := make(map[string]*node, len(names))
	for name, n := range names {
		c[name] = n.clone(seen)
	}
	return c
}

func (n *node) sizeBytes() int64 {
	total := int64(len(n.data))
	for _, child := range n.names {
		total += child.sizeBytes()
	}
	return total
}
