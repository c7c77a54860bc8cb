package mvcc

import "math/bits"

const (
	// arenaUnit is what references count in; every block is a multiple of it.
	arenaUnit = 8
	// arenaChunkBits: a chunk is 2^15 units, 256 KiB. The other 17 bits of a
	// reference number the chunks: 32 GiB of keys, beyond any quota.
	arenaChunkBits = 15
	arenaChunkLen  = arenaUnit << arenaChunkBits
	// arenaOwnLen is from where on a block gets a chunk of its own.
	arenaOwnLen = 16 << 10
)

// ref names a block of an arena: chunk << arenaChunkBits | offset in units.
// 0 names none.
type ref uint32

// arena hands out blocks of bytes from large chunks, so that millions of keys
// are few objects to the garbage collector. A block's owner remembers its
// length: free needs it to find the block's size class.
type arena struct {
	chunks [][]byte
	// open is the chunk that small blocks are cut from, next the first unused
	// byte in it.
	open, next int
	// holes are the freed blocks by size class; spare the numbers of freed
	// chunks.
	holes map[int][]ref
	spare []int
}

func newArena() arena {
	// The first unit stays unused: reference 0 names nothing.
	return arena{chunks: [][]byte{make([]byte, arenaChunkLen)}, next: arenaUnit, holes: map[int][]ref{}}
}

// blockLen rounds a length up to its size class: eighths of a power of two,
// and at least whole units, so that at most an eighth is lost.
func blockLen(n int) int {
	step := arenaUnit
	if n > 64 {
		step = max(step, 1<<(bits.Len(uint(n-1))-4))
	}
	return (n + step - 1) &^ (step - 1)
}

// alloc returns a block of n > 0 bytes whose contents are undefined.
func (a *arena) alloc(n int) (ref, []byte) {
	size := blockLen(n)
	if size >= arenaOwnLen {
		c := a.addChunk(size)
		return ref(c << arenaChunkBits), a.chunks[c][:n]
	}
	if h := a.holes[size]; len(h) > 0 {
		r := h[len(h)-1]
		a.holes[size] = h[:len(h)-1]
		return r, a.bytes(r, n)
	}
	if a.next+size > arenaChunkLen {
		a.open, a.next = a.addChunk(arenaChunkLen), 0
	}
	r := ref(a.open<<arenaChunkBits | a.next/arenaUnit)
	a.next += size
	return r, a.bytes(r, n)
}

func (a *arena) addChunk(size int) int {
	if n := len(a.spare); n > 0 {
		c := a.spare[n-1]
		a.spare = a.spare[:n-1]
		a.chunks[c] = make([]byte, size)
		return c
	}
	if len(a.chunks) >= 1<<(32-arenaChunkBits) {
		panic("mvcc: the keys take more than 32 GiB of memory")
	}
	a.chunks = append(a.chunks, make([]byte, size))
	return len(a.chunks) - 1
}

// bytes is the block of n bytes at r.
func (a *arena) bytes(r ref, n int) []byte {
	at := int(r&(1<<arenaChunkBits-1)) * arenaUnit
	return a.chunks[r>>arenaChunkBits][at : at+n : at+n]
}

// free gives back a block of n bytes.
func (a *arena) free(r ref, n int) {
	size := blockLen(n)
	if size < arenaOwnLen {
		a.holes[size] = append(a.holes[size], r)
		return
	}
	c := int(r >> arenaChunkBits)
	a.chunks[c] = nil
	a.spare = append(a.spare, c)
}
