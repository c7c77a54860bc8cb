package memory

import (
	"encoding/binary"
	"math/bits"
)

const (
	// firstChunkBytes and chunkBytes are the sizes of a heap's first and of its
	// later chunks, which double up to there.
	firstChunkBytes, chunkBytes = 4 << 10, 256 << 10
	// ownChunkBytes is from where on a row gets a chunk of its own.
	ownChunkBytes = chunkBytes / 8
)

// place says where in a heap a row's bytes are.
type place struct{ chunk, at uint32 }

// heap holds the bytes of a space's rows, one behind the other in large chunks,
// so that millions of rows are few objects without pointers to the garbage
// collector. Bytes never change once they are written, and nothing is written
// over them: readers keep slices of them without a lock, and with them the chunk.
// A chunk that holds too few rows that are still needed is emptied into others
// (space.sweep), as a log-structured file system does.
//
//	row = key length uvarint | value length uvarint | key | value
type heap struct {
	chunks []chunk
	// spare are the numbers of chunks that are gone.
	spare []uint32
	// open is the chunk that rows are appended to.
	open uint32
	// sparse are the chunks to be emptied, each once.
	sparse []uint32
	// bytes is the length of all chunks.
	bytes int64
}

// chunk is one piece of memory. Invariant: 0 <= live <= used <= len(data); live
// is the length of the rows that were not dropped.
type chunk struct {
	data       []byte
	used, live int
	// queued marks one that is in sparse.
	queued bool
}

// put writes a row.
func (h *heap) put(key, value []byte) place {
	size := rowLen(len(key), len(value))
	p := place{chunk: h.open}
	if size >= ownChunkBytes {
		p.chunk = h.add(size)
	} else if len(h.chunks) == 0 || size > len(h.chunks[h.open].data)-h.chunks[h.open].used {
		was := h.open
		h.open = h.add(max(size, h.nextBytes()))
		p.chunk = h.open
		h.check(was) // it could not be emptied while it was open
	}
	c := &h.chunks[p.chunk]
	p.at = uint32(c.used)
	b := binary.AppendUvarint(c.data[c.used:c.used], uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(value)))
	_ = append(append(b, key...), value...)
	c.used += size
	c.live += size
	return p
}

// nextBytes is the size of the next chunk.
func (h *heap) nextBytes() int {
	return int(min(max(h.bytes, firstChunkBytes), chunkBytes))
}

func (h *heap) add(size int) uint32 { return h.take(chunk{data: make([]byte, size)}) }

func (h *heap) take(c chunk) uint32 {
	h.bytes += int64(len(c.data))
	if n := len(h.spare); n > 0 {
		number := h.spare[n-1]
		h.spare = h.spare[:n-1]
		h.chunks[number] = c
		return number
	}
	h.chunks = append(h.chunks, c)
	return uint32(len(h.chunks) - 1)
}

// adopt takes over a block of rows as a chunk.
func (h *heap) adopt(rows []byte) uint32 {
	number := h.take(chunk{data: rows, used: len(rows), live: len(rows)})
	if len(h.chunks) == 1 {
		h.open = number // full as it is
	}
	return number
}

// drop gives up a row.
func (h *heap) drop(p place) {
	key, value := h.row(p)
	h.chunks[p.chunk].live -= rowLen(len(key), len(value))
	h.check(p.chunk)
}

// check frees a chunk without rows and notes one with few.
func (h *heap) check(number uint32) {
	c := &h.chunks[number]
	switch {
	case number == h.open || c.data == nil:
	case c.live == 0 && !c.queued:
		h.free(number)
	case c.live < c.used/2 && !c.queued:
		c.queued = true
		h.sparse = append(h.sparse, number)
	}
}

// noteGarbage has every chunk emptied that an eighth or more of is garbage.
func (h *heap) noteGarbage() {
	for i := range h.chunks {
		if c := &h.chunks[i]; uint32(i) != h.open && !c.queued && c.live < c.used-c.used/8 {
			c.queued = true
			h.sparse = append(h.sparse, uint32(i))
		}
	}
}

func (h *heap) free(number uint32) {
	h.bytes -= int64(len(h.chunks[number].data))
	h.chunks[number] = chunk{}
	h.spare = append(h.spare, number)
}

// row is a row's bytes. The value is never nil.
func (h *heap) row(p place) (key, value []byte) {
	b := h.chunks[p.chunk].data[p.at:]
	keyLen, n := binary.Uvarint(b)
	valLen, m := binary.Uvarint(b[n:])
	n += m
	k := n + int(keyLen)
	v := k + int(valLen)
	return b[n:k:k], b[k:v:v]
}

func (h *heap) key(p place) []byte {
	b := h.chunks[p.chunk].data[p.at:]
	keyLen, n := binary.Uvarint(b)
	for b[n] >= 0x80 {
		n++
	}
	n++
	k := n + int(keyLen)
	return b[n:k:k]
}

// rowLen is what a row takes.
func rowLen(keyLen, valLen int) int {
	return uvarintLen(keyLen) + uvarintLen(valLen) + keyLen + valLen
}

func uvarintLen(n int) int { return max(1, (bits.Len(uint(n))+6)/7) }
