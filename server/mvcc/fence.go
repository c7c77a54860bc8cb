package mvcc

import (
	"bytes"
	"encoding/binary"
)

// fence is a node's sorted list of keys, by record. To find a key without
// touching the records, which are cold, it keeps what tells its keys apart:
// the length of their common prefix, and of each the eight bytes behind it.
type fence struct {
	n int32
	// skip is a length up to which all keys of the fence are equal; at most
	// the length of the shortest.
	skip int32
	// heads[i] are the bytes of the i-th key after skip, big endian and filled
	// up with zeros. Invariant: ascending, equal ones in the order of the keys.
	heads [fanout]uint64
	ids   [fanout]uint32
}

// head is the part of a key at skip that fits a word.
func head(key []byte, skip int32) uint64 {
	rest := key[skip:]
	if len(rest) >= 8 {
		return binary.BigEndian.Uint64(rest)
	}
	var h uint64
	for i, c := range rest {
		h |= uint64(c) << (56 - 8*i)
	}
	return h
}

// commonPrefix is how many bytes two keys have in common at their beginning.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for i+8 <= n && binary.LittleEndian.Uint64(a[i:]) == binary.LittleEndian.Uint64(b[i:]) {
		i += 8
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// search is the first slot of a fence whose key is >= key, and whether it is
// that key.
func (t *tree) search(f *fence, key []byte) (int, bool) {
	n := int(f.n)
	if n == 0 {
		return 0, false
	}
	skip := int(f.skip)
	if skip > 0 {
		prefix := t.keys.key(f.ids[0])[:skip]
		if c := bytes.Compare(key[:min(skip, len(key))], prefix); c < 0 {
			return 0, false
		} else if c > 0 {
			return n, false
		}
	}
	want := head(key, f.skip)
	lo, hi := 0, n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if f.heads[mid] < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	// Where heads are equal the keys themselves decide.
	end := lo
	for end < n && f.heads[end] == want {
		end++
	}
	for lo < end {
		mid := int(uint(lo+end) >> 1)
		c := bytes.Compare(t.keys.key(f.ids[mid]), key)
		if c == 0 {
			return mid, true
		}
		if c < 0 {
			lo = mid + 1
		} else {
			end = mid
		}
	}
	return lo, false
}

// set replaces the key at slot i, which keeps its place in the order.
func (t *tree) set(f *fence, i int, id uint32) {
	if f.ids[i] == id {
		return
	}
	key := t.keys.key(id)
	t.narrow(f, key)
	f.ids[i], f.heads[i] = id, head(key, f.skip)
}

// insert adds a key at slot i. There is room for it.
func (t *tree) insertSlot(f *fence, i int, id uint32, key []byte) {
	if f.n == 0 {
		f.skip = int32(len(key))
	}
	t.narrow(f, key)
	copy(f.ids[i+1:f.n+1], f.ids[i:f.n])
	copy(f.heads[i+1:f.n+1], f.heads[i:f.n])
	f.ids[i], f.heads[i] = id, head(key, f.skip)
	f.n++
}

// narrow shortens the common prefix so that key has it too.
func (t *tree) narrow(f *fence, key []byte) {
	if f.n == 0 || f.skip == 0 {
		return
	}
	have := t.keys.key(f.ids[0])[:f.skip]
	if m := commonPrefix(have, key); m < len(have) {
		t.rehead(f, m)
	}
}

// rehead sets the length of the common prefix.
func (t *tree) rehead(f *fence, skip int) {
	f.skip = int32(skip)
	for i := range f.n {
		f.heads[i] = head(t.keys.key(f.ids[i]), f.skip)
	}
}

// tighten makes the common prefix as long as it can be.
func (t *tree) tighten(f *fence) {
	if f.n == 0 {
		return
	}
	// The keys are sorted: what the outer ones share, all share.
	first, last := t.keys.key(f.ids[0]), t.keys.key(f.ids[f.n-1])
	if m := commonPrefix(first, last); m != int(f.skip) {
		t.rehead(f, m)
	}
}

func (f *fence) removeSlot(i int) {
	copy(f.ids[i:f.n-1], f.ids[i+1:f.n])
	copy(f.heads[i:f.n-1], f.heads[i+1:f.n])
	f.n--
}

// moveTail moves the slots from i on to an empty fence.
func (f *fence) moveTail(i int, r *fence) {
	r.skip = f.skip
	r.n = int32(copy(r.ids[:], f.ids[i:f.n]))
	copy(r.heads[:], f.heads[i:f.n])
	f.n = int32(i)
}

// join appends the slots of the right neighbour.
func (t *tree) join(f, r *fence) {
	copy(f.ids[f.n:], r.ids[:r.n])
	f.n += r.n
	first, last := t.keys.key(f.ids[0]), t.keys.key(f.ids[f.n-1])
	t.rehead(f, commonPrefix(first, last))
}
